"""What whoever is given an exported model should know of it, as a model card in Hugging Face's form. Needs no TensorFlow.

All of it is read from what a run and an export leave; what they do not say is called unknown.
"""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from r2d2_tf.config.config import Config
from r2d2_tf.runs.outcome.summary import result_stage, verdict_lines
from r2d2_tf.runs.outcome.verdict import error_interval
from r2d2_tf.system.commands import shown
from r2d2_tf.system.messages import markdown

UNKNOWN = "unknown"
_OF_THIS_MACHINE = (
    "data_dir",
    "labels",
    "split_file",
    "stage_1_from",
    "stage_2_from",
    "warm_start",
    "run_dir",
    "new_run",
    "dry_run",
)
_PAPER = "[Wang and Wu, AAAI 2020](https://ojs.aaai.org/index.php/AAAI/article/view/6082)"


def model_card(
    summary: Mapping[str, Any], config: Config, metadata: Mapping[str, Any], exports: Sequence[tuple[str, str]], stage: int = 0
) -> str:
    """The card, Markdown with a head of YAML.

    Args:
        summary: of the finished run; one of before may lack entries.
        config: the run's.
        metadata: what metadata.json beside the exports says.
        exports: name of each file that was written, and how near to the network it is, in words.
        stage: whose network was exported; 0: the result.
    """
    stage = stage or result_stage(dict(summary))
    blocks = [
        _head(summary, stage),
        f"# {summary['name']}",
        *["**The images are FAKE DATA: every figure below means nothing.**"] * bool(summary.get("fake_data")),
        "Written by the export, and written anew by the next one: copy it before you complete it. What no file of the run says "
        f"is called {UNKNOWN}.",
        f"An image classifier of {len(metadata['class_names'])} classes, trained {_how(stage)}.",
        "## How good it is",
        *_measured(summary, config, stage),
        "## Data",
        _data(summary, config),
        "## Training",
        *_training(summary, config),
        "## Use",
        _use(metadata),
        *[_table([["file", "beside the network, on test images"], *exports])] * bool(exports),
        "## Limits",
        _limits(summary),
        "## Licence",
        _licence(config),
    ]
    return "\n\n".join(blocks) + "\n"


def _how(stage: int) -> str:
    if stage == 1:
        return "on the given labels alone: it is the network before R2-D2's later stages"
    return f"by R2-D2 ({_PAPER}), which learns labels of the unlabeled images together with the network"


def _head(summary: Mapping[str, Any], stage: int) -> str:
    """YAML; strings are written as JSON, which is YAML too."""
    error, images = summary["test_error_percent"].get(f"stage_{stage}"), summary.get("num_test")
    lines = ["# license: left to you", "pipeline_tag: image-classification"]
    lines += ["tags: [image-classification, semi-supervised-learning, pseudo-labels, r2-d2]"]
    if error is not None and images and not summary.get("fake_data"):
        lines += [
            "model-index:",
            f"  - name: {json.dumps(summary['name'])}",
            "    results:",
            "      - task: {type: image-classification}",
            f"        dataset: {{type: {json.dumps(summary['dataset'])}, name: {json.dumps(_data_set(summary))}}}",
            "        metrics:",
            f"          - {{type: accuracy, value: {100 - error:.2f}, name: {json.dumps(f'percent of {images} test images')}}}",
        ]
    return "\n".join(["---", *lines, "---"])


def _data_set(summary: Mapping[str, Any]) -> str:
    return f"{summary['name']} ({summary['dataset']})" if summary["dataset"] in ("folder", "npz") else str(summary["dataset"])


def _measured(summary: Mapping[str, Any], config: Config, stage: int) -> list[str]:
    images, result = summary.get("num_test"), result_stage(dict(summary))
    table = [["", "test error", "95 % interval (Wilson)"]]
    for name, error in summary["test_error_percent"].items():
        low, high = error_interval(round(error * images / 100), images) if images else (None, None)
        interval = UNKNOWN if low is None else f"{low:.2f} to {high:.2f} %"
        here = ", this model" if name == f"stage_{stage}" else ""
        table.append([f"after {name.replace('_', ' ')}{here}", f"{error:.2f} %", interval])
    where = summary.get("evaluate_on")
    count = f"{images:,}" if images else f"an {UNKNOWN} number of"
    if where:
        on = f"Measured on {count} images of `{Path(where).name}`, kept out of training: the test images were not looked at."
    elif config.test_fraction:
        share = f"{config.test_fraction:g} of the labeled ones, drawn and kept out of training"
        on = f"Measured on {count} images: {share}."
    else:
        on = f"Measured on the {count} test images of the data set, which were not trained on."
    why = summary.get("result", {}).get("why") or "the last stage; whether labels were held out to choose it is unknown"
    chosen = f"The run's result is stage {result}: {' '.join(why.split()).rstrip('.')}."
    if stage != result:
        chosen += f" Exported here is stage {stage}, as `--stage={stage}` asked for."
    return [_table(table), on, ". ".join(verdict_lines(dict(summary))) or f"Verdict: {UNKNOWN}.", chosen]


