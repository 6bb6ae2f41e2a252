import dataclasses
import fcntl
import json
import re
import shutil
import subprocess
import sys
import zipfile

import chromium
import jinja2
import numpy as np
import pytest
from conftest import ROOT, softmax
from test_streaming import FLAGS, part_of_imagenette

from r2d2_tf.config.config import Config
from r2d2_tf.data.datasets import DATASETS
from r2d2_tf.data.photographs import Photographs
from r2d2_tf.runs import run_directory
from r2d2_tf.runs.outcome.verdict import Comparison, Outcome
from tools.label_queue import __main__ as label_queue
from tools.report import __main__ as report
from tools.report import contents, pictures, sheets, tested_sheets
from tools.report.evidence import Evidence, Judged, NetworkView
from tools.report.run_words import NO_BREAK
from tools.shared import html, plots, row_history, run_images, saved_table
from tools.shared.classification_metrics import MetricsAccumulator, largest_confusions, reliability

NAMES = ("cat", "dog", "owl")


@pytest.fixture(scope="module")
def page(finished_run, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "page.html"
    assert report.main([f"--run_dir={finished_run}", f"--out={path}"]) == 0
    return path


IMAGES_THAT_FAILED = "[...document.images].filter(image => !image.naturalWidth).length"
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.mark.parametrize(
    ("width", "dark", "prints"),
    [(1280, False, False), (390, True, False), (800, True, True)],
    ids=["desktop", "telephone_dark", "paper"],
)
def test_a_browser_shows_the_whole_page_without_a_network(page, width, dark, prints):
    questions = ("document.images.length", IMAGES_THAT_FAILED, OVERFLOW, "getComputedStyle(document.body).backgroundColor")
    seen = chromium.visit(page, *questions, width=width, dark=dark, prints=prints)
    assert seen.complaints == []
    assert [url for url in seen.requests if not url.startswith("data:")] == [page.resolve().as_uri()]
    count, failed, overflow, background = seen.answers
    assert count > 100
    assert (failed, overflow) == (0, 0)
    assert background == ("rgb(21, 24, 27)" if dark and not prints else "rgb(255, 255, 255)")
    assert len(seen.screenshot) > 50_000


def test_the_page_has_no_script_and_every_picture_a_text(page):
    text = page.read_text()
    assert "<script" not in text
    assert text.count("<img ") == text.count('alt="image ') > 100
    # Each picture is drawn at two widths.
    assert text.count("<svg ") == 2 * text.count('role="img" aria-label="') == 4
    identifiers = [part.split('"')[0] for part in text.split(' id="')[1:]]
    assert len(identifiers) == len(set(identifiers))


def test_the_page_says_what_the_run_measured(page, finished_run):
    text = page.read_text()
    summary = json.loads((finished_run / "summary.json").read_text())
    for stage, error in summary["test_error_percent"].items():
        is_result = ", the result" * (stage == "stage_3")
        assert f"after {stage.replace('_', NO_BREAK)}{is_result}</dt><dd>{error:.2f} %" in text
    assert f"<dd>{summary['pseudo_label_error_percent']['stage_3']:.2f} %" in text
    assert "FAKE" not in text
    assert "not known here" not in text
    wrong = round(summary["test_error_percent"]["stage_3"] * 10)
    assert f"The network on 1,000 test images: {wrong:,} wrong" in text
    assert f"{wrong:,} of 1,000 test images are wrong." in text


def test_a_word_of_the_method_is_explained_where_it_is_first_used(page):
    text = page.read_text()
    text = text[text.index("<body>") : text.index('<section id="about">')]
    assert re.findall("<dfn>([^<]*):</dfn>", text) == ["Stages", "p, 95 %", "Pseudo-label", "Prediction"]
    for word, last in (("held-out", "</header>"), ("entropy", 'id="sheet-2"'), ("flip", 'id="calibration"')):
        assert word in text[: text.index(last)].lower()


def test_the_number_of_images_is_bounded(finished_run, tmp_path):
    path = tmp_path / "page.html"
    assert report.main([f"--run_dir={finished_run}", f"--out={path}", "--max_images=10", "--max_predicted=200"]) == 0
    assert 5 <= path.read_text().count("<img ") <= 10


def test_unknown_labels_fake_data_and_odd_names_are_told(finished_run, tmp_path, monkeypatch):
    run_dir = tmp_path / "run"
    shutil.copytree(finished_run, run_dir)
    names = ("<script>alert(1)</script>", "a$b$", *(f"one of many names {number}" for number in range(8)))
    summary = json.loads((run_dir / "summary.json").read_text())
    (run_dir / "summary.json").write_text(json.dumps(summary | {"fake_data": True, "class_names": names}))
    spec = DATASETS["mnist5k"]

    def load(data_dir):
        data = spec.load(data_dir)
        unknown = np.full_like(data.train_labels, -1)
        return dataclasses.replace(data, train_labels=unknown, given_labels=unknown, class_names=names)

    monkeypatch.setitem(DATASETS, "mnist5k", dataclasses.replace(spec, load=load))
    assert report.main([f"--run_dir={run_dir}", "--max_images=20", "--max_predicted=50"]) == 0
    text = (run_dir / "report.html").read_text()
    assert "True labels are not known here" in text
    # Of test images alone the truth is known.
    assert ">really " not in text[text.index('<section id="sheet-1"') :]
    assert "FAKE DATA" in text
    assert "<script" not in text
    # On paper nothing can be scrolled to.
    seen = chromium.visit(run_dir / "report.html", OVERFLOW, width=720, prints=True)
    assert (seen.complaints, seen.answers) == ([], [0])
    # What cannot be known is left out, not listed as unknown; nor is a label that was given called the truth.
    assert "unknown" not in text
    assert "wrong" not in text[text.index('<section id="classes"') : text.index('<section id="about"')]
    assert "final network, test images" in text[text.index('<section id="calibration"') : text.index('<section id="curves"')]
    assert "learned table</th>" not in text


def write_table(path, logits, labels, **changes):
    arrays = {"ids": np.array([f"i{row}" for row in range(len(labels))]), "given_labels": labels, "pseudo_logits": logits}
    with path.open("wb") as file:
        np.savez(file, **arrays | changes)
    return path


def tiny_table(tmp_path, rows=50, labeled=10):
    logits = np.random.default_rng(0).normal(scale=3, size=(rows, len(NAMES))).astype(np.float32)
    labels = np.full(rows, -1)
    labels[:labeled] = np.arange(labeled) % len(NAMES)
    return write_table(tmp_path / "pseudo_labels.npz", logits, labels), logits, labels


@pytest.mark.parametrize("chunk", [1, 100, 2**22])
def test_rows_are_summarized_alike_in_chunks_of_any_size(chunk, tmp_path, monkeypatch):
    monkeypatch.setattr(saved_table, "_CHUNK_BYTES", chunk)
    path, logits, _ = tiny_table(tmp_path)
    said, p = saved_table.summarized(saved_table.read(path)), np.sort(softmax(logits), axis=1)
    np.testing.assert_array_equal(said.label, logits.argmax(1))
    np.testing.assert_allclose(said.probability, p[:, -1], rtol=1e-5)
    np.testing.assert_allclose(said.margin, p[:, -1] - p[:, -2], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(said.entropy, -(p * np.log(p)).sum(1), rtol=1e-4, atol=1e-6)


def test_a_table_is_mapped_not_read(tmp_path):
    path, logits, labels = tiny_table(tmp_path)
    table = saved_table.read(path)
    assert isinstance(table.pseudo_logits, np.memmap)
    np.testing.assert_array_equal(table.pseudo_logits, logits)
    np.testing.assert_array_equal(table.labels, labels)
    assert table.ids[7] == "i7"
    assert (len(table.labeled_rows), len(table.unlabeled_rows)) == (10, 40)


MEASURE = """
import resource, sys
from pathlib import Path
from tools.shared import saved_table
table = saved_table.read(Path(sys.argv[1]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
saved_table.summarized(table)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_table_is_walked_in_little_memory(tmp_path):
    path, rows = tmp_path / "pseudo_labels.npz", 100_000
    write_table(path, np.zeros((rows, 500), np.float32), np.full(rows, -1), ids=np.zeros(rows, "U1"))
    assert path.stat().st_size > 200e6
    done = subprocess.run([sys.executable, "-c", MEASURE, str(path)], cwd=ROOT, check=True, capture_output=True, text=True)
    # In KiB: some chunks of 4 MiB, and 16 bytes a row.
    assert int(done.stdout) < 50_000


DAMAGES = {
    "absent": lambda path: path.unlink(),
    "no archive": lambda path: path.write_bytes(b"x" * 1000),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-300]),
    "objects": lambda path: write_table(
        path, np.zeros((3, 3), np.float32), np.zeros(3, int), ids=np.array([1, "a", {}], object)
    ),
    "other lengths": lambda path: write_table(path, np.zeros((4, 3), np.float32), np.zeros(3, int)),
    "other classes": lambda path: write_table(path, np.zeros((3, 3), np.float32), np.full(3, 7)),
    "no rows": lambda path: write_table(path, np.zeros((0, 3), np.float32), np.zeros(0, int)),
    "compressed": lambda path: np.savez_compressed(path, ids=["a"], given_labels=[0], pseudo_logits=np.zeros((1, 3))),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.filterwarnings("ignore:unclosed")
def test_a_damaged_table_is_one_line(damage, tmp_path):
    path, *_ = tiny_table(tmp_path)
    damage(path)
    with pytest.raises(ValueError, match=r"pseudo_labels\.npz") as error:
        saved_table.read(path)
    assert "\n" not in str(error.value)


def write_moves(path, **changes):
    arrays = {
        "rows": np.array([10, 11, 12]),
        "stage": np.array([2, 2, 2]),
        "epoch": np.array([0, 4, 8]),
        "replaced": np.array([True, True, False]),
        "pseudo_label_class": np.array([[-1, -1, -1], [0, 1, 1], [0, 1, 2]]),
        "predicted_class": np.array([[0, 1, 2], [0, 1, 0], [0, 0, 0]]),
        "predicted_probability": np.full((3, 3), 0.5, np.float32),
        "pseudo_label_probability": np.full((3, 3), 0.5, np.float32),
        "class_loss": np.full((3, 3), 0.1, np.float32),
        "entropy": np.full((3, 3), 0.7, np.float32),
    }
    np.savez(path, **arrays | changes)
    return path


def test_flips_are_counted_from_the_first_prediction_to_the_end(tmp_path):
    moves = row_history.read(write_moves(tmp_path / "predictions.npz"), num_rows=13, num_classes=3)
    # Row 12 went 2 (predicted), 1 (learned), 0 (predicted), 2 (learned).
    assert moves.flips.tolist() == [0, 0, 3]
    assert len(moves.path) == len(moves.titles) == 4
    assert moves.titles[1:3] == ["stage 2, epoch 4: learned", "stage 2, epoch 4: predicted"]
    assert moves.predicted.tolist() == [0, 0, 0]
    assert moves.flips_of_all(14)[9:].tolist() == [-1, 0, 0, 3, -1]


@pytest.mark.parametrize(
    "changed",
    [
        {"rows": np.array([10, 11, 13])},
        {"rows": np.array([-1, 11, 12])},
        {"predicted_class": np.array([[0, 1, 2], [0, 1, 0], [0, 0, 3]])},
        {"pseudo_label_class": np.array([[-2, -1, -1], [0, 1, 1], [0, 1, 2]])},
    ],
    ids=["a row too far", "a row below 0", "a class too far", "a class below none"],
)
def test_a_history_of_rows_or_classes_that_the_table_has_not_is_refused(changed, tmp_path):
    with pytest.raises(ValueError, match=r"predictions\.npz and pseudo_labels\.npz are of different runs"):
        row_history.read(write_moves(tmp_path / "predictions.npz", **changed), num_rows=13, num_classes=3)


def test_the_largest_flows_go_between_different_classes():
    flows = np.array([[9, 0, 2], [0, 1, 0], [1, 0, 0]])
    assert largest_confusions(flows, 5) == [(0, 2, 2), (2, 0, 1)]
    assert largest_confusions(flows, 1) == [(0, 2, 2)]


def made_findings(tmp_path, labels=None, true=None, *, labels_are_drawn=True, **config):
    """Evidence of a run of fifty rows of three classes."""
    path, logits, given = tiny_table(tmp_path)
    if labels is not None:
        logits = np.where(np.arange(3) == labels[:, None], 9.0, 0.0).astype(np.float32)
        write_table(path, logits, given)
    table = saved_table.read(path)
    rows = np.arange(len(given))
    evidence = np.linspace(20, 1, len(rows)).astype(np.float32)
    label = logits.argmax(1).astype(np.int32)
    view = NetworkView(rows, label, np.full(50, 0.9, np.float32), np.full(50, 0.1, np.float32), evidence)
    unlabeled = np.arange(10, 50)
    moves = row_history.RowHistory(unlabeled, [label[10:]] * 2, ["a", "b"], label[10:], evidence[10:], evidence[10:])
    images = run_images.Placed(np.zeros((50, 2, 2, 1), np.uint8), rows, np.full(50, -1) if true is None else true)
    summary = {"fake_data": False, "rollbacks": []}
    config = Config(**config)
    said = saved_table.summarized(table)
    outcome = Outcome(1, 3, 3, Comparison(5, 3, 10, 0.5))
    about = (said, moves, images, view, made_tested(), NAMES, labels_are_drawn, "digits")
    return Evidence(config, summary, outcome, table, *about)


def made_tested():
    """Of twelve test images of three classes one cat and two dogs are taken for owls, and one owl for a cat."""
    labels = np.arange(12) % 3
    predicted = labels.copy()
    predicted[[0, 1, 4, 2]] = 2, 2, 2, 0
    found = MetricsAccumulator(3)
    sure = np.linspace(0.5, 0.9, 12)[:, None]
    found.add(np.where(np.arange(3) == predicted[:, None], sure, (1 - sure) / 2), labels)
    return Judged(np.zeros((12, 2, 2, 1), np.uint8), np.arange(12), [f"t{row}" for row in range(12)], found.result())


def test_mistakes_are_shown_by_how_frequent_they_are_and_each_once():
    frequent, others = tested_sheets.sheets_of(made_tested(), NAMES, 2)
    assert {heading: [image["id"] for image in images] for heading, images in frequent["groups"].items()} == {
        "dog taken for owl: 2 of 4": ["t4"],
        "cat taken for owl: 1 of 4": ["t0"],
    }
    assert [(image["id"], image["label"], image["really"]) for image in others["groups"][""]] == [
        ("t2", "cat", "owl"),
        ("t1", "owl", "dog"),
    ]
    assert "4 of 12 test images are wrong. Here are the 2 that are not shown above" in others["explanation"]


def test_classes_are_listed_by_their_errors_with_intervals():
    lines = tested_sheets.class_errors(made_tested(), NAMES)
    assert [(line["name"], line["error"], line["wrong"], line["taken"]) for line in lines] == [
        ("dog", "50.0", "2", "owl (2)"),
        ("cat", "25.0", "1", "owl (1)"),
        ("owl", "25.0", "1", "cat (1)"),
    ]
    assert lines[0]["interval"] == "15.0 to 85.0"
    assert [line["bar"] for line in lines] == ["100.0", "50.0", "50.0"]


def test_many_classes_are_a_list_of_the_largest_confusions():
    counts = np.eye(30, dtype=int) * 9
    counts[3, 7] = 4
    found = tested_sheets.matrix_of(counts, [f"c{number}" for number in range(30)])
    assert (found["lines"], found["largest"]) == ([], [("c3", "c7", "4")])
    assert len(tested_sheets.matrix_of(counts[:9, :9], list("abcdefghi"))["lines"]) == 9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("classes", "largest", "name", "is_wide"),
    [(10, 980, "a name of some length {}", False), (10, 4812, "class {}", True), (20, 48, "{}", True), (8, 12345, "{}", False)],
)
def test_a_matrix_fits_a_telephone_or_says_that_it_can_be_moved(classes, largest, name, is_wide, tmp_path):
    counts = np.full((classes, classes), largest // 50)
    np.fill_diagonal(counts, largest)
    found = tested_sheets.matrix_of(counts, [name.format(number) for number in range(classes)])
    assert found["is_wide"] == is_wide
    template = (
        '{% extends "base.html" %}{% from "report_parts.html" import matrix %}{% block style %}{% include "report.css" %}'
    )
    template += '{% endblock %}{% block page %}<main>{{ matrix(found, "label", "", "") }}</main>{% endblock %}'
    loader = jinja2.ChoiceLoader(
        [jinja2.DictLoader({"page": template}), jinja2.FileSystemLoader(ROOT / "tools" / "shared" / "html")]
    )
    path = tmp_path / "page.html"
    text = jinja2.Environment(loader=loader, autoescape=True).get_template("page").render(found=found, title="matrix")
    path.write_text(text, encoding="utf-8")
    beyond = "(() => { const one = document.querySelector('.scroll'); return one.scrollWidth - one.clientWidth; })()"
    is_told = "!!document.querySelector('.swipe')?.getClientRects().length"
    seen = chromium.visit(path, beyond, is_told, width=390)
    assert (seen.answers[0] > 0, seen.answers[1]) == (is_wide, is_wide)


def test_a_class_that_drifts_is_called_out_and_others_are_not(tmp_path):
    even = made_findings(tmp_path, labels=np.arange(50) % 3)
    assert contents.warnings(even, *contents.class_shares(even)) == []
    skewed = made_findings(tmp_path, labels=np.where(np.arange(50) % 10 == 0, 0, 1 + np.arange(50) % 2))
    (line,) = contents.warnings(skewed, *contents.class_shares(skewed))
    assert "cat (40.0 % of the given labels, 10.0 % of the table)" in line
    assert "dog" not in line
    assert "drawn with as many of each class" in line
    collapsed = made_findings(tmp_path, labels=np.zeros(50))
    certain = sheets.all_sheets(collapsed, 50)[-1]
    assert {choice.label for choice in certain.choices[""]} == {0}
    assert "It takes no image for dog, owl." in certain.explanation
    assert "collapsed" in contents.warnings(collapsed, *contents.class_shares(collapsed))[0]


def test_labels_that_somebody_gave_are_not_called_drawn(tmp_path):
    skewed = made_findings(tmp_path, labels=np.where(np.arange(50) % 10 == 0, 0, 1 + np.arange(50) % 2), labels_are_drawn=False)
    (line,) = contents.warnings(skewed, *contents.class_shares(skewed))
    assert "drawn" not in line
    assert "need not have the shares of all images" in line


def test_classes_that_drifted_furthest_come_first_and_chance_is_no_drift():
    given, learned = np.array([0.1, 0.1, 0.2, 0.5, 0.1]), np.array([0.04, 0.35, 0.01, 0.55, 0.05])
    assert contents._drifted(given, learned, 1000).tolist() == [1, 2, 0]
    # Of 40 rows, 4 are expected of the first class and 2 are found.
    assert contents._drifted(given, learned, 40).tolist() == [1]
    assert contents._drifted(given, learned, 0).tolist() == []


def test_only_a_truth_that_is_news_is_told(tmp_path):
    """Of an unlabeled image one that was mistaken; of a labeled one a label that is wrong, never the given label itself."""
    labels = np.arange(50) % 3
    given = np.where(np.arange(50) < 10, labels, -1)
    # As in a folder of one's own: what is known is what was given.
    own = made_findings(tmp_path, labels=labels, true=given)
    choices = [sheets.Choice(row, 1, "") for row in (0, 1, 20)]
    sheet = sheets.Sheet("title", "explanation", {"": choices})
    assert [figure["really"] for figure in sheets.shown(own, [sheet])[0]["groups"][""]] == ["", "", ""]
    true = labels.copy()
    true[[0, 20]] = 1, 0
    known = made_findings(tmp_path, labels=labels, true=true)
    assert [figure["really"] for figure in sheets.shown(known, [sheet])[0]["groups"][""]] == ["dog", "", "cat"]


def test_the_most_certain_are_three_a_class_in_the_order_of_the_number_that_is_shown(tmp_path):
    found = made_findings(tmp_path)
    choices = sheets.all_sheets(found, 50)[-1].choices[""]
    assert [choice.label for choice in choices] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    for own in (choices[:3], choices[3:6], choices[6:]):
        shown = [float(choice.detail) for choice in own]
        assert shown == sorted(shown, reverse=True)
    assert len(sheets.all_sheets(found, 6)[-1].choices[""]) == 6


def test_images_that_a_person_can_help_with_come_before_the_certain_ones(tmp_path):
    titles = [sheet.title for sheet in sheets.all_sheets(made_findings(tmp_path), 7)]
    assert titles[0] == "Most doubtful"
    assert titles[-1] == "Most certain, by class"


def test_labels_that_are_not_contradicted_are_shown_by_doubt(tmp_path):
    found = made_findings(tmp_path)
    view = dataclasses.replace(found.view, label=np.where(np.arange(50) < 10, found.table.labels, 0))
    view.given_probability[:10] = np.linspace(1, 0.1, 10)
    sheet = sheets.all_sheets(dataclasses.replace(found, view=view), 7)[1]
    assert "None of 10 given labels is contradicted" in sheet.explanation
    assert [choice.row for choice in sheet.choices[""]] == [9, 8, 7, 6, 5, 4, 3]


def test_strangers_are_unlabeled_images_of_the_least_evidence(tmp_path):
    sheet = sheets.all_sheets(made_findings(tmp_path), 7)[2]
    assert [choice.row for choice in sheet.choices[""]] == list(range(49, 42, -1))
    assert "So are 40 of the 40 unlabeled images" in sheet.explanation


def test_errors_count_images_of_known_class_alone(tmp_path):
    true = np.full(50, -1)
    true[20:24] = 1
    found = made_findings(tmp_path, labels=np.arange(50) % 2, true=true)
    assert found.wrong_percent(np.arange(50), found.said.label) == 50.0
    assert found.wrong_percent(np.arange(10), found.said.label[:10]) is None


def test_learned_rows_are_ranked_by_what_is_left_of_the_given_class(tmp_path):
    found = made_findings(tmp_path, learn_labeled_rows=True)
    ranked = saved_table.ranked(found.table)
    left = softmax(found.table.pseudo_logits[:10].astype(float))[np.arange(10), found.table.labels[:10]]
    assert ranked.rows.tolist() == np.argsort(left).tolist()
    np.testing.assert_allclose(ranked.probability, np.sort(left))
    sheet = sheets.all_sheets(found, 7)[1]
    assert [choice.row for choice in sheet.choices[""]] == ranked.rows.tolist()[:7]


def test_thumbnails_are_small_and_each_row_has_its_own():
    images = np.random.default_rng(0).integers(0, 256, (5, 300, 200, 3)).astype(np.uint8)
    found = html.thumbnails(images, np.array([4, 1, 4]))
    assert sorted(found) == [1, 4]
    assert all(uri.startswith("data:image/jpeg;base64,") and len(uri) < 20_000 for uri in found.values())
    assert found[1] != found[4]


def test_names_are_whole_in_pictures_and_of_any_kind():
    names = ("$x_$", "\\frac{$", "new\nline", "\u65e5\u672c \u732b", "a name that goes on and on and on for ever")
    # That a font lacks a letter is no warning: the browser has others, and pytest would fail on it.
    for points in ([(1, 90.0), (2, 0.0)], []):
        drawn = pictures.curves_of_two({name: points for name in names[:2]})
        assert list(drawn) == ["wide", "narrow"]
        assert all("$x_$" in svg for svg in drawn.values())
    assert plots.wrapped(names[4], 20) == "a name that goes on\nand on and on for\never"
    assert plots.wrapped(names[2], 20) == "new line"


def test_bins_of_few_images_are_faded_not_left_out():
    found = reliability(np.repeat([0.55, 0.95], [3, 30]), np.repeat([True, False, True], [1, 2, 30]))
    assert plots.has_few(found).sum() == 1
    for svg in pictures.reliability({"network": found}).values():
        assert f"opacity: {plots.FADED}" in svg


def test_an_unreadable_photograph_is_one_line(tmp_path):
    (tmp_path / "photograph.jpg").write_bytes(b"no image")
    place = (np.array([0]), np.array([0]), np.array([8]))
    images = Photographs((tmp_path / "photograph.jpg",), *place, size=8, resize=8)
    with pytest.raises(ValueError, match="an image cannot be read") as error:
        html.thumbnails(images, np.array([0]))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--run_dir=runs/NAME"),
        (["--run_dir=nowhere"], "nowhere is not the folder of a run"),
        (["--run_dir=x", "--max_images=1"], "max_images"),
        (["--rundir=x"], "did you mean --run_dir?"),
    ],
)
def test_bad_input_is_one_line(arguments, message, capsys):
    assert report.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_run_that_is_not_finished_is_told_with_what_to_do(finished_run, tmp_path, capsys):
    run_dir = tmp_path / "my run"
    run_dir.mkdir()
    shutil.copy(finished_run / "config.cfg", run_dir)
    assert report.main([f"--run_dir={run_dir}"]) == 2
    assert f"--flagfile='{run_dir}/config.cfg' --run_dir='{run_dir}'\n" in capsys.readouterr().err
    with (run_dir / run_directory.LOCK_FILE).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert report.main([f"--run_dir={run_dir}"]) == 2
    assert "is not finished: wait, it is training\n" in capsys.readouterr().err


def test_a_folder_in_place_of_a_file_is_told_before_the_work(finished_run, tmp_path, capsys):
    assert report.main([f"--run_dir={finished_run}", f"--out={tmp_path}"]) == 2
    said = capsys.readouterr()
    assert f"--out={tmp_path}/report.html" in said.err
    assert said.out == ""


def test_a_run_without_a_table_and_another_data_set_are_one_line(finished_run, tmp_path, capsys):
    run_dir = tmp_path / "run"
    shutil.copytree(finished_run, run_dir)
    table = run_dir / run_directory.TABLE_FILE
    with np.load(table) as arrays:
        write_table(table, arrays["pseudo_logits"][:20], arrays["given_labels"][:20])
    assert zipfile.is_zipfile(table)
    assert report.main([f"--run_dir={run_dir}"]) == 2
    assert "20 images of the run are not in the data set, such as i0" in capsys.readouterr().err
    table.unlink()
    assert report.main([f"--run_dir={run_dir}"]) == 2
    assert "give a finished run that trained stage 2 or 3" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_on_photographs_gets_its_page_and_its_queue(data_dir, tmp_path):
    part_of_imagenette(data_dir, tmp_path / "data", {"train": 3, "validation": 1})
    run_dir = tmp_path / "run"
    command = [sys.executable, "-m", "r2d2_tf.train", *FLAGS, f"--data_dir={tmp_path / 'data'}", f"--run_dir={run_dir}"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert report.main([f"--run_dir={run_dir}"]) == 0
    assert label_queue.main([f"--run_dir={run_dir}", "--count=5"]) == 0
    for name, count in (("report.html", 20), ("queue.html", 1)):
        seen = chromium.visit(run_dir / name, "document.images.length", IMAGES_THAT_FAILED, OVERFLOW, width=390)
        assert seen.complaints == []
        assert seen.answers[0] >= count
        assert seen.answers[1:] == [0, 0]
