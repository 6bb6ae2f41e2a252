import csv
import dataclasses
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from own_photographs import colored_folder

from export import inference
from r2d2_tf.config.config import Config
from r2d2_tf.data.datasets import DATASETS
from r2d2_tf.training.pipeline import plain_images
from tools.evaluate import __main__ as evaluate
from tools.evaluate import evaluation_images, evaluation_picture, evaluation_text
from tools.evaluate.evaluation_text import Subject
from tools.shared import classification_metrics
from tools.shared.classification_metrics import MetricsAccumulator, error_interval

# Three classes. Right, wrong (the true class has 0.3), right, wrong (it has 0.05), and class 1 has one image alone.
P = np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.25, 0.25, 0.5], [0.9, 0.05, 0.05]], np.float32)
LABELS = np.array([0, 1, 2, 2])


def metrics_of(*batches, num_classes=3):
    accumulator = MetricsAccumulator(num_classes)
    for probabilities, labels in batches:
        accumulator.add(probabilities, labels)
    return accumulator.result()


def test_bins_are_of_equal_width_and_an_edge_belongs_to_the_bin_below():
    confidence = np.array([0.0, 0.1, 0.5, 0.51, 0.75, 0.9, 1.0, 1.0000001])
    correct = np.array([0, 1, 1, 0, 1, 1, 1, 1], bool)
    found = classification_metrics.reliability(confidence, correct, num_bins=4)
    np.testing.assert_array_equal(found.counts, [2, 1, 2, 3])
    np.testing.assert_allclose(found.accuracy, [0.5, 1.0, 0.5, 1.0])
    np.testing.assert_allclose(found.confidence, [0.05, 0.5, 0.63, (0.9 + 1 + 1) / 3], rtol=1e-6)


def test_the_calibration_error_is_the_mean_gap_of_the_bins_by_their_images():
    # By hand: bin (0.5, 0.75] has 0.6 and 0.7, one right: |0.5 - 0.65| = 0.15; bin (0.75, 1] has 0.8 and 1.0 and 0.9, two
    # right: |2/3 - 0.9| = 0.2333; so (2 * 0.15 + 3 * 0.2333) / 5 = 0.2. The other bins are empty.
    found = classification_metrics.reliability(np.array([0.6, 0.7, 0.8, 1.0, 0.9]), np.array([1, 0, 1, 1, 0], bool), num_bins=4)
    assert classification_metrics.expected_calibration_error(found) == pytest.approx(0.2)
    sure = classification_metrics.reliability(np.ones(4), np.array([1, 1, 0, 1], bool))
    assert classification_metrics.expected_calibration_error(sure) == pytest.approx(0.25)


def test_measures_are_those_computed_by_hand():
    found = metrics_of((P, LABELS))
    assert found.error == pytest.approx(50.0)
    np.testing.assert_array_equal(found.confusion, [[1, 0, 0], [1, 0, 0], [1, 0, 1]])
    np.testing.assert_allclose(found.class_errors, [0.0, 100.0, 50.0])
    assert found.balanced_error == pytest.approx(50.0)
    assert found.nll == pytest.approx(-np.log([0.8, 0.3, 0.5, 0.05]).mean(), rel=1e-5)
    brier = [0.04 + 0.01 + 0.01, 0.36 + 0.49 + 0.01, 0.0625 + 0.0625 + 0.25, 0.81 + 0.0025 + 0.9025]
    assert found.brier == pytest.approx(np.mean(brier), rel=1e-5)
    assert found.top5_error is None
    # Confidences 0.8 (right), 0.6 (wrong), 0.5 (right), 0.9 (wrong), each in a bin of its own.
    assert found.calibration_error == pytest.approx(100 * (0.2 + 0.6 + 0.5 + 0.9) / 4, rel=1e-5)
    assert found.impossible == 0


def test_batches_are_added_up_whatever_classes_they_hold():
    whole, parts = metrics_of((P, LABELS)), metrics_of((P[:1], LABELS[:1]), (P[1:], LABELS[1:]))
    for name in ("nll", "brier", "error", "balanced_error", "calibration_error"):
        assert getattr(parts, name) == pytest.approx(getattr(whole, name))
    np.testing.assert_array_equal(parts.confusion, whole.confusion)


def test_the_top_5_error_counts_images_whose_class_is_not_among_five():
    p = np.tile([0.3, 0.25, 0.2, 0.1, 0.08, 0.07], (4, 1)).astype(np.float32)
    assert metrics_of((p[:3], np.array([0, 4, 5])), (p[3:], np.array([1])), num_classes=6).top5_error == pytest.approx(25.0)


