"""Where each photograph of a TFRecord set is, and its label: found in one pass over all files, and kept for later runs."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from r2d2_tf.data.cache import FileCache
from r2d2_tf.data.readers.tfrecord import read_examples

_DELAY = 2
"""Seconds before a progress bar is shown."""
_SUBJECT = "index"
_ARRAYS = ("file_of_row", "offset", "length", "labels")
_Found = list[tuple[bytes, bool, int, int, int]]
"""Of each photograph of a file: sort key, whether that is its name, offset, length and label."""


@dataclass(frozen=True)
class PhotographIndex:
    """The photographs of some files, in the order of their names, or else of the SHA-256 of their encoded bytes.

    Attributes:
        file_of_row: number of the file, `[rows]` int64.
        offset: where the encoded image begins in it, `[rows]` int64.
        length: its bytes, `[rows]` int64.
        labels: `[rows]` int64.
        names: of all rows, or None if they have none.
    """

    file_of_row: np.ndarray
    offset: np.ndarray
    length: np.ndarray
    labels: np.ndarray
    names: list[str] | None


def photograph_index(paths: Sequence[Path], count: int) -> PhotographIndex:
    """Takes the index that an earlier run made of these files, or makes and keeps it.

    Args:
        paths: TFRecord files of examples with `image`, `label` and, maybe, `file_name`.
        count: of their photographs, as far as is known, to tell how much is left to do.

    Raises:
        ValueError: if a file is damaged.
    """
    cache = FileCache(tuple(paths))
    kept = cache.load(_SUBJECT, (*_ARRAYS, "names"))
    index = None if kept is None else _checked(kept, paths)
    if index is None:
        arrays = _made(paths, count)
        index = _checked(arrays, paths)
        if index is None:
            raise ValueError(
                f"the files in {paths[0].parent} have names of images that are no text; prepare the data set again"
            )
        cache.save(_SUBJECT, arrays)
    return index


def _checked(arrays: dict[str, np.ndarray], paths: Sequence[Path]) -> PhotographIndex | None:
    """The index that arrays hold; None if they cannot be one of these files."""
    columns = [arrays[name] for name in _ARRAYS]
    file_of_row, offset, length, labels = columns
    names, count = arrays["names"], len(file_of_row)
    if any(column.shape != (count,) or column.dtype != np.int64 for column in columns):
        return None
    if names.dtype.kind != "S" or names.shape not in ((count,), (0,)):
        return None
    sizes = np.array([path.stat().st_size for path in paths])
    if count and (min(file_of_row.min(), offset.min(), length.min()) < 0 or file_of_row.max() >= len(paths)):
        return None
    if (length > sizes[file_of_row] - offset).any():
        return None
    try:
        texts = [name.decode() for name in names.tolist()] if len(names) else None
    except UnicodeDecodeError:
        return None
    return PhotographIndex(file_of_row, offset, length, labels, texts)


def _made(paths: Sequence[Path], count: int) -> dict[str, np.ndarray]:
    # Threads: reading and hashing, most of the work, hold no lock of Python's. disable=None: no bar where the output is a file.
    with (
        tqdm(total=count, desc="finding each image", unit=" images", delay=_DELAY, leave=False, disable=None) as bar,
        ThreadPoolExecutor(2 * (os.cpu_count() or 1)) as pool,
    ):
        found = list(pool.map(lambda path: _photographs_in(path, bar), paths))
    if not any(found):
        raise ValueError(f"the files in {paths[0].parent} hold no images; prepare the data set again")
    keys, are_names, offsets, lengths, labels = zip(*(one for of_file in found for one in of_file), strict=True)
    if len(set(are_names)) > 1:
        raise ValueError(f"some images in {paths[0].parent} have a file name and some have none; prepare the data set again")
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__))
    file_of_row = np.repeat(np.arange(len(paths)), [len(of_file) for of_file in found])
    columns = (file_of_row, offsets, lengths, labels)
    arrays = {name: np.array(column, np.int64)[order] for name, column in zip(_ARRAYS, columns, strict=True)}
    return {**arrays, "names": np.array(keys, bytes)[order] if are_names[0] else np.array([], bytes)}


def _photographs_in(path: Path, bar: Any) -> _Found:
    found: _Found = []
    for offset, record, feature in read_examples(path):
        image, label = feature["image"].bytes_list.value, feature["label"].int64_list.value
        if not image or not label:
            raise ValueError(f"{path} is damaged: a record has no image or label; prepare the data set again")
        names = feature["file_name"].bytes_list.value if "file_name" in feature else ()
        key = names[0] if names else hashlib.sha256(image[0]).digest()
        found.append((key, bool(names), offset + _place_in(record, image[0]), len(image[0]), label[0]))
    bar.update(len(found))
    return found


def _place_in(record: bytes, encoded: bytes) -> int:
    # A search for all of it would first study it at length.
    place = record.index(encoded[:64])
    return place if record.startswith(encoded, place) else record.index(encoded)
