"""The end of a run: which stage's network is its result, and the files that stay in its folder."""

import shutil
from pathlib import Path

from r2d2_tf.config.config import Config
from r2d2_tf.runs import run_directory, run_labels
from r2d2_tf.runs.metrics_log import plot_run
from r2d2_tf.runs.other_runs import stage_1_network
from r2d2_tf.runs.outcome import stage_predictions
from r2d2_tf.runs.outcome.result import Result, chosen_before, decided
from r2d2_tf.runs.run_state import HELD_OUT, TEST
from r2d2_tf.system import files
from r2d2_tf.training.loop import Training


def result_of(training: Training) -> Result:
    """The result of a run whose stages are all done."""
    if (chosen := chosen_before(training.folder, training.stages[-1].number)) is not None:
        return chosen
    numbers = [1] * (training.state.borrowed is not None) + [stage.number for stage in training.stages]
    held_out, config = training.data.held_out, training.config
    predictions, labels = training.state.predictions(HELD_OUT), held_out.labels if held_out is not None else None
    return decided(config.result_stage, numbers, predictions, labels, run_labels.why_none_held_out(config))


def save(training: Training, result: Result, title: str) -> None:
    """Writes table, history, predictions and networks into the run's folder, and a picture with a title."""
    folder, data, state = training.folder, training.data, training.state
    if any(stage.images.use_unlabeled for stage in training.stages):
        with files.written_whole(folder / run_directory.TABLE_FILE) as path:
            training.table.save(path, data.train_ids)
        with files.written_whole(folder / run_directory.HISTORY_FILE) as path:
            training.history.save(path)
    stage_predictions.write(folder, TEST, state.predictions(TEST), data.test_labels)
    if (held_out := data.held_out) is not None:
        stage_predictions.write(folder, HELD_OUT, state.predictions(HELD_OUT), held_out.labels, held_out.data.train_ids)
    _save_networks(training, result.stage)
    with files.written_whole(folder / run_directory.PICTURE_FILE) as path:
        plot_run(state.rows, title, path)


def keep_borrowed(config: Config, folder: Path) -> None:
    """Copies another run's network after stage 1 into the run's folder: it may be the result, and that run be gone by then."""
    source = stage_1_network(folder, config)
    if source.parent != folder:
        with files.written_whole(folder / run_directory.STAGE_1_FILE) as path:
            shutil.copyfile(source, path)


def _save_networks(training: Training, stage: int) -> None:
    """Writes the network of a stage as the run's result; the last stage's, if it is another, has a file of its own."""
    last = training.stages[-1].number
    if stage == last:
        training.save_network(run_directory.BACKBONE_FILE)
        return
    if last not in run_directory.NETWORK_FILES:
        training.save_network(run_directory.STAGE_3_FILE)
    with files.written_whole(training.folder / run_directory.BACKBONE_FILE) as path:
        shutil.copyfile(training.folder / run_directory.NETWORK_FILES[stage], path)
