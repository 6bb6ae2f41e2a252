"""What stands between the rows of a run's table: nothing that a library says."""

import fcntl
import json
import os
import re
import struct
import subprocess
import sys
import termios
import warnings

import pytest
import tensorflow as tf
from conftest import ROOT
from own_photographs import colored_folder
from test_folder import TINY

from r2d2_tf.system.startup import warnings_held_back
from r2d2_tf.training import pipeline

NOISY = """
import logging, sys, warnings
import r2d2_tf.training.callbacks.progress as progress
on_epoch_end = progress.ProgressReport.on_epoch_end
def noisy(self, epoch, logs):
    warnings.warn("a library is not content")
    logging.getLogger("tensorflow").warning("a function is traced again")
    on_epoch_end(self, epoch, logs)
progress.ProgressReport.on_epoch_end = noisy
from r2d2_tf import train
sys.exit(train.main(sys.argv[1:]))
"""
ROW = re.compile(
    r" +\d+/\d+( +[\d.e-]+){2,4} +[\d.]+ %( +[\d.]+){0,2} +[\d.-]+ (s|min)|"
    r"Stage \d of 3: .*| +epoch .*| +pseudo-labels predicted.*|"
)


@pytest.mark.slow
@pytest.mark.parametrize("width", [0, 80, 100, 200], ids=["file", "80", "100", "200"])
def test_between_the_rows_of_a_mirrored_run_on_photographs_stands_nothing_else(width, tmp_path):
    photos = colored_folder(tmp_path / "photos")
    flags = [*TINY, "--dataset=folder", f"--data_dir={photos}"]
    flags += [f"--run_dir={tmp_path / 'run'}", "--strategy=mirrored", "--num_logical_cpus=2"]
    reader, writer = os.openpty() if width else os.pipe()
    if width:
        fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("4H", 50, width, 0, 0))
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests"), "TF_CPP_MIN_LOG_LEVEL": "2"}
    command = [sys.executable, "-c", NOISY, *flags]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=writer, stderr=writer) as process:
        os.close(writer)
        text = _read_all(reader)
    assert process.returncode == 0
    # The first line after the table, which a narrow terminal parts.
    verdict = json.loads((tmp_path / "run" / "summary.json").read_text())["verdict"][:40]
    if width:
        table = text[text.index("Stage 1 of 3") : text.index(verdict)]
        assert max(len(part) for part in re.split(r"[\r\n]", table.replace("\x1b[A", ""))) <= width
    # A progress bar writes over its line.
    lines = [line.rpartition("\r")[2] for line in text.replace("\r\n", "\n").split("\n")]
    first = next(number for number, line in enumerate(lines) if line.startswith("Stage 1"))
    last = next(number for number, line in enumerate(lines) if line.startswith(verdict))
    told = "warning: UserWarning: a library is not content"
    assert [line for line in lines[first:last] if not ROW.fullmatch(line.strip("\x1b[A"))] == [told]
    assert lines[last - 2] == told


def _read_all(descriptor):
    parts = []
    while True:
        try:
            part = os.read(descriptor, 65536)
        except OSError:  # The other side of a terminal is closed.
            break
        if not part:
            break
        parts.append(part)
    os.close(descriptor)
    return b"".join(parts).decode()


@pytest.mark.filterwarnings("default")
def test_warnings_are_told_once_after_the_block(capsys):
    with warnings_held_back():
        for _ in range(3):
            warnings.warn("of two\nlines", UserWarning, stacklevel=1)
        assert capsys.readouterr().err == ""
    assert capsys.readouterr().err == "warning: UserWarning: of two lines\n"


@pytest.mark.filterwarnings("default")
def test_warnings_before_an_error_are_told_all_the_same(capsys):
    def fail():
        with warnings_held_back():
            warnings.warn("it will be", UserWarning, stacklevel=1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert "it will be" in capsys.readouterr().err


def test_no_batches_are_to_be_parted_by_tensorflow():
    options = pipeline.read_ahead(tf.data.Dataset.range(3)).options()
    assert options.experimental_distribute.auto_shard_policy == tf.data.experimental.AutoShardPolicy.OFF
