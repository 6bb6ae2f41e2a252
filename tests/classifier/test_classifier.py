"""R2D2Classifier: fit, predict and what comes with them, of arrays."""

import os
import pickle
import random
import re
import subprocess

import numpy as np
import pytest
from conftest import ROOT
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from small_images import CLASSES, small_images, with_gaps

from r2d2_tf import R2D2Classifier
from r2d2_tf.training import ending

SHORT = {
    "supervised_epochs": 4,
    "supervised_batch_size": 8,
    "supervised_learning_rate": 0.05,
    "rounds": "1:0.02",
    "batch_size": 16,
    "finetune_epochs": 1,
    "finetune_batch_size": 32,
    "translate": 0,
    "stop_on_collapse": False,
}
IMAGES, NUMBERS = small_images(90)
NAMES = np.array([*CLASSES, ""], object)[with_gaps(NUMBERS, 30)]
TEST_IMAGES, TEST_NUMBERS = small_images(30, seed=1)
TEST_NAMES = np.array(CLASSES)[TEST_NUMBERS]


def small_classifier(**parameters):
    return R2D2Classifier(backbone="small_network:strided", flags=SHORT, **parameters)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("classifier") / "run_dir"


@pytest.fixture(scope="module")
def fitted(folder, tmp_path_factory):
    """A classifier that was fitted to floats, in a process that parsed no flag."""
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("working_directory"))
    random_numbers = random.getstate(), np.random.get_state()[1].tolist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ending, "plot_run", lambda rows, title, path: path.touch())
        classifier = small_classifier(run_dir=folder).fit(IMAGES / 255, NAMES, X_test=TEST_IMAGES / 255, y_test=TEST_NAMES)
    assert not os.listdir()
    assert (random.getstate(), np.random.get_state()[1].tolist()) == random_numbers
    os.chdir(before)
    return classifier


def test_it_predicts_classes_as_they_came(fitted):
    assert fitted.classes_.tolist() == list(CLASSES)
    probabilities = fitted.predict_proba(TEST_IMAGES / 255)
    assert probabilities.shape == (30, 3)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    assert fitted.predict(TEST_IMAGES / 255).tolist() == fitted.classes_[probabilities.argmax(1)].tolist()
    # The same pixels as bytes.
    np.testing.assert_array_equal(fitted.predict_proba(TEST_IMAGES), probabilities)


def test_its_score_is_that_of_the_run_and_leaves_out_what_has_no_label(fitted):
    score = fitted.score(TEST_IMAGES, TEST_NAMES)
    assert score > 0.5
    stage = f"stage_{fitted.summary_['result']['stage']}"
    assert 100 * (1 - score) == pytest.approx(fitted.summary_["test_error_percent"][stage])
    gaps = TEST_NAMES.astype(object)
    gaps[::2] = None
    assert fitted.score(TEST_IMAGES, gaps) == fitted.score(TEST_IMAGES[1::2], TEST_NAMES[1::2])
    weights = np.arange(30) % 2
    assert fitted.score(TEST_IMAGES, TEST_NAMES, weights) == pytest.approx(fitted.score(TEST_IMAGES, gaps))


def test_all_labels_are_learned_where_test_images_are_given(fitted):
    assert fitted.summary_["num_labels"] == 30
    assert fitted.summary_["num_unlabeled"] == 60


def test_pseudo_labels_are_in_the_order_of_the_images(fitted):
    learned = fitted.pseudo_labels_
    assert learned.shape == (90, 3)
    np.testing.assert_allclose(learned.sum(1), 1, rtol=1e-5)
    np.testing.assert_array_equal(learned[:30], np.eye(3)[NUMBERS[:30]])
    assert ((learned[30:] > 0) & (learned[30:] < 1)).all()
    assert (learned[30:].argmax(1) == NUMBERS[30:]).mean() > 0.5


def test_its_history_has_a_number_an_epoch(fitted):
    assert fitted.history_["stage"] == [1, 1, 1, 1, 2, 3]
    assert all(len(values) == 6 for values in fitted.history_.values())
    assert np.isfinite(fitted.history_["loss"]).all()


def test_the_same_fit_finds_its_run_and_another_one_is_refused(fitted, folder):
    again = small_classifier(run_dir=folder).fit(IMAGES / 255, NAMES, X_test=TEST_IMAGES / 255, y_test=TEST_NAMES)
    np.testing.assert_array_equal(again.predict_proba(TEST_IMAGES), fitted.predict_proba(TEST_IMAGES))
    with pytest.raises(ValueError, match="other images or labels"):
        small_classifier(run_dir=folder).fit(IMAGES[::-1], NAMES)


