"""Tables, CSV and the page that compare variants; everything is read from manifests."""

from __future__ import annotations

from pocket_opt.report.html import ReportFiles, write_report
from pocket_opt.report.table import render_table

__all__ = ["ReportFiles", "render_table", "write_report"]
