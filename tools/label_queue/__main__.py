"""`python -m tools.label_queue --run_dir=RUN --count=100`: which unlabeled images should a person label next?

Writes RUN/queue.html: open it in a browser, which needs no network and no server, and give each image its class, with a key
or a tap. Answers stay in the browser; the button saves them as a file, which `--labels` reads: the command that trains on
with it is printed. An image that is answered "unsure" or "none of these" has no label, and stays an unlabeled one;
the next queue of a run that was trained with the file leaves it out (--ask_again).

RUN/queue.csv is that file before the first answer, to be filled in elsewhere, the most useful images first:

    file            id of the image
    label           empty: the name of its class; what stays empty stays unlabeled
    split           train
    suggestion      class that the learned table gives it
    probability     of that class in the table
    why             it is asked for

and below them the images whose labels were given already, so that the file alone can be given to `--labels`.

--format=label_studio writes tasks for Label Studio in place of both, with the table's class of each as a prediction
(docs/labelling_queue.md).

--strategy says which images are useful. The table is asked, not the final network: that was trained on the table's classes of
these very images, and so confirms them.

    entropy         the row is spread over many classes
    margin          two classes are nearly alike
    flips           the row changed its class most often
    mixed           the sum of four ranks: entropy of the row; entropy of the network's last prediction before fine-tuning;
                    flips; and whether that prediction contradicts the row
    random          drawn by --seed, to compare with
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags

from r2d2_tf.config.command_line import run_with_flags
from r2d2_tf.config.path_flags import define_data_dir, define_path
from r2d2_tf.runs import finished, run_directory
from r2d2_tf.system import terminal
from r2d2_tf.system.c_messages import without_warnings_about_images
from tools.label_queue.queue_files import Queue, write_label_studio, write_page
from tools.label_queue.selection import STRATEGIES, Candidates, candidates, chosen, doubted, usefulness, why
from tools.shared import run_images, saved_table
from tools.shared.labelling import labelling_page
from tools.shared.labelling.given_labels import given_lines, undecided_lines
from tools.shared.labelling.next_run import next_command

PAGE, LABEL_STUDIO = "page", "label_studio"
DEFAULT_OUT = {PAGE: "queue.csv", LABEL_STUDIO: "label_studio.json"}
EXPORT_FILE = "label_studio_export.json"
MOST_IMAGES = 5000


def queue_of(found: Candidates, ids: np.ndarray, order: np.ndarray, strategy: str, likely: np.ndarray) -> list[dict[str, str]]:
    """The lines of the file that are to be filled in; `likely` as of `doubted`."""
    return [
        {
            "file": str(ids[row]),
            "label": "",
            "split": "train",
            "suggestion": found.class_names[found.said.label[row]],
            "probability": f"{found.said.probability[row]:.4f}",
            "why": why(found, index, strategy, other),
        }
        for index, row, other in zip(order.tolist(), found.rows[order].tolist(), likely[:, 1].tolist(), strict=True)
    ]


def main(arguments: Sequence[str]) -> int:
    """Runs the command line `arguments` and returns the exit code."""
    flag_values = flags.FlagValues()
    define_path("run_dir", "", "folder of a finished run", flag_values=flag_values)
    defaults = " or ".join(DEFAULT_OUT.values())
    define_path("out", "", f"file to write; by default RUN_DIR/{defaults}; the page lies beside it", flag_values=flag_values)
    flags.DEFINE_enum("format", PAGE, list(DEFAULT_OUT), "a page, or files for Label Studio", flag_values=flag_values)
    define_data_dir(flag_values)
    flags.DEFINE_integer("count", 100, "images", lower_bound=1, upper_bound=MOST_IMAGES, flag_values=flag_values)
    flags.DEFINE_enum("strategy", STRATEGIES[0], STRATEGIES, "which images are useful", flag_values=flag_values)
    flags.DEFINE_integer(
        "per_class_quota", 0, "images of a suggested class at most; 0: any number", lower_bound=0, flag_values=flag_values
    )
    again = "ask for images, too, that were answered unsure or none of these in the run's own --labels"
    flags.DEFINE_bool("ask_again", False, again, flag_values=flag_values)
    flags.DEFINE_integer("seed", 0, "draws the images of --strategy=random", lower_bound=0, flag_values=flag_values)
    return run_with_flags(arguments, __doc__, flag_values, _run)


@without_warnings_about_images()
def _run(flag_values: flags.FlagValues) -> int:
    run_dir, config, summary = finished.named(flag_values["run_dir"].value)
    kind = flag_values["format"].value
    out = Path(flag_values["out"].value or run_dir / DEFAULT_OUT[kind])
    _check_out(out, kind)
    table = saved_table.read(run_dir / run_directory.TABLE_FILE)
    data_dir = flag_values["data_dir"].value
    _, data = finished.images_of(run_dir, config, summary, data_dir=data_dir)
    images = run_images.placed(table, data)
    found = candidates(run_dir, table, data.class_names)
    undecided = undecided_lines(config.labels)
    seen = np.isin(table.ids[found.rows], [] if flag_values["ask_again"].value else [line["file"] for line in undecided])
    order, strategy = _order(flag_values, found, seen), flag_values["strategy"].value
    likely = doubted(found, order, saved_table.likeliest(table, found.rows[order], labelling_page.MOST_LIKELY))
    lines = queue_of(found, table.ids, order, strategy, likely)
    given, title = given_lines(run_dir, table, data.class_names), run_directory.title_of(summary)
    if kind == PAGE:
        asked = {line["file"] for line in lines}
        given += [line for line in undecided if line["file"] not in asked]
    queue = Queue(title, data.class_names, lines, given, likely, images.images, images.places[found.rows[order]])
    num_left = len(table.unlabeled_rows) - len(lines)
    filled = out if kind == PAGE else out.with_name(EXPORT_FILE)
    command = next_command(run_dir, config, filled, num_left=num_left, data_dir=data_dir)
    out.parent.mkdir(parents=True, exist_ok=True)
    if kind == PAGE:
        write_page(queue, out, command)
    else:
        write_label_studio(queue, out)
    if len(lines) < (count := flag_values["count"].value):
        print(f"--per_class_quota leaves {len(lines)} of the {count} images that were asked for")
    if config.soft_labels:
        print("The labels that were given already stand in it as one class each: a queue holds no probabilities.")
    goal = "train on from the run's network" if num_left else "train stage 1, as no image is left unlabeled for the others"
    terminal.say(f"{_told(kind, out, filled, len(lines))}\nThen {goal}:")
    print(f"  {command}")
    return 0


def _order(flag_values: flags.FlagValues, found: Candidates, seen: np.ndarray) -> np.ndarray:
    """Those of `found` that are asked for, as of `chosen`, but for those that somebody has `seen`, `[rows]` bool."""
    count, strategy, quota, seed = (flag_values[name].value for name in ("count", "strategy", "per_class_quota", "seed"))
    if count > (left := int((~seen).sum())):
        before = f" that nobody has looked at ({seen.sum()} others: --ask_again)" * bool(seen.any())
        raise ValueError(f"count ({count}) is more than the {left} unlabeled images{before}: lower --count")
    return chosen(found, np.where(seen, -np.inf, usefulness(found, strategy, seed)), count, quota)


def _told(kind: str, out: Path, filled: Path, count: int) -> str:
    """What is there, and what a person does with it before the command."""
    if kind == PAGE:
        return (
            f"{count} images to be labeled: {out.with_suffix('.html')}\n\n"
            "Next: open it in a browser, here or elsewhere, and label by key or tap. Save the CSV, and put it in the place of "
            f"{filled} (or fill in the column label of that file)."
        )
    setup = out.with_suffix(".xml")
    return (
        f"{count} images to be labeled: {out}, with the interface {setup}\n\n"
        f"Next: make a project in Label Studio, put {setup.name} into Settings, Labeling Interface, Code, and import "
        f"{out.name}. Label; export as JSON, JSON-MIN or CSV, and save JSON as {filled}."
    )


def _check_out(out: Path, kind: str) -> None:
    ending = Path(DEFAULT_OUT[kind]).suffix
    if out.suffix != ending:
        raise ValueError(f"out ({out}) must end in {ending}: change --out")
    if out.exists():
        raise ValueError(
            f"{out} is there already, and may hold labels that somebody filled in: remove it, or give another --out"
        )
    run_directory.check_writable(out.parent)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
