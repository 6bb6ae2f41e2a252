"""Files of labels as people and other programs write them."""

import json
import shutil

import pytest
from conftest import SUMMARY
from own_photographs import write_csv
from test_own_bad_input import IDS, assert_refused, config_of, file_of
from test_people_folders import checked, images, loaded

from r2d2_tf.data.labels.matching import labels_in, read_labels, rows_named
from r2d2_tf.runs.dataset import spec_of
from r2d2_tf.runs.other_runs import _differences


@pytest.fixture
def flat(tmp_path):
    """Twenty pictures without folders."""
    images(tmp_path / "made", {"a": 10, "b": 10})
    (tmp_path / "photos").mkdir()
    for path in (tmp_path / "made").rglob("*.png"):
        shutil.move(path, tmp_path / "photos" / path.name)
    return tmp_path / "photos"


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def labels_of(path, ids=IDS):
    table = read_labels(path)
    return dict(zip(rows_named(table, ids).tolist(), table.labels, strict=True))


# Cells that are no label.

NONE = {
    "nan": ["nan"],
    "pandas, R and databases": ["None", "NA", "<NA>", "null", "NaN", "N/A", "NULL", "#N/A"],
    "minus one": ["-1"],
    "minus one point zero": ["-1.0", ""],
}


@pytest.mark.parametrize("kind", NONE)
def test_cells_that_say_none_are_no_label_and_counted(kind, flat, tmp_path):
    words = NONE[kind]
    rows = [(name, ("cat", "dog")[i % 2] if i < 10 else words[i % len(words)]) for i, name in enumerate(names_in(flat))]
    path = write_csv(tmp_path / "labels.csv", rows)
    spec = spec_of(config_of(flat, labels=str(path), test_fraction=0.2))
    assert spec.load(None).class_names == ("cat", "dog")
    count = sum(label in words and label != "" for _, label in rows)
    assert f"{count} labels in {path} say {', '.join(sorted({label for _, label in rows[10:]} - {''}))}" in spec.remarks[0]
    code, out = checked(f"--data_dir={flat}", f"--labels={path}")
    assert code == 0
    assert f"{count} labels in {path} say" in out


def test_missing_labels_leave_numbers_whole(flat, tmp_path):
    rows = [(name, f"{i % 2}.0" if i < 10 else "nan") for i, name in enumerate(names_in(flat))]
    flags = {"labels": str(write_csv(tmp_path / "labels.csv", rows)), "test_fraction": 0.2}
    assert loaded(flat, **flags).class_names == ("0", "1")


def test_words_that_may_be_a_class_stay_one_and_are_asked_about(flat, tmp_path):
    rows = [(name, ("cat", "unknown")[i % 2]) for i, name in enumerate(names_in(flat))]
    spec = spec_of(config_of(flat, labels=str(write_csv(tmp_path / "labels.csv", rows)), test_fraction=0.2))
    assert spec.num_classes == 2
    assert "is 'unknown' a class?" in " ".join(spec.remarks)


def test_a_class_that_a_file_of_labels_takes_for_none_is_refused(tmp_path):
    assert_refused(config_of(images(tmp_path, {"NA": 2, "cat": 2}), test_fraction=0.5), "must not be called 'NA'", "rename it")


# Several labels in a cell.


@pytest.mark.parametrize(
    "cell",
    ["cat;dog", "cat|dog", "cat; dog", "['cat', 'dog']", '["cat", "dog"]', "['cat' 'dog']", "[cat, dog]", "cat,dog", "cat/dog"],
)
def test_several_labels_in_a_cell_are_told_by_line(cell, tmp_path):
    path = write_csv(tmp_path / "labels.csv", [(IDS[0], "cat"), (IDS[1], "dog"), (IDS[2], cell)])
    with pytest.raises(ValueError, match=r"line 4: .* has several labels, .*: write the one") as caught:
        read_labels(path)
    assert "\n" not in str(caught.value)


