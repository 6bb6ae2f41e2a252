"""Proves that no run is lost: `python -m tools.torture`."""
