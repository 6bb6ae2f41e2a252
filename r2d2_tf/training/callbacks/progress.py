"""What a person watching a run sees: the plan, a bar with the time left, a line an epoch, the result."""

import time
from collections.abc import Sequence

import keras
import numpy as np
from tqdm import tqdm

from r2d2_tf.data.image_data import DatasetSpec
from r2d2_tf.method.metrics import Logs
from r2d2_tf.method.pseudo_labels import PseudoLabelTable
from r2d2_tf.runs.run_state import RunState
from r2d2_tf.training.stages import Stage

_FORWARD_COST = 1 / 3
"""Cost of predicting an image, in trainings of an image: a forward pass of three passes."""
_FEATURES_COST = 1e-3
"""Cost of training a head on an image's features, in trainings of a network on an image."""


class RunProgress:
    """Where a run stands and how long it will take.

    Time is counted in images, as a batch's cost is roughly proportional to them; what a stage does for the first time
    is not timed, as TensorFlow traces it then.
    """

    def __init__(self, stages: Sequence[Stage], *, num_labeled: int, num_unlabeled: int, num_test: int) -> None:
        self.stages = tuple(stages)
        self.steps = {stage.number: stage.images.steps_per_epoch(num_labeled, num_unlabeled) for stage in stages}
        self._num_test, self._num_unlabeled = num_test, num_unlabeled
        self.location = "before stage 1"
        self._timed_cost = 0.0
        self._timed_seconds = 0.0
        self._since = time.perf_counter()
        self.go_to(RunState(stages[0].number))

    def step_cost(self, stage: Stage) -> float:
        """Of a batch."""
        return stage.images.batch_size * (_FEATURES_COST if stage.on_features else 1.0)

    def evaluation_cost(self, stage: Stage) -> float:
        """Of the test images, once."""
        return self._num_test * _FORWARD_COST * (_FEATURES_COST if stage.on_features else 1.0)

    def prediction_cost(self, stage: Stage) -> float:
        """Of the unlabeled images, once."""
        return self._num_unlabeled * _FORWARD_COST * (_FEATURES_COST if stage.on_features else 1.0)

    def go_to(self, state: RunState) -> None:
        """Counts all as done that lies before the place of `state`, and nothing else."""
        self.remaining = sum(
            (stage.epochs - first) * (self.steps[stage.number] * self.step_cost(stage) + self.evaluation_cost(stage))
            + sum(epoch >= first for epoch in stage.prediction_epochs) * self.prediction_cost(stage)
            for stage in self.stages
            if stage.number >= state.stage
            for first in [state.epoch if stage.number == state.stage else 0]
        )
        current = next((stage for stage in self.stages if stage.number == state.stage), None)
        if current is not None and state.step:
            self.remaining -= state.step * self.step_cost(current)
            self.remaining -= self.prediction_cost(current) if state.epoch in current.prediction_epochs else 0.0

    def restart_clock(self) -> None:
        """Leaves out of the estimate what happened since the last call."""
        self._since = time.perf_counter()

    def advance(self, cost: float, *, timed: bool = True) -> None:
        """Counts `cost` images as done, and the time since the last call as what they took."""
        now = time.perf_counter()
        self.remaining -= cost
        if timed:
            self._timed_cost += cost
            self._timed_seconds += now - self._since
        self._since = now

    def time_left(self) -> str:
        """About how long the whole run will still take, as m:ss or h:mm:ss."""
        if not self._timed_cost:
            return "?"
        return tqdm.format_interval(max(0.0, self.remaining) * self._timed_seconds / self._timed_cost)


class Locator(keras.callbacks.Callback):
    """Keeps `progress.location` true; the first callback in the list, so that what stops a run can be placed."""

    def __init__(self, progress: RunProgress, stage: Stage, state: RunState) -> None:
        super().__init__()
        self.progress, self.stage, self.state = progress, stage, state

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._locate(self.state.step)

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        self._locate(self.state.step + 1)

    def _locate(self, step: int) -> None:
        self.progress.location = self.stage.place(self.state.epoch, step)


class ProgressReport(keras.callbacks.Callback):
    """A progress bar an epoch (on a terminal) and a line after it; after all callbacks that measure."""

    def __init__(self, progress: RunProgress, stage: Stage, state: RunState) -> None:
        super().__init__()
        self.progress, self.stage, self.state = progress, stage, state

    def print_heading(self) -> None:
        """Prints the stage and the titles of the columns."""
        stage = self.stage
        print(f"\nStage {stage.number} of {self.progress.stages[-1].number}: {stage.words.title}")
        print("   epoch     rate     loss    class  entropy  test error  pseudo-label error  run's time left", flush=True)
        self._first_batch = True

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        stage, progress = self.stage, self.progress
        if epoch in stage.prediction_epochs and not self.state.step:
            progress.advance(progress.prediction_cost(stage), timed=False)
        # disable=None: no bar where the output is a file.
        self._bar = tqdm(
            total=progress.steps[stage.number],
            bar_format="{desc} |{bar:30}| {n_fmt}/{total_fmt} steps{postfix}",
            initial=self.state.step,
            desc=f"  {epoch + 1:3}/{stage.epochs}",
            leave=False,
            disable=None,
        )
        progress.restart_clock()

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self.progress.advance(self.progress.step_cost(self.stage), timed=not self._first_batch)
        self._first_batch = False
        self._bar.set_postfix_str(f"run: about {self.progress.time_left()} left", refresh=False)
        self._bar.update()

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        self.progress.advance(self.progress.evaluation_cost(self.stage), timed=epoch > 0)
        self._bar.close()
        if logs["predicted"]:
            changes = logs.get("argmax_changes")
            what = "for the first time" if changes is None else f"anew; {changes:,} changed class"
            print(f"           (began with predicting the pseudo-labels {what})")
        pseudo = f"{logs['pseudo_label_error']:17.2f} %" if "pseudo_label_error" in logs else f"{'-':>19}"
        print(
            f" {epoch + 1:3}/{self.stage.epochs:<3} {logs['learning_rate']:8.4g} {logs['loss']:8.4f} {logs['class_loss']:8.4f} "
            f"{logs['entropy']:8.4f} {logs['test_error']:9.2f} % {pseudo} {self.progress.time_left():>16}",
            flush=True,
        )

    def close(self) -> None:
        """Removes an unfinished bar from the terminal."""
        if hasattr(self, "_bar"):
            self._bar.close()


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
