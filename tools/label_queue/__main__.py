"""`python -m tools.label_queue --run_dir=RUN --count=100`: which unlabeled images should a person label next?

Writes RUN/queue.csv, the most useful images first, with the columns

    file            id of the image
    label           empty: fill in the name of its class; what stays empty stays unlabeled
    split           train
    suggestion      class that the learned table gives it
    probability     of that class in the table
    why             it is asked for

and below them the images whose labels were given already, so that the file alone can be given to `--labels`. RUN/queue.html
shows the images, numbered alike. Filled in, `--labels=RUN/queue.csv --warm_start=RUN` trains on from the run's network.

--strategy says which images are useful. The table is asked, not the final network: that was trained on the table's classes of
these very images, and so confirms them.

    entropy         the row is spread over many classes
    margin          two classes are nearly alike
    flips           the row changed its class most often
    mixed           the sum of four ranks: entropy of the row; entropy of the network's last prediction before fine-tuning;
                    flips; and whether that prediction contradicts the row
    random          drawn by --seed, to compare with
"""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags

from r2d2_tf.config.command_line import run_with_flags
from r2d2_tf.config.config import Config
from r2d2_tf.config.path_flags import define_data_dir, define_path
from r2d2_tf.runs import finished, run_directory
from r2d2_tf.runs.outcome import stage_predictions
from r2d2_tf.system import files
from r2d2_tf.system.c_messages import without_warnings_about_images
from r2d2_tf.system.commands import command_of
from tools.label_queue.selection import STRATEGIES, Candidates, candidates, chosen, usefulness, why
from tools.shared import html, run_images, saved_table

CSV_FILE = "queue.csv"
MOST_IMAGES = 5000
COLUMNS = ("file", "label", "split", "suggestion", "probability", "why")


def queue_of(found: Candidates, ids: np.ndarray, order: np.ndarray, strategy: str) -> list[dict[str, str]]:
    """The lines of the file that are to be filled in."""
    return [
        {
            "file": str(ids[row]),
            "label": "",
            "split": "train",
            "suggestion": found.class_names[found.said.label[row]],
            "probability": f"{found.said.probability[row]:.4f}",
            "why": why(found, index, strategy),
        }
        for index, row in zip(order.tolist(), found.rows[order].tolist(), strict=True)
    ]


def given_lines(run_dir: Path, table: saved_table.SavedTable, class_names: Sequence[str]) -> list[dict[str, str]]:
    """The labels that the run had already, and its test images where they were given too, as lines of the file."""
    blank = dict.fromkeys(COLUMNS, "")
    path = run_dir / run_directory.LABELS_FILE
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
        return [blank | {name: line[name] for name in ("file", "label", "split")} | {"why": "given already"} for line in lines]
    return [
        blank | {"file": str(table.ids[row]), "label": class_names[table.labels[row]], "split": "train", "why": "given already"}
        for row in table.labeled_rows.tolist()
    ] + [
        blank | {"file": identifier, "label": class_names[label], "split": "train", "why": "given already, held out"}
        for identifier, label in stage_predictions.held_out_of(run_dir).items()
    ]


def main(arguments: Sequence[str]) -> int:
    """Runs the command line `arguments` and returns the exit code."""
    flag_values = flags.FlagValues()
    define_path("run_dir", "", "folder of a finished run", flag_values=flag_values)
    define_path("out", "", f"file to write; by default RUN_DIR/{CSV_FILE}", flag_values=flag_values)
    define_data_dir(flag_values)
    flags.DEFINE_integer("count", 100, "images", lower_bound=1, upper_bound=MOST_IMAGES, flag_values=flag_values)
    flags.DEFINE_enum("strategy", STRATEGIES[0], STRATEGIES, "which images are useful", flag_values=flag_values)
    flags.DEFINE_integer(
        "per_class_quota", 0, "images of a suggested class at most; 0: any number", lower_bound=0, flag_values=flag_values
    )
    flags.DEFINE_integer("seed", 0, "draws the images of --strategy=random", lower_bound=0, flag_values=flag_values)
    return run_with_flags(arguments, __doc__, flag_values, _run)


