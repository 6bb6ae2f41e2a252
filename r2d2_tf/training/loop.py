"""The stages of a run, one `fit` each, from the newest checkpoint to the end."""

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from r2d2_tf.backbones.layers import renew_constants
from r2d2_tf.config.config import Config
from r2d2_tf.data.image_data import ImageData
from r2d2_tf.distributed.workers import Workers
from r2d2_tf.method import finite
from r2d2_tf.method.pseudo_labels import NotFinite
from r2d2_tf.runs import kept_rounds, run_directory, run_labels
from r2d2_tf.runs.checkpoints import OPTIMIZER, Checkpoint, Checkpoints, check_same_data
from r2d2_tf.runs.metrics_log import MetricsLog
from r2d2_tf.runs.predictions import PredictionHistory
from r2d2_tf.runs.run_state import RunState
from r2d2_tf.system.interrupts import RunInterrupted, StopSignals
from r2d2_tf.system.messages import warn
from r2d2_tf.training.callbacks.checkpointing import RunCheckpoint
from r2d2_tf.training.callbacks.collapse import CollapseGuard, RunStopped
from r2d2_tf.training.callbacks.diagnostics import Diagnostics
from r2d2_tf.training.callbacks.evaluation import Evaluation, HeldOutEvaluation
from r2d2_tf.training.callbacks.progress import Locator, ProgressReport
from r2d2_tf.training.callbacks.recording import EpochRecorder, recorded_reprediction
from r2d2_tf.training.learners import Learners
from r2d2_tf.training.pipeline import RunBatches
from r2d2_tf.training.preparing import prepare
from r2d2_tf.training.stages import Stage
from r2d2_tf.training.timing.run_progress import RunProgress
from r2d2_tf.training.timing.work import Counts, features_task

MAX_ROLLBACKS = 3
"""With --on_divergence=rollback; each halves the learning rates."""


