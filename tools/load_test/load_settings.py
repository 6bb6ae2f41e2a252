"""The flags of the load test. Imports no TensorFlow."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from export.serving.folders import check_model_folder
from r2d2_tf.config import command_line
from r2d2_tf.config.command_line import described
from r2d2_tf.config.path_flags import define_path

_PLAIN = ("requests", "malformed", "seconds", "swaps", "kills", "attacks", "tolerance", "seed")
"""Settings that are as their flags."""
LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to send, and where; see the flags. Without `rest` and `grpc` addresses a server is started."""

    model: Path
    name: str
    concurrency: tuple[int, ...]
    images: Path | None
    rest: str
    grpc: str
    requests: int = described(20_000, "how many, in all", lower_bound=1)
    malformed: float = described(0.1, "part of them that is wrong on purpose", lower_bound=0.0, upper_bound=1.0)
    seconds: float = described(600.0, "most seconds; what is not sent by then is left out", lower_bound=1.0)
    swaps: int = described(0, "how often a higher version takes over meanwhile, of a copy of the model", lower_bound=0)
    kills: int = described(
        0, "how often the server is killed (kill -9) and started again meanwhile; clients then try again", lower_bound=0
    )
    attacks: bool = described(False, "also what an attacker does, and how long others wait meanwhile; takes a minute")
    tolerance: float = described(1e-6, "largest difference to the model run directly", lower_bound=0.0)
    seed: int = described(0, "of the random images and the order")


def define_flags() -> flags.FlagValues:
    values = flags.FlagValues()
    command_line.define_flags(values, Settings)
    define_path("model", "", "folder of a SavedModel's versions; the highest is tested", flag_values=values)
    flags.DEFINE_list("concurrency", "1,8,32", "requests at a time, one stage after the other", flag_values=values)
    define_path("images", "", "folder of image files for image_bytes; by default MODEL/../examples", flag_values=values)
    flags.DEFINE_list(
        "server",
        "",
        "a server that runs on this machine: its REST and gRPC addresses, as in localhost:8501,localhost:8500; "
        "its memory and its stop are not tested",
        flag_values=values,
    )
    flags.DEFINE_string("name", "", "name of the model on that server; by default that of its folder", flag_values=values)
    return values


def settings_of(values: flags.FlagValues) -> Settings:
    """The settings of parsed flags; raises ValueError if they are wrong."""
    if not values["model"].value:
        raise ValueError("say which model to test: --model=RUN/export/saved_model")
    model = Path(values["model"].value)
    check_model_folder(model)
    try:
        concurrency = tuple(int(item) for item in values["concurrency"].value)
    except ValueError:
        concurrency = ()
    if not concurrency or min(concurrency) < 1:
        raise ValueError(f"concurrency ({','.join(values['concurrency'].value)}) must be numbers above 0, as in 1,8,32")
    rest, grpc = _addresses(values["server"].value)
    if rest and (own := [name for name in ("swaps", "kills", "attacks") if values[name].value]):
        raise ValueError(f"server ({rest}) is not ours, and {own[0]} needs one that is: leave out --server or --{own[0]}")
    images = Path(values["images"].value) if values["images"].value else model.parent / "examples"
    if values["images"].value and not images.is_dir():
        raise ValueError(f"images ({images}) is no folder")
    return Settings(
        model=model,
        name=values["name"].value or model.resolve().name,
        concurrency=concurrency,
        images=images if images.is_dir() else None,
        rest=rest,
        grpc=grpc,
        **{name: values[name].value for name in _PLAIN},
    )


def _addresses(given: Sequence[str]) -> tuple[str, str]:
    if not given:
        return "", ""
    if len(given) != 2:
        raise ValueError(f"server ({','.join(given)}) must be two addresses, REST and gRPC: localhost:8501,localhost:8500")
    for address in given:
        host, _, port = address.rpartition(":")
        if host not in LOCAL_HOSTS or not port.isdigit():
            raise ValueError(f"server ({address}) must be on this machine, as in localhost:8501: others are not to be loaded")
    return given[0], given[1]
