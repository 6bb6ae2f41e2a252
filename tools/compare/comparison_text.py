"""Tables of runs, of groups of them, and of what sets the groups apart: Markdown that is in line on a terminal too."""

import statistics
from collections.abc import Iterable, Sequence

from r2d2_tf.system.commands import shown
from r2d2_tf.system.messages import markdown, one_line
from tools.compare import comparison
from tools.compare.comparison import Group
from tools.shared.run_records import RunRecord

Table = list[list[str]]
"""Rows of cells, the titles first."""


def report(groups: Sequence[Group]) -> str:
    """All there is to say."""
    runs = [run for group in groups for run in group.runs]
    lines = [_heading(groups), ""]
    if len(groups) > 1:
        lines += [*(f"    {group.letter}: {group.label}" for group in groups), ""]
    lines += [*markdown(run_table(groups)), ""]
    if any(group.counted for group in groups):
        lines += [
            "Test error in percent after each stage, mean +- standard deviation over the seeds of finished runs:",
            "",
            *markdown(_group_table(groups)),
            "",
        ]
    lines += _difference_lines(groups)
    lines += [f"note: {note}" for note in notes(runs, groups)]
    return "\n".join(lines).rstrip()


def _heading(groups: Sequence[Group]) -> str:
    runs = [run for group in groups for run in group.runs]
    same = [text for text in (_same(_images(run) for run in runs), _same(_commit(run) for run in runs)) if text]
    in_all = f"; in all of them: {', commit '.join(same) if len(same) == 2 else same[0]}" if same else ""
    return f"{_count(len(runs), 'run')} in {_count(len(groups), 'group')} of equal flags but for the seed{in_all}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' if number != 1 else ''}"


def _same(texts: Iterable[str]) -> str:
    found = {text for text in texts if text}
    return found.pop() if len(found) == 1 else ""


def _images(run: RunRecord) -> str:
    summary = run.summary
    if summary is None or not {"num_labels", "num_unlabeled", "num_test"} <= summary.keys():
        return ""
    fake = " (FAKE DATA)" if run.is_fake else ""
    labels = f"{summary['num_labels']:,} labeled, {summary['num_unlabeled']:,} unlabeled"
    return f"{run.config.dataset}{fake}, {labels}, {summary['num_test']:,} to test on"


def _commit(run: RunRecord) -> str:
    return (run.summary or {}).get("git_commit") or ""


def _errors(run: RunRecord) -> dict[str, float]:
    """Errors in percent by the titles of their columns, which are in order."""
    after = {stage.replace("_", " "): error for stage, error in run.errors.items()}
    return after | ({} if run.last_top5_error is None else {"top 5": run.last_top5_error})


def run_table(groups: Sequence[Group]) -> Table:
    """A line a run. Columns in which all are alike are left out, as the heading says what they have in common."""
    runs = [run for group in groups for run in group.runs]
    measured = sorted({title for run in runs for title in _errors(run)})
    more = [(title, cell) for title, cell in (("commit", _commit), ("images", _images)) if not _same(map(cell, runs))]
    titles = ["group", "run", "seed", *(f"{title} %" for title in measured)]
    table = [[*titles, "seconds", *(title for title, _ in more), "state"]]
    for group in groups:
        for run in group.runs:
            errors = {title: f"{error:.2f}" for title, error in _errors(run).items()}
            cells = [group.letter, run.name, str(run.config.seed), *(errors.get(title, "-") for title in measured)]
            seconds = f"{run.summary['seconds']['total']:,.0f}" if run.summary else "-"
            table.append([*cells, seconds, *(cell(run) or "-" for _, cell in more), run.state])
    return table


def _group_table(groups: Sequence[Group]) -> Table:
    measured = sorted({title for group in groups for run in group.counted for title in _errors(run)})
    table = [["group", "finished", *measured]]
    for group in groups:
        found = [_errors(run) for run in group.counted]
        errors = [[own[title] for own in found if title in own] for title in measured]
        table.append([group.letter, f"{len(group.counted)} of {len(group.runs)}", *map(_with_spread, errors)])
    return table


