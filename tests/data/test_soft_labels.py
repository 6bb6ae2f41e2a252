"""Soft labels: the probabilities of all classes, from the table of one run to the training of another."""

import json

import keras
import numpy as np
import pyarrow
import pytest
import tensorflow as tf
from conftest import (
    LIGHT,
    NUM_CLASSES,
    StopAt,
    batches_of,
    make_model,
    make_strategy,
    softmax,
    table_values,
    tiny_images,
    tiny_labels,
)
from own_photographs import write_csv
from pyarrow import parquet

from r2d2_tf import train
from r2d2_tf.config.command_line import from_command_line
from r2d2_tf.config.config import Config
from r2d2_tf.data.image_data import UNLABELED
from r2d2_tf.data.labels.matching import labels_in, probabilities_in, read_labels, rows_named
from r2d2_tf.method.pseudo_labels import PseudoLabelTable
from r2d2_tf.runs.dataset import spec_of
from r2d2_tf.system.interrupts import RunInterrupted
from r2d2_tf.training.experiment import Experiment
from tools import pseudo_labels

FILES, LABELS = ["a.jpg", "b.jpg", "c.jpg"], ["dog", None, "cat"]
PROBABILITIES = [[0.25, 0.75], None, [1.0, 0.0]]
"""Of cat and dog."""


def in_csv(path):
    rows = [[f, label or "", *(p or ["", ""])] for f, label, p in zip(FILES, LABELS, PROBABILITIES, strict=True)]
    return write_csv(path / "labels.csv", rows, header=("file", "label", "probability_of_cat", "probability_of_dog"))


def in_parquet_columns(path):
    columns = {f"probability_of_{name}": [p and p[i] for p in PROBABILITIES] for i, name in enumerate(("cat", "dog"))}
    parquet.write_table(pyarrow.table({"file": FILES, "label": LABELS, **columns}), path / "labels.parquet")
    return path / "labels.parquet"


def in_parquet_lists(path):
    table = pyarrow.table(
        {"file": FILES, "label": LABELS, "probabilities": PROBABILITIES}, metadata={"class_names": json.dumps(["cat", "dog"])}
    )
    parquet.write_table(table, path / "labels.parquet")
    return path / "labels.parquet"


def in_npz(path):
    probabilities = np.array([p or [np.nan] * 2 for p in PROBABILITIES])
    np.savez(path / "labels.npz", files=FILES, label=[1, -1, 0], class_names=["cat", "dog"], probabilities=probabilities)
    return path / "labels.npz"


@pytest.mark.parametrize("write", [in_csv, in_parquet_columns, in_parquet_lists, in_npz])
def test_probabilities_are_read_from_each_format_for_the_images_and_classes_that_they_name(write, tmp_path):
    path = write(tmp_path)
    table = read_labels(path, soft=True)
    assert table.labels == ["dog", "", "cat"]
    found = probabilities_in(table, ["c.jpg", "other.jpg", "a.jpg", "b.jpg"], ("dog", "cat"))
    np.testing.assert_array_equal(found[:3], np.array([[0, 1], [0, 0], [0.75, 0.25]], np.float32))
    assert read_labels(path).probabilities is None, "nobody asked for them"
    assert read_labels(path).labels == table.labels


