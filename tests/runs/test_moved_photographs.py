"""A run whose photographs lie elsewhere now: where are they, asks every program that needs them, and no other."""

import csv
import dataclasses
import shlex
from pathlib import Path

import pytest
from own_photographs import colored_folder, write_csv
from test_folder import TINY

from export import __main__ as export_command
from r2d2_tf import train
from r2d2_tf.runs.other_runs import stage_1_summary
from r2d2_tf.runs.run_directory import load_config
from tools import pseudo_labels, suspects
from tools.check_data import __main__ as check_data
from tools.evaluate import __main__ as evaluate
from tools.label_queue import __main__ as label_queue
from tools.predict import __main__ as predict
from tools.report import __main__ as report

NEEDS_PHOTOGRAPHS = {
    "report": (report, "--out={tmp}/page.html"),
    "queue": (label_queue, "--out={tmp}/queue.csv", "--count=3"),
    "pseudo-labels": (pseudo_labels, "--out={tmp}/p.csv"),
    "suspects": (suspects,),
    "evaluate": (evaluate, "--output_dir={tmp}/evaluation"),
    "export": (export_command, "--output_dir={tmp}/export", "--latency_rounds=0"),
}


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    """A run, and its photographs, which have moved with the file of labels among them."""
    folder = tmp_path_factory.mktemp("moved")
    photos = colored_folder(folder / "photos", kinds=("jpg",))
    for path in photos.rglob("*.jpg"):
        # Of which the decoder warns.
        path.write_bytes(path.read_bytes()[:-2] + bytes([17]) * 60 + b"\xff\xd9")
    names = sorted(path.relative_to(photos) for path in photos.rglob("*.jpg") if "unlabeled" not in str(path))
    write_csv(photos / "labels.csv", [(name, name.parts[1], name.parts[0]) for name in names], ("file", "label", "split"))
    flags = ["--dataset=folder", f"--data_dir={photos}", f"--labels={photos / 'labels.csv'}", f"--run_dir={folder / 'run'}"]
    assert train.main([*TINY, *flags, "--learn_labeled_rows", "--image_copy=memory"]) == 0
    photos.rename(folder / "elsewhere")
    return folder


def arguments_of(program, moved, tmp_path):
    return [f"--run_dir={moved / 'run'}", *(argument.format(tmp=tmp_path) for argument in program[1:])]


@pytest.mark.parametrize("program", NEEDS_PHOTOGRAPHS.values(), ids=list(NEEDS_PHOTOGRAPHS))
def test_a_program_that_needs_the_photographs_takes_their_new_place(program, moved, tmp_path, capfd):
    arguments = arguments_of(program, moved, tmp_path)
    assert program[0].main(arguments) == 2
    assert f"data_dir ({moved / 'photos'}) is no folder of images: change --data_dir" in capfd.readouterr().err
    assert program[0].main([*arguments, f"--data_dir={moved / 'elsewhere'}"]) == 0
    assert "Corrupt JPEG" not in capfd.readouterr().err


def test_another_run_takes_over_stage_1(moved):
    config = load_config(moved / "run")
    place = {"data_dir": str(moved / "elsewhere"), "labels": str(moved / "elsewhere" / "labels.csv")}
    assert stage_1_summary(moved / "run", dataclasses.replace(config, **place))["data_fingerprint"]
    with pytest.raises(ValueError, match="had another stage 1"):
        stage_1_summary(moved / "run", dataclasses.replace(config, **place, seed=7))


def test_the_command_that_a_queue_prints_trains_on(moved, tmp_path, capsys):
    program = (label_queue, "--out={tmp}/queue.csv", "--count=6")
    arguments = arguments_of(program, moved, tmp_path)
    assert label_queue.main([*arguments, f"--data_dir={moved / 'elsewhere'}"]) == 0
    with (tmp_path / "queue.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    rows = [[line["file"], line["label"] or line["suggestion"], line["split"]] for line in lines]
    write_csv(tmp_path / "queue.csv", rows, ("file", "label", "split"))
    command = shlex.split(capsys.readouterr().out.strip().splitlines()[-1])
    assert command[1:3] == ["-m", "r2d2_tf.train"]
    assert "--batch_size=8" in command, "6 images are left unlabeled, and 16 a batch take 12"
    assert train.main([*command[3:], f"--run_dir={tmp_path / 'next'}"]) == 0


def test_the_report_says_how_the_queue_finds_them(moved, tmp_path, capsys):
    place = f"--data_dir={moved / 'elsewhere'}"
    assert report.main([*arguments_of((report, "--out={tmp}/page.html"), moved, tmp_path), place]) == 0
    assert place in capsys.readouterr().out.splitlines()[-1]


def test_who_predicts_needs_no_photographs_of_the_run(moved, tmp_path):
    out = tmp_path / "p.csv"
    assert predict.main([f"--model={moved / 'run'}", f"--out={out}", str(moved / "elsewhere" / "test")]) == 0
    assert {line.split(",")[1] for line in out.read_text().splitlines()[1:]} <= {'"blue"', '"green"', '"red"'}


def test_a_home_is_taken_for_one_by_programs_themselves(moved, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(moved))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    elsewhere = "--data_dir=~/elsewhere"
    assert predict.main(["--model=~/run", "--out=~/out/p.csv", "~/elsewhere/test"]) == 0
    light = ["--format=tflite", "--latency_rounds=0"]
    assert export_command.main(["--run_dir=~/run", elsewhere, "--output_dir=~/exp", *light]) == 0
    assert evaluate.main(["--run_dir=~/run", elsewhere, "--model=~/exp/model.tflite", "--output_dir=~/ev"]) == 0
    assert check_data.main([elsewhere, "--sheet=~/s/s.png", "--config_out=~/my.cfg"]) == 0
    for made in ("out/p.csv", "exp/model.tflite", "ev", "s/s.png", "my.cfg"):
        assert (moved / made).exists()
    assert not list(Path().iterdir())
