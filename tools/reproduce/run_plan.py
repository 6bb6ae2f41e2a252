"""The plan of a table: which runs are left, and what they cost."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from r2d2_tf.config.config import Config
from r2d2_tf.data.datasets import DATASETS
from r2d2_tf.data.readers.tfds import FAKE, check_tfds, find_tfds, is_fake, num_examples
from r2d2_tf.data.splits import check_num_labels, parse_split
from r2d2_tf.recipes.image_cost import CPU_CORE, GPU, Cost
from r2d2_tf.system.commands import brought
from r2d2_tf.system.messages import markdown
from tools.reproduce import cost, fake_data
from tools.reproduce.results import Results, Run
from tools.reproduce.trainer import Trainer


@dataclass(frozen=True)
class Line:
    """A line of the plan: what is trained, whether it is done, stopped or not run, and what it costs or did cost."""

    label: str
    seed: int
    state: str
    cost: Cost


def plan(runs: Sequence[Run], output: Results, trainer: Trainer) -> str:
    config = runs[0].config
    num_train, whose = _images(runs[0], is_trial=output.experiment.fake_data is not None)
    size = cost.multiply_adds(config)
    lines = list(_lines(runs, output, trainer, num_train))

    def times(of: Cost) -> list[str]:
        return [time_text(of.seconds(size, speed)) for speed in (GPU, CPU_CORE)]

    rows = [[x.label, str(x.seed), x.state, two_digits(x.cost.trained), *times(x.cost)] for x in lines]
    left = [x.cost for x in lines if x.state == "not run"]
    gpu, core = times(Cost(sum(x.trained for x in left), sum(x.predicted for x in left)))
    text = [
        f"{num_train:,} training images, {whose}.",
        f"{config.backbone}: {two_digits(size / 1e6)} million multiply-adds an image.",
        f"Estimated times of training and prediction alone, if a GPU sustains {two_digits(GPU / 1e12)} TFLOP/s",
        f"(with a small network it does not), or a CPU core {two_digits(CPU_CORE / 1e9)} GFLOP/s, in float32:",
        "",
        *markdown([["row", "seed", "state", "images trained on", "on a GPU", "on a CPU core"], *rows]),
        "",
        f"Still to run: {gpu} on such a GPU, or {core} on such a core. Nothing was run.",
    ]
    return "\n".join(text)


def _images(run: Run, *, is_trial: bool) -> tuple[int, str]:
    config = run.config
    spec = DATASETS[config.dataset]
    if spec.tfds_name is None:
        return spec.num_train, f"all of {config.dataset}"
    if is_trial:
        return spec.num_classes + fake_data.NUM_UNLABELED, FAKE
    if has_copy(config):
        return num_train(config), f"those of the copy of {spec.tfds_name} in {config.data_dir}"
    return spec.num_train, f"those of the published {config.dataset} (there is no copy in --data_dir)"


def _lines(runs: Sequence[Run], output: Results, trainer: Trainer, num_train: int) -> Iterator[Line]:
    """A line a run, and one more before the first of those that share a stage 1, or a first round, if none of them is that."""
    states = _states(runs, output, trainer)
    shown: set[str] = set()
    for run in runs:
        stage_1 = run.stage_1_alone()
        first = cost.cost_of(stage_1.config, num_train)
        if run.has_later_stages and stage_1.config.digest not in shown:
            shown.add(stage_1.config.digest)
            sharing = [r for r in runs if r.stage_1_alone().config.digest == stage_1.config.digest]
            itself = [states[r.key] for r in sharing if not r.has_later_stages]
            later = [states[r.key] for r in sharing if r.has_later_stages]
            is_left = "not run" in later and not trainer.is_trained(stage_1)
            # A row that is this stage 1 has its cost, unless the row's line is there and the network is not.
            if not itself or (is_left and itself != ["not run"]):
                label = "stage 1" if len(later) == 1 else f"stage 1, shared by {len(later)} rows"
                yield Line(label, run.config.seed, "not run" if is_left else "done", first)
        rest = cost.cost_of(run.config, num_train).without(first) if run.has_later_stages else first
        if (first_round := trainer.shared_first_round(run)) is not None and first_round.config.digest != run.config.digest:
            round_cost = cost.cost_of(first_round.config, num_train).without(first)
            rest = rest.without(round_cost)
            if first_round.config.digest not in shown:
                shown.add(first_round.config.digest)
                yield _first_round_line(first_round, runs, states, trainer, round_cost)
        yield Line(*run.key, states[run.key], rest)


def _first_round_line(
    first_round: Run, runs: Sequence[Run], states: dict[tuple[str, int], str], trainer: Trainer, of: Cost
) -> Line:
    firsts = {run.key: trainer.shared_first_round(run) for run in runs}
    sharing = [key for key, other in firsts.items() if other and other.config.digest == first_round.config.digest]
    is_left = "not run" in [states[key] for key in sharing] and not trainer.is_trained(first_round)
    return Line(f"first round, shared by {len(sharing)} rows", first_round.config.seed, "not run" if is_left else "done", of)


def _states(runs: Sequence[Run], output: Results, trainer: Trainer) -> dict[tuple[str, int], str]:
    """(row, seed) -> `done`, `stopped` or `not run`."""
    outcomes = {key: record["outcome"].replace("finished", "done") for key, record in output.records().items()}
    trained = {run.key: trainer.is_trained(run if run.has_later_stages else run.stage_1_alone()) for run in runs}
    return {key: outcomes.get(key, "done" if is_trained else "not run") for key, is_trained in trained.items()}


def two_digits(value: float) -> str:
    """A number of at least 0, to two digits: an estimate deserves no more."""
    rounded = float(f"{value:.2g}")
    return f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:g}"


def time_text(seconds: float) -> str:
    """Seconds in the unit that suits them, to two digits."""
    if 0 < seconds < 1:
        return "< 1 s"
    for unit, length, limit in (("s", 1, 60), ("min", 60, 60), ("h", 3600, 48)):
        if seconds < limit * length:
            return f"{two_digits(seconds / length)} {unit}"
    return f"{two_digits(seconds / 86400)} days"


def has_copy(config: Config) -> bool:
    """Whether there is a prepared copy of the config's set, of TFDS, where it would be read from."""
    name = DATASETS[config.dataset].tfds_name
    return name is not None and config.data_path is not None and find_tfds(name, config.data_path) is not None


