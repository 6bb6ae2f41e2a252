"""What a run came to: its predictions image by image, its result, and the words about it."""

import json

import numpy as np

from r2d2_tf.runs.outcome import stage_predictions


def test_a_run_leaves_what_each_stages_network_predicts_of_each_test_image(finished_run):
    summary = json.loads((finished_run / "summary.json").read_text())
    with np.load(finished_run / "test_predictions.npz") as arrays:
        assert sorted(arrays.files) == ["labels", "stage_1", "stage_2", "stage_3"]
        assert {arrays[name].dtype for name in arrays.files} == {np.dtype(np.int32)}
        wrong = {name: 100 * np.mean(arrays[name] != arrays["labels"]) for name in ("stage_1", "stage_2", "stage_3")}
    assert wrong == summary["test_error_percent"]
    assert "test_predictions.npz" in summary["files"]


def test_predictions_are_read_where_they_are_of_the_same_images(tmp_path):
    labels, predicted = np.array([0, 1, 2]), np.array([0, 2, 2], np.int32)
    stage_predictions.write(tmp_path, "test", {"stage_1": predicted}, labels)
    np.testing.assert_array_equal(stage_predictions.read(tmp_path, "test", "stage_1", labels), predicted)
    assert stage_predictions.read(tmp_path, "test", "stage_2", labels) is None
    assert stage_predictions.read(tmp_path, "test", "stage_1", labels[::-1]) is None
    assert stage_predictions.read(tmp_path / "elsewhere", "test", "stage_1", labels) is None