class Training:
    """Trains a model through the stages of a config, and keeps the checkpoints, metrics and networks in the run's folder.

    Making it takes over the state of the newest checkpoint, if there is one; else that of `start`, which another run left; else
    `state` is that of a run that is begun.

    Raises:
        ValueError: if there are checkpoints and none can be used.
    """

    def __init__(
        self,
        config: Config,
        *,
        stages: Sequence[Stage],
        data: ImageData,
        learners: Learners,
        workers: Workers,
        folder: Path,
        signals: StopSignals,
        state: RunState,
        start: Checkpoint | None = None,
    ) -> None:
        self.config, self.data, self.learners, self.table, self.workers = config, data, learners, learners.table, workers
        self.stages, self.folder, self.signals, self.state = stages, folder, signals, state
        self.history = PredictionHistory(self.table.unlabeled_rows)
        self.checkpoints = Checkpoints(folder, config.to_flagfile(), workers)
        # Still to be restored, as the stage's optimizer is not made yet.
        self._pending: Checkpoint | None = None
        self._saved: tuple[tuple[int, int, int], int] | None = None
        found = self.checkpoints.newest(warn)
        if found is not None:
            check_same_data(found.state, state, config, folder)
            self._go_to(found)
            self.state.resumes += 1
            print(f"\nGoing on from the checkpoint {found.path.name}: {self._place()}")
        elif start is not None:
            self._pending, self.state = start, start.state
            print(f"\nGoing on from where a round of {config.stage_2_from} ended: {self._place()}")
        counts = Counts(len(self.table.labeled_rows), len(self.table.unlabeled_rows), len(data.test_labels))
        self._progress = RunProgress(self.stages, counts)
        self._begin_log()

    def run(self, began: float) -> None:
        """Trains from the place of the state to the end of the last stage, for a program that started at `began`.

        Raises:
            RunStopped: if something is no longer finite or the predictions collapse.
            RunInterrupted: if a signal asked for it; a checkpoint is written.
            OSError: if a file cannot be written.
        """
        self._mark = began
        self.spend("start")
        while stage := next((stage for stage in self.stages if stage.number >= self.state.stage), None):
            if stage.number != self.state.stage:
                # Stage 2 may be missing.
                self.state.begin_stage(stage.number)
            try:
                self._fit(stage)
            except RunStopped as stopped:
                self._roll_back(stopped)
                continue
            if stage.number in run_directory.NETWORK_FILES and self.workers.is_chief:
                self.save_network(run_directory.NETWORK_FILES[stage.number])
            self.state.begin_stage(stage.number + 1)
        self._log.close()

    def save_network(self, name: str) -> None:
        """Writes the network as it is, pixels to logits, into a file of the run's folder."""
        self.learners.save(self.folder / name)

    def _go_to(self, checkpoint: Checkpoint) -> None:
        self._pending, self.state = checkpoint, checkpoint.state
        self._saved = (self.state.place, len(self.state.rollbacks))

    def _place(self) -> str:
        """Where the state is, in words."""
        stage = next(stage for stage in self.stages if stage.number == self.state.stage)
        if self.state.epoch == stage.epochs:
            return f"the end of stage {stage.number} ({stage.words.title})"
        return stage.place(self.state.epoch, self.state.step + 1)

    def _begin_log(self) -> None:
        self._log = MetricsLog(self.folder, run_directory.METRICS_FILE, self.state.rows, writes=self.workers.is_chief)
        self._progress.go_to(self.state)

    def spend(self, part: str) -> None:
        """Adds the time since the last call to a part of the run."""
        now = time.perf_counter()
        self.state.spend(part, now - self._mark)
        self._mark = now

    def _roll_back(self, stopped: RunStopped) -> None:
        """Goes back to the last checkpoint from before the place where it went wrong, with half the learning rates.

        Not to one of that very place: what went wrong in a step or a prediction was in the weights before it.

        Raises:
            RunStopped: `stopped`, if that is not asked for, was done too often, or there is no such checkpoint.
        """
        if self.config.on_divergence != "rollback" or not stopped.rate_matters:
            raise stopped
        earlier, resumes, scale = self.state.rollbacks, self.state.resumes, self.state.learning_rate_scale / 2
        if len(earlier) >= MAX_ROLLBACKS:
            raise RunStopped(f"{stopped} (after {MAX_ROLLBACKS} roll-backs)") from None
        checkpoint = self.checkpoints.newest(warn, before=self.state.place)
        if checkpoint is None:
            raise RunStopped(f"{stopped} (there is no checkpoint to roll back to)") from None
        self._log.close()
        self._go_to(checkpoint)
        self.state.learning_rate_scale, self.state.resumes = scale, resumes
        self.state.rollbacks = [*earlier, {"reason": str(stopped), "learning_rate_scale": scale}]
        self._begin_log()
        warn(str(stopped))
        warn(
            f"rolling back to the checkpoint {checkpoint.path.name}: {self._place()}, with {scale:g} times the "
            f"learning rates ({len(self.state.rollbacks)} of at most {MAX_ROLLBACKS} roll-backs)"
        )

    def _fit(self, stage: Stage) -> None:
        """Trains a stage from the place of the state to its end."""
        stage = replace(stage, learning_rates=tuple(rate * self.state.learning_rate_scale for rate in stage.learning_rates))
        self._learn(stage)
        prepare(self.model, stage, self.config, self.workers.strategy)
        if self._pending is not None:
            self._pending.restore(self._variables(), self.table, self.history)
            renew_constants(self.model.backbone)
            self._pending = None
        report = ProgressReport(
            self._progress,
            stage,
            self.state,
            num_classes=self.table.num_classes,
            has_hidden_labels=run_labels.hidden_labels(self.data) is not None,
        )
        try:
            self._checkpoint(stage)
            report.print_heading()
            self._fit_from_here(stage, report)
        except RunStopped as stopped:
            raise RunStopped(f"{self._progress.location}: {stopped}", rate_matters=stopped.rate_matters) from None
        except (NotFinite, tf.errors.InvalidArgumentError) as error:
            what = finite.name_of(error)
            if what is None:
                raise
            rate = stage.learning_rates[min(self.state.epoch, stage.epochs - 1)]
            raise RunStopped(
                f"{self._progress.location}: {what} is not finite (NaN or infinite) at learning rate {rate:.4g}; "
                f"{stage.words.advice}"
            ) from None
        except RunInterrupted:
            report.close()
            self._save_if_possible(stage)
            raise
        finally:
            report.close()
        self.spend(f"stage_{stage.number}")

    def _learn(self, stage: Stage) -> None:
        """Takes up what the stage trains."""
        self.model, data = self.learners.of(stage)
        self.model.between_batches = lambda: self._ask(False)
        self._batches = RunBatches(self.config, data, self.table, self.workers)
        if stage.on_features:
            if self.learners.features and not all(other.on_features for other in self.stages):
                # All that tells, before it begins, how long the whole network will take.
                self._progress.timings.add(features_task(), self.learners.features.seconds_a_view())
            self.spend("features")

    def _fit_from_here(self, stage: Stage, report: ProgressReport) -> None:
        table, model, state = self.table, self.model, self.state
        steps = stage.images.steps_per_epoch(len(table.labeled_rows), len(table.unlabeled_rows))
        callbacks = self._callbacks(stage, steps, report)
        model.resumes_epoch = state.step > 0
        if state.step == steps:
            # Stopped after an epoch's last step, before its end.
            callbacks.on_train_begin()
            model.reset_metrics()
            callbacks.on_epoch_begin(state.epoch)
            callbacks.on_epoch_end(state.epoch, {})
        model.fit(
            self._batches.training(stage, epoch=state.epoch, step=state.step),
            initial_epoch=state.epoch,
            epochs=stage.epochs,
            steps_per_epoch=steps,
            callbacks=callbacks,
            shuffle=False,
            verbose=0,
        )

    def _callbacks(self, stage: Stage, steps: int, report: ProgressReport) -> keras.callbacks.CallbackList:
        config, data, table, state, model = self.config, self.data, self.table, self.state, self.model
        apart = self._batches.data.held_out  # Of the stage's own data, which may be features.
        means = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(model.get_metrics_result()))
        always = {*stage.prediction_epochs, *kept_rounds.ends(config, stage.number)}
        saving = RunCheckpoint(always, steps, state, lambda: self._checkpoint(stage), config.checkpoint_minutes, self._ask)
        head_first = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: setattr(model, "trains_head_alone", epoch < stage.head_epochs)
        )
        return keras.callbacks.CallbackList(
            [
                Locator(self._progress, stage, state),
                means,
                head_first,
                *([model.average] if model.average else []),
                *recorded_reprediction(stage, self._batches.unlabeled(), self.history, state),
                Evaluation(self._batches.test(), data.test_labels, table.num_classes, stage, state),
                *([HeldOutEvaluation(self._batches.held_out(apart), apart.labels, stage, state)] if apart else []),
                Diagnostics(stage, table, run_labels.hidden_labels(data)),
                *([CollapseGuard(stage, table, state)] if config.stop_on_collapse else []),
                EpochRecorder(self._log, stage, first_run_epoch=len(self._log.rows) - state.epoch + 1),
                report,
                saving,
            ],
            add_history=True,
            model=model,
        )

    def _save_if_possible(self, stage: Stage) -> None:
        """Saves an interrupted run, unless a prediction was under way: then a checkpoint from before it is there."""
        try:
            if self.state.consistent:
                self._checkpoint(stage)
        except NotFinite as error:
            warn(f"the last steps are not saved: {error} is not finite")
        else:
            print(f"\nsaved: {self._place()}", file=sys.stderr)

    def _checkpoint(self, stage: Stage) -> None:
        """Saves the run, unless what is on disk is this very place already, and keeps the end of a round."""
        version = (self.state.place, len(self.state.rollbacks))
        if version != self._saved:
            self.spend(f"stage_{stage.number}")
            self.checkpoints.save(self.state, self._variables(), self.table, self.history)
            self._saved = version
        if self.workers.is_chief:
            # Also where it is saved already: it may have been killed between the two.
            kept_rounds.keep(self.config, self.folder, self.state, self.checkpoints.good[-1])

    def _ask(self, save: bool) -> bool:
        """Whether to save now, as the chief says; raises RunInterrupted, in all processes, if a signal came to any."""
        signal, agreed = self.workers.largest([self.signals.requested, save and self.workers.is_chief])
        if signal:
            raise RunInterrupted(signal)
        return bool(agreed)

    def _variables(self) -> dict[str, Any]:
        """Everything of network, metrics and optimizer that a run needs to go on: name -> Keras variable."""
        network, optimizer = self.model.backbone.variables, list(self.model.optimizer.variables)
        optimizer += self.model.average.variables if self.model.average else []
        groups = {"network/": network, "metrics/": self.model.metrics_variables, OPTIMIZER: optimizer}
        return {
            # Not by their own names, in which Keras counts the layers that a process has made.
            f"{group}{number:04d}": variable
            for group, variables in groups.items()
            for number, variable in enumerate(variables)
        }
