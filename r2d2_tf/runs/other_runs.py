"""Networks that a run takes over from another one, to start from. Looking for them needs no TensorFlow."""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from r2d2_tf import backbones
from r2d2_tf.config.config import Config
from r2d2_tf.config.flag_checks import IMAGENET
from r2d2_tf.data.labels.cells import same_class
from r2d2_tf.runs import run_directory
from r2d2_tf.runs.outcome import stage_predictions
from r2d2_tf.runs.run_state import RunState
from r2d2_tf.system import provenance
from r2d2_tf.system.messages import one_line

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

_MOST_NAMED = 5
"""Classes in a message."""


def stage_1_summary(folder: Path, config: Config) -> dict[str, Any]:
    """The summary of the finished run whose stage 1 `config` is to take over (`--stage_1_from`).

    Raises:
        ValueError: if the run is missing, unfinished, left no network after stage 1, or had another stage 1.
    """
    _, summary = same_beginning(folder, config, stage=1)
    if not (folder / run_directory.STAGE_1_FILE).is_file():
        raise ValueError(
            f"stage_1_from ({folder}) has no {run_directory.STAGE_1_FILE}: give the run that trained its stage 1 itself"
        )
    return summary


def same_beginning(folder: Path, ours: Config, *, stage: int) -> tuple[Config, dict[str, Any]]:
    """Config and summary of a finished run that does what `ours` does up to `stage` (`--stage_1_from`, `--stage_2_from`).

    Raises:
        ValueError: if the run is missing or unfinished, or began otherwise.
    """
    theirs, summary = run_directory.load_config(folder), run_directory.read_summary(folder)
    theirs = same_data_elsewhere(theirs, summary, ours)
    if differences := ours.differences(theirs, through_stage=stage):
        stages = "1" if stage == 1 else "1 or 2"
        raise ValueError(
            f"stage_{stage}_from ({folder}) had another stage {stages} ({'; '.join(differences)}): give those flags the same "
            f"values, or leave --stage_{stage}_from out"
        )
    return theirs, summary


def same_data_elsewhere(theirs: Config, summary: Mapping[str, Any], ours: Config) -> Config:
    """The config of a finished run, with data and labels where `ours` has them, if fingerprints can tell them apart."""
    if not {"data_fingerprint", "split_fingerprint"} <= summary.keys():
        return theirs
    labels = ours.labels if ours.labels and theirs.labels else theirs.labels
    return dataclasses.replace(theirs, data_dir=ours.data_dir, labels=labels)


def stage_1_network(folder: Path, config: Config) -> Path:
    """Where a run's network after stage 1 is, or was: in its folder, or in that of the run that it took it over from."""
    own = folder / run_directory.STAGE_1_FILE
    other = config.stage_1_from or config.stage_2_from
    if own.is_file() or not other:
        return own
    source = Path(other).expanduser()
    if config.stage_1_from or not (source / run_directory.CONFIG_FILE).is_file():
        return source / run_directory.STAGE_1_FILE
    return stage_1_network(source, run_directory.load_config(source))


def is_gone(folder: str) -> bool:
    """Whether the network of another run, by the name of its folder, is no longer there."""
    return not (Path(folder).expanduser() / run_directory.BACKBONE_FILE).is_file()


def warm_start_summary(folder: Path, config: Config) -> dict[str, Any]:
    """The summary of the finished run from whose final network `config` is to start (`--warm_start`).

    Raises:
        ValueError: if the run is missing, unfinished, lost its network, or had another network or data set.
    """
    theirs = run_directory.load_config(folder)
    for name in ("backbone", "dataset", "network_size"):
        if getattr(theirs, name) != getattr(config, name):
            raise ValueError(
                f"warm_start ({folder}) had another {name} ({getattr(theirs, name)}, now {getattr(config, name)}): give "
                f"--{name} the same value, or leave --warm_start out"
            )
    # With them a network of keras.applications may have other layers in front, which no weight shows.
    if IMAGENET in (theirs.weights, config.weights) and theirs.weights != config.weights:
        raise ValueError(f"warm_start ({folder}) had --weights={theirs.weights}, now {config.weights}: give it here, too")
    summary = run_directory.read_summary(folder)
    if not (folder / run_directory.BACKBONE_FILE).is_file():
        raise ValueError(f"warm_start ({folder}) has no {run_directory.BACKBONE_FILE}: give a run that still has its network")
    return summary


