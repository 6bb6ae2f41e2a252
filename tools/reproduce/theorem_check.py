"""`python -m tools.reproduce.theorem_check --run_dir=RUN`: do the paper's two theorems describe the rows of a finished run?

Theorem 1: where D2 has converged, p~_n = exp(-L / alpha) * p^_n ** (1 - beta / alpha), for n the largest class of the
prediction p^, p~ the pseudo-label and L the loss of the row (eq. 2). Theorem 2: then p~_n <= p^_n.

Prints, for the end of each round, how far the unlabeled rows are from that fixed point, and how many satisfy the
inequality: before the prediction that replaced them, and after it, when a row *is* the prediction and the inequality
holds by construction. Draws the same into RUN/theorems.png. All is measured in evaluation mode, without augmentation.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from absl import flags

from r2d2_tf.config.command_line import run_with_flags
from r2d2_tf.config.path_flags import define_path
from r2d2_tf.runs import finished, run_directory
from r2d2_tf.system import arrays
from r2d2_tf.system.messages import markdown
from tools.shared import plots

PICTURE = "theorems.png"
EQUAL = 1e-6
"""Probabilities closer than this count as equal: float32."""
HISTORY = ("stage", "epoch", "replaced", "pseudo_label_probability", "predicted_probability", "class_loss", "entropy")
"""What is read of predictions.npz."""


@dataclass(frozen=True)
class Comparison:
    """The unlabeled rows at one moment.

    Attributes:
        epoch: of stage 2.
        distance: |p~_n - fixed point| of each row, `[rows]`.
        holds: which rows satisfy p~_n <= p^_n, `[rows]` bool.
    """

    title: str
    epoch: int
    distance: np.ndarray
    holds: np.ndarray


def fixed_point(p: np.ndarray, loss: np.ndarray, *, alpha: float, beta: float) -> np.ndarray:
    """Theorem 1's p~_n for predicted probabilities `p` and losses, both `[rows]`."""
    return np.exp(-loss / alpha) * p ** (1.0 - beta / alpha)


def comparisons(history: dict[str, np.ndarray], *, alpha: float, beta: float) -> list[Comparison]:
    """Before and after each prediction of stage 2, and at its end; the first prediction has no before."""
    found = []
    for i in np.flatnonzero(history["stage"] == 2):
        epoch, p, entropy = int(history["epoch"][i]), history["predicted_probability"][i], history["entropy"][i]
        if not np.isnan(history["class_loss"][i]).all():
            loss = alpha * history["class_loss"][i] + beta * entropy
            rows = history["pseudo_label_probability"][i]
            when = "before the prediction" if history["replaced"][i] else "at the end"
            distance = np.abs(rows - fixed_point(p, loss, alpha=alpha, beta=beta))
            found.append(Comparison(when, epoch, distance, rows <= p + EQUAL))
        if history["replaced"][i]:
            # The row is now the prediction: L_c = 0, and the inequality is an equation.
            distance = np.abs(p - fixed_point(p, beta * entropy, alpha=alpha, beta=beta))
            found.append(Comparison("after the prediction", epoch, distance, np.ones(len(p), bool)))
    return found


def table(found: Sequence[Comparison]) -> str:
    lines = [["epochs done", "", "distance to the fixed point: median", "90 % below", "rows within 0.05", "p~_n <= p^_n"]]
    for c in found:
        median, high = np.quantile(c.distance, [0.5, 0.9])
        near = 100 * np.mean(c.distance < 0.05)
        holds = "by construction" if c.title.startswith("after") else f"{100 * np.mean(c.holds):.1f} %"
        lines.append([f"{c.epoch}", c.title, f"{median:.3f}", f"{high:.3f}", f"{near:.1f} %", holds])
    return "\n".join(markdown(lines))


def draw(found: Sequence[Comparison], title: str, path: Path) -> None:
    """Draws quartiles of the distance, and the share of rows for which the inequality holds, over the epochs."""
    figure, (upper, lower) = plots.pyplot().subplots(2, 1, sharex=True, figsize=(8, 6), layout="constrained")
    epochs = [c.epoch for c in found]
    quartiles = np.array([np.quantile(c.distance, [0.25, 0.5, 0.75]) for c in found]).T
    upper.fill_between(epochs, quartiles[0], quartiles[2], color="C0", alpha=0.2, linewidth=0, label="half of the rows")
    upper.plot(epochs, quartiles[1], color="C0", label="median")
    lower.plot(epochs, [100 * c.holds.mean() for c in found], color="C1")
    for c in found:
        marker, color = ("o", "white") if c.title.startswith("after") else ("o", None)
        upper.plot(c.epoch, np.median(c.distance), marker, color="C0", markerfacecolor=color or "C0")
        lower.plot(c.epoch, 100 * c.holds.mean(), marker, color="C1", markerfacecolor=color or "C1")
    upper.plot([], [], "o", color="C0", label="before a prediction, or at the end")
    upper.plot([], [], "o", color="C0", markerfacecolor="white", label="after a prediction")
    upper.set(ylabel="distance to the fixed point\n(theorem 1)", ylim=(0, None))
    lower.set(ylabel="rows with $\\tilde p_n \\leq \\hat p_n$ (%)\n(theorem 2)", xlabel="epochs of stage 2", ylim=(0, 105))
    upper.legend(loc="best", edgecolor="none")
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="black", alpha=0.1)
    figure.suptitle(title)
    plots.save(figure, path)


def main(arguments: Sequence[str]) -> int:
    flag_values = flags.FlagValues()
    define_path("run_dir", "", "folder of a finished run", flag_values=flag_values)
    return run_with_flags(arguments, __doc__, flag_values, _run)


def _run(flag_values: flags.FlagValues) -> int:
    folder, config, summary = finished.named(flag_values["run_dir"].value)
    title = run_directory.title_of(summary)
    if config.class_loss != "reverse_kl":
        raise ValueError(f"the theorems speak of --class_loss=reverse_kl; this run has {config.class_loss}")
    if not (folder / run_directory.HISTORY_FILE).is_file() or not config.rounds:
        raise ValueError(f"{folder} holds no predictions of pseudo-labels: give a run that has a stage 2")
    history = arrays.read(folder / run_directory.HISTORY_FILE, run_directory.HISTORY_LAYOUT, HISTORY)
    found = comparisons(history, alpha=config.alpha, beta=config.beta)
    print(f"{title}\n\n{table(found)}")
    draw(found, f"{title}: theorems 1 and 2", folder / PICTURE)
    print(f"\nwritten to {folder / PICTURE}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
