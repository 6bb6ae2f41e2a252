"""Which images should a person label next: `python -m tools.label_queue`."""
