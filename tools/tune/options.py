"""The command line of a search. Needs no TensorFlow, so a mistake is told at once."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from absl import flags

from r2d2_tf.config.command_line import from_command_line, parse_flags
from r2d2_tf.config.config import Config
from r2d2_tf.config.path_flags import define_path
from r2d2_tf.data.datasets import DATASETS
from r2d2_tf.data.image_data import DatasetSpec
from r2d2_tf.runs import run_directory
from r2d2_tf.runs.preflight import check_data
from r2d2_tf.system import files
from r2d2_tf.system.commands import shown
from tools.tune.space import Space, parse_dimension, space_of

TUNERS = ("random", "bayesian", "hyperband", "grid")
_TRIALS = 12
"""Where the tuner does not end by itself."""
_MOST_TRIALS = 10_000
_RANGES = ("alpha", "beta")
"""Flags of a run that take a range here too."""
_VARIABLES = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")
_BASE_FILE, _SEARCH_FILE = "base.cfg", "search.json"
LOCK = ".lock"
"""How the names of the locks begin that processes hold while they search, one each."""
_NOT_OF_A_SEARCH = {
    "run_dir": "a search has many runs: say --output_dir",
    "new_run": "to start afresh say another --output_dir",
    "dry_run": "ask r2d2_tf.train what a run would take",
    "stage_1_from": "labels are held out of stage 1 too, so that it is trained anew",
    "stage_2_from": "labels are held out of its stages, too, so that they are trained anew",
    "warm_start": "its network was trained on labels that are held out",
    "evaluate_on": "say --validation_dataset, or let labeled images be held out",
}


@dataclass(frozen=True)
class Options:
    """What a command line asks for: the flags of `define_flags`, and what is made of them.

    Attributes:
        config: whose flags are searched.
        spec: of its data set.
        trials: how many at most; None: until the tuner is done.
        tuner_id: of this process, among several; "": it is alone.
    """

    config: Config
    spec: DatasetSpec
    space: Space
    tuner: str
    trials: int | None
    grid_points: int
    folds: int
    validation_fraction: float
    validation_dataset: str
    search_seed: int
    at_once: int
    folder: Path
    command: str
    tuner_id: str

    @property
    def is_chief(self) -> bool:
        """Whether this process hands out trials and makes none, as keras-tuner has it."""
        return "chief" in self.tuner_id

    def identity(self) -> dict[str, Any]:
        """What makes it this search and no other, beside the config."""
        names = ("tuner", "grid_points", "folds", "validation_fraction", "validation_dataset", "search_seed")
        return {name: getattr(self, name) for name in names} | {"search": [str(d) for d in self.space.dimensions]}


def define_flags() -> flags.FlagValues:
    """The flags of a search, without those of a run."""
    own = flags.FlagValues()
    for name in _RANGES:
        flags.DEFINE_string(name, "", f"range of {name}", flag_values=own)
    flags.DEFINE_multi_string("search", [], "FLAG=RANGE: another number to search; may be given several times", flag_values=own)
    flags.DEFINE_enum("tuner", "random", TUNERS, "how settings are proposed", flag_values=own)
    flags.DEFINE_integer(
        "trials", None, f"trials at most; by default {_TRIALS}, or as many as grid and hyperband have",
        lower_bound=1, upper_bound=_MOST_TRIALS, flag_values=own,
    )  # fmt: skip
    flags.DEFINE_integer("grid_points", 4, "grid: values a range", lower_bound=2, upper_bound=100, flag_values=own)
    flags.DEFINE_integer(
        "folds", 0, "parts of the labeled images, each of which judges once; 1: one part alone; 0: by their number",
        lower_bound=0, flag_values=own,
    )  # fmt: skip
    flags.DEFINE_float(
        "validation_fraction", 0.2, "share of the labeled images that judge, where one part of them does",
        lower_bound=0.01, upper_bound=0.5, flag_values=own,
    )  # fmt: skip
    flags.DEFINE_string("validation_dataset", "", "judge by the test images of this data set", flag_values=own)
    flags.DEFINE_integer("search_seed", 0, "decides what is tried", lower_bound=0, upper_bound=2**31 - 2, flag_values=own)
    flags.DEFINE_integer(
        "at_once", 0, "runs of a trial at the same time; 0: one a core; among several workers, with photographs or a GPU one",
        lower_bound=0, upper_bound=64, flag_values=own,
    )  # fmt: skip
    define_path("output_dir", "", "folder of the search; by default runs/tune/NAME-HASH", flag_values=own)
    return own


def read(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> Options:
    """Reads a command line, and claims nothing.

    Raises:
        ValueError: in one line, for what cannot be done as it stands.
    """
    own = define_flags()
    config = from_command_line(_parse_own(own, arguments))
    _check_config(config)
    space = space_of(config, [parse_dimension(*text) for text in _ranges_in(own)])
    tuner, trials, named = (own[name].value for name in ("tuner", "trials", "validation_dataset"))
    if named:
        _check_validation_dataset(config, named)
    spec = check_data(dataclasses.replace(config, evaluate_on=named))
    options = Options(
        config=config,
        spec=spec,
        space=space,
        tuner=tuner,
        trials=trials if trials or tuner in ("grid", "hyperband") else _TRIALS,
        validation_dataset=named,
        **{name: own[name].value for name in ("grid_points", "folds", "validation_fraction", "search_seed", "at_once")},
        folder=Path(own["output_dir"].value),
        command=shown("tools.tune", *arguments),
        tuner_id=_tuner_id(environment),
    )
    if not own["output_dir"].value:
        identity = json.dumps([config.digest, options.identity()], sort_keys=True)
        name = f"{config.name}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"
        options = dataclasses.replace(options, folder=Path("runs", "tune", name))
    check_folder(options)
    return options


def _parse_own(own: flags.FlagValues, arguments: Sequence[str]) -> list[str]:
    """Reads the flags of the search, and returns the others: a run's."""
    names = {f"--{name}" for name in own if name not in _RANGES}
    ranges = tuple(f"--{name}=" for name in _RANGES)
    mine = [a for a in arguments if a.partition("=")[0] in names or (a.startswith(ranges) and (":" in a or "," in a))]
    parse_flags(own, mine)
    return [argument for argument in arguments if argument not in mine]