HEADER = "file,label,split,probability_of_cat,probability_of_dog\n"
BAD = {
    "none": ("file,label\na.jpg,cat\n", "holds no probabilities of all classes, which soft_labels asks for"),
    "no number": (HEADER + "a.jpg,cat,,1,0\nb.jpg,cat,,much,0\n", "line 3: a probability is no number"),
    "a missing one": (HEADER + "a.jpg,cat,,1,\n", "line 2: 'a.jpg' has probabilities that are not 0 to 1 with a sum of 1"),
    "votes": (HEADER + "a.jpg,cat,,3,1\n", "not 0 to 1 with a sum of 1 (the sum is 4, the least 1)"),
    "twice": (HEADER + "a.jpg,cat,,0.9,0.1\na.jpg,cat,,0.6,0.4\n", "other probabilities here than in line 2: remove one"),
    "a column twice": ("file,label,probability_of_x,probability_of_x\na.jpg,x,1,0\n", "column probability_of_x twice"),
    "nearly": (HEADER + "a.jpg,dog,,0.5002,0.4998\n", "label 'dog', and 'cat' is the most probable class"),
    "below 0": (HEADER + "a.jpg,cat,,1.5,-0.5\n", "probabilities that are not 0 to 1"),
    "another label": (HEADER + "a.jpg,dog,,0.8,0.2\n", "'a.jpg' has the label 'dog', and 'cat' is the most probable class"),
    "no such class": (HEADER + "a.jpg,cow,,0.8,0.2\n", "'a.jpg' has the label 'cow', and the probabilities are of cat, dog"),
}


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD)
def test_probabilities_that_are_none_are_one_line(text, message, tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=r".") as caught:
        rows_named(read_labels(path, soft=True), ["a.jpg", "b.jpg"])
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_columns_are_found_however_they_are_written_and_rounding_is_forgiven(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("File, Label, Probability_of_cat, probability_of_dog\na.jpg,cat,1.0000001,-0.0000001\n")
    table = read_labels(path, soft=True)
    assert table.class_names == ("cat", "dog")
    np.testing.assert_allclose(probabilities_in(table, ["a.jpg"], ("dog", "cat")), [[0, 1]], atol=1e-6)
    assert (probabilities_in(table, ["a.jpg"], ("dog", "cat")) >= 0).all()


def test_classes_that_are_numbers_are_those_whatever_zeros_were_written(tmp_path):
    names = ("2.0", "0.0", "1.0")
    path = tmp_path / "labels.csv"
    path.write_text(
        "file,label,probability_of_2.0,probability_of_0.0,probability_of_1.0\na.jpg,0.0,0.1,0.8,0.1\nb.jpg,2,0.8,0.1,0.1\n"
    )
    table = read_labels(path, soft=True)
    assert labels_in(table, ["a.jpg", "b.jpg"], names).tolist() == [1, 0], "by their names, not their places"
    np.testing.assert_allclose(probabilities_in(table, ["a.jpg", "b.jpg"], names), [[0.1, 0.8, 0.1], [0.8, 0.1, 0.1]])
    np.savez(tmp_path / "labels.npz", files=["a.jpg"], label=[1], class_names=names, probabilities=[[0.1, 0.8, 0.1]])
    numbered = read_labels(tmp_path / "labels.npz", soft=True)
    assert (numbered.labels, numbered.class_names) == (["0.0"], names)
    assert labels_in(numbered, ["a.jpg"], names).tolist() == [1]


def test_only_labeled_training_images_need_probabilities(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text(HEADER + "a.jpg,cat,train,0.6,0.4\nb.jpg,dog,test,,\nc.jpg,,,,\n")
    assert read_labels(path, soft=True).labels == ["cat", "dog", ""]


def test_probabilities_of_other_classes_are_one_line(tmp_path):
    table = read_labels(in_csv(tmp_path), soft=True)
    with pytest.raises(
        ValueError, match=r"probabilities of 2 classes \(cat, dog\.\.\.\) and must hold those of the data set's 3"
    ):
        probabilities_in(table, FILES, ("cat", "cow", "dog"))


OTHER = {"files": ["a"], "label": [0], "class_names": ["x", "y"], "probabilities": [[1.0, 0.0]]}


@pytest.mark.parametrize("names", [None, "0,1", "null", '["x"]'])
def test_a_parquet_file_whose_classes_are_not_named_is_one_line(names, tmp_path):
    metadata = {"class_names": names} if names else {}
    table = pyarrow.table({"file": ["a"], "label": ["x"], "probabilities": [[0.7, 0.3]]}, metadata=metadata)
    parquet.write_table(table, tmp_path / "labels.parquet")
    with pytest.raises(ValueError, match=r"labels.parquet\): probabilities must have a number for each of .* class_names"):
        read_labels(tmp_path / "labels.parquet", soft=True)


def test_a_parquet_files_classes_may_be_numbers_and_its_probabilities_must_be_lists(tmp_path):
    columns = {"file": ["a"], "label": ["0"]}
    table = pyarrow.table(columns | {"probabilities": [[0.7, 0.3]]}, metadata={"class_names": "[0, 1]"})
    parquet.write_table(table, tmp_path / "labels.parquet")
    assert read_labels(tmp_path / "labels.parquet", soft=True).class_names == ("0", "1")
    parquet.write_table(pyarrow.table(columns | {"probabilities": ["0.7"]}), tmp_path / "labels.parquet")
    with pytest.raises(ValueError, match="probabilities must be lists of numbers, and are string"):
        read_labels(tmp_path / "labels.parquet", soft=True)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"files": ["a"], "label": [0]}, "holds files,label: save files, label and class_names in it"),
        ({"files": ["a"], "label": [2], "class_names": ["x", "y"]}, "label must hold whole numbers from -1"),
        ({"files": ["a"], "label": [0, 1], "class_names": ["x", "y"]}, r"label is of shape \(2,\), not \(1,\)"),
        ({"files": ["a"], "label": [0], "class_names": ["x", "y"]}, "holds no probabilities of all classes"),
        (b"PK no archive", "cannot be read: it is no .npz file"),
        (OTHER | {"files": np.arange(1)}, "files is int64, and must be an array of texts"),
        (OTHER | {"files": np.array(["a"], "S")}, r"files is \|S1, and must be an array of texts"),
        (OTHER | {"files": np.array("a")}, "files is <U1, and must be an array of texts"),
        (OTHER | {"class_names": np.array("xy")}, "class_names is <U2, and must be an array of texts"),
        (OTHER | {"probabilities": [["x", "y"]]}, "probabilities is <U1, and must be an array of numbers"),
    ],
)
def test_an_npz_file_that_cannot_be_used_is_one_line(arrays, message, tmp_path):
    path = tmp_path / "labels.npz"
    path.write_bytes(arrays) if isinstance(arrays, bytes) else np.savez(path, **arrays)
    with pytest.raises(ValueError, match=message) as caught:
        read_labels(path, soft=True)
    assert "\n" not in str(caught.value)


