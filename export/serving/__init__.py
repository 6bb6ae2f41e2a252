"""The parts of `python -m export.serve`: a model server that speaks TensorFlow Serving's protocols."""
