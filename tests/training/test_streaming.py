"""A run on real photographs that are read when they are needed: killed in the middle, it ends as an undisturbed one."""

import json
import shutil
import struct
import subprocess
import sys
import time

import pytest
from conftest import ROOT

from r2d2_tf.data.readers import tfrecord
from tools.torture.exactness import differences

FLAGS = (
    "--flagfile=configs/imagenette_cpu.cfg",
    "--num_labels=10",
    "--deterministic",
    "--supervised_epochs=2",
    "--supervised_batch_size=5",
    "--rounds=1:0.02,1:0.02",
    "--batch_size=8",
    "--finetune_batch_size=8",
    "--max_steps=3",
    "--eval_batch_size=10",
    "--nostop_on_collapse",
)
NAME = "imagenette/160px-v2"


def part_of_imagenette(source, target, counts):
    """Copies the first images of each class into a set of its own."""
    (folder,) = (source / NAME).glob("*/")
    copy = target / NAME / folder.name
    copy.mkdir(parents=True)
    for path in folder.glob("*.*t*"):
        if "tfrecord" not in path.name:
            shutil.copy(path, copy)
            (copy / path.name).chmod(0o644)
    info = json.loads((folder / "dataset_info.json").read_text())
    for split in info["splits"]:
        taken, seen = [], [0] * 10
        for path in sorted(folder.glob(f"imagenette-{split['name']}.tfrecord-*")):
            for _, record, feature in tfrecord.read_examples(path):
                label = feature["label"].int64_list.value[0]
                if seen[label] < counts[split["name"]]:
                    seen[label] += 1
                    taken.append(record)
        # Whatever the checksums are, this project does not read them.
        content = b"".join(struct.pack("<Q", len(record)) + bytes(4) + record + bytes(4) for record in taken)
        (copy / f"imagenette-{split['name']}.tfrecord-00000-of-00001").write_bytes(content)
        split |= {"numBytes": str(sum(map(len, taken))), "shardLengths": [str(len(taken))]}
    (copy / "dataset_info.json").write_text(json.dumps(info))


def epochs_in(folder):
    path = folder / "metrics.csv"
    return len(path.read_text().splitlines()) - 1 if path.exists() else 0


@pytest.mark.slow
def test_a_run_on_photographs_that_is_killed_ends_bit_identical_to_an_undisturbed_one(data_dir, tmp_path):
    part_of_imagenette(data_dir, tmp_path / "data", {"train": 4, "validation": 2})
    command = [sys.executable, "-m", "r2d2_tf.train", *FLAGS, f"--data_dir={tmp_path / 'data'}"]
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    subprocess.run([*command, f"--run_dir={undisturbed}"], cwd=ROOT, check=True, capture_output=True)
    with subprocess.Popen([*command, f"--run_dir={killed}"], cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        # Two epochs of stage 1 and one of stage 2: what comes next is the second prediction of the pseudo-labels.
        while epochs_in(killed) < 3:
            assert process.poll() is None, "it ended too soon"
            time.sleep(0.05)
        process.kill()
    assert not (killed / "summary.json").exists()
    done = subprocess.run([*command, f"--run_dir={killed}"], cwd=ROOT, check=True, capture_output=True, text=True)
    assert "Going on from the checkpoint" in done.stdout
    assert json.loads((killed / "summary.json").read_text())["resumes"] == 1
    assert epochs_in(killed) == 5
    assert differences(killed, undisturbed) == []
