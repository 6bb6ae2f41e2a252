"""A run from a Config to a folder of results: `run(config)`."""

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from r2d2_tf.config.config import Config
from r2d2_tf.data import health
from r2d2_tf.data.readers.tfds import FAKE, is_fake
from r2d2_tf.distributed import devices
from r2d2_tf.distributed.cluster import ALONE, Cluster, cluster_from_environment, meet, wait_to_see
from r2d2_tf.distributed.workers import Workers
from r2d2_tf.method.losses import CLASS_LOSSES
from r2d2_tf.method.model import R2D2Model
from r2d2_tf.method.pseudo_labels import PseudoLabelTable
from r2d2_tf.runs import run_directory, run_labels, run_network
from r2d2_tf.runs.dataset import spec_of
from r2d2_tf.runs.metrics_log import plot_run
from r2d2_tf.runs.other_runs import borrow_stage_1, is_gone, start_warm
from r2d2_tf.runs.run_state import RunState
from r2d2_tf.system import files, provenance, resources
from r2d2_tf.system.interrupts import StopSignals
from r2d2_tf.training import pipeline, stages
from r2d2_tf.training.callbacks.progress import plan_text
from r2d2_tf.training.loop import Training
from r2d2_tf.training.stages import plan

Summary = dict[str, Any]


def run(config: Config) -> Summary:
    """Trains as `config` says, or goes on where a run of it stopped, and returns the summary.

    Raises:
        ValueError: if the config does not fit the data or the devices, or its folder is taken; nothing is written.
        RunStopped: if the loss is no longer finite or the predictions collapse.
    """
    cluster = cluster_from_environment(os.environ) if config.strategy == "multi_worker" else ALONE
    if run_directory.finished_summary(config, claims=cluster.is_chief) is not None:
        raise ValueError(f"run_dir ({config.resolved_run_dir}) holds this run, finished: choose another --run_dir or --new_run")
    began = time.perf_counter()
    experiment = Experiment(config, cluster)
    with experiment.claimed() as folder:
        return experiment.run(folder, began)