def _with_spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    spread = f" +- {statistics.stdev(values):.2f}" if len(values) > 1 else " (one run)"
    return f"{statistics.mean(values):.2f}{spread}"


def _difference_lines(groups: Sequence[Group]) -> list[str]:
    """Each group against the first that has a finished run, as far as they were tested on the same images."""
    base = next((group for group in groups if group.counted), None)
    if base is None:
        return []
    finished = [group for group in groups if group.counted and group is not base]
    others = [group for group in finished if group.counted[0].test_images == base.counted[0].test_images]
    if not others:
        return []
    table = [["", "points", "95 % interval", f"error beside {base.letter}'s", "how"]]
    for group in others:
        found = comparison.difference(base, group)
        if found is not None:
            interval = "-" if found.interval is None else f"{found.interval[0]:+.2f} to {found.interval[1]:+.2f}"
            table.append([f"{group.letter} - {base.letter}", f"{found.points:+.2f}", interval, found.verdict, found.method])
    lines = [f"Last errors beside those of {base.letter}, in percentage points (name first the runs to be compared with):"]
    lines += ["", *markdown(table), ""]
    if len(others) > 1:
        lines.append("Each interval stands by itself: where nothing differs, one in twenty misses 0 all the same.")
    for group in others:
        if len(group.counted) == len(base.counted) == 1:
            lines.append(_image_by_image_line(base, group))
    return [*lines, ""]


def _image_by_image_line(base: Group, other: Group) -> str:
    (ours,), (theirs,) = base.counted, other.counted
    try:
        found = comparison.image_by_image(ours, theirs)
    except ValueError as error:
        return one_line(f"{other.letter} and {base.letter} image by image: {error}")
    if found is None:
        missing = [run.folder for run in (ours, theirs) if run.predictions() is None]
        commands = " and ".join(f"`{shown('tools.evaluate', f'--run_dir={folder}')}`" for folder in missing)
        return f"To hold {other.letter} and {base.letter} against each other image by image: {commands}, and this again."
    return (
        f"{other.letter} and {base.letter} image by image: of {found.images:,} images {found.first_alone:,} are wrong in "
        f"{base.letter} alone and {found.other_alone:,} in {other.letter} alone (McNemar's exact p {found.p:.2g}). "
        "That tells of these two networks, not of what other seeds would give."
    )


def notes(runs: Sequence[RunRecord], groups: Sequence[Group]) -> list[str]:
    """What a reader of the tables must know."""
    lines = []
    finished = [run for run in runs if run.summary]
    if len({run.config.dataset for run in runs}) > 1:
        names = ", ".join(sorted({run.config.dataset for run in runs}))
        lines.append(f"these are runs of different data sets ({names}): do not compare their errors")
    elif len({run.test_images for run in finished}) > 1:
        lines.append("these runs were tested on different copies of the data set: do not compare their errors")
    if any(run.is_fake for run in runs):
        lines.append("runs on FAKE DATA are among these: their errors mean nothing")
    for group in groups:
        twice = [run.name for run in group.runs if run.summary and run not in group.counted]
        if twice:
            lines.append(f"{', '.join(twice)} of {group.letter} has a seed that is there before: it is shown, and not counted")
    if len({_commit(run) for run in finished}) > 1:
        lines.append("these runs are of different commits: the source may make a difference, too")
    if len({str(sorted(run.summary.get("versions", {}).items())) for run in finished if run.summary}) > 1:
        lines.append("these runs are of different versions of their packages: see `versions` in summary.json")
    if len({tuple(run.errors)[-1] for run in finished}) > 1:
        lines.append("these runs end with different stages: the last errors are not of the same stage")
    if finished and (interval := comparison.interval_of_one_run(finished[0])):
        lines.append(
            f"{finished[0].test_images[1]:,} test images alone leave the {finished[0].last_error:.2f} % of {finished[0].name} "
            f"uncertain from {interval[0]:.2f} to {interval[1]:.2f} (Wilson)"
        )
    return lines
