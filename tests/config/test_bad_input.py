"""Whatever somebody types or writes into a file is read, or refused with one clear line; see bad_inputs.py."""

import base64
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from export import __main__ as export_command
from r2d2_tf import train
from r2d2_tf.config.command_line import from_command_line
from r2d2_tf.config.config import Config
from r2d2_tf.data.splits import parse_split
from r2d2_tf.system.messages import LONGEST, one_line
from tools.reproduce import feature_plot, theorem_check

SECONDS = 60
"""What a command may take to refuse its input."""


def generated(mode, count, folder):
    """What `bad_inputs.py` prints; it works in `folder`."""
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "bad_inputs.py", mode, str(count)],
        capture_output=True,
        text=True,
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("count", [150, pytest.param(10_000, marks=pytest.mark.slow)])
def test_generated_input_is_read_or_refused_in_one_line_without_tensorflow_and_without_a_trace(count, tmp_path):
    counts = generated("check", count, tmp_path)
    assert sum(total for total, _ in counts.values()) == count
    for kind, (total, refused) in counts.items():
        assert 0.05 * total < refused < 0.98 * total, f"{kind}: both must be tried"
    assert not (ROOT / ".hypothesis").exists()


@pytest.mark.parametrize("count", [2, pytest.param(50, marks=pytest.mark.slow)])
def test_the_command_refuses_generated_input_in_one_line_and_writes_nothing(count, tmp_path):
    assert generated("collect", count, tmp_path) >= count
    cases = json.loads((tmp_path / "cases.json").read_text())[:count]
    with ThreadPoolExecutor(2) as pool:
        problems = list(pool.map(lambda number: problem_of(cases[number], tmp_path / f"case_{number}"), range(count)))
    assert not [problem for problem in problems if problem]


def problem_of(case, folder):
    """What is wrong with how the command refuses a case, or None."""
    folder.mkdir()
    for name in ("configs", *(path.name for path in folder.parent.iterdir() if path.name.split(".")[0] in NAMED)):
        (folder / name).symlink_to(folder.parent / name)
    for name, content in case["files"].items():
        (folder / name).write_bytes(base64.b64decode(content))
    before = {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}
    done = subprocess.run(
        [sys.executable, "-m", "r2d2_tf.train", *case["arguments"]],
        capture_output=True,
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "PYTHONDONTWRITEBYTECODE": "1"},
        timeout=SECONDS,
        check=False,
    )
    error = done.stderr.decode()
    fine = done.returncode == 2 and done.stdout == b"" and error.startswith("error: ") and error.count("\n") == 1
    fine = fine and {path: path.lstat().st_mtime_ns for path in folder.rglob("*")} == before
    return None if fine else (case["arguments"], done.returncode, done.stdout, error)


NAMED = ("self", "one", "two", "folder", "binary", "long", "fifo", "wide0", "deep0")


def written(folder, **files):
    for name, content in files.items():
        (folder / f"{name}.cfg").write_bytes(content.encode())
    return [f"--flagfile={folder / next(iter(files))}.cfg"]


FLAGFILES = {
    "includes itself": ({"mine": "--alpha=0.2\n--flagfile=mine.cfg"}, "flagfile mine.cfg includes itself"),
    "is included by what it includes": ({"mine": "--flagfile=b.cfg", "b": "--flagfile=mine.cfg"}, "includes itself"),
    "includes a folder": ({"mine": "--flagfile=."}, "flagfile . does not exist, or is no file"),
    "includes a device": ({"mine": "--flagfile=/dev/zero"}, "flagfile /dev/zero does not exist, or is no file"),
    "includes nothing": ({"mine": "--flagfile="}, "--flagfile names no file"),
    "is too large": ({"mine": "--alpha=0.1" + "1" * 2**20}, "is larger than 1,048,576 bytes"),
    "holds a very long flag": ({"mine": "--" + "a" * 5000 + "=1"}, "there is no flag --aaa"),
    "holds a NUL": ({"mine": "--alp\0ha=0.1"}, r"there is no flag --alp\x00ha"),
    "holds an escape sequence": ({"mine": "--data_dir=\x1b[31m"}, r"\x1b[31m"),
}


