"""What sets runs apart: `python -m tools.compare`."""
