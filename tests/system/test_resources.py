"""A run that cannot fit into memory or on the disk is refused, in one line, before it writes anything."""

import re
import subprocess
import sys
from collections import namedtuple

import numpy as np
import pytest
from conftest import ROOT, SHORT

from r2d2_tf import train
from r2d2_tf.config.command_line import from_command_line
from r2d2_tf.runs import run_directory
from r2d2_tf.runs.checkpoints import Checkpoints
from r2d2_tf.system import resources
from r2d2_tf.training.experiment import Experiment

Usage = namedtuple("Usage", "total used free")


def run(folder, capsys, *flags):
    code = train.main([*SHORT, f"--run_dir={folder}", *flags])
    return code, capsys.readouterr().err


def test_a_table_that_does_not_fit_into_memory_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(resources, "available_memory", lambda: (100_000, "on this machine"))
    code, error = run(tmp_path / "run", capsys)
    assert code == 2
    assert re.fullmatch(
        r"error: the run needs at least 5\d\d\.\d KiB of memory more than it holds now \(156\.2 KiB for the table of 4,000 x "
        r"10 pseudo-logits, \d+\.\d KiB for what is noted of its rows\), and 97\.7 KiB are available on this machine: .*\n",
        error,
    )
    assert not (tmp_path / "run").exists()


def test_checkpoints_that_do_not_fit_on_the_disk_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(10**7, 0, 10**7))
    code, error = run(tmp_path / "run", capsys)
    assert code == 2
    # LeNet's 431,080 parameters, each with a momentum, and the table.
    assert re.fullmatch(
        r"error: run_dir \(.*\) is on a disk with 9\.54 MiB for checkpoints, and 3 of 3\.\d\d MiB need 1\d\.\d\d MiB .*\n",
        error,
    )
    assert not (tmp_path / "run").exists()


def test_room_that_a_runs_own_checkpoints_take_is_counted_as_free(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(1000, 0, 1000))
    resources.check_disk(tmp_path, 500, reused=500)
    with pytest.raises(ValueError, match=r"need 1\.5 KiB"):
        resources.check_disk(tmp_path / "not" / "there", 500, reused=499)


def test_the_estimate_of_a_checkpoint_is_near_the_truth(finished_run, tmp_path):
    config = from_command_line([*SHORT, f"--run_dir={tmp_path / 'run'}"])
    experiment = Experiment(config)
    with np.load(finished_run / run_directory.HISTORY_FILE) as history:
        assert len(history["rows"]) == experiment.sizes.num_unlabeled
        assert len(history["stage"]) == experiment.sizes.num_comparisons
        noted = sum(history[name].nbytes for name in history.files if history[name].ndim == 2)
    variables = {str(i): v for i, v in enumerate((*experiment.model.backbone.variables, *experiment.model.trainable_variables))}

    class Noted:
        """As many bytes as the history of the finished run."""

        def write(self, archive):
            archive.writestr("history", b"0" * noted)

    (tmp_path / "run").mkdir()
    Checkpoints(tmp_path / "run", "").save(experiment.state, variables, experiment.table, Noted())
    (path,) = (tmp_path / "run" / run_directory.CHECKPOINTS).iterdir()
    assert path.stat().st_size == pytest.approx(experiment.checkpoint_bytes, rel=0.01)


@pytest.mark.parametrize(
    ("line", "folder", "files"),
    [
        ("0::/box", "sys/fs/cgroup/box", ("memory.max", "memory.current", "inactive_file")),
        ("0::/", "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")),
        ("0::/known/to/the/host", "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")),
        (
            "4:cpu,memory:/box",
            "sys/fs/cgroup/memory/box",
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ),
    ],
    ids=["version_2", "root_of_version_2", "path_of_the_host", "version_1"],
)
def test_the_limit_of_a_container_is_found(line, folder, files, tmp_path):
    group = tmp_path / folder
    group.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(f"3:cpuset:/\n{line}\n")
    limit, usage, pages = files
    (group / limit).write_text("1000\n")
    (group / usage).write_text("300\n")
    (group / "memory.stat").write_text(f"anon 200\n{pages} 100\n")
    assert list(resources._left_in_control_groups(tmp_path)) == [800]
    (group / limit).write_text("max\n")
    assert list(resources._left_in_control_groups(tmp_path)) == []


def test_a_real_limit_of_address_space_is_respected(tmp_path):
    # 100,000 classes: a table of 1.5 GiB, with 1 GiB of address space left. Images and labels stay mnist5k's.
    code = """
import dataclasses, resource, sys
import psutil
from r2d2_tf import train
from r2d2_tf.data.datasets import DATASETS
from r2d2_tf.system.startup import import_tensorflow_quietly
import_tensorflow_quietly()
from r2d2_tf.runs import run_labels
spec = DATASETS["mnist5k"]
loaded = dataclasses.replace(spec.load(None), class_names=tuple(map(str, range(100_000))))
DATASETS["mnist5k"] = dataclasses.replace(spec, num_classes=100_000, load=lambda data_dir: loaded)
run_labels.training_labels = lambda data, config, num_classes: data.train_labels
most = psutil.Process().memory_info().vms + 2**30
resource.setrlimit(resource.RLIMIT_AS, (most, most))
sys.exit(train.main(sys.argv[1:]))
"""
    arguments = [*SHORT, "--num_labels=0", f"--run_dir={tmp_path / 'run'}"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr[-1000:]
    assert re.fullmatch(
        r"error: the run needs at least 1\.\d\d GiB .* MiB are available within its limit of address space \(ulimit -v\): .*\n",
        done.stderr,
    )
    assert not (tmp_path / "run").exists()
