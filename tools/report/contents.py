"""What a report says in words, tables and pictures: all that its template is given, but for the images."""

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix

from r2d2_tf.method.class_balance import labeled_shares
from r2d2_tf.runs import run_directory
from r2d2_tf.runs.metrics_log import read_metrics
from r2d2_tf.runs.outcome.summary import verdict_lines
from r2d2_tf.system.messages import time_text
from r2d2_tf.training.callbacks.collapse import is_collapsed
from tools.report import pictures, tested_sheets
from tools.report.evidence import Evidence
from tools.report.headline import headline_of, interval_of, rounded, tested_on
from tools.report.run_words import NO_BREAK, chosen_words, title_of
from tools.shared import classification_metrics, plots
from tools.shared.classification_metrics import largest_confusions

DRIFT = 2.0
"""A class is called out where its share in the table is so many times that of the given labels, or one so-many-th of it."""
FEWEST_TO_DRIFT = 10
"""Rows that a class must have, in the table or by its share of the given labels: of fewer it is chance."""
_FLOWS_OF_A_MOMENT = 3


def contents(found: Evidence, run_dir: Path) -> dict[str, Any]:
    """What the template is given, but for the sheets."""
    rows = read_metrics(run_dir / run_directory.METRICS_FILE)
    if not rows:
        raise ValueError(f"{run_dir / run_directory.METRICS_FILE} has no epochs: make the run again")
    given, learned = class_shares(found)
    return {
        "title": title_of(found.config, found.summary),
        "headline": headline_of(found.outcome, found.summary),
        "is_fake": bool(found.summary.get("fake_data")),
        "verdict": verdict_lines(found.summary),
        "chosen": chosen_words(run_dir, found.summary),
        "description": found.description,
        "facts": _facts(found),
        "warnings": warnings(found, given, learned),
        "knows_truth": found.knows_truth,
        "tested": _tested(found),
        "curves": pictures.curves(rows, found.summary["num_test"]),
        "classes": _classes(found, given, learned),
        "moments": _moments(found),
        "flow": _flow(found),
        "calibration": _calibration(found),
        "flags": found.config.to_flagfile(),
        "made_by": found.summary["git_commit"],
        "versions": ", ".join(f"{name} {version}" for name, version in found.summary["versions"].items()),
        "machine": found.summary["machine"],
    }


def _tested(found: Evidence) -> dict[str, Any]:
    """Test images, class by class."""
    metrics, names = found.tested.metrics, found.class_names
    wrong = int((metrics.labels != metrics.predicted).sum())
    shown, all_images = len(found.tested.rows), found.summary["num_test"]
    return {
        "classes": tested_sheets.class_errors(found.tested, names),
        "matrix": tested_sheets.matrix_of(metrics.confusion, names),
        "images": f"{shown:,}" + f" of the {all_images:,}" * (shown != all_images),
        "what": tested_on(found.summary),
        "error": rounded(metrics.error)[0],
        "interval": interval_of(wrong, shown),
        "wrong": f"{wrong:,}",
    }


def class_shares(found: Evidence) -> tuple[np.ndarray, np.ndarray]:
    """Share of each class, in 0..1, among the given labels and among the unlabeled rows of the table."""
    labels, num_classes = found.said.label[found.table.unlabeled_rows], len(found.class_names)
    given = labeled_shares(found.table.labels, num_classes)
    return given, np.bincount(labels, minlength=num_classes) / max(1, len(labels))


def warnings(found: Evidence, given: np.ndarray, learned: np.ndarray) -> list[str]:
    """What a reader should know first."""
    lines = []
    if found.summary.get("fake_data"):
        lines.append("FAKE DATA: the images are generated. All numbers on this page mean nothing.")
    count = len(found.table.unlabeled_rows)
    if count and is_collapsed(learned * count, given):
        lines.append("The learned table has collapsed into few classes: do not use it.")
    drifted = _drifted(given, learned, count)
    if len(drifted):
        named = "; ".join(
            f"{found.class_names[c]} ({100 * given[c]:.1f} % of the given labels, {100 * learned[c]:.1f} % of the table)"
            for c in drifted[:5]
        )
        more = f"; and {len(drifted) - 5} more, in the table below" * (len(drifted) > 5)
        how = "were drawn with as many of each class" if found.labels_are_drawn else "need not have the shares of all images"
        lines.append(
            f"Classes drifted away from the given labels' shares: {named}{more}. "
            f"The given labels {how}, so the images themselves may be the reason."
        )
    if found.summary.get("rollbacks"):
        times = len(found.summary["rollbacks"])
        lines.append(
            f"The run went wrong and was rolled back {times} time{'s' * (times > 1)}: its learning rates were lowered."
        )
    return lines


def _drifted(given: np.ndarray, learned: np.ndarray, count: int) -> np.ndarray:
    """Classes that drifted in a table of `count` unlabeled rows, those first that have most rows too many or too few."""
    far = (learned > DRIFT * given) | (learned < given / DRIFT)
    enough = count * np.maximum(given, learned) >= FEWEST_TO_DRIFT
    order = np.argsort(-np.abs(learned - given), kind="stable")
    return order[(far & enough)[order]]


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f} %"


