"""Every config takes a step of each stage at its real shapes, on noise in place of images."""

import contextlib
import dataclasses
import io

import numpy as np
import pytest
from conftest import ROOT

from r2d2_tf import run_directory
from r2d2_tf.command_line import from_command_line
from r2d2_tf.datasets import DATASETS, ImageData
from r2d2_tf.experiment import Experiment
from r2d2_tf.pseudo_labels import UNLABELED
from r2d2_tf.splits import read_split
from tools.paper import rows_of

CONFIGS = sorted((ROOT / "configs").glob("*.cfg"))
QUICK = ("mnist", "mnist5k")


def noise(spec):
    """Three images a class to train on and one to test on, of the data set's shape."""
    labels = np.tile(np.arange(spec.num_classes), 3)
    images = np.random.default_rng(0).integers(0, 256, (len(labels), *spec.image_shape)).astype(np.uint8)
    ids = [f"fake_{row}" for row in range(len(labels))]
    names = tuple(str(number) for number in range(spec.num_classes))
    return ImageData(images, labels, ids, images[: spec.num_classes], labels[: spec.num_classes], names)


@pytest.mark.parametrize(
    "path", [pytest.param(p, id=p.stem, marks=[] if p.stem in QUICK else pytest.mark.slow) for p in CONFIGS]
)
def test_a_config_makes_a_step_of_each_stage_at_its_real_shapes(path, tmp_path, monkeypatch):
    config = from_command_line([f"--flagfile={path}"])
    spec = DATASETS[config.dataset]
    monkeypatch.setitem(DATASETS, config.dataset, dataclasses.replace(spec, load=lambda data_dir: noise(spec)))
    rate = config.parsed_rounds[0].learning_rate
    cut = [f"--num_labels={spec.num_classes}", "--split_file=", "--supervised_epochs=1", "--finetune_epochs=1"]
    cut += [f"--rounds=1:{rate},1:{rate}", "--batch_size=8", "--supervised_batch_size=8", "--finetune_batch_size=8"]
    experiment = Experiment(
        from_command_line([f"--flagfile={path}", *cut, "--nostop_on_collapse", f"--run_dir={tmp_path / 'run'}"])
    )
    # A step, not an epoch: what is to be seen is that the shapes fit.
    monkeypatch.setattr("r2d2_tf.stages.Stage.steps_per_epoch", lambda stage, *counts: 1)
    monkeypatch.setattr("r2d2_tf.pipeline.epoch_rows", lambda stage, *a, **k: np.arange(8)[None])
    before = [np.array(w) for w in experiment.model.backbone.get_weights()]
    with contextlib.redirect_stdout(io.StringIO()):
        summary = experiment.run(run_directory.create(experiment.config), 0.0)
    assert list(summary["test_error_percent"]) == ["stage_1", "stage_2", "stage_3"]
    after = experiment.model.backbone.get_weights()
    assert all(np.isfinite(w).all() for w in after)
    assert any((old != new).any() for old, new in zip(before, after, strict=True))
    assert sum(int(np.prod(w.shape)) for w in experiment.model.trainable_variables) == summary["parameters"]


def test_each_row_of_the_ablation_tables_has_its_config(monkeypatch):
    monkeypatch.chdir(ROOT)
    base = "--flagfile=configs/cifar10.cfg"
    config = from_command_line([base])
    rows = {(table, row.label): row for table in (1, 2, 3, 4) for row in rows_of(table, config)}
    for (table, label), row in rows.items():
        path = f"configs/ablation/table{table}_{label.split(':')[0].replace(' ', '_')}.cfg"
        assert from_command_line([f"--flagfile={path}"]).digest == from_command_line([base, *row.flags]).digest
    assert len(list((ROOT / "configs" / "ablation").iterdir())) == len(rows) == 18


def test_the_authors_split_of_cifar10_is_carried_whole():
    config = from_command_line([f"--flagfile={ROOT / 'configs' / 'cifar10.cfg'}"])
    lines = (ROOT / config.split_file).read_text().split("\n")[:-1]
    classes = [line.split()[1] for line in lines]
    assert len({line.split()[0] for line in lines}) == len(lines) == config.num_labels == 4000
    assert {classes.count(name) for name in set(classes)} == {400}


@pytest.mark.slow
def test_the_authors_split_fits_the_real_cifar10(data_dir):
    config = from_command_line([f"--flagfile={ROOT / 'configs' / 'cifar10.cfg'}"])
    data = DATASETS["cifar10"].load(data_dir)
    rows = read_split(ROOT / config.split_file, data.train_ids, data.train_labels, data.class_names)
    assert np.bincount(data.train_labels[rows]).tolist() == [400] * 10
    assert UNLABELED not in data.train_labels