@pytest.mark.parametrize(("files", "message"), FLAGFILES.values(), ids=FLAGFILES)
def test_a_flagfile_is_refused_in_one_line_that_says_why(files, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert_refused(written(tmp_path, **files), message)
    assert capsys.readouterr().err == ""


def assert_refused(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        from_command_line(arguments)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= LONGEST


def test_files_that_include_each_other_again_and_again_are_refused_soon(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(40):
        (tmp_path / f"wide{number}.cfg").write_text(f"--flagfile=wide{number + 1}.cfg\n" * 2)
    assert_refused(["--flagfile=wide0.cfg"], "is included by more than 8 others")


def test_a_pipe_is_no_flagfile_and_no_split_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert_refused([f"--flagfile={tmp_path / 'pipe'}"], "is no file")
    with pytest.raises(ValueError, match=r"cannot be read: it does not exist, or is no file; change --split_file"):
        parse_split(tmp_path / "pipe", ["a"])


def test_a_byte_order_mark_and_carriage_returns_are_read_over(tmp_path):
    arguments = written(tmp_path, mine="\ufeff--alpha=0.2\r\n--seed=3\r\n")
    assert (from_command_line(arguments).alpha, from_command_line(arguments).seed) == (0.2, 3)
    (tmp_path / "split.txt").write_bytes("\ufeffa\r\nb\r\n".encode())
    assert [line.row for line in parse_split(tmp_path / "split.txt", ["b", "a"])] == [1, 0]


ARGUMENTS = {
    "more epochs than fit into memory": (["--supervised_epochs=999999999999"], "must be at most 1000000"),
    "operations of no strength": (["--rand_augment=2"], "1 to 10, as in --rand_augment=2:9"),
    "more epochs in a round": (["--rounds=999999999999:0.1"], "must have at most 1000000: change --rounds"),
    "more epochs in all rounds": (["--rounds=999999:0.1,2:0.1"], "have 1000001 epochs, and must have at most 1000000"),
    "a cosine longer than a float": (["--finetune_cosine_epochs=1" + "0" * 400], "must be at most 2147483647"),
    "a rate that 32 bits cannot hold": (["--pseudo_label_lr=1e300"], "must be at most 1e+30: change --pseudo_label_lr"),
    "a batch that fits into no memory": (["--supervised_batch_size=99999999999"], "must be at most 1000000"),
    "a million devices": (["--num_logical_cpus=1000000", "--strategy=mirrored"], "must be at most 64"),
    "a number of 5,000 digits": (["--seed=" + "9" * 5000], "cannot read the flags"),
    "a name too long for a folder": (["--name=" + "a" * 201], "must have at most 200 bytes: give a shorter --name"),
    "a user who is none": (["--run_dir=~nobody-of-this-name/x"], "begins with a user who has no home: change --run_dir"),
    "line breaks in a flag": (["--no\nsuch\nflag=1"], "there is no flag --no such flag"),
    "a lone surrogate": (["--name=\udc80"], r"'\udc80'"),
}


@pytest.mark.parametrize(("arguments", "message"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_an_argument_is_refused_in_one_line_that_says_why(arguments, message):
    assert_refused(arguments, message)


@pytest.mark.parametrize("name", [".", "..", "...", "~", "-"])
def test_no_name_leads_out_of_the_folder_of_runs(name):
    folder = Config(name=name).resolved_run_dir
    assert folder.parent == Path("runs")
    assert folder.name.startswith(f"{name}-")


def test_values_of_another_type_are_refused_and_equal_ones_have_one_digest():
    for values in ({"seed": True}, {"seed": 1.0}, {"alpha": "0.1"}, {"name": None}, {"flip": 1}):
        with pytest.raises(ValueError, match=r"must be a value of type .*: change --"):
            Config(**values)
    assert Config(weight_decay=-0.0).digest == Config(weight_decay=0).digest == Config(weight_decay=0.0).digest
    with pytest.raises(ValueError, match="must be a finite number"):
        Config(alpha=10**400)


@pytest.mark.parametrize("line", ["9" * 5000 + "_cat.png cat", "\u0663_cat.png cat", "\x1b[31m", "a" * 5000])
def test_a_line_of_a_split_file_that_names_no_image_is_named_in_one_line(line, tmp_path):
    (tmp_path / "split.txt").write_text(f"train_00001\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"line 2: .* such as train_00000$") as caught:
        parse_split(tmp_path / "split.txt", [f"train_{row:05d}" for row in range(10)])
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= LONGEST


def test_a_message_keeps_its_beginning_and_its_end():
    assert one_line("a\n b\x07") == r"a b\x07"
    assert one_line(f"alpha {'x' * 9000} lower --alpha").startswith("alpha xxx")
    assert one_line(f"alpha {'x' * 9000} lower --alpha").endswith("xxx lower --alpha")
    assert one_line(f"alpha {'x' * 9000_000} lower --alpha") == one_line(f"alpha {'x' * 9000} lower --alpha")


@pytest.mark.parametrize("flag", ["run_dir", "data_dir", "stage_1_from", "split_file", "flagfile"])
def test_a_path_too_long_for_the_system_is_one_line(flag, capsys):
    dataset = ["--dataset=mnist"] if flag == "data_dir" else []
    assert train.main([f"--{flag}={'a' * 300}", *dataset]) == 2
    out, error = capsys.readouterr()
    assert (out, error.count("\n")) == ("", 1)
    assert error.startswith("error: ")


@pytest.mark.parametrize("main", [theorem_check.main, feature_plot.main, export_command.main])
def test_a_run_whose_path_is_too_long_for_the_system_is_one_line(main, capsys):
    assert main([f"--run_dir={'a' * 300}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_python_may_give_paths_and_numpys_numbers(tmp_path):
    config = Config(dataset="folder", data_dir=tmp_path, batch_size=np.int64(64), alpha=np.float64(0.2))
    assert config == Config(dataset="folder", data_dir=str(tmp_path), batch_size=64, alpha=0.2)
