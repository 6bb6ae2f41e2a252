"""Weights to begin with: from files of Keras and PyTorch, and of ImageNet from Keras' cache and from packages."""
