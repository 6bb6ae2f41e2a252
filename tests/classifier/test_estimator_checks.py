"""scikit-learn's own checks of an estimator, by a classifier that takes each row of a table for an image of one line."""

import numpy as np
import pytest
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from r2d2_tf import R2D2Classifier

TRAINING = {
    "supervised_epochs": 30,
    "supervised_batch_size": 8,
    "supervised_learning_rate": 0.1,
    "rounds": "",
    "finetune_epochs": 0,
    "translate": 0,
    "stop_on_collapse": False,
    "image_copy": "none",
}


class OfRows(R2D2Classifier):
    """Its fit and predict check tables as scikit-learn asks for, and scale each column to the range of pixels."""

    def __init__(self, random_state=0):
        super().__init__(backbone="small_network:linear", flags=TRAINING, random_state=random_state)

    def fit(self, X, y=None):
        X, y = validate_data(self, X, y)
        check_classification_targets(y)
        self.low_, self.span_ = X.min(0), np.maximum(np.ptp(X, 0), 1e-9)
        return super().fit(self._images(X), y)

    def predict_proba(self, X):
        check_is_fitted(self)
        return super().predict_proba(self._images(validate_data(self, X, reset=False)))

    def _images(self, X):
        return np.clip(255 * (X - self.low_) / self.span_, 0, 255).astype(np.uint8)[:, None]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.three_d_array, tags.input_tags.string = True, False, False
        return tags


EXPECTED_FAILURES = {"check_classifiers_classes": "its two classes are -1 and 1, and -1 says that an image has no label"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_it_is_an_estimator():
    results = check_estimator(OfRows(), expected_failed_checks=EXPECTED_FAILURES, on_fail=None, on_skip=None)
    failed = {result["check_name"]: str(result["exception"]) for result in results if result["status"] == "failed"}
    print("\n".join(f"{result['status']:7} {result['check_name']}" for result in results))
    assert not failed