def test_a_class_without_images_has_no_error_and_counts_for_nothing():
    found = metrics_of((P[:2], LABELS[:2]))
    assert np.isnan(found.class_errors[2])
    assert found.balanced_error == pytest.approx(50.0)
    text = evaluation_text.report(Subject("x", "2 images", "abc", False), {"m": found})
    assert re.search(r"^  b +1 +100.0 %  #{25}$", text, re.M)
    assert not re.search(r"^  c +0", text, re.M)


def test_rows_that_do_not_add_up_to_one_are_divided_by_their_sum():
    assert metrics_of((P * [[1.02], [0.97], [1.0], [2.0]], LABELS)).nll == pytest.approx(metrics_of((P, LABELS)).nll, rel=1e-5)


def test_a_true_class_without_probability_is_counted_and_its_likelihood_cut_off():
    found = metrics_of((np.array([[1, 0, 0], [1, 0, 0]], np.float32), np.array([0, 1])))
    assert found.impossible == 1
    assert found.nll == pytest.approx(-np.log(np.finfo(np.float32).eps) / 2, rel=1e-4)
    assert "no probability in 1 of 2 images" in evaluation_text.report(Subject("x", "", "abc", False), {"m": found})


@pytest.mark.parametrize("row", [[np.nan, 0.5, 0.5], [np.inf, 0, 0], [0, 0, 0]])
def test_numbers_that_are_no_probabilities_are_refused(row):
    with pytest.raises(ValueError, match="not finite, or all 0"):
        metrics_of((np.array([row], np.float32), np.array([0])))


def test_the_interval_of_an_error_is_wilsons():
    # Newcombe 1998, table I: 81 of 263, and 0 of 20.
    assert error_interval(81, 263) == pytest.approx((25.53, 36.62), abs=0.005)
    assert error_interval(0, 20) == pytest.approx((0.0, 16.11), abs=0.005)


def test_of_many_classes_the_worst_and_the_most_mistaken_are_told():
    labels, names = np.arange(40).repeat(3), [f"class {number}" for number in range(40)]
    p = np.eye(40, dtype=np.float32)[labels]
    p[3:5] = np.eye(40)[7]
    text = evaluation_text.report(Subject("x", "", names, False), {"m": metrics_of((p, labels), num_classes=40)})
    assert re.search(r"the worst 20:\n.*\n  class 1 +3 +66.7 %", text)
    assert re.search(r"Most often mistaken:\n.*\n  class 1 +class 7 +2$", text)
    assert len(text.splitlines()) < 40


