"""Classifies photographs: `python -m tools.predict`."""