def test_cells_that_share_a_part_are_several_labels_though_none_stands_alone(tmp_path):
    path = write_csv(tmp_path / "labels.csv", [(IDS[0], "cat|dog"), (IDS[1], "dog|owl")])
    with pytest.raises(ValueError, match=r"line 2: .* \(2 lines have\)"):
        read_labels(path)


def test_names_with_such_signs_are_names(tmp_path):
    names = ["dog, large", "AC/DC", "black|white", "(none)"]
    assert read_labels(write_csv(tmp_path / "labels.csv", zip(IDS, names, strict=True))).labels == names


def test_a_list_of_one_is_that_one_and_an_empty_one_is_none(tmp_path):
    path = write_csv(tmp_path / "labels.csv", [(IDS[0], "['cat']"), (IDS[1], "[]"), (IDS[2], '["dog"]')])
    assert read_labels(path).labels == ["cat", "", "dog"]


# Spreadsheets.

WRITTEN = {
    "UTF-16 and tabs, as Excel's Unicode text": ("file\tlabel\r\na.jpg\tcaf\u00e9\r\n", "utf-16"),
    "UTF-16, the other way round": ("\ufefffile;label\r\na.jpg;caf\u00e9\r\n", "utf-16-be"),
    "UTF-16 without a mark": ("file\tlabel\na.jpg\tcaf\u00e9\n", "utf-16-le"),
    "line ends of old Macs": ("file,label\ra.jpg,caf\u00e9\r", "utf-8"),
    "a first line that names the separator": ("sep=;\r\nfile;label\r\na.jpg;caf\u00e9\r\n", "utf-8-sig"),
    "another program's columns": ("filename,class\na.jpg,caf\u00e9\n", "utf-8"),
}


def test_whole_numbers_may_have_a_decimal_comma(tmp_path):
    assert labels_of(file_of(tmp_path, "file;label\na.jpg;0,0\nb c.jpg;12,0\n")) == {0: "0", 1: "12"}


def test_two_columns_of_labels_are_refused(tmp_path):
    with pytest.raises(ValueError, match="has the column label twice, and an image has one: remove one"):
        labels_of(file_of(tmp_path, "file,label,label\na.jpg,cat,dog\n"))


@pytest.mark.parametrize("kind", WRITTEN)
def test_what_spreadsheets_write_is_read(kind, tmp_path):
    assert labels_of(file_of(tmp_path, *WRITTEN[kind])) == {0: "caf\u00e9"}


def test_lines_are_counted_below_a_line_that_names_the_separator(tmp_path):
    with pytest.raises(ValueError, match=r"line 3: 'x.jpg' names no image"):
        labels_of(file_of(tmp_path, "sep=;\nfile;label\nx.jpg;cat\n"))


# Names of images.


def test_names_may_lack_folders_of_their_ids_or_have_more(tmp_path):
    ids = ["photos/cat/a.jpg", "photos/dog/b.jpg", "c.jpg", "x/d.jpg", "y/d.jpg"]
    path = file_of(tmp_path, "file,label\ncat/a.jpg,1\nb.jpg,2\n/home/me/set/c.jpg,3\n")
    assert labels_of(path, ids) == {0: "1", 1: "2", 2: "3"}
    with pytest.raises(ValueError, match=r"line 2: 'd.jpg' names no image of this data set: did you mean"):
        labels_of(file_of(tmp_path, "file,label\nd.jpg,1\n"), ids)


# Classes of another run.


def finished(run, class_names):
    (run / "summary.json").write_text(json.dumps(SUMMARY | {"class_names": class_names}))


@pytest.fixture
def other_run(tmp_path):
    (tmp_path / "run").mkdir()
    finished(tmp_path / "run", ["007", "012", "105"])
    return tmp_path / "run"


def relabeled(flat, tmp_path, labels, **flags):
    rows = [(name, labels[i % len(labels)]) for i, name in enumerate(names_in(flat))]
    path = write_csv(tmp_path / "queue.csv", rows, delimiter=";")
    return config_of(flat, labels=str(path), test_fraction=0.2, **flags)