def borrow_stage_1(
    backbone: "keras.Model",
    config: Config,
    strategy: "tf.distribute.Strategy",
    state: RunState,
    labels: Mapping[str, np.ndarray],
) -> None:
    """Puts the weights that the run of `--stage_1_from` had after stage 1 into `backbone`.

    Into the state go that run's summary and, if it has them, its predictions of the same images: kind of images -> `labels`.

    Raises:
        ValueError: if that run cannot be used, or had other images or labels than `state` says of this one's.
    """
    folder = Path(config.stage_1_from).expanduser()
    summary = stage_1_summary(folder, config)
    for name, what in (("data_fingerprint", "images"), ("split_fingerprint", "labels")):
        # Flags alone do not tell: a folder or a file of labels may have changed.
        if summary.get(name, getattr(state, name)) != getattr(state, name):
            raise ValueError(f"stage_1_from ({folder}) was trained on other {what} than there are now: leave it out")
    with strategy.scope():
        _set_weights(backbone, backbones.load(folder / run_directory.STAGE_1_FILE, config.backbone).get_weights())
    state.borrowed = summary
    for kind, own in labels.items():
        if (predicted := stage_predictions.read(folder, kind, "stage_1", own)) is not None:
            state.remember(kind, 1, predicted)


def start_warm(backbone: "keras.Model", config: Config, strategy: "tf.distribute.Strategy", class_names: Sequence[str]) -> str:
    """Puts the weights that the run of `--warm_start` ended with into `backbone`.

    Returns:
        16 hexadecimal digits of a SHA-256 of them.

    Raises:
        ValueError: if that run cannot be used, or had another network or other classes.
    """
    folder = Path(config.warm_start).expanduser()
    named = warm_start_summary(folder, config).get("class_names", list(class_names))
    if named != list(class_names):
        raise ValueError(one_line(f"warm_start ({folder}) had {_differences(named, class_names)}: give a run on the same ones"))
    with strategy.scope():
        weights = backbones.load(folder / run_directory.BACKBONE_FILE, config.backbone).get_weights()
        theirs, ours = ([w.shape for w in each] for each in (weights, backbone.get_weights()))
        if theirs != ours:
            raise ValueError(
                f"warm_start ({folder}) has a network of another shape ({_size(theirs)} weights in place of {_size(ours)}): "
                "give a run with the same --backbone, images and classes"
            )
        _set_weights(backbone, weights)
    return provenance.digest_of(weights)


def _differences(theirs: Sequence[str], ours: Sequence[str]) -> str:
    gone, new = ([name for name in one if name not in other] for one, other in ((theirs, ours), (ours, theirs)))
    if not gone and not new:
        return f"another order of its classes ({', '.join(theirs[:_MOST_NAMED])})"
    said = [f"and not {', '.join(map(repr, new[:_MOST_NAMED]))}"] * bool(new)
    said = [", ".join(map(repr, gone[:_MOST_NAMED]))] * bool(gone) + said
    alike = [f"; did you mean {same[0]!r} by {name!r}?" for name in new if len(same := same_class(name, theirs)) == 1][:1]
    return f"other classes ({' '.join([*said, *alike])})"


def known_classes(config: Config) -> tuple[str, ...]:
    """The classes that labels must name: those of the run of `--warm_start` or, if it is gone, of this run, once finished.

    None if there is no such run: whoever starts says so.
    """
    if not config.warm_start:
        return ()
    for folder in (Path(config.warm_start).expanduser(), config.resolved_run_dir):
        with contextlib.suppress(ValueError):
            return tuple(run_directory.read_summary(folder).get("class_names", ()))
    return ()


def _set_weights(backbone: "keras.Model", weights: Sequence[np.ndarray]) -> None:
    from r2d2_tf.backbones.layers import renew_constants

    backbone.set_weights(weights)
    renew_constants(backbone)


def _size(shapes: Sequence[tuple[int, ...]]) -> str:
    return f"{sum(int(np.prod(shape)) for shape in shapes):,}"
