"""What a finished or a running run looks like: summary.json for scripts, report.html for people, from events alone."""
