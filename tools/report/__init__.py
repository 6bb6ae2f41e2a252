"""What a finished run learned, as one page: `python -m tools.report`."""
