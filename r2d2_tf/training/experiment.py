"""A run from a Config to a folder of results."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from r2d2_tf.config.config import Config
from r2d2_tf.data import health
from r2d2_tf.data.image_data import DatasetSpec, ImageData
from r2d2_tf.data.readers.tfds import FAKE, is_fake
from r2d2_tf.distributed import devices
from r2d2_tf.distributed.cluster import ALONE, Cluster, meet, wait_to_see
from r2d2_tf.distributed.workers import Workers
from r2d2_tf.method.pseudo_labels import PseudoLabelTable
from r2d2_tf.runs import kept_rounds, run_directory, run_labels, run_network
from r2d2_tf.runs.checkpoints import Checkpoint
from r2d2_tf.runs.dataset import spec_of
from r2d2_tf.runs.other_runs import borrow_stage_1, is_gone, start_warm
from r2d2_tf.runs.outcome import verdict
from r2d2_tf.runs.outcome.summary import summary_of
from r2d2_tf.runs.run_state import HELD_OUT, TEST, RunState
from r2d2_tf.system import files, provenance, resources, terminal
from r2d2_tf.system.c_messages import without_warnings_about_images
from r2d2_tf.system.interrupts import RunInterrupted, StopSignals
from r2d2_tf.system.messages import warn
from r2d2_tf.training import ending, pipeline, stages
from r2d2_tf.training.learners import Learners
from r2d2_tf.training.loop import Training
from r2d2_tf.training.plan_text import plan_text
from r2d2_tf.training.stages import plan
from r2d2_tf.training.timing.work import Counts

Summary = dict[str, Any]


class Experiment:
    """One run. Making it checks and loads everything and writes nothing; what is soon told of is done before what takes long.

    Each process of a cluster makes one; `signals` may ask for a stop while they wait for each other.

    Raises:
        ValueError: if the config does not fit the data, the devices or the other processes.
    """

    def __init__(
        self, config: Config, spec: DatasetSpec | None = None, cluster: Cluster = ALONE, signals: StopSignals | None = None
    ) -> None:
        self.config, self.spec, self.signals = config, spec or spec_of(config), signals or StopSignals()
        self.stages = plan(config, self.spec)
        self.workers = self._joined_workers(cluster)
        unchecked = run_labels.loaded(config, self.spec)
        self.sizes = self._sizes_with_room(unchecked)
        backbone, self.weights_from = self._agreed_network()
        readable, self.left_out = self._readable_images(unchecked)
        given = run_labels.training_labels(readable, config, self.spec.num_classes)
        data, labels = run_labels.with_held_out(readable, given, config)
        self.data = pipeline.sharing_images(data)
        self.table = self._table_of(self.data, labels)
        self.state = self._agreed_state(readable, self.table)
        self.learners = Learners(config, backbone, self.table, self.data, self.workers, self._check_signals)
        self.model = self.learners.model
        self._check_disk(self.checkpoint_bytes)
        self._take_over_networks(backbone, self.state)
        self.state.body_fingerprint = self.learners.begin()
        self.start = self._end_of_a_round()

    def _joined_workers(self, cluster: Cluster) -> Workers:
        """The processes, met and found to be of one mind: each variable that one makes, all must be making."""
        config = self.config
        if config.deterministic:
            tf.config.experimental.enable_op_determinism()
        with contextlib.ExitStack() as stack:
            if config.strategy == "multi_worker":
                meet(cluster)
                stack.enter_context(self.signals.of_the_system())
            strategy = devices.make_strategy(config.strategy, config.num_logical_cpus, cluster)
        config.check_replicas(strategy.num_replicas_in_sync)
        workers = Workers(strategy, cluster)
        workers.check_same(
            {
                "flags": dataclasses.replace(config, data_dir="").to_flagfile() + f"{config.resolved_run_dir} {config.new_run}",
                "program or package versions": json.dumps([provenance.git_commit(), provenance.versions()], sort_keys=True),
            }
        )
        return workers

    def _sizes_with_room(self, data: ImageData) -> resources.Sizes:
        """What memory and disk will be asked for, once there is found to be room for it, the network aside."""
        sizes = stages.sizes_of(self.config, self.spec, self.stages, data)
        resources.check_memory(resources.table_bytes(sizes))
        self._check_disk(resources.checkpoint_bytes(sizes, variables=0))
        return sizes

    def _agreed_network(self) -> tuple[keras.Model, str]:
        """The network, with the same weights in all processes; and where they come from."""
        backbone, weights_from = run_network.build(self.config, self.spec, self.workers.strategy)
        if weights_from and self.workers.count > 1:
            self.workers.check_same({"file of weights": provenance.digest_of(backbone.get_weights())})
        return backbone, weights_from

    def _readable_images(self, data: ImageData) -> tuple[ImageData, list[str]]:
        """The images that can be decoded, which may take hours to find out, and the names of the others."""
        skipped, skip = run_labels.left_out_before(self.config), self.config.skip_bad_images
        copy = self.config.image_copy
        readable, left_out = health.checked(data, self.spec, skip_bad_images=skip, skipped=skipped, copy=copy)
        if not len(readable.test_labels):
            raise ValueError(f"the copy of data set {self.config.dataset} is too small a part of it: no test images are left")
        return readable, left_out

    def _table_of(self, data: ImageData, labels: np.ndarray) -> PseudoLabelTable:
        """The pseudo-labels, with at least one label of each class and enough rows for a batch of each stage."""
        table = PseudoLabelTable(
            labels,
            self.spec.num_classes,
            label_logit=self.config.label_logit,
            probabilities=data.given_probabilities,
        )
        health.check_classes_are_labeled(table.labels, data.class_names)
        stages.check_batches(self.stages, len(table.labeled_rows), len(table.unlabeled_rows))
        return table

    def _agreed_state(self, data: ImageData, table: PseudoLabelTable) -> RunState:
        """A run that is begun, on the same images and labels in all processes."""
        state = RunState(
            self.stages[0].number,
            data_fingerprint=health.fingerprint(data),
            split_fingerprint=provenance.digest_of([table.labels, *run_labels.soft_labels(data), *self.labels_held_out]),
        )
        self.workers.check_same({"data set": state.data_fingerprint, "split": state.split_fingerprint})
        return state

    def _check_signals(self) -> None:
        if signal := self.signals.requested:
            raise RunInterrupted(signal)

    def _take_over_networks(self, network: keras.Model, state: RunState) -> None:
        """Puts the weights of other runs into the network, where the config asks for some, and notes in the state which."""
        config, strategy = self.config, self.workers.strategy
        # The chief says, as a shared disk may show the others something else.
        is_begun = self.workers.of_the_chief(run_directory.has_checkpoint(config))
        if config.stage_1_from and not is_begun:
            labels = dict(zip((TEST, HELD_OUT), (self.data.test_labels, *self.labels_held_out), strict=False))
            borrow_stage_1(network, config, strategy, state, labels)
        if config.warm_start and not (is_begun and is_gone(config.warm_start)):
            state.start_fingerprint = start_warm(network, config, strategy, self.data.class_names)
        self.workers.check_same({"network to start from": state.start_fingerprint})

    def _end_of_a_round(self) -> Checkpoint | None:
        """What the run of `--stage_2_from` kept, whose state then is this one's; None: there is nothing to begin from."""
        if not self.config.stage_2_from or self.workers.of_the_chief(run_directory.has_checkpoint(self.config)):
            return None
        start = kept_rounds.taken_over(self.config, self.state, self.workers)
        self.state = start.state
        return start

    @property
    def labels_held_out(self) -> list[np.ndarray]:
        """The labels that are held out, `[images]`, if any are."""
        return [self.data.held_out.labels] if self.data.held_out is not None else []

    @property
    def counts(self) -> Counts:
        """How many images there are, for who reckons how long it takes."""
        return Counts(len(self.table.labeled_rows), len(self.table.unlabeled_rows), len(self.data.test_labels))

    @property
    def title(self) -> str:
        """The run in a few words, and a warning if its errors are none on test images."""
        fake = f" ({FAKE})" if is_fake(self.spec.tfds_name, self.config.data_path) else ""
        return f"{self.config.name}, seed {self.config.seed}{run_labels.errors_on(self.config)}{fake}"

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
        # Each weight that is trained has a momentum, and perhaps an average.
        network, trained = self.learners.variables
        variables = (*network, *(1 + bool(self.config.ema)) * trained)
        return resources.checkpoint_bytes(self.sizes, variables=4 * sum(int(np.prod(v.shape)) for v in variables))

    def run(self, folder: Path, began: float) -> Summary:
        """Trains all stages, from the last checkpoint on if there is one, and writes the results into the folder of `claimed`.

        `began` is `time.perf_counter()` when the program started. Returns what summary.json holds.

        Raises:
            RunStopped: if the loss is no longer finite or the predictions collapse.
            RunInterrupted: if a signal asked for it; a checkpoint is written.
            OSError: if a file cannot be written.
            ValueError: if the folder's checkpoints do not fit the data, or none is whole.
        """
        terminal.say(self.plan_text(folder))
        # Parts are there to be added up.
        if self.labels_held_out and "/" not in self.config.held_out and (told := verdict.too_few(len(self.labels_held_out[0]))):
            warn(told)
        training = Training(
            self.config,
            stages=self.stages,
            data=self.data,
            learners=self.learners,
            workers=self.workers,
            folder=folder,
            signals=self.signals,
            state=self.state,
            start=self.start,
        )
        if self.workers.is_chief:
            if self.state.borrowed is not None and (self.labels_held_out or self.config.result_stage == 1):
                ending.keep_borrowed(self.config, folder)
            # Only now: data or split that are not the run's own are refused before they overwrite what it says of them.
            run_labels.save_split(folder, self.data, self.table.labels)
            if self.spec.photographs:
                files.write_text(folder / run_directory.LEFT_OUT_FILE, run_labels.left_out_text(self.left_out))
        is_noisy = any(getattr(images, "is_noisy", False) for images in (self.data.train_images, self.data.test_images))
        with without_warnings_about_images() if is_noisy else contextlib.nullcontext():
            training.run(began)
        result = ending.result_of(training)
        if self.workers.is_chief:
            ending.save(training, result, self.title)
        training.spend("end")
        summary = summary_of(
            self.config,
            self.spec,
            self.data,
            self.table,
            training.state,
            result,
            parameters=self.learners.parameters,
            devices=devices.describe(self.workers.strategy),
        )
        if self.workers.is_chief:
            files.write_text(folder / run_directory.SUMMARY_FILE, json.dumps(summary, indent=2) + "\n")
            run_directory.remove_checkpoints(folder)
        self.workers.wait_for_all()
        return summary

    def plan_text(self, folder: Path) -> str:
        """What will be done, for people."""
        weights = self.weights_from
        if self.config.warm_start:
            weights = f"weights of {self.config.warm_start}, as it ended"
        return plan_text(
            self.stages,
            self.spec,
            self.table,
            title=f"R2-D2: {self.title}, into {folder}",
            num_test=len(self.data.test_images),
            num_held_out=sum(map(len, self.labels_held_out)),
            network=f"{self.config.backbone}, {self.learners.parameters:,} parameters{'; ' * bool(weights)}{weights}",
            features=self.learners.text,
            devices=devices.describe(self.workers.strategy),
            beyond=stages.beyond_the_paper(self.config),
        )