def soft_table(labels, probabilities, **options):
    return PseudoLabelTable(labels, NUM_CLASSES, probabilities=np.array(probabilities, np.float32), **options)


def test_a_row_holds_its_soft_label_up_to_what_a_hard_one_would():
    labels = np.array([0, UNLABELED, 2, 1])
    probabilities = [[0.5, 0.3, 0.2], [np.nan] * 3, [0, 0, 1], [0.001, 0.999 - 1e-9, 1e-9]]
    rows = table_values(soft_table(labels, probabilities, label_logit=10.0))
    np.testing.assert_allclose(softmax(rows[0]), probabilities[0], rtol=1e-5)
    np.testing.assert_array_equal(rows[1], 0)
    np.testing.assert_array_equal(rows[2], table_values(PseudoLabelTable(labels, NUM_CLASSES))[2])
    np.testing.assert_allclose(rows[3], [10 + np.log(0.001 / 0.999), 10, 0], rtol=1e-5)


@pytest.mark.parametrize("replicas", [1, 2])
def test_the_loss_is_cross_entropy_against_all_of_a_soft_label_and_the_largest_class_of_an_unlabeled_row(replicas):
    strategy, images = make_strategy(replicas), tiny_images(6)
    labels = tiny_labels(6, 3)
    p = softmax(np.random.default_rng(1).normal(size=(6, NUM_CLASSES)))
    p[:3] = p[:3, :] * 0.4 + 0.6 * np.eye(NUM_CLASSES)[labels[:3]]
    model = make_model(strategy, labels, learn_pseudo_labels=False)
    rows = np.random.default_rng(2).normal(size=(6, NUM_CLASSES))
    model.table = soft_table(labels, p)
    model.table.repredict(tf.range(6, dtype=tf.int64), tf.constant(rows, tf.float32))
    log_p = np.log(softmax(model.backbone.predict(images, verbose=0).astype(float)))
    targets = np.where(labels[:, None] >= 0, p, np.eye(NUM_CLASSES)[rows.argmax(1)])
    expected = keras.losses.categorical_crossentropy(targets, log_p, from_logits=True).numpy()
    before = table_values(model.table)
    losses = model.fit(batches_of(images, np.arange(6), 6), shuffle=False, verbose=0).history["loss"]
    assert losses[-1] == pytest.approx(expected.mean(), rel=1e-5)
    np.testing.assert_array_equal(table_values(model.table), before)