def _facts(found: Evidence) -> list[tuple[str, str]]:
    errors, result = found.summary["test_error_percent"], f"stage_{found.outcome.result}"
    rows = found.table.unlabeled_rows
    view, given = found.view, found.table.labels[found.view.rows]
    unseen = given < 0
    # The stage and its number stay on a line.
    facts = [
        (f"Test error after {stage.replace('_', NO_BREAK)}{', the result' * (stage == result)}", f"{error:.2f} %")
        for stage, error in errors.items()
    ]
    wrong = [
        ("Wrong pseudo-labels in the learned table", _percent(found.wrong_percent(rows, found.said.label[rows]))),
        (
            f"Final network wrong on {int(unseen.sum()):,} unlabeled images",
            _percent(found.wrong_percent(view.rows[unseen], view.label[unseen])),
        ),
    ]
    return [
        *facts,
        ("Labels given", f"{len(found.table.labeled_rows):,} images"),
        ("Unlabeled", f"{len(rows):,} images"),
        (f"{tested_on(found.summary).capitalize()}, never trained on", f"{found.summary['num_test']:,}"),
        *(wrong if found.knows_truth else ()),
        ("Time", time_text(found.summary["seconds"]["total"])),
    ]


def _classes(found: Evidence, given: np.ndarray, learned: np.ndarray) -> list[dict[str, Any]]:
    rows, said = found.table.unlabeled_rows, found.said
    drifted = set(_drifted(given, learned, len(rows)).tolist())
    # One sort in place of a search through all rows for each class.
    order = rows[np.argsort(said.label[rows], kind="stable")]
    parts = np.split(order, np.cumsum(np.bincount(said.label[rows], minlength=len(given)))[:-1])
    given_counts = np.bincount(found.table.labels[found.table.labeled_rows], minlength=len(given))
    longest = max(given.max(), learned.max()) or 1.0
    return [
        {
            "name": found.class_names[c],
            "given": f"{given_counts[c]:,}",
            "count": f"{len(own):,}",
            "share": f"{100 * learned[c]:.1f} %",
            "given_share": f"{100 * given[c]:.1f} %",
            "given_bar": f"{100 * given[c] / longest:.1f}",
            "bar": f"{100 * learned[c] / longest:.1f}",
            "drifted": c in drifted,
            "wrong": _percent(found.wrong_percent(own, said.label[own])) if len(own) else "-",
            "probability": f"{said.probability[own].mean():.3f}" if len(own) else "-",
            "entropy": f"{said.entropy[own].mean():.3f}" if len(own) else "-",
        }
        for c, own in enumerate(parts)
    ]


def _moments(found: Evidence) -> list[dict[str, str]]:
    moves, names, moments = found.moves, found.class_names, []
    for i, (classes, title) in enumerate(zip(moves.path, moves.titles, strict=True)):
        moved = largest = "-"
        if i:
            moved = f"{(moves.path[i - 1] != classes).sum():,}"
            flows = largest_confusions(_flows(found, i - 1, i), _FLOWS_OF_A_MOMENT)
            largest = ", ".join(f"{names[a]} to {names[b]}: {rows:,}" for a, b, rows in flows) or "none"
        wrong = _percent(found.wrong_percent(moves.rows, classes))
        moments.append({"title": title, "moved": moved, "wrong": wrong, "flows": largest})
    return moments


def _flows(found: Evidence, first: int, last: int) -> np.ndarray:
    """How many rows went from each class (down) to each class (across) between two moments, `[classes, classes]`."""
    return confusion_matrix(found.moves.path[first], found.moves.path[last], labels=np.arange(len(found.class_names)))


def _flow(found: Evidence) -> dict[str, Any]:
    """From the first prediction to the last moment."""
    moves = found.moves
    return {
        "first": moves.titles[0],
        "last": moves.titles[-1],
        "matrix": tested_sheets.matrix_of(_flows(found, 0, -1), found.class_names),
        "flips": [(flips, f"{count:,}") for flips, count in enumerate(np.bincount(moves.flips).tolist())],
    }


def _calibration(found: Evidence) -> dict[str, Any]:
    """Of the final network on test images; of it and the table on unlabeled images, too, where their true class is known."""
    rows, said, moves, view, tested = found.table.unlabeled_rows, found.said, found.moves, found.view, found.tested.metrics
    unseen = found.table.labels[view.rows] < 0
    right = {"final network, test images": (tested.confidence, tested.labels == tested.predicted)}
    sources = {
        "learned table": (rows, said.label[rows], said.probability[rows]),
        "network, at the last comparison": (moves.rows, moves.predicted, moves.predicted_probability),
        "final network, unlabeled": (view.rows[unseen], view.label[unseen], view.probability[unseen]),
    }
    for name, (own, label, probability) in sources.items():
        known = found.images.true_labels[own] >= 0
        if known.any():
            right[name] = probability[known], label[known] == found.images.true_labels[own][known]
    reliabilities = {name: classification_metrics.reliability(*both) for name, both in right.items()}
    lines = [
        {
            "name": name,
            "images": f"{len(correct):,}",
            "error": f"{100 * classification_metrics.expected_calibration_error(reliabilities[name]):.2f} %",
            "sure": f"{100 * probability.mean():.2f} %",
            "right": f"{100 * correct.mean():.2f} %",
        }
        for name, (probability, correct) in right.items()
    ]
    return {
        "picture": pictures.reliability(reliabilities),
        "lines": lines,
        "bins": classification_metrics.NUM_BINS,
        "fewest": plots.FEWEST_IN_A_BIN,
    }
