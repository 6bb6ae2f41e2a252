"""Any prepared TFDS set by its name, and labels in Parquet files."""

import json

import numpy as np
import pytest
from own_photographs import write_csv

from r2d2_tf import train
from r2d2_tf.config.config import Config
from r2d2_tf.data.datasets import DATASETS
from r2d2_tf.data.labels.matching import read_labels
from r2d2_tf.runs.dataset import spec_of
from tools.reproduce import fake_data


def config_of(name, data_dir, **flags):
    return Config(**{"dataset": f"tfds:{name}", "data_dir": str(data_dir), "num_labels": 10, "translate": 0, **flags})


@pytest.mark.parametrize("name", ["mnist", "cifar100", "imagenette/160px-v2"])
def test_what_a_prepared_set_says_of_itself_is_what_is_known_of_the_named_one(name, data_dir):
    spec = spec_of(config_of(name, data_dir, num_labels=100))
    known = DATASETS[name.partition("/")[0]]
    assert (spec.image_shape, spec.num_classes, spec.photographs) == (known.image_shape, known.num_classes, known.photographs)
    assert spec.read_ids(data_dir)[:50] == known.read_ids(data_dir)[:50]


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        pytest.param("svhn", "svhn_cropped", marks=pytest.mark.slow),
        pytest.param("imagenette", "imagenette/160px-v2", marks=pytest.mark.slow),
    ],
)
def test_any_prepared_set_is_trained_on(dataset, name, tmp_path):
    fake_data.make(dataset, tmp_path)
    config = config_of(name, tmp_path)
    assert config.default_name == f"tfds-{name.replace('/', '-')}"
    flags = [f"--dataset=tfds:{name}", "--backbone=conv_small", f"--run_dir={tmp_path / 'run'}", "--translate=0"]
    flags += ["--image_size=32"] if dataset == "imagenette" else []
    assert train.main([*flags, *fake_data.trial_flags(Config(dataset=dataset, num_labels=10, translate=0), tmp_path)]) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["dataset"], summary["num_labels"], summary["fake_data"]) == (f"tfds:{name}", 10, True)
    assert "pseudo_label_error_percent" in summary, "hidden labels are known"


def changed_features(tmp_path, change):
    fake_data.make("svhn", tmp_path)
    path = next(tmp_path.rglob("features.json"))
    features = json.loads(path.read_text())
    change(features["featuresDict"]["features"])
    path.write_text(json.dumps(features))


BAD_SETS = {
    "no label": (lambda f: f.pop("label"), "is none of classified images"),
    "no image": (lambda f: f.pop("image"), "is none of classified images"),
    "four channels": (lambda f: f["image"]["image"].update(shape={"dimensions": ["8", "8", "4"]}), "must have grey or colored"),
}


@pytest.mark.parametrize(("change", "message"), BAD_SETS.values(), ids=BAD_SETS)
def test_a_set_of_something_else_is_one_line(change, message, tmp_path):
    changed_features(tmp_path, change)
    with pytest.raises(ValueError, match=message) as caught:
        spec_of(config_of("svhn_cropped", tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "..", "../x", "a b", "/etc", "x/..", "x/", "svhn;rm"])
def test_a_name_that_would_be_another_path_is_refused(name):
    with pytest.raises(ValueError, match=r"names no TFDS set|must not begin or end"):
        Config(dataset=f"tfds:{name}")


def test_a_set_that_is_not_there_or_too_small_says_so(tmp_path, capsys):
    assert train.main(["--dataset=tfds:svhn_cropped", f"--data_dir={tmp_path}"]) == 2
    assert "svhn_cropped is not in --data_dir" in capsys.readouterr().err
    fake_data.make("svhn", tmp_path)
    with pytest.raises(ValueError, match=r"num_labels \(1000\) must be at least one a class \(10\) and at most .* \(50\)"):
        spec_of(config_of("svhn_cropped", tmp_path, num_labels=1000))


@pytest.mark.parametrize("labels", [["cat", None, "dog"], [2, None, 10], [2.0, float("nan"), 10.0]])
def test_a_parquet_file_says_what_the_same_csv_file_says(labels, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    names = ["a.jpg", "b.jpg", "c.jpg"]
    table = pyarrow.table({"file": names, "label": labels, "split": ["train", None, "test"]})
    parquet.write_table(table, tmp_path / "labels.parquet")
    texts = ["" if label in (None, "") or label != label else str(label) for label in labels]
    rows = zip(names, texts, ["train", "", "test"], strict=True)
    write_csv(tmp_path / "labels.csv", rows, header=("file", "label", "split"))
    in_parquet, in_csv = (read_labels(tmp_path / f"labels.{ending}") for ending in ("parquet", "csv"))
    assert in_parquet.files == in_csv.files == names
    assert in_parquet.labels == in_csv.labels == (["cat", "", "dog"] if labels[0] == "cat" else ["2", "", "10"])
    assert in_parquet.splits == in_csv.splits == ["train", "", "test"]


def test_what_is_no_parquet_file_or_lacks_a_column_is_one_line(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    (tmp_path / "x.parquet").write_bytes(b"no parquet at all")
    with pytest.raises(ValueError, match=r"x\.parquet\) cannot be read: it is no Parquet file .*; name another file"):
        read_labels(tmp_path / "x.parquet")
    parquet.write_table(pyarrow.table({"name": np.array(["a"]), "label": ["b"]}), tmp_path / "y.parquet")
    with pytest.raises(ValueError, match=r"has no columns file and label \(it begins with 'name,label'\)"):
        read_labels(tmp_path / "y.parquet")