def num_train(config: Config) -> int:
    """Training images: of the copy, which may be a part of the set, or else of the published set.

    Raises:
        ValueError: if the copy is not whole.
    """
    spec = DATASETS[config.dataset]
    if spec.tfds_name is None or not has_copy(config):
        return spec.num_train
    return min(spec.num_train, num_examples(spec.tfds_name, "train", config.data_path))


def check(runs: Sequence[Run], *, is_needed: bool) -> None:
    """Finds rows that could not be run on the copy of their data set in --data_dir, before any is.

    `is_needed` tells whether it is a mistake that there is no copy, and none is to be downloaded.

    Raises:
        ValueError: if there is no copy, or it is fake or not whole, or too small for a row, or lacks images that a row's
            split lists.
    """
    config = runs[0].config
    spec = DATASETS[config.dataset]
    if spec.tfds_name is None:
        return
    if not has_copy(config):
        if is_needed and not config.download:
            check_tfds(spec.tfds_name, config.data_path)
        return
    if is_fake(spec.tfds_name, config.data_path):
        raise ValueError(f"data_dir ({config.data_dir}) holds fake data: use --trial, or give real data")
    ids = spec.read_ids(config.data_path) if spec.read_ids is not None else None
    count = num_train(config) if ids is None else len(ids)
    for run in runs:
        try:
            _check_run(run.config, count, ids)
        except ValueError as error:
            raise ValueError(
                f"row {run.row.label!r} cannot be run on the {count:,} training images of the copy of {spec.tfds_name} in "
                f"{config.data_dir}, so nothing was run: {error}"
            ) from error


def _check_run(config: Config, num_images: int, ids: list[str] | None) -> None:
    num_classes = DATASETS[config.dataset].num_classes
    check_num_labels(config.num_labels or num_images, num_classes, num_images)
    unlabeled = config.batch_size - config.labeled_per_batch
    if config.rounds and num_images - (config.num_labels or num_images) < unlabeled:
        raise ValueError(
            f"batch_size ({config.batch_size}) takes {unlabeled} unlabeled images a batch: lower --batch_size or --num_labels"
        )
    if config.split_file and ids is not None:
        parse_split(brought(Path(config.split_file).expanduser()), ids)
