"""Every config takes a step of each stage at its real shapes, on fake data where the real set would be read."""

import json

import numpy as np
import pytest
from conftest import ROOT

from r2d2_tf import backbones, train
from r2d2_tf.config.command_line import from_command_line
from r2d2_tf.data.datasets import DATASETS
from r2d2_tf.data.image_data import UNLABELED
from r2d2_tf.data.splits import read_split
from tools.reproduce import fake_data
from tools.reproduce.paper_tables import TABLES, rows_of

# Of images of your own there is no fake copy: test_folder.py.
CONFIGS = sorted(path for path in (ROOT / "configs").glob("*.cfg") if "--dataset=folder" not in path.read_text())
QUICK = ("cifar10_cpu",)
"""`finished_run` is one of mnist5k, and makes whole stages."""


@pytest.fixture(scope="module")
def fake_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("fake_data")


@pytest.mark.parametrize(
    "path", [pytest.param(p, id=p.stem, marks=[] if p.stem in QUICK else pytest.mark.slow) for p in CONFIGS]
)
def test_a_config_makes_a_step_of_each_stage_at_its_real_shapes(path, fake_dir, tmp_path, capsys):
    config = from_command_line([f"--flagfile={path}"])
    fake_data.make(config.dataset, fake_dir)
    flags = [f"--flagfile={path}", *fake_data.trial_flags(config, fake_dir), f"--run_dir={tmp_path}"]
    assert train.main(flags) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert list(summary["test_error_percent"]) == ["stage_1", "stage_2", "stage_3"]
    networks = [backbones.load(tmp_path / name) for name in ("stage_1.keras", "stage_2.keras", "backbone.keras")]
    spec = DATASETS[config.dataset]
    assert networks[0].input_shape[1:] == spec.image_shape
    assert networks[0].output_shape[1:] == (spec.num_classes,)
    weights = [np.concatenate([np.ravel(w) for w in network.get_weights()]) for network in networks]
    assert all(np.isfinite(w).all() for w in weights)
    assert (weights[0] != weights[1]).any()
    assert (weights[1] != weights[2]).any()
    out = capsys.readouterr().out
    assert summary["fake_data"] == (spec.tfds_name is not None)
    assert out.count("FAKE DATA") == 3 * summary["fake_data"], "in the plan, in the verdict and above the errors"


@pytest.mark.parametrize("table", TABLES)
def test_each_table_has_its_configs(table):
    for name in (TABLES[table].full, TABLES[table].cpu):
        path = f"configs/{name}.cfg"
        rows = rows_of(table, from_command_line([f"--flagfile={ROOT / path}"]))
        assert [from_command_line([f"--flagfile={ROOT / path}", *row.flags]) for row in rows]


def test_each_row_of_the_ablation_tables_has_its_config(monkeypatch):
    monkeypatch.chdir(ROOT)
    base = "--flagfile=configs/cifar10.cfg"
    config = from_command_line([base])
    rows = {(table, row.label): row for table in "1234" for row in rows_of(table, config)}
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