def test_a_saved_one_is_another_of_the_same(fitted, tmp_path):
    folder = fitted.save(tmp_path / "saved")
    loaded = R2D2Classifier.load(folder)
    np.testing.assert_array_equal(loaded.predict_proba(TEST_IMAGES / 255), fitted.predict_proba(TEST_IMAGES / 255))
    np.testing.assert_array_equal(loaded.pseudo_labels_, fitted.pseudo_labels_)
    assert loaded.get_params() == {**fitted.get_params(), "run_dir": None}
    assert f"--data_dir={folder / 'images.npz'}" in (loaded.run_dir_ / "config.cfg").read_text().splitlines()
    with pytest.raises(ValueError, match="there already"):
        fitted.save(folder)
    with pytest.raises(ValueError, match="holds no classifier"):
        R2D2Classifier.load(tmp_path)


def test_a_pickled_one_needs_no_folder_and_leaves_none(fitted):
    copied = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copied.predict_proba(TEST_IMAGES), fitted.predict_proba(TEST_IMAGES))
    folder = copied.run_dir_
    assert folder.is_dir()
    assert folder != fitted.run_dir_
    del copied
    assert not folder.exists()


def test_a_clone_has_the_parameters_alone(fitted):
    copied = clone(fitted)
    assert copied.get_params() == fitted.get_params()
    for ask in (lambda: copied.predict(IMAGES), lambda: copied.pseudo_labels_, lambda: copied.report("a")):
        with pytest.raises(NotFittedError):
            ask()


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"flags": {"round": "1:0.1"}}, "did you mean 'rounds'"),
        ({"flags": {"seed": 1}}, "which fit sets"),
        ({"flags": "--rounds=1:0.1"}, "give a dict"),
        ({"flags": {"alpha": "a"}}, "alpha"),
        ({"minutes": 0}, "minutes"),
        ({"random_state": "a"}, "seed"),
        ({"backbone": "lanet"}, "lanet"),
        ({"backbone": len}, "or a Keras model"),
        ({"run_dir": __file__}, "is a file"),
    ],
)
def test_a_wrong_parameter_is_told_in_a_line(parameters, words):
    with pytest.raises(ValueError, match=re.escape(words)) as refused:
        R2D2Classifier(**parameters).fit(IMAGES, NAMES)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((IMAGES, NAMES[:4]), "4 labels for 90 images"),
        ((IMAGES, None), "requires y"),
        ((IMAGES, "labels.csv"), "goes with a folder"),
        (("nowhere", None), "does not exist"),
        ((IMAGES.reshape(90, -1), NAMES), r"X\.reshape"),
    ],
)
def test_wrong_images_or_labels_are_told_in_a_line(given, words):
    with pytest.raises(ValueError, match=words):
        R2D2Classifier().fit(*given)


def test_a_folder_of_other_files_is_left_alone(tmp_path):
    (tmp_path / "labels.csv").write_text("file,label\n")
    np.savez(tmp_path / "images.npz", mine=NUMBERS)
    with pytest.raises(ValueError, match="holds other files"):
        small_classifier(run_dir=tmp_path).fit(IMAGES, NAMES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images.npz", "labels.csv"]
    assert np.load(tmp_path / "images.npz").files == ["mine"]


def test_labels_that_cannot_be_set_apart_are_told(fitted):
    with pytest.raises(ValueError, match="X_test and y_test"):
        R2D2Classifier().fit(IMAGES, with_gaps(NUMBERS, 3))
    with pytest.raises(ValueError, match="give both"):
        R2D2Classifier().fit(IMAGES, NAMES, X_test=IMAGES)


def test_commands_are_run_on_its_run(fitted, tmp_path, monkeypatch):
    calls = []

    def run(line, **options):
        calls.append((line, options["env"]["PYTHONPATH"].split(os.pathsep)))
        return subprocess.CompletedProcess(line, len(calls) - 1, "", "noise\nerror: there is no such format\n")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    assert fitted.report("page.html") == tmp_path / "page.html"
    with pytest.raises(RuntimeError, match=r"^there is no such format"):
        fitted.export("models", format=["tflite", "onnx"])
    with pytest.raises(ValueError, match=r"^there is no such format"):
        fitted.export("models", format="x")
    run_dir = f"--run_dir={fitted.run_dir_}"
    assert {run_dir, f"--out={tmp_path / 'page.html'}"} <= set(calls[0][0])
    assert {run_dir, "--format=tflite,onnx", f"--output_dir={tmp_path / 'models'}"} <= set(calls[1][0])
    # What lies in the working directory and is called tools.py is not taken for the project's.
    assert calls[0][0][1] == "-P"
    assert calls[0][1].index(str(ROOT)) < calls[0][1].index(str(tmp_path))
