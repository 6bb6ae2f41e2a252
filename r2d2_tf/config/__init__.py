"""What a run is told: every flag a field of Config. Imports no TensorFlow."""