def _ranges_in(own: flags.FlagValues) -> list[tuple[str, str]]:
    """Each flag that is searched, with its range as it was written."""
    texts = [(name, own[name].value) for name in _RANGES if own[name].value]
    for text in own["search"].value:
        name, equals, given = text.partition("=")
        if not equals:
            raise ValueError(f"search ({text}) names no range: write --search=FLAG=low:high")
        texts.append((name.removeprefix("--"), given))
    return texts


def _check_config(config: Config) -> None:
    defaults = Config()
    for name, why in _NOT_OF_A_SEARCH.items():
        if getattr(config, name) != getattr(defaults, name):
            raise ValueError(f"--{name} does not go with a search: {why}")
    if config.strategy == "multi_worker":
        raise ValueError("strategy (multi_worker) does not go with a search: start several workers of keras-tuner (--help)")
    if not config.rounds:
        raise ValueError("rounds is empty, so there is no stage 2 to search for: give --rounds")


def _check_validation_dataset(config: Config, named: str) -> None:
    if named not in DATASETS:
        raise ValueError(f"validation_dataset ({named}) must be one of {', '.join(DATASETS)}")
    own, other = DATASETS.get(config.dataset), DATASETS[named]
    choice = ", or name another set"
    if own is None:
        wrong, choice = f"goes with named data sets, not with {config.dataset}", ""
    elif named == config.dataset:
        wrong = "is the data set that is trained on, and nothing is chosen by its test images"
    elif (own.image_shape, own.num_classes) != (other.image_shape, other.num_classes) or own.photographs:
        wrong = f"must have the image size and the number of classes of {config.dataset}, and both no photographs"
    else:
        return
    raise ValueError(f"validation_dataset ({named}) {wrong}: leave it out, so that labeled images judge{choice}")


def _tuner_id(environment: Mapping[str, str]) -> str:
    """This process's name among several workers; "" if it is alone."""
    given = [name for name in _VARIABLES if environment.get(name)]
    if given in ([], _VARIABLES[:1]):
        return ""
    missing = [name for name in _VARIABLES if name not in given]
    if missing:
        raise ValueError(f"{', '.join(given)} is set, but {', '.join(missing)} is not: set all three, or none")
    return environment[_VARIABLES[0]]


def check_folder(options: Options) -> bool:
    """Whether the folder holds this search already; False if it is free.

    Raises:
        ValueError: if it holds another one, or something else, or cannot be written to.
    """
    folder = options.folder
    run_directory.check_writable(folder)
    base, search = folder / _BASE_FILE, folder / _SEARCH_FILE
    if not base.is_file() or not search.is_file():
        left = [path.name for path in folder.iterdir()] if folder.exists() else []
        if any(name != _BASE_FILE and not name.startswith((files.PARTIAL, LOCK)) for name in left):
            raise ValueError(f"output_dir ({folder}) exists and is not the folder of a search: choose another --output_dir")
        return False
    try:
        theirs = json.loads(search.read_text())
        differences = options.config.differences(from_command_line([f"--flagfile={base}"]))
    except ValueError as error:
        raise ValueError(f"output_dir ({folder}) holds a damaged search ({error}): choose another --output_dir") from error
    ours = options.identity()
    differences += [f"--{name}: {theirs.get(name)} -> {value}" for name, value in ours.items() if theirs.get(name) != value]
    if differences:
        raise ValueError(
            f"output_dir ({folder}) holds another search, with other flags ({'; '.join(differences)}): choose another "
            "--output_dir"
        )
    return True


def claim_folder(options: Options) -> None:
    """Makes the folder of a new search, and notes in it which one it is."""
    options.folder.mkdir(parents=True, exist_ok=True)
    if not check_folder(options):
        files.write_text(options.folder / _BASE_FILE, options.config.to_flagfile())
        files.write_text(options.folder / _SEARCH_FILE, json.dumps(options.identity(), indent=2) + "\n")
