"""`python -m tools.reproduce.baselines --flagfile=configs/mnist5k.cfg --seeds=0,1,2`: other methods in R2-D2's place.

Trains stage 1 of a config, then, from its network, on its split and on batches of its stage 2, each of --methods: pseudo-labels
(lee: Lee 2013) and temporal ensembling (ensembling: Laine and Aila 2017), for as many epochs as the config has after
stage 1, at stage 2's first rate, which falls to 0 by a cosine. Prints the test errors, in percent, as a table a method.
--epochs trains shorter. Every other flag is one of r2d2_tf.train. Stage 1 is kept below --runs, for the next time.
"""

import dataclasses
import sys
from collections.abc import Sequence
from itertools import starmap
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from absl import flags

from r2d2_tf.config.command_line import from_command_line, run_program
from r2d2_tf.config.config import Config
from r2d2_tf.config.flag_help import flags_text
from r2d2_tf.config.path_flags import define_path
from r2d2_tf.method.schedules import cosine_learning_rates
from r2d2_tf.runs.outcome.summary import result_error
from r2d2_tf.system import provenance
from r2d2_tf.system.startup import import_tensorflow_quietly
from r2d2_tf.training.run import run
from tools.shared.arguments import parse_own, parse_seeds
from tools.shared.seed_table import Column, seed_table

if TYPE_CHECKING:
    from r2d2_tf.method.model import R2D2Model
    from r2d2_tf.training.experiment import Experiment

NAMES = {"lee": "pseudo-labels (Lee 2013)", "ensembling": "temporal ensembling (Laine and Aila 2017)"}
_LEE_MOST, _LEE_RAMP = 3.0, (0.1, 0.6)
"""The paper's weight, and the shares of the steps between which it rises: there epochs 100 to 600; adopted."""
_ENSEMBLING_MOST, _ENSEMBLING_RAMP = 30.0, 80 / 300
"""The paper's weight, which the share of labeled images multiplies, and the share of the epochs in which it rises."""


class Outcome(NamedTuple):
    """Test errors of a method with a seed, in percent: of the stage 1 that it starts from, and at its end."""

    method: str
    seed: int
    stage_1: float
    final: float


def main(arguments: Sequence[str]) -> int:
    own = flags.FlagValues()
    flags.DEFINE_list("methods", list(NAMES), f"of {', '.join(NAMES)}", flag_values=own)
    flags.DEFINE_list("seeds", ["0", "1", "2"], "seeds to run", flag_values=own)
    flags.DEFINE_integer("epochs", 0, "after stage 1; 0 = as many as the config has", flag_values=own, lower_bound=0)
    define_path("runs", "runs/baselines", "where stage 1 goes", flag_values=own)
    return run_program(arguments, f"{__doc__}\n\n{flags_text(own)}", lambda: _main(arguments, own))


def _main(arguments: Sequence[str], own: flags.FlagValues) -> int:
    others = parse_own(own, arguments)
    methods = own["methods"].value
    if unknown := set(methods) - NAMES.keys():
        raise ValueError(f"methods ({', '.join(sorted(unknown))}) must be of {', '.join(NAMES)}: change --methods")
    outcomes = []
    for seed in sorted(parse_seeds(own["seeds"].value)):
        config = from_command_line([*others, f"--seed={seed}"])
        if not config.rounds:
            raise ValueError("the methods take batches and rate of stage 2: give the experiment --rounds")
        for method in methods:
            print(f"\n{NAMES[method]}, seed {seed}", flush=True)
            outcomes.append(trained(method, config, Path(own["runs"].value), own["epochs"].value))
    print(f"\n{as_tables(outcomes)}\n\nBy {provenance.told_commit(provenance.git_commit())}; {provenance.machine()}.")
    return 0


def trained(method: str, config: Config, folder: Path, epochs: int = 0) -> Outcome:
    """Trains a method after a config's stage 1, which is trained now if need be; `epochs`: 0 for the config's.

    Raises:
        ValueError: if the config does not fit the data.
    """
    alone = config.stage_1_alone()
    stage_1 = folder / f"{alone.name or alone.default_name}-{alone.digest}"
    error = result_error(run(alone, run_dir=stage_1))
    import_tensorflow_quietly()
    from r2d2_tf.training.experiment import Experiment

    # Nothing is written there: a baseline leaves its error.
    experiment = Experiment(dataclasses.replace(config, stage_1_from=str(stage_1), run_dir=str(folder / "none")))
    epochs = epochs or sum(r.epochs for r in config.parsed_rounds) + config.finetune_epochs
    return Outcome(method, config.seed, error, _error_after(method, experiment, epochs))


def _error_after(method: str, experiment: "Experiment", epochs: int) -> float:
    """Test error, in percent, after so many epochs of a method that begins with an experiment's network."""
    import keras

    from r2d2_tf.method import mixed_precision
    from r2d2_tf.training.optimizer import sgd
    from r2d2_tf.training.pipeline import RunBatches

    config, data, strategy = experiment.config, experiment.data, experiment.workers.strategy
    stage = next(stage for stage in experiment.stages if stage.number == 2)
    rates = cosine_learning_rates(config.parsed_rounds[0].learning_rate, epochs, epochs)
    stage = dataclasses.replace(stage, learning_rates=rates)
    steps = stage.images.steps_per_epoch(len(experiment.table.labeled_rows), len(experiment.table.unlabeled_rows))
    with strategy.scope():
        model = _model(method, experiment, steps, epochs)
        optimizer = sgd(model.backbone, rates[0], momentum=config.momentum)
        model.weight_decay, model.use_unlabeled = stage.weight_decay, True
        model.compile(mixed_precision.built(optimizer, model.trainable_variables, config.mixed_precision))
    batches = RunBatches(config, data, experiment.table, experiment.workers)
    model.fit(
        batches.training(stage, epoch=0, step=0),
        epochs=epochs,
        steps_per_epoch=steps,
        callbacks=[keras.callbacks.LearningRateScheduler(lambda epoch: rates[epoch])],
        shuffle=False,
        verbose=0,
    )
    predicted, _ = model.evaluate_images(batches.test(), data.test_labels)
    return 100 * float((predicted != data.test_labels).mean())


def _model(method: str, experiment: "Experiment", steps: int, epochs: int) -> "R2D2Model":
    from tools.reproduce import table_updates

    network, table = experiment.model.backbone, experiment.table
    if method == "lee":
        first, last = (round(share * steps * epochs) for share in _LEE_RAMP)
        return table_updates.LeePseudoLabels(network, table, weight=table_updates.lee_ramp(_LEE_MOST, first, last))
    most = _ENSEMBLING_MOST * len(table.labeled_rows) / table.num_rows
    ramp = table_updates.gaussian_ramp(most, steps, max(1, round(_ENSEMBLING_RAMP * epochs)))
    return table_updates.TemporalEnsembling(network, table, weight=ramp)


def as_tables(outcomes: Sequence[Outcome]) -> str:
    """A table a method, as Markdown: each seed's errors, their mean and their spread."""
    texts = []
    for method in dict.fromkeys(outcome.method for outcome in outcomes):
        own = [outcome for outcome in outcomes if outcome.method == method]
        errors = {"test error after stage 1, %": [o.stage_1 for o in own], "at the end, %": [o.final for o in own]}
        texts += [NAMES[method], seed_table([o.seed for o in own], list(starmap(Column, errors.items())))]
    return "\n\n".join(texts)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
