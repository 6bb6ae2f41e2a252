"""What a run leaves as its summary, and what a person is told of it. Needs no TensorFlow."""

import dataclasses
import math
import sys
from typing import TYPE_CHECKING, Any

from r2d2_tf.config.config import Config
from r2d2_tf.data.image_data import DatasetSpec, ImageData
from r2d2_tf.data.readers.tfds import is_fake
from r2d2_tf.runs import run_directory
from r2d2_tf.runs.outcome.result import Result
from r2d2_tf.runs.outcome.verdict import is_harm, surer_words, verdict_of
from r2d2_tf.runs.run_state import TEST, RunState
from r2d2_tf.system import provenance
from r2d2_tf.system.commands import command_of, pasted, typed

if TYPE_CHECKING:
    from r2d2_tf.method.pseudo_labels import PseudoLabelTable


def summary_of(
    config: Config,
    spec: DatasetSpec,
    data: ImageData,
    table: "PseudoLabelTable",
    state: RunState,
    result: Result,
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
    by_stage = {int(stage.removeprefix("stage_")): error for stage, error in errors.items()}
    images = "test images" if not config.evaluate_on else f"images of {config.evaluate_on}"
    words = verdict_of(by_stage, state.predictions(TEST), data.test_labels, result.stage, images)
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
        "verdict": words,
        "result": dataclasses.asdict(result),
        "test_error_percent": errors,
        **({"test_top5_error_percent": top5} if top5 else {}),
        "stage_1_from": config.stage_1_from or None,
        **({"stage_2_from": config.stage_2_from} if config.stage_2_from else {}),
        "warm_start": config.warm_start or None,
        "pseudo_label_error_percent": {
            stage: row["pseudo_label_error"] for stage, row in last_rows.items() if "pseudo_label_error" in row
        },
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "resumes": state.resumes,
        "rollbacks": state.rollbacks,
        "num_labels": len(table.labeled_rows),
        "num_unlabeled": len(table.unlabeled_rows),
        "num_held_out": len(data.held_out.labels) if data.held_out is not None else 0,
        "num_test": len(data.test_labels),
        "parameters": parameters,
        "devices": devices,
        "git_commit": provenance.git_commit(),
        "versions": provenance.versions(),
        "machine": provenance.machine(),
        "files": run_directory.files_in(config.resolved_run_dir),
    }


def words_of_summary(summary: dict[str, Any]) -> list[str]:
    """What a finished run came to, a line each: its verdict and, if labels were held out, what they chose."""
    held_out = summary.get("result", {}).get("held_out")
    return [*verdict_lines(summary), *([f"Result: {summary['result']['why']}"] if held_out else [])]


def verdict_lines(summary: dict[str, Any]) -> list[str]:
    """The verdict on a finished run and, if more labels are held out than test images are there, what they say of its error.

    A run of before has no verdict: its errors alone are held against each other.
    """
    fake = "FAKE DATA, so this means nothing: " if summary.get("fake_data") else ""
    if "verdict" in summary:
        found = summary["result"]["held_out"].get(f"stage_{result_stage(summary)}")
        num_test = summary["num_test"]
        surer = []
        if found and found["of"] > num_test > 0:
            test_wrong = round(result_error(summary) * num_test / 100)
            surer = [surer_words(found["wrong"], found["of"], test_wrong, num_test)]
        return [f"{fake}{summary['verdict']}", *surer]
    errors = list(summary["test_error_percent"].values())
    if len(errors) == 1 or not errors[0]:
        return []
    relative = f"{100 * abs(errors[-1] - errors[0]) / errors[0]:.0f} % {'fewer' if errors[-1] <= errors[0] else 'more'} errors"
    return [f"{fake}{errors[0]:.2f} % -> {errors[-1]:.2f} % wrong of the test images ({relative})"]


def result_stage(summary: dict[str, Any]) -> int:
    """The stage whose network is a finished run's result: of a run of before the last one."""
    errors, stage = summary["test_error_percent"], summary.get("result", {}).get("stage")
    return int(stage) if f"stage_{stage}" in errors else int(list(errors)[-1].removeprefix("stage_"))


def result_error(summary: dict[str, Any]) -> float:
    """Test error, in percent, of a finished run's result."""
    return float(summary["test_error_percent"][f"stage_{result_stage(summary)}"])


def result_text(summary: dict[str, Any], run_dir: str) -> str:
    """The end of a run: its verdict, errors after each stage, files."""
    errors, pseudo = summary["test_error_percent"], summary["pseudo_label_error_percent"]
    fake = " (FAKE DATA: the errors mean nothing)" if summary.get("fake_data") else ""
    result = f"stage_{result_stage(summary)}"
    held_out = summary.get("result", {}).get("held_out", {})
    lines = [
        "",
        *words_of_summary(summary),
        "",
        f"Errors of {summary['name']}, seed {summary['seed']}{fake}",
        f"             test error  pseudo-label error  seconds{'  held-out errors' * bool(held_out)}",
    ]
    for stage, error in errors.items():
        pseudo_cell = f"{pseudo[stage]:17.2f} %" if stage in pseudo else f"{'-':>19}"
        line = f"  {stage.replace('_', ' '):9} {error:9.2f} % {pseudo_cell} {summary['seconds'].get(stage, math.nan):8.1f}"
        if held_out:
            own = held_out.get(stage)
            line += f"{own['wrong']:8,} of {own['of']:,}" if own else f"{'-':>8}"
        lines.append(f"{line}{'  <- result' * (stage == result and len(errors) > 1)}")
    lines += ["", f"Files in {run_dir}:", *(f"  {name:25} {what}" for name, what in summary["files"].items())]
    return "\n".join(lines)


def next_text(summary: dict[str, Any], run_dir: str) -> str:
    """What to type after a run, to be pasted as it stands."""
    asked = f"--run_dir={run_dir}"
    # Stage 1 leaves no table that a report could tell of; whoever has images of their own can have more of them labeled.
    tools = ["tools.report"] if max(summary["test_error_percent"]) != "stage_1" else []
    tools += ["tools.label_queue"] if tools and summary.get("dataset") == "folder" else []
    lines = [
        "Next:",
        *(f"  {command_of(tool, asked)}" for tool in tools),
        *_export_lines(summary, command_of("export", asked, "--format=tflite")),
        f"  {pasted([typed(sys.executable), '-m', 'tensorboard.main', f'--logdir={run_dir}/tensorboard'])}",
    ]
    return "\n".join(lines)


def _export_lines(summary: dict[str, Any], command: str) -> list[str]:
    """How to export the result; of one that is worse than the first stage's network by more than chance, that it is.

    By less, test images have no say in which network is taken.
    """
    first, result = min(summary["test_error_percent"]).removeprefix("stage_"), result_stage(summary)
    if not is_harm(summary.get("verdict", "")):
        return [f"  {command}"]
    return [
        f"  (the result, stage {result}'s network, has more test errors than stage {first}'s, which the first line exports)",
        f"  {command} --stage={first}",
        f"  {command}",
    ]
