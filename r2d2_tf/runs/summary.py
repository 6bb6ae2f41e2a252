"""What a person is told when a run is finished. Needs no TensorFlow."""

import shlex
from typing import Any


def result_text(summary: dict[str, Any], run_dir: str, python: str) -> str:
    """The result of a finished run: errors after each stage, files, what to type next.

    Args:
        summary: as in summary.json.
        run_dir: folder of the run.
        python: command that runs Python.
    """
    errors, pseudo = summary["test_error_percent"], summary["pseudo_label_error_percent"]
    fake = " (FAKE DATA: the errors mean nothing)" if summary.get("fake_data") else ""
    lines = [
        "",
        f"Result: {summary['name']}, seed {summary['seed']}{fake}",
        "             test error  pseudo-label error  seconds",
    ]
    for stage, error in errors.items():
        pseudo_cell = f"{pseudo[stage]:17.2f} %" if stage in pseudo else f"{'-':>19}"
        lines.append(f"  {stage.replace('_', ' '):9} {error:9.2f} % {pseudo_cell} {summary['seconds'][stage]:8.1f}")
    first, last = errors[min(errors)], errors[max(errors)]
    relative = f" ({100 * abs(last - first) / first:.0f} % {'fewer' if last <= first else 'more'} errors)" if first else ""
    if len(errors) > 1:
        lines.append(f"  change    {last - first:+9.2f} %{relative}")
    lines += [
        "",
        f"Files in {run_dir}:",
        *(f"  {name:20} {what}" for name, what in summary["files"].items()),
        "",
        "Next:",
        # Stage 1 leaves no table that a report could tell of.
        *([f"  {python} -m tools.report --run_dir={shlex.quote(run_dir)}"] if max(errors) != "stage_1" else ()),
        f"  {python} -m export --run_dir={shlex.quote(run_dir)} --format=tflite",
        f"  {python} -m tensorboard.main --logdir={shlex.quote(run_dir + '/tensorboard')}",
    ]
    return "\n".join(lines)
