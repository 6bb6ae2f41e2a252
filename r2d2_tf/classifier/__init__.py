"""`R2D2Classifier`: the whole program behind scikit-learn's `fit` and `predict`."""

from r2d2_tf.classifier.estimator import R2D2Classifier

__all__ = ["R2D2Classifier"]
