import csv
import dataclasses
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from r2d2_tf.config.command_line import from_command_line
from r2d2_tf.config.config import Config
from r2d2_tf.data.datasets import DATASETS
from tools.label_queue import __main__ as label_queue
from tools.label_queue import selection
from tools.shared import row_history, saved_table
from tools.shared.labelling.next_run import next_command

NAMES = ("cat", "dog", "owl")


def lines_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def queued(finished_run, path, *flags):
    assert label_queue.main([f"--run_dir={finished_run}", f"--out={path}", *flags]) == 0
    return lines_of(path)


def test_the_file_asks_for_images_and_repeats_the_given_labels(finished_run, tmp_path):
    lines = queued(finished_run, tmp_path / "queue.csv", "--count=20")
    table = saved_table.read(finished_run / "pseudo_labels.npz")
    row_of = {name: row for row, name in enumerate(table.ids.tolist())}
    asked, given = lines[:20], lines[20:]
    rows = [row_of[line["file"]] for line in asked]
    assert len(set(rows)) == 20
    assert (table.labels[rows] == -1).all()
    assert {line["label"] for line in asked} == {""}
    assert [line["suggestion"] for line in asked] == [str(c) for c in table.pseudo_logits[rows].argmax(1)]
    assert all(re.match(r"(unsure: \d or \d|perhaps \d)(; changed its class (once|\d times))?$", line["why"]) for line in asked)
    assert [(row_of[line["file"]], line["label"], line["split"]) for line in given] == [
        (row, str(table.labels[row]), "train") for row in table.labeled_rows
    ]


def test_labels_that_were_given_in_a_file_are_repeated_with_their_test_images(finished_run, tmp_path):
    run_dir = tmp_path / "run"
    shutil.copytree(finished_run, run_dir)
    (run_dir / "labeled.csv").write_text("file,label,split\na.jpg,cat,train\nb.jpg,dog,test\n")
    lines = queued(run_dir, tmp_path / "queue.csv", "--count=1")
    assert [(line["file"], line["label"], line["split"]) for line in lines[1:]] == [
        ("a.jpg", "cat", "train"),
        ("b.jpg", "dog", "test"),
    ]


def test_what_a_person_could_not_decide_is_not_asked_again(finished_run, tmp_path, capsys):
    run_dir, labels = tmp_path / "run", tmp_path / "answered.csv"
    shutil.copytree(finished_run, run_dir)
    first = [line["file"] for line in queued(run_dir, tmp_path / "first.csv", "--count=5")[:5]]
    answers = ["unsure", "none of these", "", "asked", "unsure"]
    rows = [f"{file},{'7' if i == 4 else ''},train,{why}\n" for i, (file, why) in enumerate(zip(first, answers, strict=True))]
    labels.write_text("file,label,split,why\n" + "".join(rows))
    with (run_dir / "config.cfg").open("a") as file:
        file.write(f"--labels={labels}\n--num_labels=0\n")
    lines = queued(run_dir, tmp_path / "second.csv", "--count=5")
    assert [line["file"] for line in lines[:3]] == first[2:]
    # So that a third queue knows it, too.
    assert [(line["file"], line["why"]) for line in lines[-2:]] == [(first[0], "unsure"), (first[1], "none of these")]
    assert [line["file"] for line in queued(run_dir, tmp_path / "third.csv", "--count=5", "--ask_again")[:5]] == first
    assert label_queue.main([f"--run_dir={run_dir}", f"--out={tmp_path / 'x.csv'}", "--count=3899"]) == 2
    assert "the 3898 unlabeled images that nobody has looked at (2 others: --ask_again)" in capsys.readouterr().err


def test_the_queue_does_not_depend_on_hidden_labels(finished_run, tmp_path, monkeypatch):
    before = queued(finished_run, tmp_path / "before.csv")
    spec = DATASETS["mnist5k"]

    def load(data_dir):
        data = spec.load(data_dir)
        return dataclasses.replace(data, train_labels=(data.train_labels + 1) % 10)

    monkeypatch.setitem(DATASETS, "mnist5k", dataclasses.replace(spec, load=load))
    assert queued(finished_run, tmp_path / "after.csv") == before


def made_candidates(probability, label, flips, predicted, entropy=None, predicted_entropy=None):
    count = len(label)
    rows = np.arange(count) + 3
    probability = np.concatenate([np.ones(3), probability]).astype(np.float32)
    entropy = 1 - probability if entropy is None else np.concatenate([np.zeros(3), entropy])
    said = saved_table.RowSummary(np.concatenate([np.zeros(3, int), label]), probability, entropy, 1 - probability)
    path = [np.zeros(count, int)]
    for i in range(max(flips)):
        path.append(np.where(np.array(flips) > i, 1 - path[-1], path[-1]))
    quiet = np.zeros(count) if predicted_entropy is None else np.array(predicted_entropy)
    moves = row_history.RowHistory(rows, path, ["x"] * len(path), np.array(predicted), quiet, quiet)
    return selection.Candidates(rows, said, moves, NAMES)


def order(found, strategy, count=9, quota=0, seed=0):
    return selection.chosen(found, selection.usefulness(found, strategy, seed), count, quota).tolist()


@pytest.fixture
def four():
    return made_candidates(
        np.array([0.9, 0.6, 0.7, 0.99]),
        np.array([0, 1, 1, 2]),
        flips=[2, 0, 0, 1],
        predicted=[0, 1, 0, 2],
        entropy=np.array([0.3, 0.1, 0.8, 0.2]),
        predicted_entropy=[0.5, 0.1, 0.9, 0.2],
    )


