"""The weights that Keras has for its applications, from its cache or from the network."""

import contextlib
import hashlib
import shlex
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

SECONDS_TO_ANSWER = 20.0
"""How long a server may be silent while weights are downloaded."""


class NoWeights(ValueError):
    """The file of weights is not there, or not the right one; the message says how to get it."""


@contextlib.contextmanager
def files_of_keras(*, download: bool) -> Iterator[None]:
    """Has networks of keras.applications, made in the block, take their weights from Keras' cache alone, unless `download`.

    They raise NoWeights, in one line, if the file is not there, is not the one that Keras knows, or cannot be downloaded.
    """
    # Private, as Keras has no way to ask which file it wants: Keras is pinned and tests watch it.
    from keras.src.backend import config
    from keras.src.utils import file_utils

    fetch = file_utils.get_file

    def get_file(fname: str, origin: str, *, cache_subdir: str, file_hash: str | None = None) -> str:
        path = Path(config.keras_home(), cache_subdir, fname)
        if not download:
            _check_cached(path, origin, file_hash)
            return str(path)
        try:
            return fetch(fname, origin, cache_subdir=cache_subdir, file_hash=file_hash)
        # Keras raises bare Exceptions.
        except Exception as error:
            raise NoWeights(f"{error}: {_how_to_fetch(path, origin)}, elsewhere if need be") from error

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SECONDS_TO_ANSWER)
    try:
        with mock.patch.object(file_utils, "get_file", get_file), warnings.catch_warnings():
            # Weights for 224 pixels serve images of any size.
            warnings.filterwarnings("ignore", message="`input_shape` is undefined or non-square")
            yield
    finally:
        socket.setdefaulttimeout(before)


def _check_cached(path: Path, origin: str, file_hash: str | None) -> None:
    if not path.is_file():
        raise NoWeights(f"the file of weights {path} is missing: add --download, or {_how_to_fetch(path, origin)}")
    if file_hash is None:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256" if len(file_hash) == 64 else "md5").hexdigest()
    if found != file_hash:
        raise NoWeights(
            f"the file of weights {path} is damaged, or another one (its digest is {found}, Keras wants {file_hash}): remove "
            f"it, and add --download, or {_how_to_fetch(path, origin)}"
        )


def _how_to_fetch(path: Path, origin: str) -> str:
    return f"fetch it with: curl --create-dirs -o {shlex.quote(str(path))} {origin}"