def test_a_number_without_its_leading_zeros_is_the_class_of_the_run_that_is_started_from(flat, other_run, tmp_path):
    spec = spec_of(relabeled(flat, tmp_path, ["7", "12", "105"], warm_start=str(other_run)))
    assert spec.load(None).class_names == ("007", "012", "105")
    assert "the label '7' is taken for '007', a class of " in " ".join(spec.remarks)


def test_a_label_that_is_no_class_of_that_run_is_told_by_line(flat, other_run, tmp_path):
    assert_refused(
        relabeled(flat, tmp_path, ["7", "12", "8"], warm_start=str(other_run)), "line 4", "'8' is no class of", "did you"
    )
    finished(other_run, ["007", "07", "8"])
    assert_refused(relabeled(flat, tmp_path, ["8", "7"], warm_start=str(other_run)), "'007' or '07'?", "drop leading zeros")


def test_capitals_do_not_make_another_class_of_that_run(flat, other_run, tmp_path):
    finished(other_run, ["blue", "red"])
    spec = spec_of(relabeled(flat, tmp_path, ["blue", "Red", "red"], warm_start=str(other_run)))
    assert spec.load(None).class_names == ("blue", "red")


def test_numbers_with_and_without_zeros_are_told(flat, tmp_path):
    spec = spec_of(relabeled(flat, tmp_path, ["007", "7"]))
    assert "two classes? '007' and '7' are the same number: spreadsheets drop leading zeros" in spec.remarks
    root = images(tmp_path / "own", {"007": 4, "105": 4})
    rows = [(path.relative_to(root).as_posix(), str(int(path.parent.name))) for path in root.rglob("*.png")]
    spec = spec_of(config_of(root, labels=str(write_csv(tmp_path / "own.csv", rows)), test_fraction=0.3))
    assert "the label '7' is '007' among the folders: spreadsheets drop leading zeros" in spec.remarks


def test_the_labels_of_a_set_of_numbers_are_these_though_zeros_are_missing(tmp_path):
    table = read_labels(file_of(tmp_path, "file,label\na.jpg,1\nb c.jpg,2\n"))
    assert labels_in(table, IDS, ("001", "002", "003")).tolist() == [0, 1, -1, -1]


def test_how_classes_of_two_runs_differ_is_said():
    assert _differences(["a", "b"], ["b", "a"]) == "another order of its classes (a, b)"
    assert _differences(["red", "x"], ["Red", "x"]) == "other classes ('red' and not 'Red' ; did you mean 'red' by 'Red'?)"


# Exports of other programs.


def labeled_in(root):
    return [(name, ("cat", "dog")[i % 2]) for i, name in enumerate(names_in(root)[:10])]


def huggingface(root, name, ending):
    rows = [{"file_name": file, "label": ("cat", "dog")[i % 2] if i < 10 else None} for i, file in enumerate(names_in(root))]
    path = root / name
    if ending == "csv":
        return write_csv(path, [(row["file_name"], row["label"]) for row in rows], ("file_name", "label"))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def roboflow(root):
    rows = [(name, f" {int(i % 2 == 0 and i < 10)}", f" {int(i % 2 == 1 and i < 10)}") for i, name in enumerate(names_in(root))]
    return write_csv(root / "_classes.csv", rows, ("filename", " cat", " dog"))


def cvat(root):
    lines = [f"{name} {i % 2}\n" if i < 10 else f"{name}\n" for i, name in enumerate(names_in(root))]
    (root / "synsets.txt").write_text("cat\ndog\n")
    (root / "train.txt").write_text("".join(lines))
    return root / "train.txt"


def label_studio_csv(root):
    header = ("image", "id", "animal", "annotator", "annotation_id", "lead_time")
    rows = [(f"/data/upload/1/0a1b2c3d-{name}", i, label, 1, i, 2.5) for i, (name, label) in enumerate(labeled_in(root))]
    return write_csv(root / "project-1-at-2024-01-02-03-04-abc.csv", rows, header)