def test_a_picture_is_drawn_of_many_classes_and_of_classes_without_images(tmp_path):
    labels = np.arange(30)
    found = metrics_of((np.eye(40, dtype=np.float32)[labels], labels), num_classes=40)
    evaluation_picture.draw(found, [str(n) for n in range(40)], "title", tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 10_000


ODD_NAMES = ("$x_$", "\\frac{$", "new\nline", "\u65e5\u672c", "bell\a")


def test_names_of_any_kind_stay_in_their_line_and_are_no_formula(tmp_path):
    labels = np.arange(5)
    found = metrics_of((np.eye(5, dtype=np.float32)[labels], labels), num_classes=5)
    evaluation_picture.draw(found, ODD_NAMES, "a $x_$ title", tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 10_000
    text = evaluation_text.report(Subject("x", "", ODD_NAMES, False), {"m": found})
    assert all(c.isprintable() for line in text.splitlines() for c in line)
    assert re.search(r"\n  new line +1 +0.0 %\n", text)


def test_long_names_are_whole_and_columns_have_letters():
    names = ("cat", "a dog with a long name", "owl")
    text = evaluation_text.report(Subject("x", "", names, False), {"m": metrics_of((P, LABELS))})
    assert re.search(r"\n +A  B  C\n  A cat +1  .  .\n  B a dog with a long name  1  .  .\n  C owl +1  .  1$", text)
    short = evaluation_text.report(Subject("x", "", ("cat", "dog", "owl"), False), {"m": metrics_of((P, LABELS))})
    assert re.search(r"\n +cat  dog  owl\n  cat +1 ", short)


def reports(folder):
    return {path.parent.name: json.loads(path.read_text()) for path in folder.rglob("evaluation.json")}


def test_the_network_of_a_run_is_judged_as_the_run_did(light_run, tmp_path, capsys):
    assert evaluate.main([f"--run_dir={light_run}", f"--output_dir={tmp_path}"]) == 0
    summary = json.loads((light_run / "summary.json").read_text())
    (report,) = reports(tmp_path).values()
    assert report["error_percent"] == pytest.approx(summary["test_error_percent"]["stage_3"])
    low, high = report["error_percent_95_interval"]
    assert low < report["error_percent"] < high
    folder = tmp_path / "backbone.keras"
    with (folder / "confusion.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["true class", *"0123456789"]
    confusion = np.array([row[1:] for row in rows], int)
    np.testing.assert_array_equal(confusion.sum(1), 100)
    assert 100 - confusion.trace() / 10 == pytest.approx(report["error_percent"])
    with np.load(folder / "predictions.npz") as arrays:
        assert 100 * np.mean(arrays["labels"] != arrays["predicted"]) == pytest.approx(report["error_percent"])
    assert (folder / "evaluation.png").stat().st_size > 10_000
    out, error = capsys.readouterr()
    assert "1,000 test images, 10 classes" in out
    assert "FAKE" not in out
    assert error == ""


def test_another_runs_network_does_not_take_the_place_of_the_runs_own(light_run, tmp_path):
    own, other = tmp_path / "own", tmp_path / "other"
    for folder in (own, other):
        shutil.copytree(light_run, folder, ignore=shutil.ignore_patterns("export", "evaluation"))
    assert evaluate.main([f"--run_dir={own}", f"--model={other}"]) == 0
    assert [path.name for path in (own / "evaluation").iterdir()] == ["other"]
    assert evaluate.main([f"--run_dir={own}", f"--model={own},{other}"]) == 0
    assert {path.name for path in (own / "evaluation").iterdir()} == {"backbone.keras", "other"}


def test_several_models_are_held_against_each_other(finished_run, exported, tmp_path, capsys):
    paths = [exported / "model.tflite", finished_run]
    arguments = [f"--run_dir={finished_run}", f"--model={','.join(map(str, paths))}", f"--output_dir={tmp_path}"]
    assert evaluate.main(arguments) == 0
    found = reports(tmp_path)
    assert set(found) == {"model.tflite", "backbone.keras"}
    for measure in ("error_percent", "negative_log_likelihood_nats", "brier_score_0_to_2"):
        assert np.ptp([report[measure] for report in found.values()]) < 1e-3
    out = capsys.readouterr().out
    assert "like the first" in out
    assert out.count("100.00 %\n") == 2
    labels = DATASETS["mnist5k"].load(None)
    p = inference.load(paths[0]).predict(labels.test_images)
    expected = -np.log(p[np.arange(1000), labels.test_labels].astype(np.float64)).mean()
    assert found["model.tflite"]["negative_log_likelihood_nats"] == pytest.approx(expected, rel=1e-3)


def test_a_model_is_judged_without_a_run_on_the_data_set_of_the_flags(exported, tmp_path, capsys):
    arguments = [
        f"--model={exported / 'model.tflite'}",
        "--dataset=mnist5k",
        f"--output_dir={tmp_path}",
        "--eval_batch_size=300",
    ]
    assert evaluate.main(arguments) == 0
    assert "mnist5k: 1,000 test images" in capsys.readouterr().out
    assert reports(tmp_path)["model.tflite"]["run"] is None


def test_images_that_were_trained_on_are_those_of_the_run(light_run, tmp_path, capsys):
    for split, count in (("labeled", 100), ("unlabeled", 3900)):
        assert evaluate.main([f"--run_dir={light_run}", f"--split={split}", f"--output_dir={tmp_path}"]) == 0
        assert reports(tmp_path)[f"backbone.keras_{split}"]["images"] == count
    config = Config()
    of_run, drawn = (evaluation_images.load(config, "labeled", run_dir) for run_dir in (light_run, None))
    np.testing.assert_array_equal(of_run.rows, drawn.rows)
    others = evaluation_images.load(config, "unlabeled", None)
    np.testing.assert_array_equal(np.sort(np.concatenate([of_run.rows, others.rows])), np.arange(4000))


def changed_run(run, tmp_path, **changes):
    folder = tmp_path / "run"
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("export", "tensorboard", "evaluation"))
    summary = json.loads((run / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | changes))
    return folder


def test_fake_data_is_called_so_everywhere(light_run, tmp_path, capsys):
    folder = changed_run(light_run, tmp_path, fake_data=True)
    assert evaluate.main([f"--run_dir={folder}"]) == 0
    assert "FAKE DATA: the numbers mean nothing" in capsys.readouterr().out
    assert reports(folder / "evaluation")["backbone.keras"]["fake_data"] is True


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_test": 2000}, "the run was tested on 2,000 images, and these are 1,000"),
        ({"test_error_percent": {"stage_1": 1.0}}, "the run measured an error of 1.00 %"),
    ],
)
def test_images_that_are_not_those_of_the_run_are_told(changes, message, light_run, tmp_path, capsys):
    assert evaluate.main([f"--run_dir={changed_run(light_run, tmp_path, **changes)}"]) == 0
    assert f"warning: {message}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say what to judge: --run_dir=RUN"),
        (["--run_dir=nowhere"], "nowhere is not the folder of a run"),
        (["--run_dir=UNFINISHED"], "is not finished"),
        (["--run_dir=RUN", "--model=nowhere.onnx"], "there is no model at nowhere.onnx"),
        (["--run_dir=RUN", "--split=validation"], "split (validation) must be among test, labeled, unlabeled"),
        (["--run_dir=RUN", "--dataset=cifar10"], "dataset (cifar10) is not that of the run, mnist5k"),
        (["--run_dir=RUN", "--output_dir=RUN/config.cfg"], "cannot be a folder"),
        (["--model=MODEL", "--images=x"], "give --run_dir, and leave --split out"),
        (["--run_dir=RUN", "--modle=x"], "did you mean --model?"),
        (["--model=MODEL", "--dataset=cifar10"], "data set cifar10"),
        (["--run_dir=RUN", "--model=OTHER"], "has other classes than mnist5k: it is of another data set"),
        (["--run_dir=RUN", "--model=DAMAGED"], "cannot be loaded"),
        (["--run_dir=OTHER_IDS", "--split=labeled"], "names no image of this data set"),
    ],
)
def test_bad_input_is_one_line(arguments, message, finished_run, exported, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    places = {"UNFINISHED": tmp_path / "unfinished", "DAMAGED": tmp_path / "damaged.tflite", "MODEL": exported / "model.tflite"}
    places |= {"OTHER_IDS": tmp_path / "run", "OTHER": tmp_path / "other" / "model.tflite", "RUN": finished_run}
    for name in ("UNFINISHED", "OTHER"):
        (tmp_path / name.lower()).mkdir()
    shutil.copy(finished_run / "config.cfg", places["UNFINISHED"])
    shutil.copy(places["MODEL"], places["OTHER"])
    (tmp_path / "other" / "metadata.json").write_text(
        json.dumps({"class_names": list("abcdefghij"), "image_shape": [28, 28, 1]})
    )
    places["DAMAGED"].write_bytes(b"TFL3 no model" * 20)
    changed_run(finished_run, tmp_path)
    (tmp_path / "run" / "labeled.txt").write_text("train_00001 cat\n")
    for name, place in places.items():
        arguments = [re.sub(rf"\b{name}\b", str(place), argument) for argument in arguments]
    assert evaluate.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


def test_images_that_were_sorted_later_are_those_of_a_folder_in_the_order_of_the_runs_classes(tmp_path):
    folder, config = colored_folder(tmp_path / "sorted", unlabeled=2), Config(dataset="folder", image_size=16)
    names = ["violet", "red", "green", "blue"]
    found = evaluation_images.of_folder(config, folder / "train", names)
    assert np.bincount(found.labels).tolist() == [0, 4, 4, 4]
    assert found.class_names == tuple(names)
    [(pixels, labels)] = found.batches(100)
    assert (pixels[labels == 1].mean((1, 2)).argmax(-1) == 0).all(), "red is red"
    assert len(evaluation_images.of_folder(config, folder, names).rows) == 9, "its part for tests"
    with pytest.raises(ValueError, match=r"has the class 'blue', and the run has red, green: rename the folder"):
        evaluation_images.of_folder(config, folder / "train", ["red", "green"])


def test_a_model_of_other_images_is_refused(exported, tmp_path, capsys, monkeypatch):
    images = evaluation_images.load(Config(), "test", None)
    monkeypatch.setattr(evaluation_images, "load", lambda *_: dataclasses.replace(images, image_shape=(32, 32, 3)))
    assert evaluate.main([f"--model={exported / 'model.tflite'}", "--dataset=mnist5k", f"--output_dir={tmp_path}"]) == 2
    assert "takes images of shape (28, 28, 1), and those of mnist5k have (32, 32, 3)" in capsys.readouterr().err


def test_a_mistake_is_told_without_tensorflow():
    command = [sys.executable, "-X", "importtime", "-m", "tools.evaluate", "--run_dir=nowhere"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    imported = set(re.findall(r"\| +(\w+)\n", done.stderr))
    assert "numpy" in imported
    assert "tensorflow" not in imported


def test_photographs_are_streamed_as_the_run_saw_them(fake_set):
    data_dir = str(fake_set("imagenette"))
    images = evaluation_images.load(Config(dataset="imagenette", num_labels=10, data_dir=data_dir), "test", None)
    assert images.is_fake
    batches = list(images.batches(16))
    assert [len(labels) for _, labels in batches] == [16, 16, 8]
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in batches]), images.labels)
    expected = np.asarray(plain_images(images.images)(images.rows))
    np.testing.assert_array_equal(np.concatenate([pixels for pixels, _ in batches]), expected)
