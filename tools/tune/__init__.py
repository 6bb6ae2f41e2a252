"""Searches for the best alpha, beta and other flags, judged by labeled images that training does not see as such."""
