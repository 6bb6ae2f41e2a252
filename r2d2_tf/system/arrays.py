"""Arrays in .npz files: what a file says of them is held against its size, and against itself, before any of it is read."""

import math
import struct
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from r2d2_tf.system.messages import mistake

Layout = Mapping[str, str]
"""Name of an array -> the kinds its type may be of, as NumPy's letters, and a name for each of its sides: `f rows classes`.

Sides of one name are of one length.
"""
_LOCAL_HEADER = struct.Struct("<26xHH")
"""Of a member in a zip archive: behind these are its name and an extra field, of the two lengths, and then its bytes."""


class _Header(NamedTuple):
    """What stands before an array: its shape, its type, whether its columns come first, and the bytes that say so."""

    shape: tuple[int, ...]
    dtype: np.dtype
    columns_first: bool
    length: int


def read(path: Path, layout: Layout, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Arrays of an .npz that a run left: all that `layout` tells of, or those of some `names`; all are checked.

    Raises:
        ValueError: in one line, if the file is not there, is damaged, or says of an array what does not fit its size, the
            layout or another array.
    """
    try:
        with zipfile.ZipFile(_there(path)) as archive:
            _check(archive, layout)
            return {name: read_array(archive, name) for name in (layout if names is None else names)}
    # Whatever a zip archive and NumPy make of bytes that are not theirs.
    except Exception as error:
        raise _damaged(path, error) from error


def mapped(path: Path, layout: Layout) -> dict[str, np.memmap]:
    """All of them, mapped from where they lie: what is not looked at is not read. None of them may be empty.

    Raises:
        ValueError: as `read` does.
    """
    try:
        with zipfile.ZipFile(_there(path)) as archive:
            headers = _check(archive, layout)
            places = {name: archive.getinfo(f"{name}.npy").header_offset for name in layout}
        return {name: _mapped(path, places[name], headers[name]) for name in layout}
    except Exception as error:
        raise _damaged(path, error) from error


def write_array(archive: zipfile.ZipFile, name: str, values: np.ndarray) -> None:
    """Writes `values` into an archive as `NAME.npy`, as NumPy's own .npz has it."""
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array(file, values, allow_pickle=False)


def read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """What `write_array` wrote.

    Raises:
        KeyError: if there is none of this name.
        ValueError: if it is no array, or not as large as it says.
    """
    _header(archive, name)
    with archive.open(f"{name}.npy") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _check(archive: zipfile.ZipFile, layout: Layout) -> dict[str, _Header]:
    """The headers of the arrays of `layout`; raises ValueError where they do not fit it."""
    headers = {name: _header(archive, name) for name in layout}
    lengths: dict[str, tuple[int, str]] = {}
    for name, kinds_and_sides in layout.items():
        kinds, *sides = kinds_and_sides.split()
        header = headers[name]
        if header.dtype.kind not in kinds or len(header.shape) != len(sides):
            raise ValueError(f"{name} is {header.dtype} of shape {header.shape}, and must have the sides {', '.join(sides)}")
        for side, length in zip(sides, header.shape, strict=True):
            before, of = lengths.setdefault(side, (length, name))
            if length != before:
                raise ValueError(f"{name} has {length} {side}, and {of} has {before}")
    return headers


def _header(archive: zipfile.ZipFile, name: str) -> _Header:
    """What a member says of its array; raises ValueError if it has not as many bytes as that takes."""
    member = archive.getinfo(f"{name}.npy")
    # No run compresses, and of what is compressed a file can hold a thousand times its own size.
    if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
        raise ValueError(f"{name} is compressed")
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, columns_first, dtype = read_header(file)
        length = file.tell()
    if dtype.hasobject:
        raise ValueError(f"{name} holds objects, which could be code")
    # Of a type of no bytes there could be any number.
    if min(shape, default=0) < 0 or not dtype.itemsize or length + math.prod(shape) * dtype.itemsize != member.file_size:
        raise ValueError(f"{name} says that it is {dtype} of shape {shape}, and has {member.file_size - length:,} bytes")
    return _Header(shape, dtype, columns_first, length)


def _mapped(path: Path, place: int, header: _Header) -> np.memmap:
    if header.columns_first or not math.prod(header.shape):
        raise ValueError("an array of it is empty, or its columns come first")
    with path.open("rb") as file:
        file.seek(place)
        file.seek(sum(_LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))) + header.length, 1)
        return np.memmap(path, header.dtype, "r", file.tell(), header.shape)


def _there(path: Path) -> Path:
    # A pipe or a device might never end.
    if not path.is_file():
        raise FileNotFoundError(path)
    return path


def _damaged(path: Path, error: Exception) -> ValueError:
    if isinstance(error, FileNotFoundError):
        return mistake(f"there is no {path}: give a run that trained stage 2 or 3")
    return mistake(f"{path} cannot be read: it is damaged, or holds what no run wrote; make the run again ({error})")