def test_each_strategy_has_its_order(four):
    assert order(four, "entropy") == [2, 0, 3, 1]
    assert order(four, "margin") == [1, 2, 0, 3]
    assert order(four, "flips") == [0, 3, 2, 1]
    # Ranks: entropy 3 1 4 2, the network's 3 1 4 2, flips 4 1.5 1.5 3, contradicted 2 2 4 2.
    assert order(four, "mixed") == [2, 0, 3, 1]
    assert selection.usefulness(four, "mixed", 0).tolist() == [12, 5.5, 13.5, 9]


def test_the_reason_names_the_classes_between_which_one_chooses(four):
    likely = np.array([[0, 1], [1, 2], [1, 2], [2, 0]])
    places = np.arange(4)
    pairs = selection.doubted(four, places, likely)
    # The network says 0 of the third row.
    assert pairs.tolist() == [[0, 1], [1, 2], [1, 0], [2, 0]]
    assert [selection.why(four, i, "mixed", int(pairs[i, 1])) for i in range(4)] == [
        "perhaps cat; changed its class 2 times",
        "unsure: dog or owl",
        "unsure: dog or cat",
        "perhaps owl; changed its class once",
    ]
    assert selection.why(four, 0, "random", 1) == "drawn at random"


def test_a_quota_bounds_each_suggested_class():
    found = made_candidates(np.linspace(0.1, 0.9, 8), np.array([0, 0, 0, 1, 1, 0, 2, 1]), [0] * 8, [0] * 8)
    assert order(found, "entropy", quota=1) == [0, 3, 6]
    assert order(found, "entropy", quota=2) == [0, 1, 3, 4, 6]
    assert order(found, "entropy", count=2, quota=2) == [0, 1]


def test_random_is_a_function_of_the_seed(four):
    found = made_candidates(np.full(200, 0.5), np.zeros(200, int), [0] * 200, [0] * 200)
    assert order(found, "random", count=200, seed=1) == order(found, "random", count=200, seed=1)
    assert order(found, "random", count=20, seed=1) != order(found, "random", count=20, seed=2)
    assert sorted(order(found, "random", count=200)) == list(range(200))


def test_a_file_that_may_be_filled_in_is_not_overwritten(finished_run, tmp_path, capsys):
    path = tmp_path / "queue.csv"
    path.write_text("precious")
    assert label_queue.main([f"--run_dir={finished_run}", f"--out={path}"]) == 2
    assert "may hold labels that somebody filled in" in capsys.readouterr().err
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--count=4999"], "count (4999) is more than the 3900 unlabeled images"),
        (["--strategy=guess"], "strategy"),
        (["--count=0"], "count"),
        (["--out=queue.txt"], "must end in .csv"),
    ],
)
def test_bad_input_is_one_line(arguments, message, finished_run, capsys):
    assert label_queue.main([f"--run_dir={finished_run}", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (finished_run / "queue.csv").exists()


def test_the_next_command_takes_the_labels_as_they_were_filled_in():
    config = Config(labels="soft.csv", num_labels=0, soft_labels=True)
    words = shlex.split(next_command(Path("run"), config, Path("run/queue.csv"), num_left=900))
    assert "--soft_labels=false" in words
    trained = from_command_line([word for word in words[3:] if "flagfile" not in word])
    assert (trained.labels, trained.warm_start) == ("run/queue.csv", "run")


def test_each_next_run_has_a_folder_of_its_own(tmp_path):
    (tmp_path / "photos-2").mkdir()
    for before, after in (("photos", "photos-3"), ("photos-2", "photos-3"), ("mnist5k-44136fa3", "mnist5k-44136fa3-2")):
        command = next_command(tmp_path / before, Config(), Path("q.csv"), num_left=900)
        assert command.endswith(f" --run_dir={tmp_path / after}")


def test_the_next_command_says_where_the_images_lie_now():
    config = Config(dataset="folder", data_dir="old", translate=0)
    assert "--data_dir=new" in next_command(Path("run"), config, Path("q.csv"), num_left=900, data_dir="new")
    assert "data_dir" not in next_command(Path("run"), config, Path("q.csv"), num_left=900)


@pytest.mark.parametrize(
    ("num_left", "batch", "ratio", "steps"),
    [(900, 64, "1:3", 18), (48, 64, "1:3", 1), (47, 60, "1:3", 1), (3, 4, "1:3", 1), (2, 3, "1:2", 1), (1, 2, "1:1", 1)],
)
def test_the_next_command_has_a_batch_that_the_images_left_unlabeled_fill(num_left, batch, ratio, steps):
    config = Config(batch_size=64)
    words = shlex.split(next_command(Path("run"), config, Path("run/queue.csv"), num_left=num_left))
    trained = from_command_line(["--batch_size=64", *(word for word in words[3:] if "flagfile" not in word)])
    assert (trained.batch_size, trained.labeled_to_unlabeled) == (batch, ratio)
    assert num_left // (trained.batch_size - trained.labeled_per_batch) == steps


def test_where_no_image_is_left_unlabeled_the_next_command_trains_stage_1():
    words = shlex.split(next_command(Path("run"), Config(), Path("run/queue.csv"), num_left=0))
    trained = from_command_line([word for word in words[3:] if "flagfile" not in word])
    assert (trained.rounds, trained.finetune_epochs, trained.warm_start, trained.labels) == ("", 0, "", "run/queue.csv")


def test_a_quota_that_leaves_too_few_is_told(finished_run, tmp_path, capsys):
    lines = queued(finished_run, tmp_path / "queue.csv", "--count=40", "--per_class_quota=2", "--strategy=random")
    asked = [line for line in lines if not line["label"]]
    assert len(asked) <= 20
    assert f"leaves {len(asked)} of the 40 images" in capsys.readouterr().out
