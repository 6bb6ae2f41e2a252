"""What a report opens with, and whether all of it can be read: of a gain, of a harm and of a test set that is too small."""

import csv
import dataclasses
import json
import re
import shutil

import chromium
import numpy as np
import pytest

from r2d2_tf.data.datasets import DATASETS
from r2d2_tf.runs.outcome import verdict
from r2d2_tf.runs.outcome.verdict import Comparison, Outcome
from tools.report import __main__ as report
from tools.report.headline import headline_of, rounded
from tools.report.run_words import chosen_words

GAIN, HARM, TINY = "gain", "harm", "tiny"
TINY_SET = 20


def sentence(first, second, of, p_value=0.0, *, result=3, other=3, base=1, **summary):
    outcome = Outcome(base, other, result, Comparison(first, second, of, p_value))
    return headline_of(outcome, {"num_labels": 100} | summary)


def test_the_sentence_tells_gain_chance_and_harm_apart():
    gain = sentence(143, 43, 1000)
    expected = "14.3 % -> 4.3 %: 70 % fewer errors than with the 100 labels alone, on 1,000 test images (95 %: 3.2 to 5.7)"
    assert (str(gain), gain.is_good) == (expected, True)
    cases = {
        "14.3 % -> 15.2 %: no gain over the error with the 100 labels alone, on 1,000": sentence(143, 152, 1000, 0.5),
        "14.3 % -> 13.9 %: 3 % fewer errors than with the 100 labels alone, which may be chance (p = 0.5), on": sentence(
            143, 139, 1000, 0.5
        ),
        "14.3 % -> 20.0 %: 40 % more errors than with the 100 labels alone, on 1,000 test images (95 %: 17.6 to 22.6): use "
        "the network after stage 1": sentence(143, 200, 1000),
        "35.0 % -> 25.0 %: 20 test images are too few to tell this from the error with the 100 labels alone (95 %": sentence(
            7, 5, 20, 0.5
        ),
        "14.3 % wrong: the network of the 100 labels alone is the result, on 1,000 test images (95 %: 12.3 to 16.6); after "
        "stage 3 it would be 15.2 %": sentence(143, 152, 1000, 0.5, result=1),
    }
    for begins, found in cases.items():
        assert str(found).startswith(begins)
        assert found.is_good is False


def test_the_sentence_says_what_it_is_held_against_and_on_which_images():
    warm = sentence(43, 20, 1000, base=2)
    assert "than after stage 2," in str(warm), "a network that was trained before is not that of the labels alone"
    alone = sentence(43, 43, 1000, base=3, evaluate_on="cifar10_1")
    assert str(alone).startswith("4.3 % wrong: after stage 3, the only one, on 1,000 images of cifar10_1 (95 %: 3.2 to")
    assert alone.is_good is None
    assert "whether by chance is not known" in str(sentence(143, 43, 1000, None))
    assert "the 1 label alone" in str(sentence(143, 43, 1000, num_labels=1))


def test_errors_have_as_many_decimals_as_tell_them_apart():
    assert rounded(14.31, 4.3) == ["14.3", "4.3"]
    assert rounded(4.31, 4.33) == ["4.31", "4.33"]
    assert rounded(4.3, 4.3) == ["4.3", "4.3"]
    assert rounded(0.46, 12.0) == ["0.46", "12.00"]
    assert rounded(0.0) == ["0.0"]


def test_what_was_chosen_is_told_line_by_line(tmp_path):
    result = {"stage": 2, "why": "the head of a network; head: the network of stage 2: 9 of 40 wrong; More labels: few"}
    told = ["The result is the network after stage 2.", "Chosen: the head of a network"]
    (tmp_path / "choice.json").write_text("{}")
    assert chosen_words(tmp_path, {"result": result})[:2] == told
    (tmp_path / "choice.json").write_text(json.dumps({"words": ["Chosen: another", "  more"]}))
    assert chosen_words(tmp_path, {"result": result})[1:] == ["Chosen: another", "more"]
    (tmp_path / "choice.json").unlink()
    last = {"stage": 3, "why": "the last stage: no labels are held out"}
    assert chosen_words(tmp_path, {"result": last}) == [
        "The result is the network after stage 3, the last stage: no labels are held out."
    ]
    assert chosen_words(tmp_path, {}) == []


