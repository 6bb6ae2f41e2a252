"""Runs that train a network's head on features which the rest of it computes once."""
