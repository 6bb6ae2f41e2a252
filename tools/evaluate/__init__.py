"""How wrong is a network: `python -m tools.evaluate`."""