def label_studio_min(root):
    path = root / "project-1-at-2024-01-02-03-04-abc.json"
    held = [{"image": f"/data/local-files/?d=my/{name}", "id": 1, "choice": label} for name, label in labeled_in(root)]
    path.write_text(json.dumps(held))
    return path


def label_studio_full(root):
    def task(name, label):
        result = [{"type": "choices", "value": {"choices": [label]}}]
        return {"data": {"image": f"s3://bucket/my/{name}"}, "annotations": [{"result": result, "was_cancelled": False}]}

    path = root / "project-1-at-2024-01-02-03-04-def.json"
    path.write_text(json.dumps([task(*one) for one in labeled_in(root)]))
    return path


EXPORTS = {
    "Hugging Face, CSV": lambda root: huggingface(root, "metadata.csv", "csv"),
    "Hugging Face, JSON lines": lambda root: huggingface(root, "metadata.jsonl", "jsonl"),
    "Roboflow": roboflow,
    "CVAT": cvat,
    "Label Studio, CSV": label_studio_csv,
    "Label Studio, JSON-MIN": label_studio_min,
    "Label Studio, JSON": label_studio_full,
}


@pytest.mark.parametrize("kind", EXPORTS)
def test_an_export_is_proposed_and_read(kind, flat, capsys):
    path = EXPORTS[kind](flat)
    assert_refused(config_of(flat, test_fraction=0.2), "lies in no folder of a class", f"did you mean --labels={path}?")
    data = loaded(flat, labels=str(path), test_fraction=0.2)
    assert data.class_names == ("cat", "dog")
    assert ((data.given_labels >= 0).sum(), (data.given_labels < 0).sum(), len(data.test_labels)) == (8, 10, 2)


@pytest.mark.parametrize("third", [False, True])
def test_the_parts_of_an_export_are_read_together(third, tmp_path):
    root = images(tmp_path, {part: 4 for part in ("train", "valid", *["test"] * third)})
    for part in root.iterdir():
        rows = [(path.name, 1 - i % 2, i % 2) for i, path in enumerate(sorted(part.iterdir()))]
        write_csv(part / "_classes.csv", rows, ("filename", "cat", "dog"))
    spec = spec_of(config_of(root, labels=str(root / "train" / "_classes.csv")))
    data = spec.load(None)
    assert {name.partition("/")[0] for name in data.test_ids} == {"test" if third else "valid"}
    assert len(data.train_ids) == (8 if third else 4)
    assert ("the images of valid are to train" if third else "the images of valid are to test on") in " ".join(spec.remarks)


BAD_EXPORTS = {
    "metadata.jsonl": ('{"file_name": "a.jpg", "label": "cat"}\n{oh\n', "line 2 is no JSON"),
    "x.json": ('{"image": "a.jpg"}', "must be a list of objects"),
    "y.json": ("[1]", "line 1 must be an object"),
    "train.txt": ("a.jpg 0\n", "needs synsets.txt beside it"),
    "_classes.csv": ("filename,cat,dog\na.jpg,1,1\n", "line 2: 'a.jpg' has several labels, \"['cat', 'dog']\""),
    "metadata.csv": ("file_name,text\na.jpg,x\n", "has no columns file and label (it begins with 'file_name,text')"),
}


@pytest.mark.parametrize("name", BAD_EXPORTS)
def test_an_export_that_cannot_be_used_is_one_line(name, tmp_path):
    text, message = BAD_EXPORTS[name]
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=r".") as caught:
        read_labels(tmp_path / name)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_of_labels_in_the_folder_is_proposed_by_check_data(tmp_path):
    root = images(tmp_path, {"cat": 5, "dog": 5})
    huggingface(root / "cat", "metadata.csv", "csv")
    out = checked(f"--data_dir={root}")[1]
    assert "cat/metadata.csv may hold labels: " in out
    assert f"--labels={root / 'cat' / 'metadata.csv'}" in out