@without_warnings_about_images()
def _run(flag_values: flags.FlagValues) -> int:
    run_dir, config, summary = finished.named(flag_values["run_dir"].value)
    out = Path(flag_values["out"].value or run_dir / CSV_FILE)
    _check_out(out)
    table = saved_table.read(run_dir / run_directory.TABLE_FILE)
    data_dir = flag_values["data_dir"].value
    _, data = finished.images_of(run_dir, config, summary, data_dir=data_dir)
    images = run_images.placed(table, data)
    count, strategy, quota, seed = (flag_values[name].value for name in ("count", "strategy", "per_class_quota", "seed"))
    found = candidates(run_dir, table, data.class_names)
    if count > len(found.rows):
        raise ValueError(f"count ({count}) is more than the {len(found.rows)} unlabeled images: lower --count")
    order = chosen(found, usefulness(found, strategy, seed), count, quota)
    lines = queue_of(found, table.ids, order, strategy)
    page = _page(lines, images.places[found.rows[order]], images, run_directory.title_of(summary), strategy)
    out.parent.mkdir(parents=True, exist_ok=True)
    filled = [*lines, *given_lines(run_dir, table, data.class_names)]
    files.write_csv(out, [COLUMNS, *([line[name] for name in COLUMNS] for line in filled)])
    files.write_text(out.with_suffix(".html"), page)
    if len(lines) < count:
        print(f"--per_class_quota leaves {len(lines)} of the {count} images that were asked for")
    if config.soft_labels:
        print("The labels that were given already stand in it as one class each: a queue holds no probabilities.")
    print(f"{len(lines)} images to be labeled: {out}; to be looked at: {out.with_suffix('.html')}\n")
    num_left = len(table.unlabeled_rows) - len(lines)
    goal = "train on from the run's network" if num_left else "train stage 1, as no image is left unlabeled for the others"
    command = next_command(run_dir, config, out, num_left=num_left, data_dir=data_dir)
    print(f"Next, once the column label is filled in, {goal}:\n  {command}")
    return 0


def _check_out(out: Path) -> None:
    if out.suffix != ".csv":
        raise ValueError(f"out ({out}) must end in .csv: change --out")
    if out.exists():
        raise ValueError(
            f"{out} is there already, and may hold labels that somebody filled in: remove it, or give another --out"
        )
    run_directory.check_writable(out.parent)


def _page(lines: Sequence[dict[str, str]], places: np.ndarray, images: run_images.Placed, title: str, strategy: str) -> str:
    pictures = html.thumbnails(images.images, places)
    figures = [
        {
            "source": pictures[place],
            "alt": f"image {line['file']}, perhaps {line['suggestion']}",
            "id": line["file"],
            "label": f"{number}: {line['suggestion']}?",
            "detail": f"{line['probability']}, {line['why']}",
            "really": "",
        }
        for number, (line, place) in enumerate(zip(lines, places.tolist(), strict=True), start=1)
    ]
    return html.render("queue.html", {"title": f"To be labeled: {title}", "images": figures, "strategy": strategy})


def next_command(run_dir: Path, config: Config, filled: Path, *, num_left: int, data_dir: str = "") -> str:
    """The command that trains on from the network of a run, with the labels of a file that was filled in.

    Args:
        run_dir: folder of the run.
        config: of the run.
        filled: the file of labels.
        num_left: images that are unlabeled then. Where they fill no batch of stage 2, it is made smaller.
        data_dir: where the data set lies, if not where the config says.
    """
    # The file says which images are labeled, and of a folder which are test images; its labels are no longer to be made wrong.
    replaced = {"stage_1_from": "", "split_file": "", "num_labels": 0, "label_noise": 0.0, "soft_labels": False}
    if config.dataset == "folder":
        replaced["test_fraction"] = 0.0
    start = {"warm_start": str(run_dir)} if num_left else {"rounds": "", "finetune_epochs": 0, "warm_start": ""}
    replaced |= {"data_dir": data_dir or config.data_dir, **_batch_that_fits(config, num_left), "labels": str(filled), **start}
    changed = {name: value for name, value in replaced.items() if getattr(config, name) != value}
    more = [f"--{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in changed.items()]
    return command_of("r2d2_tf.train", f"--flagfile={run_dir / run_directory.CONFIG_FILE}", *more)


def _batch_that_fits(config: Config, num_left: int) -> dict[str, int | str]:
    """The flags of a batch of stage 2 that so many unlabeled images fill: those of the run, if they do."""
    labeled, unlabeled = (int(part) for part in config.labeled_to_unlabeled.split(":"))
    if not config.rounds or not num_left or config.batch_size - config.labeled_per_batch <= num_left:
        return {}
    if unlabeled > num_left:
        return {"labeled_to_unlabeled": f"1:{num_left}", "batch_size": 1 + num_left}
    return {"batch_size": num_left // unlabeled * (labeled + unlabeled)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
