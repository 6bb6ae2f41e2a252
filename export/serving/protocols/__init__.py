"""TensorFlow Serving's two protocols: REST with JSON, and gRPC."""
