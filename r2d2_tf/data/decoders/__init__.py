"""What TensorFlow does not read itself of image files: how a picture is to be turned, and what is transparent in it."""
