"""The report on a volume: one page that holds everything and asks nothing of any network.

- `content`: what a report says; `page`: the page; `pictures`: pictures and plots.
- `template.html`, `report.css`, `report.js`: its form.
"""

from ppi_med.inference.report.content import Point, ReportContent
from ppi_med.inference.report.page import build_report, write_report

__all__ = ["Point", "ReportContent", "build_report", "write_report"]
