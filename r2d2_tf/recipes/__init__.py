"""Recipes for somebody's own images: which there are, trials of them on held-out labels, and the choice."""