def test_a_clamped_soft_row_does_not_move_in_stage_2():
    labels = tiny_labels(6, 3)
    p = np.full((6, NUM_CLASSES), 0.2) + 0.4 * np.eye(NUM_CLASSES)[np.maximum(labels, 0)]
    model = make_model(make_strategy(1), labels)
    model.table = soft_table(labels, p)
    before = table_values(model.table)
    model.fit(batches_of(tiny_images(6), np.arange(6), 6), shuffle=False, verbose=0)
    after = table_values(model.table)
    np.testing.assert_array_equal(after[:3], before[:3])
    assert (after[3:] != before[3:]).any()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({}, "soft_labels needs probabilities: give --labels"),
        ({"labels": "x.csv", "num_labels": 0, "label_noise": 0.1}, "label_noise (0.1) is for labels of one class"),
        ({"labels": "x.csv", "num_labels": 0, "learn_labeled_rows": True}, "learn_labeled_rows (true) is for labels of one"),
    ],
)
def test_flags_that_do_not_go_with_soft_labels_are_one_line(flags, message):
    with pytest.raises(ValueError, match=r".") as caught:
        Config(soft_labels=True, **flags)
    assert message in str(caught.value)


STAGE_1 = ("--rounds=", "--finetune_epochs=0", "--supervised_epochs=1", "--num_labels=0", "--nostop_on_collapse")


@pytest.mark.parametrize("ending", ["csv", "parquet", "npz"])
def test_what_a_run_learned_reads_back_hard_and_soft(ending, finished_run, tmp_path):
    path = tmp_path / f"labels.{ending}"
    assert pseudo_labels.main([f"--run_dir={finished_run}", f"--out={path}", "--soft"]) == 0
    with np.load(finished_run / "pseudo_labels.npz") as saved:
        logits = saved["pseudo_logits"]
    for soft in (False, True):
        data = spec_of(Config(labels=str(path), num_labels=0, soft_labels=soft)).load(None)
        np.testing.assert_array_equal(data.given_labels, logits.argmax(1))
        if soft:
            np.testing.assert_allclose(data.given_probabilities, softmax(logits.astype(float)), rtol=1e-4, atol=1e-30)
        else:
            assert data.given_probabilities is None


def test_another_run_trains_on_them_and_leaves_what_it_trained_on(finished_run, tmp_path, capsys):
    path = tmp_path / "labels.parquet"
    pseudo_labels.main([f"--run_dir={finished_run}", f"--out={path}", "--soft"])
    flags = [*STAGE_1, LIGHT[-1], "--supervised_batch_size=500"]
    flags += [f"--labels={path}", "--soft_labels", f"--run_dir={tmp_path / 'run'}"]
    assert train.main(flags) == 0
    said = capsys.readouterr().out
    assert "3,200 labeled (soft, " in said
    assert "0 unlabeled, 800 labeled ones held out" in said
    ours, theirs = (
        spec_of(Config(labels=str(name), num_labels=0, soft_labels=True)).load(None)
        for name in (tmp_path / "run/labeled.csv", path)
    )
    np.testing.assert_array_equal(ours.given_labels, theirs.given_labels)
    np.testing.assert_array_equal(ours.given_probabilities, theirs.given_probabilities)
    path.touch()
    assert train.main(flags) == 0
    assert "changed" in capsys.readouterr().err


def test_a_run_does_not_go_on_with_other_probabilities(tmp_path, capsys):
    images = spec_of(Config()).load(None).train_ids[:100]
    names = [f"probability_of_{c}" for c in range(10)]

    def write(largest):
        rest = (1 - largest) / 9
        rows = [[name, row % 10, *(largest if c == row % 10 else rest for c in range(10))] for row, name in enumerate(images)]
        write_csv(tmp_path / "labels.csv", rows, header=("file", "label", *names))

    write(0.7)
    flags = ["--supervised_epochs=1", "--rounds=", "--finetune_epochs=0", "--num_labels=0", "--nostop_on_collapse",
             f"--labels={tmp_path / 'labels.csv'}", "--soft_labels", f"--run_dir={tmp_path / 'run'}"]  # fmt: skip
    experiment = Experiment(from_command_line(flags), signals=StopAt(2))
    with experiment.claimed() as folder, pytest.raises(RunInterrupted):
        experiment.run(folder, 0.0)
    write(0.8)
    assert train.main(flags) == 1
    error = capsys.readouterr().err
    assert "the given labels changed since the run" in error
    assert "give it the --labels that it began with" in error
