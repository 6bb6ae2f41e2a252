"""A queue that goes to Label Studio as files, and comes back as one of its exports."""

import csv
import json
import xml.etree.ElementTree

import pytest

from r2d2_tf.data.labels.matching import labels_in, read_labels
from tools.label_queue import __main__ as label_queue
from tools.label_queue.label_studio import setup_text
from tools.shared import saved_table

COUNT, SKIPPED = 6, 2
NAMES = [str(number) for number in range(10)]


@pytest.fixture(scope="module")
def queue(finished_run, tmp_path_factory):
    path = tmp_path_factory.mktemp("studio") / "tasks.json"
    arguments = [f"--run_dir={finished_run}", f"--count={COUNT}", "--format=label_studio", f"--out={path}"]
    assert label_queue.main(arguments) == 0
    return path


def test_tasks_have_pictures_and_the_tables_class_as_a_prediction(queue, finished_run):
    tasks = json.loads(queue.read_text())
    asked, given = tasks[:COUNT], tasks[COUNT:]
    table = saved_table.read(finished_run / "pseudo_labels.npz")
    row_of = {name: row for row, name in enumerate(table.ids.tolist())}
    for task in asked:
        assert task["data"]["image"].startswith("data:image/png;base64,")
        assert len(task["data"]["image"]) < csv.field_size_limit()
        (prediction,) = task["predictions"]
        (result,) = prediction["result"]
        label = str(table.pseudo_logits[row_of[task["data"]["file"]]].argmax())
        assert result == {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": [label]}}
        assert 0 < prediction["score"] <= 1
        assert "annotations" not in task
    assert len(given) == len(table.labeled_rows)
    assert all("predictions" not in task for task in given)


def test_names_of_classes_are_text_in_the_interface():
    names = ["cat & dog", 'say "hi"', "<View>", "it's"]
    root = xml.etree.ElementTree.fromstring(setup_text(names))
    assert [choice.get("value") for choice in root.iter("Choice")] == names
    assert {(one.tag, one.get("name")) for one in root} == {("Image", "image"), ("Text", "why"), ("Choices", "label")}
    assert "<Filter" in setup_text(NAMES * 3)


def answered(queue):
    """What Label Studio holds once a person has chosen class 7 for all images but one, which was skipped."""
    seven = json.loads(queue.read_text())[0]["predictions"][0]["result"]
    seven = [{**seven[0], "id": "a1", "value": {"choices": ["7"]}}]
    tasks = []
    for number, task in enumerate(json.loads(queue.read_text())):
        skipped = number == SKIPPED
        annotation = {"id": number, "result": [] if skipped else seven, "was_cancelled": skipped, "ground_truth": False}
        annotations = task.get("annotations", [annotation])
        tasks.append({**task, "id": number, "annotations": annotations, "predictions": [], "project": 1})
    return tasks


def flat(task):
    (annotation,) = task["annotations"]
    own = {"label": annotation["result"][0]["value"]["choices"][0], "annotator": 1, "annotation_id": 1, "lead_time": 2.5}
    return {**task["data"], "id": task["id"], **own, "created_at": "2024-01-02T03:04:05Z", "updated_at": "2024-01-02T03:04:05Z"}


def export_of(tasks, kind, path):
    if kind == "JSON":
        path.write_text(json.dumps(tasks))
        return
    rows = [flat(task) for task in tasks if task["annotations"][0]["result"]]
    if kind == "JSON-MIN":
        path.write_text(json.dumps(rows))
        return
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.parametrize("kind", ["JSON", "JSON-MIN", "CSV"])
def test_an_export_has_the_labels_of_the_run_and_the_new_ones(kind, queue, finished_run, tmp_path):
    tasks, table = answered(queue), saved_table.read(finished_run / "pseudo_labels.npz")
    path = tmp_path / ("export.csv" if kind == "CSV" else "export.json")
    export_of(tasks, kind, path)
    labels = labels_in(read_labels(path), table.ids.tolist(), NAMES)
    row_of = {name: row for row, name in enumerate(table.ids.tolist())}
    asked = [row_of[task["data"]["file"]] for task in tasks[:COUNT]]
    assert labels[asked].tolist() == [-1 if number == SKIPPED else 7 for number in range(COUNT)]
    assert (labels[table.labeled_rows] == table.labels[table.labeled_rows]).all()
    assert (labels >= 0).sum() == len(table.labeled_rows) + COUNT - 1


def test_the_command_reads_the_export(finished_run, tmp_path, capsys):
    path = tmp_path / "more" / "tasks.json"
    assert label_queue.main([f"--run_dir={finished_run}", "--count=3", "--format=label_studio", f"--out={path}"]) == 0
    out = capsys.readouterr().out
    assert f"--labels={path.with_name('label_studio_export.json')} --warm_start={finished_run}" in out
    assert path.with_suffix(".xml").is_file()
    assert label_queue.main([f"--run_dir={finished_run}", "--format=label_studio", "--out=queue.csv"]) == 2
    assert "must end in .json" in capsys.readouterr().err
