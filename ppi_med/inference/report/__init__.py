"""The report on a volume: one page that holds everything and asks nothing of any network.

- `page`: what a report says, and its page; `pictures`: pictures and plots.
- `template.html`, `report.css`, `report.js`: its form.
"""

from ppi_med.inference.report.page import Point, ReportContent, build_report, write_report

__all__ = ["Point", "ReportContent", "build_report", "write_report"]
