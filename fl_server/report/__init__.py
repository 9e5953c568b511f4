"""What a finished or a running run looks like: summary.json for scripts, report.html for people, from events alone."""

from fl_server.report.build import build_report
from fl_server.report.summary import write_summary

__all__ = ["build_report", "write_summary"]
