"""A run from its Config to its results: stages, batches, the loop through them."""
