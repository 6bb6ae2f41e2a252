"""`python -m tools.suspects --run_dir=RUN`: which given labels are probably wrong, of a run with --learn_labeled_rows.

Ranks the labeled images by the probability that their learned row leaves to the given label, lowest first, and writes
suspects.csv into the run's folder. Where the true classes are known, as of a benchmark with --label_noise, it says how good the
ranking is: its average precision, 1 if all wrong labels come first.

RUN/suspects.html shows the most doubtful, --count of them, or all whose row says another class than was given: open it in a
browser, which needs no network and no server, and keep, change or drop the label of each. The button saves all labels of the
run, with what you changed, as a file that `--labels` reads; the command that trains with it is printed.
"""

import sys
from collections.abc import Sequence

import numpy as np
from absl import flags

from r2d2_tf.config.command_line import run_with_flags
from r2d2_tf.config.path_flags import define_data_dir, define_path
from r2d2_tf.runs import finished, run_directory
from r2d2_tf.system import files, spreadsheets, terminal
from r2d2_tf.system.c_messages import without_warnings_about_images
from r2d2_tf.system.messages import markdown, mistake
from tools.shared import run_images, saved_table
from tools.shared.labelling import file_pictures, labelling_page
from tools.shared.labelling.given_labels import given_lines
from tools.shared.labelling.next_run import next_command
from tools.shared.saved_table import Suspects, ranked

CSV_FILE, PAGE_FILE, MENDED_FILE = "suspects.csv", "suspects.html", "mended.csv"
MOST_SHOWN = 1000
"""Images on the page."""
COLUMNS = ("file", "label", "split", "why")
_INTRODUCTION = (
    "Is the label right? Keep it, change it to the class that the image has, or drop it, if you cannot tell: then the image "
    "has none. The most doubtful labels come first. What you do not answer stays as it was."
)


def main(arguments: Sequence[str]) -> int:
    """Runs the command line `arguments` and returns the exit code."""
    flag_values = flags.FlagValues()
    define_path("run_dir", "", "folder of a finished run", flag_values=flag_values)
    define_data_dir(flag_values)
    flags.DEFINE_integer("count", 20, "suspects that are printed", lower_bound=1, flag_values=flag_values)
    return run_with_flags(arguments, __doc__, flag_values, _run)


@without_warnings_about_images()
def _run(flag_values: flags.FlagValues) -> int:
    run_dir, config, summary = finished.named(flag_values["run_dir"].value)
    if not (config.learn_labeled_rows and config.parsed_rounds):
        raise ValueError(f"the labeled rows of {run_dir} were not learned: train with --learn_labeled_rows, and with --rounds")
    run_directory.check_writable(run_dir)
    table, data_dir = saved_table.read(run_dir / run_directory.TABLE_FILE), flag_values["data_dir"].value
    _, data = finished.images_of(run_dir, config, summary, data_dir=data_dir)
    images = run_images.placed(table, data)
    suspects = ranked(table)
    columns = (suspects.ids, suspects.given, suspects.learned, suspects.probability)
    names, count = data.class_names, flag_values["count"].value
    lines = [(name, names[given], names[learned], f"{p:.4f}") for name, given, learned, p in zip(*columns, strict=True)]
    titles = ("file", "given", "learned", "probability_of_given")
    num_doubted = int((suspects.learned != suspects.given).sum())
    command = next_command(
        run_dir, config, run_dir / MENDED_FILE, num_left=len(table.unlabeled_rows), data_dir=data_dir, goes_on=False
    )
    words = labelling_page.Words(f"Right labels? {run_directory.title_of(summary)}", _INTRODUCTION, MENDED_FILE, command)
    given_already = given_lines(run_dir, table, names)
    page = _page(words, table, _first(suspects, min(max(count, num_doubted), MOST_SHOWN)), images, names, given_already)
    spreadsheets.write(run_dir / CSV_FILE, [titles, *lines])
    files.write_text(run_dir / PAGE_FILE, page)
    print("\n".join(markdown([titles, *lines[:count]])))
    print(f"\nAll {len(lines):,} labeled images, the most doubtful first: {run_dir / CSV_FILE}")
    print(f"{num_doubted:,} rows say another class than was given.")
    known = images.true_labels[suspects.rows]
    is_wrong = (known != suspects.given) & (known >= 0)
    if is_wrong.any():
        print(f"{is_wrong.sum()} given labels are wrong; average precision of this order: {average_precision(is_wrong):.3f}")
    terminal.say(
        f"\nNext: keep, change or drop labels in {run_dir / PAGE_FILE}, by key or tap; save the CSV as "
        f"{run_dir / MENDED_FILE}. Then train with the labels as they are now:"
    )
    print(f"  {command}")
    return 0


def _first(suspects: Suspects, count: int) -> Suspects:
    return Suspects(*(values[:count] for values in suspects))


def _page(
    words: labelling_page.Words,
    table: saved_table.SavedTable,
    shown: Suspects,
    images: run_images.Placed,
    names: Sequence[str],
    given: Sequence[dict[str, str]],
) -> str:
    """The page on which the labels of `shown` are looked at; `given` are the lines of all labels."""
    line_of = {line["file"]: [line[name] for name in COLUMNS] for line in given}
    pictures = file_pictures.data_uris(images.images, images.places[shown.rows], labelling_page.MOST_BYTES)
    likely = saved_table.likeliest(table, shown.rows, labelling_page.MOST_LIKELY).tolist()
    asked = []
    for identifier, before, after, picture, others in zip(*shown[1:4], pictures, likely, strict=True):
        # The two between which somebody chooses come first.
        classes = list(dict.fromkeys((int(before), int(after), *others)))[: labelling_page.MOST_LIKELY]
        cells = line_of.pop(str(identifier), None)
        if cells is None:
            raise mistake(f"the labels of the run lack {identifier}, which its table has: make the run again")
        asked.append(labelling_page.Asked(picture, classes, _why(names[before], names[after]), cells))
    extras = (labelling_page.KEEP, labelling_page.DROP)
    return labelling_page.labelling_page(words, names, COLUMNS, asked, list(line_of.values()), extras)


def _why(given: str, learned: str) -> str:
    return f"given: {given}; the run learned {learned}" if given != learned else f"given: {given}, and the run learned it too"


def average_precision(is_wrong: np.ndarray) -> float:
    """Mean, over the wrong ones, of the share of wrong ones among those down to it in the order, `[labels]` bool."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(is_wrong, -np.arange(len(is_wrong))))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