class Experiment:
    """One run. Making it checks and loads everything and writes nothing.

    Args:
        config: of the run.
        cluster: the processes that train together; each makes one.
        signals: that may ask for a stop while the processes wait for each other.

    Raises:
        ValueError: if the config does not fit the data, the devices or the other processes.
    """

    def __init__(self, config: Config, cluster: Cluster = ALONE, signals: StopSignals | None = None) -> None:
        self.config = config
        self.spec = spec_of(config)
        self.stages = plan(config)
        if config.deterministic:
            tf.config.experimental.enable_op_determinism()
        self.signals = signals or StopSignals()
        with contextlib.ExitStack() as stack:
            if config.strategy == "multi_worker":
                meet(cluster)
                stack.enter_context(self.signals.of_the_system())
            self.strategy = devices.make_strategy(config.strategy, config.num_logical_cpus, cluster)
        config.check_replicas(self.strategy.num_replicas_in_sync)
        self.workers = Workers(self.strategy, cluster)
        # At once: every variable that is made is sent to the others, who must be making it too.
        self.workers.check_same(
            {
                "flags": dataclasses.replace(config, data_dir="").to_flagfile() + f"{config.resolved_run_dir} {config.new_run}",
                "program or package versions": json.dumps([provenance.git_commit(), provenance.versions()], sort_keys=True),
            }
        )
        loaded = run_labels.loaded(config, self.spec)
        self.sizes = stages.sizes_of(config, self.spec, self.stages, loaded)
        # Before all photographs are decoded, which may take hours, and again once the network's size is known.
        resources.check_memory(resources.table_bytes(self.sizes))
        self._check_disk(resources.checkpoint_bytes(self.sizes, variables=0))
        # Before the photographs too: a network that does not fit them is told at once.
        backbone, self.weights_from = run_network.build(config, self.spec, self.strategy)
        if self.weights_from and self.workers.count > 1:
            self.workers.check_same({"file of weights": provenance.digest_of(backbone.get_weights())})
        loaded, self.left_out = health.checked(
            loaded, self.spec, skip_bad_images=config.skip_bad_images, skipped=run_labels.left_out_before(config)
        )
        self.data = pipeline.sharing_images(loaded)
        if not len(self.data.test_labels):
            raise ValueError(f"the copy of data set {config.dataset} is too small a part of it: no test images are left")
        self.is_fake = is_fake(self.spec.tfds_name, config.data_path)
        self.title = f"{config.name}, seed {config.seed}{run_labels.errors_on(config)}{f' ({FAKE})' if self.is_fake else ''}"
        self.table = PseudoLabelTable(
            run_labels.training_labels(self.data, config, self.spec.num_classes),
            self.spec.num_classes,
            label_logit=config.label_logit,
            probabilities=self.data.given_probabilities,
        )
        health.check_classes_are_labeled(self.table.labels, self.data.class_names)
        stages.check_batches(self.stages, len(self.table.labeled_rows), len(self.table.unlabeled_rows))
        self.state = RunState(
            self.stages[0].number,
            data_fingerprint=health.fingerprint(loaded),
            split_fingerprint=provenance.digest_of([self.table.labels, *run_labels.soft_labels(self.data)]),
        )
        self.workers.check_same({"data set": self.state.data_fingerprint, "split": self.state.split_fingerprint})
        self.model = self._model_of(backbone)
        self._check_disk(self.checkpoint_bytes)
        # The chief says, as a shared disk may show the others something else.
        is_begun = self.workers.of_the_chief(run_directory.has_checkpoint(config))
        if config.stage_1_from and not is_begun:
            self.state.borrowed = borrow_stage_1(self.model.backbone, config, self.strategy, self.state)
        if config.warm_start:
            self.weights_from = f"weights of {config.warm_start}, as it ended"
        if config.warm_start and not (is_begun and is_gone(config.warm_start)):
            names = self.data.class_names
            self.state.start_fingerprint = start_warm(self.model.backbone, config, self.strategy, names)
        self.workers.check_same({"network to start from": self.state.start_fingerprint})

    @contextlib.contextmanager
    def claimed(self) -> Iterator[Path]:
        """Gives the run's folder to the end of the block; where several processes train, the chief claims it for all.

        Raises:
            ValueError: if it is taken, or is not the same folder in all processes.
        """
        with contextlib.ExitStack() as stack:
            if self.workers.is_chief:
                stack.enter_context(run_directory.claimed(self.config))
            self.workers.wait_for_all()
            if not self.workers.is_chief:
                wait_to_see(self.config.resolved_run_dir / run_directory.CONFIG_FILE)
            self.workers.wait_for_all()
            yield self.config.resolved_run_dir

    def _check_disk(self, size_of_checkpoint: int) -> None:
        reused = run_directory.bytes_of_checkpoints(self.config)
        resources.check_disk(self.config.resolved_run_dir, size_of_checkpoint, reused=reused)

    @property
    def checkpoint_bytes(self) -> int:
        """About how large a checkpoint gets."""
        # Each weight that is trained has a momentum.
        variables = (*self.model.backbone.variables, *self.model.trainable_variables)
        return resources.checkpoint_bytes(self.sizes, variables=4 * sum(int(np.prod(v.shape)) for v in variables))

    def _model_of(self, backbone: keras.Model) -> R2D2Model:
        config = self.config
        with self.strategy.scope():
            return R2D2Model(
                backbone,
                self.table,
                class_loss=CLASS_LOSSES[config.class_loss],
                alpha=config.alpha,
                beta=config.beta,
                pseudo_label_lr=config.pseudo_label_lr,
                processes=self.workers.count,
            )

    def run(self, folder: Path, began: float) -> Summary:
        """Trains all stages, from the last checkpoint on if there is one, and writes the results into the run's folder.

        Args:
            folder: given by `claimed`.
            began: `time.perf_counter()` when the program started.

        Returns:
            What summary.json holds.

        Raises:
            RunStopped: if the loss is no longer finite or the predictions collapse.
            RunInterrupted: if a signal asked for it; a checkpoint is written.
            OSError: if a file cannot be written.
            ValueError: if the folder's checkpoints do not fit the data, or none is whole.
        """
        print(self.plan_text(folder))
        training = Training(
            self.config,
            data=self.data,
            model=self.model,
            workers=self.workers,
            folder=folder,
            signals=self.signals,
            state=self.state,
        )
        if self.workers.is_chief:
            # Only now: data or split that are not the run's own are refused before they overwrite what it says of them.
            run_labels.save_split(folder, self.data, self.table.labels)
            if self.spec.photographs:
                run_labels.save_left_out(folder, self.left_out)
        training.run(began)
        if self.workers.is_chief:
            self._save(folder, training)
        training.spend("end")
        summary = self._summary(folder, training.state)
        if self.workers.is_chief:
            with files.written_whole(folder / run_directory.SUMMARY_FILE) as path:
                path.write_text(json.dumps(summary, indent=2) + "\n")
            run_directory.remove_checkpoints(folder)
        self.workers.wait_for_all()
        return summary

    def plan_text(self, folder: Path) -> str:
        """What will be done, for people."""
        weights = self.weights_from
        return plan_text(
            self.stages,
            title=f"R2-D2: {self.title}, into {folder}",
            description=self.spec.description,
            given_labels=self.table.labels,
            num_test=len(self.data.test_images),
            image_shape=self.spec.image_shape,
            num_classes=self.spec.num_classes,
            soft_labels=self.table.has_soft_labels,
            network=f"{self.config.backbone}, {self._num_parameters():,} parameters{'; ' * bool(weights)}{weights}",
            table_bytes=self.table.nbytes,
            devices=devices.describe(self.strategy),
        )

    def _num_parameters(self) -> int:
        return sum(int(np.prod(weight.shape)) for weight in self.model.trainable_variables)

    def _save(self, folder: Path, training: Training) -> None:
        if any(stage.use_unlabeled for stage in self.stages):
            with files.written_whole(folder / run_directory.TABLE_FILE) as path:
                self.table.save(path, self.data.train_ids)
            with files.written_whole(folder / run_directory.HISTORY_FILE) as path:
                training.history.save(path)
        with files.written_whole(folder / run_directory.BACKBONE_FILE) as path:
            self.model.backbone.save(path)
        with files.written_whole(folder / run_directory.PICTURE_FILE) as path:
            plot_run(training.state.rows, self.title, path)

    def _summary(self, folder: Path, state: RunState) -> Summary:
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
            "name": self.config.name,
            "dataset": self.config.dataset,
            "fake_data": self.is_fake,
            "evaluate_on": self.config.evaluate_on or None,
            "class_names": list(self.data.class_names),
            "data_content": self.spec.content,
            "data_fingerprint": state.data_fingerprint,
            "split_fingerprint": state.split_fingerprint,
            "seed": self.config.seed,
            "config_digest": self.config.digest,
            "test_error_percent": errors,
            **({"test_top5_error_percent": top5} if top5 else {}),
            "stage_1_from": self.config.stage_1_from or None,
            "warm_start": self.config.warm_start or None,
            "pseudo_label_error_percent": {
                stage: row["pseudo_label_error"] for stage, row in last_rows.items() if "pseudo_label_error" in row
            },
            "seconds": {name: round(value, 2) for name, value in seconds.items()},
            "resumes": state.resumes,
            "rollbacks": state.rollbacks,
            "num_labels": len(self.table.labeled_rows),
            "num_unlabeled": len(self.table.unlabeled_rows),
            "num_test": len(self.data.test_images),
            "parameters": self._num_parameters(),
            "devices": devices.describe(self.strategy),
            "git_commit": provenance.git_commit(),
            "versions": provenance.versions(),
            "machine": provenance.machine(),
            "files": run_directory.files_in(folder),
        }
