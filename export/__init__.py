"""Trained backbones as files to serve: `python -m export`; `export.inference` runs them."""
