"""`python -m tools.compare RUN RUN ... [--out=FOLDER]`: what sets runs apart, and is it more than noise?

RUN are folders of runs, finished or not; what else a pattern such as runs/* names is left out with a word. Runs that differ
by the seed alone are a group. Prints the flags that differ, a line a run, mean and standard deviation of each group, and how
the last error of each group differs from that of the first (name first the runs to be compared with), with a 95 % interval:
seed by seed where both have the same seeds, else Welch's. Two single runs are held against each other image by image, if
tools.evaluate was run on both. With --out=FOLDER the same is written as comparison.md, runs.csv and comparison.png, which
shows the error of all runs over their epochs.

Exit code 1: the folder of a run, or its metrics.csv, could not be read, and the others were compared.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from r2d2_tf.config.command_line import run_program
from r2d2_tf.config.flag_help import flags_text
from r2d2_tf.config.path_flags import define_path
from r2d2_tf.runs import run_directory
from r2d2_tf.system import files, spreadsheets
from r2d2_tf.system.commands import shown
from r2d2_tf.system.messages import one_line, warn
from tools.compare import comparison, comparison_text
from tools.compare.comparison import Group
from tools.shared import models, run_records
from tools.shared.arguments import parse_with_names
from tools.shared.run_records import RunRecord

REPORT_FILE, TABLE_FILE, PICTURE_FILE = "comparison.md", "runs.csv", "comparison.png"


def main(arguments: Sequence[str]) -> int:
    """Runs the command line `arguments` and returns the exit code."""
    flag_values = flags.FlagValues()
    define_path("out", "", "folder for comparison.md, runs.csv and comparison.png", flag_values=flag_values)
    return run_program(arguments, f"{__doc__}\n\n{flags_text(flag_values)}", lambda: _run(flag_values, arguments))


def _run(flag_values: flags.FlagValues, arguments: Sequence[str]) -> int:
    names = parse_with_names(flag_values, arguments)
    out = Path(flag_values["out"].value) if flag_values["out"].value else None
    if out is not None:
        run_directory.check_writable(out)
    found, all_read = _read(_folders(names))
    groups = comparison.grouped(found)
    text = comparison_text.report(groups)
    if out is not None:
        _write(out, groups, text)
    print(text)
    if out is not None:
        print(f"\nwritten to {out}: {REPORT_FILE}, {TABLE_FILE}, {PICTURE_FILE}")
    else:
        print("\nNext, the same with a picture: add --out=FOLDER")
    return 0 if all_read else 1


def _folders(names: Sequence[str]) -> list[Path]:
    """The folders of runs among `names`, each once.

    Raises:
        ValueError: if a name is of nothing, or no folder is that of a run.
    """
    if not names:
        raise ValueError(f"say which runs to compare: {shown('tools.compare')} RUN RUN ...")
    for name in names:
        if not Path(name).exists():
            raise ValueError(f"there is no {name}: give the folders of runs")
    once = list({path.resolve(): path for path in reversed([Path(name) for name in names])}.values())[::-1]
    chosen = [path for path in once if models.is_run(path)]
    if not chosen:
        raise ValueError(f"there is no run in {', '.join(map(str, once))}: give the folders of runs, which hold a config.cfg")
    others = [str(path) for path in once if path not in chosen]
    if others:
        warn(one_line(f"left out, as they are not the folders of runs: {', '.join(others)}"))
    return chosen


def _read(folders: Sequence[Path]) -> tuple[list[RunRecord], bool]:
    """The runs, and whether all could be read whole; what could not is told.

    Raises:
        ValueError: if none can be read.
    """
    found, damages = [], []
    for folder in folders:
        try:
            found.append(run_records.read(folder))
            damages += [found[-1].damage] if found[-1].damage else []
        except (ValueError, OSError) as error:
            damages.append(f"{one_line(error)}; the run is left out")
    if not found:
        raise ValueError(damages[0])
    for damage in damages:
        warn(damage)
    return found, not damages


def _write(folder: Path, groups: Sequence[Group], text: str) -> None:
    # Matplotlib takes a second, and is needed for the picture alone.
    from tools.compare import comparison_picture

    folder.mkdir(parents=True, exist_ok=True)
    files.write_text(folder / REPORT_FILE, f"{text}\n\n![Test errors over the epochs]({PICTURE_FILE})\n")
    spreadsheets.write(folder / TABLE_FILE, _csv_rows(groups))
    title = f"{' and '.join(sorted({run.config.dataset for group in groups for run in group.runs}))}: test error"
    fake = " (FAKE DATA)" if any(run.is_fake for group in groups for run in group.runs) else ""
    comparison_picture.draw(groups, title + fake, folder / PICTURE_FILE)


def _csv_rows(groups: Sequence[Group]) -> list[list[object]]:
    """A row a run, with the flags that differ as columns; errors in percent."""
    all_runs = [run for group in groups for run in group.runs]
    stages = sorted({stage for run in all_runs for stage in run.errors})
    names = list(groups[0].flags)
    known = ("num_labels", "num_unlabeled", "num_test", "fake_data", "git_commit", "machine")
    # A flag of the same name, such as num_labels, is what was asked for.
    titles = [
        "group",
        "run",
        "folder",
        *(f"flag_{name}" for name in names),
        "seed",
        "state",
        *stages,
        "top5",
        "seconds",
        *known,
    ]
    rows: list[list[object]] = [list(titles)]
    for group in groups:
        for run in group.runs:
            summary = run.summary or {}
            cells: list[object] = [group.letter, run.name, str(run.folder), *group.flags.values(), run.config.seed, run.state]
            cells += [run.errors.get(stage) for stage in stages]
            cells += [run.last_top5_error, summary.get("seconds", {}).get("total"), *(summary.get(key) for key in known)]
            rows.append(cells)
    return rows


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
