"""The report on a volume: one page that holds everything and loads nothing.

- `page`: the content of a report, and its page; `pictures`: pictures and plots.
- `template.html`, `report.css`, `report.js`: its form.
"""

from ppi_med.inference.report.page import Point, ReportContent, build_report, write_report

__all__ = ["Point", "ReportContent", "build_report", "write_report"]