def _data(summary: Mapping[str, Any], config: Config) -> str:
    def count(name: str) -> str:
        return f"{summary[name]:,}" if name in summary else UNKNOWN

    rows = [
        ["data set", _data_set(summary)],
        ["labels given", count("num_labels")],
        ["unlabeled images", count("num_unlabeled")],
        ["labels held out, by which the stage was chosen", _held_out(summary)],
        ["test images", count("num_test")],
        ["labels made wrong on purpose", f"{100 * config.label_noise:g} %"],
        ["pseudo-labels that were wrong at the end", _pseudo_labels(summary)],
        ["fingerprint of the images", str(summary.get("data_fingerprint") or UNKNOWN)],
        ["where images and labels come from, and what they leave out", f"{UNKNOWN}: say it here"],
    ]
    return _table([["", ""], *rows])


def _held_out(summary: Mapping[str, Any]) -> str:
    # Those of the trials of a recipe are trained on in the run itself.
    counts = [counted["of"] for counted in summary.get("result", {}).get("held_out", {}).values()]
    count = max(counts, default=summary.get("num_held_out"))
    return UNKNOWN if count is None else f"{count:,}"


def _pseudo_labels(summary: Mapping[str, Any]) -> str:
    errors = summary.get("pseudo_label_error_percent") or {}
    return f"{list(errors.values())[-1]:.2f} %" if errors else UNKNOWN


def _training(summary: Mapping[str, Any], config: Config) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in summary.get("versions", {}).items())
    seconds = summary.get("seconds", {}).get("total")
    parameters = summary.get("parameters")
    rows = [
        ["network", f"{config.backbone}, {f'{parameters:,}' if parameters else UNKNOWN} parameters"],
        ["began from", _weights(config)],
        ["seed", f"{summary['seed']}"],
        ["time", f"{seconds:,.0f} s" if seconds else UNKNOWN],
        ["on", f"{summary.get('devices', UNKNOWN)}; {summary.get('machine', UNKNOWN)}"],
        ["source", f"commit {summary['git_commit']}" if summary.get("git_commit") else f"commit {UNKNOWN}"],
        ["versions", versions or UNKNOWN],
    ]
    changed = [
        f"--{field.name}={str(value).lower() if isinstance(value, bool) else value}"
        for field in dataclasses.fields(config)
        if field.name not in _OF_THIS_MACHINE
        and (value := getattr(config, field.name)) != field.default
        and os.sep not in str(value)
    ]
    again = f"`config.cfg` of the run repeats it: `{shown('r2d2_tf.train', '--flagfile=config.cfg')}`."
    words = f"{again} These flags of it are not the defaults; places on the machine that trained are left out:"
    return [_table([["", ""], *rows]), words, "\n".join(f"    {flag}" for flag in changed)]


def _weights(config: Config) -> str:
    if config.warm_start:
        return "another run's network (--warm_start)"
    if config.weights in ("", "none"):
        return "random weights"
    return "ImageNet's weights" if config.weights == "imagenet" else "a file of weights (--weights)"


def _use(metadata: Mapping[str, Any]) -> str:
    shape = " x ".join(str(side) for side in metadata.get("image_shape", ())) or UNKNOWN
    view = metadata.get("image_view")
    turned = {"shown": "turned as a camera's note in it says", "stored": "as it is stored, whatever a camera's note says"}
    rows = [
        ["input", f"{metadata.get('input', UNKNOWN)}, height x width x channels: {shape}"],
        ["preprocessing", str(metadata.get("preprocessing", UNKNOWN))],
        ["an image is read", turned.get(str(view), UNKNOWN)],
        ["output", str(metadata.get("output", UNKNOWN))],
    ]
    return f"{_table([['', ''], *rows])}\n\nClasses, in the order of the output: {', '.join(metadata['class_names'])}."


def _limits(summary: Mapping[str, Any]) -> str:
    images = summary.get("num_test")
    lines = [
        "Every image is given one of the classes, also one that shows none of them.",
        "The errors are those on images like the test images; on others, such as another camera's, they are unknown.",
        f"Errors of single classes, and of groups within them, are not in this card: `{shown('tools.evaluate')}` measures the "
        "former, and whether the probabilities are calibrated.",
    ]
    if images and images < 1000:
        lines.append(f"{images:,} test images are few: see how wide the interval is.")
    return "\n".join(f"- {line}" for line in lines)


def _table(rows: Sequence[Sequence[object]]) -> str:
    return "\n".join(markdown(rows))


def _licence(config: Config) -> str:
    own = "The model's licence is left to you. The training images may have one that binds you"
    return f"{own}." if _weights(config) == "random weights" else f"{own}, and so may the weights that it began from."
