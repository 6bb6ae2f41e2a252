"""What the program costs, measured side by side with what it could cost: `python -m tools.benchmark --help`."""
