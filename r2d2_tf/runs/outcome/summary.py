"""What a run leaves as its summary, and what a person is told of it. Needs no TensorFlow."""

import shlex
from typing import TYPE_CHECKING, Any

from r2d2_tf.config.config import Config
from r2d2_tf.data.image_data import DatasetSpec, ImageData
from r2d2_tf.data.readers.tfds import is_fake
from r2d2_tf.runs import run_directory
from r2d2_tf.runs.run_state import RunState
from r2d2_tf.system import provenance

if TYPE_CHECKING:
    from r2d2_tf.method.pseudo_labels import PseudoLabelTable


def summary_of(
    config: Config,
    spec: DatasetSpec,
    data: ImageData,
    table: "PseudoLabelTable",
    state: RunState,
    *,
    parameters: int,
    devices: str,
) -> dict[str, Any]:
    """What summary.json holds of a run that is at its end, of a network of so many parameters, on devices told in words."""
    last_rows = {f"stage_{row['stage']}": row for row in state.rows}
    errors = {stage: row["test_error"] for stage, row in last_rows.items()}
    top5 = {stage: row["test_top5_error"] for stage, row in last_rows.items() if "test_top5_error" in row}
    seconds = state.seconds
    if state.borrowed is not None:
        errors = {"stage_1": state.borrowed["test_error_percent"]["stage_1"], **errors}
        if "test_top5_error_percent" in state.borrowed:
            top5 = {"stage_1": state.borrowed["test_top5_error_percent"]["stage_1"], **top5}
        seconds = {"stage_1": state.borrowed["seconds"]["stage_1"], **seconds}
    return {
        "name": config.name,
        "dataset": config.dataset,
        "fake_data": is_fake(spec.tfds_name, config.data_path),
        "evaluate_on": config.evaluate_on or None,
        "class_names": list(data.class_names),
        "data_content": spec.content,
        "data_fingerprint": state.data_fingerprint,
        "split_fingerprint": state.split_fingerprint,
        "seed": config.seed,
        "config_digest": config.digest,
        "test_error_percent": errors,
        **({"test_top5_error_percent": top5} if top5 else {}),
        "stage_1_from": config.stage_1_from or None,
        "warm_start": config.warm_start or None,
        "pseudo_label_error_percent": {
            stage: row["pseudo_label_error"] for stage, row in last_rows.items() if "pseudo_label_error" in row
        },
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "resumes": state.resumes,
        "rollbacks": state.rollbacks,
        "num_labels": len(table.labeled_rows),
        "num_unlabeled": len(table.unlabeled_rows),
        "num_test": len(data.test_labels),
        "parameters": parameters,
        "devices": devices,
        "git_commit": provenance.git_commit(),
        "versions": provenance.versions(),
        "machine": provenance.machine(),
        "files": run_directory.files_in(config.resolved_run_dir),
    }


def result_text(summary: dict[str, Any], run_dir: str, python: str) -> str:
    """The result of a finished run: errors after each stage, files, what to type next, by the command `python`."""
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
