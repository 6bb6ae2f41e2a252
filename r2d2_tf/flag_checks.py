"""Do the values of several flags go together? Each check raises ValueError: what came, what is allowed and how to mend it."""

from collections.abc import Mapping
from pathlib import Path

LONGEST_NAME = 200
"""Bytes of --name: with the hash, and the number of a run that is moved aside, it must be the name of a folder."""


def check_cosine(stage: str, epochs: int, length: int) -> None:
    """`stage` is how the two flags begin; a `length` of 0 is a constant rate."""
    if 0 < length < epochs:
        raise ValueError(
            f"{stage}_cosine_epochs ({length}) is shorter than {stage}_epochs ({epochs}), so that the rate would rise "
            f"again: raise --{stage}_cosine_epochs, or set it to 0 for a constant rate"
        )


def check_augmentation(*, translate: int, cutout: int, image_shape: tuple[int, int, int]) -> None:
    """Both in pixels."""
    shorter = min(image_shape[:2])
    if cutout % 2:
        raise ValueError(f"cutout ({cutout}) must be even: try --cutout={cutout + 1}")
    if cutout > shorter:
        raise ValueError(f"cutout ({cutout}) must be at most the image's {shorter} pixels: lower --cutout")
    if translate >= shorter:
        raise ValueError(f"translate ({translate}) must be below the image's {shorter} pixels: lower --translate")


def check_name(name: str) -> None:
    """Of a run."""
    if "/" in name or "#" in name:
        raise ValueError(f"name ({name!r}) must hold neither / nor #: change --name, or use --run_dir for a place")
    if len(name.encode()) > LONGEST_NAME:
        raise ValueError(f"name ({name!r}) must have at most {LONGEST_NAME} bytes: give a shorter --name")


def check_homes(paths: Mapping[str, str]) -> None:
    """Of flags that name files or folders."""
    for name, path in paths.items():
        try:
            Path(path).expanduser()
        except RuntimeError as error:
            raise ValueError(f"{name} ({path!r}) begins with a user who has no home: change --{name}") from error
