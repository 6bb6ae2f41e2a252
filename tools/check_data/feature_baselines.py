"""What scikit-learn makes of the features of images as they are, on which a head is trained: what a user would do instead."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from r2d2_tf.config.config import Config
from r2d2_tf.data.image_data import DatasetSpec, ImageData
from r2d2_tf.recipes.inputs import facts_about
from r2d2_tf.recipes.recipe import HEAD, recipes_for
from r2d2_tf.runs import finished

_INVERSE_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)
"""Of the L2 regularisation."""
_THRESHOLDS = (0.75, 0.9)
"""Probabilities from which SelfTrainingClassifier takes a prediction for a label."""
_SPREADING = ({"kernel": "knn", "n_neighbors": 20}, {"gamma": 20.0}, {"gamma": 10.0})
"""LabelSpreading's ways to find neighbours among features that are scaled to length 1."""


def errors_of(run_dir: Path, true_classes: Sequence[str]) -> dict[str, float]:
    """Errors in percent on the test images of a run, by method.

    `true_classes` are those of the set's training images, by whose numbers the run's files are named; they are for the method
    that is given all labels alone.

    Raises:
        ValueError: if the images are gone, or there are no weights to compute features by.
    """
    folder, config, summary = finished.named(str(run_dir))
    spec, data = finished.images_of(folder, config, summary)
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.preprocessing import StandardScaler, normalize
    from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier

    given = data.train_labels
    train, test = _features(config, spec, data)
    scaler = StandardScaler().fit(train)
    train, test = scaler.transform(train), scaler.transform(test)
    labeled = given >= 0
    parts = StratifiedKFold(int(max(2, min(5, np.bincount(given[labeled]).min()))), shuffle=True, random_state=0)
    plain = LogisticRegression(max_iter=500)
    chosen = GridSearchCV(plain, {"C": _INVERSE_STRENGTHS}, cv=parts).fit(train[labeled], given[labeled]).best_estimator_
    # Two are enough: each costs a fit of all images.
    folds = [np.flatnonzero(labeled)[held_out] for _, held_out in parts.split(given[labeled], given[labeled])][:2]
    training = [SelfTrainingClassifier(chosen, threshold=threshold) for threshold in _THRESHOLDS]
    spreading = [LabelSpreading(max_iter=100, **way) for way in _SPREADING]
    names = [true_classes[int(re.findall(r"\d+", Path(name).stem)[-1])] for name in data.train_ids]
    true_labels = np.array([data.class_names.index(name) for name in names])
    predicted = {
        "logistic regression": chosen.predict(test),
        "SelfTraining": _best(training, train, given, folds).fit(train, given).predict(test),
        "LabelSpreading": _best(spreading, normalize(train), given, folds)
        .fit(normalize(train), given)
        .predict(normalize(test)),
        "all labels": LogisticRegression(C=chosen.C, max_iter=500).fit(train, true_labels).predict(test),
    }
    return {name: 100 * float((classes != data.test_labels).mean()) for name, classes in predicted.items()}


def _best(ways: Sequence[Any], features: np.ndarray, given: np.ndarray, folds: Sequence[np.ndarray]) -> Any:
    """Of several ways to learn from labels, -1 for none, the one with the fewest errors on labels that are held out in turn."""

    def wrong(way: Any) -> int:
        count = 0
        for held_out in folds:
            labels = given.copy()
            labels[held_out] = -1
            count += int((way.fit(features, labels).predict(features[held_out]) != given[held_out]).sum())
        return count

    return min(ways, key=wrong)


def _features(config: Config, spec: DatasetSpec, data: ImageData) -> tuple[np.ndarray, np.ndarray]:
    """Of training and test images, as the recipe for a head computes them; most are kept from the run."""
    import tensorflow as tf

    from r2d2_tf.runs import run_network
    from r2d2_tf.runs.dataset import spec_of
    from r2d2_tf.training.features.features import Features
    from r2d2_tf.training.features.heads import Head
    from r2d2_tf.training.features.run_features import RunFeatures

    facts = facts_about(config, spec, spec.load(config.data_path))
    recipe = next((recipe for recipe in recipes_for(facts) if recipe.name == HEAD), None)
    if recipe is None:
        raise ValueError("the weights of the network that gives features are not here: install them, or leave --compare out")
    own = recipe.applied(dataclasses.replace(config, trainable="all", weights="none"))
    seen = spec_of(own)
    images = seen.load(own.data_path)
    network, _ = run_network.build(own, seen, tf.distribute.get_strategy())
    found, _, _ = RunFeatures(own, images, Head(network, own.head_dropout).body, lambda: None).computed()
    parts = []
    for features in (found.train_images, found.test_images):
        if isinstance(features, Features):
            parts.append(np.array(features.numbers[features.places[:, 0]]))
    return parts[0], parts[1]
