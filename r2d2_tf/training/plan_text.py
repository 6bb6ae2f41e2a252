"""The plan of a run, for people."""

from collections.abc import Sequence

import numpy as np

from r2d2_tf.data.image_data import DatasetSpec
from r2d2_tf.method.pseudo_labels import PseudoLabelTable
from r2d2_tf.training.stages import Stage


def plan_text(
    stages: Sequence[Stage],
    spec: DatasetSpec,
    table: PseudoLabelTable,
    *,
    title: str,
    num_test: int,
    network: str,
    features: str,
    devices: str,
    num_held_out: int = 0,
    beyond: str = "",
) -> str:
    """The plan of a run, to be printed before its first step."""
    labeled, unlabeled = len(table.labeled_rows), len(table.unlabeled_rows)
    per_class = np.bincount(table.labels[table.labeled_rows], minlength=table.num_classes)
    spread = f"{per_class.min()}" if per_class.min() == per_class.max() else f"{per_class.min()} to {per_class.max()}"
    apart = f"{num_held_out:,} labeled ones held out, " * bool(num_held_out)
    lines = [
        title,
        f"  data      {spec.description}",
        *(f"  warning   {remark}" for remark in spec.all_remarks),
        f"  images    {labeled:,} labeled ({'soft, ' * table.has_soft_labels}{spread} in each of {table.num_classes} classes)"
        f" + {unlabeled:,} unlabeled, {apart}{num_test:,} to test on; {'x'.join(map(str, spec.image_shape))} pixels",
        f"  network   {network}",
        *([f"  features  {features}"] if features else []),
        f"  table     {table.num_rows:,} x {table.num_classes} pseudo-logits, {table.nbytes / 2**20:.2f} MiB in host memory",
        f"  devices   {devices}",
        *([f"  beyond    the paper: {beyond}"] if beyond else []),
    ]
    total = 0
    for stage in stages:
        steps = stage.images.steps_per_epoch(labeled, unlabeled)
        total += steps * stage.epochs
        own = stage.images.labeled_per_batch
        if own is not None:
            mix = f" ({own} labeled + {stage.images.batch_size - own} unlabeled)"
        else:
            mix = " of all images" if stage.images.use_unlabeled else " of labeled images"
        head = f"; the head alone in the first {_count(stage.head_epochs, 'epoch')}" if stage.head_epochs else ""
        lines.append(
            f"  stage {stage.number}   {stage.words.title}: {_count(stage.epochs, 'epoch')} of {_count(steps, 'step')}, "
            f"{stage.images.batch_size} images a batch{mix}{head}{_of_network(stage)}"
        )
    return "\n".join([*lines, f"  in all    {total:,} steps"])


def _of_network(stage: Stage) -> str:
    """What of the network a stage trains otherwise than all alike."""
    if stage.on_features:
        return "; the head alone, on features"
    kept = "; batch normalisation stays as it is, and the body drops nothing out" * stage.keeps_statistics
    return kept + (f"; all but the head at {stage.body_share:g} of the rate" if stage.body_share != 1.0 else "")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