def altered(run_dir, kind):
    """The run as it would be if stage 1 had been so wrong that its last stage is a gain, a harm, or cannot be told from it."""
    with np.load(run_dir / "test_predictions.npz") as arrays:
        found = {name: arrays[name][: TINY_SET if kind == TINY else None] for name in arrays.files}
    labels, result = found["labels"], found["stage_3"]
    right = np.flatnonzero(result == labels)
    first = result.copy() if kind != HARM else labels.copy()
    if kind == GAIN:
        first[right[: len(right) // 2]] = (labels[right[: len(right) // 2]] + 1) % 10
    elif kind == TINY:
        first[right[:1]] = (labels[right[:1]] + 1) % 10
    else:
        first[:50] = (labels[:50] + 1) % 10
    found["stage_1"] = first
    np.savez(run_dir / "test_predictions.npz", **found)
    summary = json.loads((run_dir / "summary.json").read_text())
    errors = {stage: 100 * float(np.mean(found[stage] != labels)) for stage in ("stage_1", "stage_2", "stage_3")}
    by_stage = {int(stage[-1]): error for stage, error in errors.items()}
    words = verdict.verdict_of(by_stage, found, labels, 3, "test images")
    changes = {"test_error_percent": errors, "num_test": len(labels), "verdict": words}
    (run_dir / "summary.json").write_text(json.dumps(summary | changes))
    with (run_dir / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for before, after in zip(rows, [*rows[1:], {"stage": ""}], strict=True):
        if before["stage"] != after["stage"]:
            before["test_error"] = f"{errors['stage_' + before['stage']]:.6g}"
    with (run_dir / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return run_dir


@pytest.fixture(scope="module")
def pages(finished_run, tmp_path_factory):
    """The report of each kind of run, and beside it the run's summary."""
    spec, folder, found = DATASETS["mnist5k"], tmp_path_factory.mktemp("pages"), {}

    def few(data_dir):
        data = spec.load(data_dir)
        return dataclasses.replace(data, test_images=data.test_images[:TINY_SET], test_labels=data.test_labels[:TINY_SET])

    for kind in (GAIN, HARM, TINY):
        run_dir = altered(shutil.copytree(finished_run, folder / kind), kind)
        with pytest.MonkeyPatch.context() as patch:
            if kind == TINY:
                patch.setitem(DATASETS, "mnist5k", dataclasses.replace(spec, load=few))
            assert report.main([f"--run_dir={run_dir}", "--max_images=70", "--max_predicted=1000"]) == 0
        found[kind] = run_dir / "report.html"
    assert report.main([f"--run_dir={folder / GAIN}", f"--compare={folder / HARM}"]) == 0
    return found | {"beside": folder / GAIN / "report_beside_harm.html"}


OPENS = {
    GAIN: r"[\d.]+ % \u2192 [\d.]+ %: \d+.% fewer errors than with the 100 labels alone, on 1,000 test images \(95.%: ",
    HARM: r"5\.0 % \u2192 [\d.]+ %: \d\.\d times as many errors as with the 100 labels alone, on 1,000 .*: use the network",
    TINY: r"[\d.]+ % \u2192 [\d.]+ %: 20 test images are too few to tell this from the error with the 100 labels alone \(95",
    "beside": r"[\d.]+ % and [\d.]+ %: gain and harm are as good, on 1,000 test images",
}
COLORS = {
    GAIN: {False: "rgb(232, 245, 234)", True: "rgb(20, 48, 28)"},
    HARM: {False: "rgb(255, 243, 220)", True: "rgb(58, 44, 16)"},
    TINY: {False: "rgb(255, 243, 220)", True: "rgb(58, 44, 16)"},
}
FIRST_LINE = "document.body.innerText.trim().split('\\n')[0]"
IS_HIGHEST = """(() => {
  const own = document.querySelector('.verdict').getBoundingClientRect();
  const others = [...document.body.querySelectorAll('p, dl, nav, section, img, svg')];
  return own.top < 50 && others.every(one => !one.getClientRects().length || one.getBoundingClientRect().top >= own.bottom);
})()"""
NOT_READABLE = """(() => {
  const found = [], page = document.documentElement.clientWidth, smallest = 10;
  const tell = (what, text) => found.push(what + ': ' + text.trim().slice(0, 60));
  const parted = (a, b) => a.right <= b.left + 1 || b.right <= a.left + 1 || a.bottom <= b.top + 1 || b.bottom <= a.top + 1;
  for (const svg of document.querySelectorAll('svg')) {
    if (!svg.getClientRects().length) continue;
    const box = svg.getBoundingClientRect();
    if (box.left < 0 || box.right > page + 1) tell('picture beyond the page', svg.parentElement.className);
    const texts = [...svg.querySelectorAll('text')].map(text => [text, text.getBoundingClientRect()]);
    for (const [text, own] of texts) {
      const matrix = text.getScreenCTM();
      const size = parseFloat(getComputedStyle(text).fontSize) * Math.hypot(matrix.a, matrix.b);
      if (size < smallest) tell('small in a picture (' + size + ')', text.textContent);
      if (own.left < box.left - 1 || own.right > box.right + 1 || own.top < box.top - 1 || own.bottom > box.bottom + 1)
        tell('cut in a picture', text.textContent);
      for (const [other, its] of texts)
        if (text !== other && !parted(own, its)) tell('letters on letters', text.textContent + ' | ' + other.textContent);
    }
  }
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, parent = node.parentElement;
    if (!node.textContent.trim() || parent.closest('svg, style')) continue;
    if (parseFloat(getComputedStyle(parent).fontSize) < smallest) tell('small', node.textContent);
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const own of range.getClientRects()) {
      let cut = own.left < -1 || own.right > page + 1;
      for (let above = parent; above && above !== document.body; above = above.parentElement) {
        if (getComputedStyle(above).overflowX === 'visible') continue;
        const box = above.getBoundingClientRect();
        cut = cut || own.left < box.left - 1 || own.right > box.right + 1;
      }
      const scroll = parent.closest('.scroll'), sign = scroll && scroll.previousElementSibling;
      const isSigned = sign && sign.matches('.swipe') && sign.getClientRects().length;
      if (cut && !isSigned) tell('cut', node.textContent);
    }
  }
  return found;
})()"""


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True), (800, False)], ids=["desk", "telephone", "between"])
@pytest.mark.parametrize("kind", OPENS)
def test_a_page_opens_with_its_verdict_and_nothing_of_it_is_cut(pages, kind, width, dark):
    color = "getComputedStyle(document.querySelector('.verdict')).backgroundColor"
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    seen = chromium.visit(pages[kind], FIRST_LINE, color, IS_HIGHEST, overflow, NOT_READABLE, width=width, dark=dark)
    assert seen.complaints == []
    assert [url for url in seen.requests if not url.startswith("data:")] == [pages[kind].resolve().as_uri()]
    first_line, background, is_highest, overflow, not_readable = seen.answers
    assert re.match(OPENS[kind], first_line), first_line
    assert background == COLORS[kind][dark] if kind in COLORS else True
    assert is_highest
    assert overflow == 0
    assert not_readable == []


def test_two_runs_stand_side_by_side(finished_run, tmp_path, capsys):
    other = altered(shutil.copytree(finished_run, tmp_path / "other"), GAIN)
    config = (other / "config.cfg").read_text()
    (other / "config.cfg").write_text(config.replace("--translate=2", "--translate=1"))
    out = tmp_path / "page.html"
    assert report.main([f"--run_dir={finished_run}", f"--compare={other}", f"--out={out}"]) == 0
    text = out.read_text()
    assert "are as good, on 1,000 test images" in text
    assert re.search(r'<th scope="row">translate</th><td class="words">2</td><td class="words">1</td>', text)
    assert '<th scope="row">seed' not in text, "what is alike is no difference"
    errors = [json.loads((run / "summary.json").read_text())["test_error_percent"]["stage_1"] for run in (finished_run, other)]
    assert all(f"{error:.2f} %" in text for error in errors)
    assert len(re.findall("fewer errors than with the 100 labels alone|more errors than", text)) >= 1
    assert "0 in short alone" in text or "alone, 0 in other alone" in text
    assert "tools.compare" in capsys.readouterr().out
    assert report.main([f"--run_dir={other}", f"--compare={other}"]) == 2
    assert "is the run itself" in capsys.readouterr().err
    (other / "summary.json").write_text(
        json.dumps(json.loads((other / "summary.json").read_text()) | {"num_test": 900}),
    )
    assert report.main([f"--run_dir={finished_run}", f"--compare={other}", f"--out={out}"]) == 0
    assert "were tested on other images: these errors are no match" in out.read_text()
