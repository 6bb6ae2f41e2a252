"""The parts of `python -m tools.load_test`."""
