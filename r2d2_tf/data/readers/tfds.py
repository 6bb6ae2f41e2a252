"""Reads prepared TFDS sets: small images as arrays, photographs as stretches of bytes. Downloads only when asked.

Whatever reads a set raises ValueError, in one line, if the set is not there or not whole.
"""

import hashlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np

from r2d2_tf.data.cache import FileCache
from r2d2_tf.data.readers.tfrecord import read_examples
from r2d2_tf.data.readers.tfrecord_index import PhotographIndex, photograph_index
from r2d2_tf.system.messages import one_line

if TYPE_CHECKING:
    from r2d2_tf.data.photographs import Photographs


_INFO, _FEATURES = "dataset_info.json", "features.json"
FAKE = "FAKE DATA"
"""How the description of a generated set begins (tools/reproduce/fake_data.py)."""


def is_fake(name: str | None, data_dir: Path | None) -> bool:
    """Whether the TFDS set `name` in `data_dir` is a generated one; False for None, a set that is not of TFDS."""
    if name is None:
        return False
    info = json.loads((check_tfds(name, data_dir) / _INFO).read_text())
    return str(info.get("description", "")).startswith(FAKE)


def tfds_images(name: str, split: str, data_dir: Path | None) -> tuple[np.ndarray, np.ndarray, list[str], tuple[str, ...]]:
    """Reads one split of a prepared TFDS set of equally sized images.

    Rows are in the order of their TFDS ids; where a set has none (MNIST), in the order of the SHA-256 of their pixels,
    and the ids are made from that order. Neither depends on the reading order or on how a copy is sharded.

    Returns:
        Images `[rows, height, width, channels]` uint8, labels `[rows]` int64, ids, and the names of the classes.
    """
    folder = check_tfds(name, data_dir)
    import tensorflow as tf
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=data_dir)
    try:
        batch = tfds.as_numpy(builder.as_dataset(split=split, batch_size=-1))
    except tf.errors.OpError as error:
        raise ValueError(
            f"data set {name}: a record of its {split} part in {folder} is damaged; remove the folder and prepare it again"
        ) from error
    images, labels = batch["image"], batch["label"].astype(np.int64)
    class_names = tuple(builder.info.features["label"].names)
    if "id" in batch:
        order = np.argsort(batch["id"])
        return images[order], labels[order], [identifier.decode() for identifier in batch["id"][order]], class_names
    digests = [hashlib.sha256(image.tobytes()).digest() for image in images]
    order = np.array(sorted(range(len(images)), key=digests.__getitem__))
    return images[order], labels[order], _numbered(name, split, len(order)), class_names


def tfds_photographs(
    name: str, split: str, data_dir: Path | None, *, size: int, resize: int
) -> tuple["Photographs", np.ndarray, list[str], tuple[str, ...]]:
    """Finds the images of one split of a prepared TFDS set of photographs.

    Rows are in the order of their file names; where a set has none (Imagenette), in the order of the SHA-256 of their
    encoded bytes, and the ids are made from that order.

    Returns:
        The images, labels `[rows]` int64, ids, and the names of the classes.
    """
    paths, index = _photograph_index(name, split, data_dir)
    import tensorflow_datasets as tfds

    from r2d2_tf.data.photographs import Photographs

    class_names = tuple(tfds.builder(name, data_dir=data_dir).info.features["label"].names)
    places = (index.file_of_row, index.offset, index.length)
    photographs = Photographs(paths, *places, size=size, resize=resize, cache=FileCache(paths))
    return photographs, index.labels, _photograph_ids(name, split, index), class_names


def tfds_photograph_ids(name: str, split: str, data_dir: Path | None) -> list[str]:
    """The ids of `tfds_photographs`, without TensorFlow."""
    return _photograph_ids(name, split, _photograph_index(name, split, data_dir)[1])


def _photograph_index(name: str, split: str, data_dir: Path | None) -> tuple[tuple[Path, ...], PhotographIndex]:
    paths = tuple(_paths(check_tfds(name, data_dir), name, split))
    if not paths:
        raise ValueError(f"data set {name} in {data_dir} has no {split} part: prepare it again")
    return paths, photograph_index(paths, num_examples(name, split, data_dir))


def _photograph_ids(name: str, split: str, index: PhotographIndex) -> list[str]:
    return _numbered(name, split, len(index.labels)) if index.names is None else index.names


def tfds_ids(name: str, split: str, data_dir: Path | None) -> list[str]:
    """The ids of `tfds_images` without the images, in a second and without TensorFlow."""
    ids, count = [], 0
    for feature in _features(name, split, data_dir):
        count += 1
        # An `id` that is no text (of a set that is none of ours) orders nothing.
        ids += [value.decode() for value in feature["id"].bytes_list.value] if "id" in feature else []
    return sorted(ids) or _numbered(name, split, count)


def tfds_labels(name: str, split: str, data_dir: Path | None) -> dict[str, int]:
    """Ids and labels of `tfds_images`, for a set that has ids: in the order of the rows, soon and without TensorFlow."""
    found = {}
    for feature in _features(name, split, data_dir):
        ids, labels = feature["id"].bytes_list.value, feature["label"].int64_list.value
        if not ids or not labels:
            raise ValueError(f"data set {name} in {data_dir} is damaged: a record has no id or label; prepare it again")
        found[ids[0].decode()] = labels[0]
    return dict(sorted(found.items()))


def _features(name: str, split: str, data_dir: Path | None) -> Iterator[Any]:
    """The features of each example, name -> tf.train.Feature, as `read_examples` gives them."""
    folder = check_tfds(name, data_dir)
    for path in _paths(folder, name, split):
        for _, _, features in read_examples(path):
            yield features


def _paths(folder: Path, name: str, split: str) -> list[Path]:
    return sorted(folder.glob(f"{_file_prefix(name)}-{split}.tfrecord-*"))


def download_tfds(name: str, data_dir: Path) -> None:
    """Downloads and prepares the TFDS set `name` into `data_dir`.

    Raises:
        ValueError: if there is no connection, the set must be fetched by hand (ImageNet), or whatever else goes wrong.
    """
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=data_dir)
    for host in sorted({urlsplit(url).hostname or "" for url in builder.url_infos or ()}):
        # TFDS itself would try again for minutes.
        try:
            socket.create_connection((host, 443), timeout=5).close()
        except OSError as error:
            raise ValueError(
                f"data set {name} cannot be downloaded: no connection to {host} ({error}); run `tfds build {name} "
                f"--data_dir={data_dir}` on a machine with a network, and copy the folder {data_dir / name}"
            ) from error
    print(f"downloading {name} into {data_dir}", flush=True)
    try:
        builder.download_and_prepare()
    except AssertionError as error:
        # What TFDS says of a set that must be fetched by hand.
        raise ValueError(f"data set {name} cannot be downloaded: {one_line(error)}") from error
    except Exception as error:
        # TFDS, requests, zipfile and TensorFlow each raise their own: a wrong checksum, a full disk, no permission, HTTP 404.
        raise ValueError(
            f"data set {name} cannot be downloaded into {data_dir}: {type(error).__name__}: {one_line(error)}; run the same "
            f"command again when that is mended, or copy the folder {name} from a machine that has it"
        ) from error


def _numbered(name: str, split: str, count: int) -> list[str]:
    return [f"{_file_prefix(name)}_{split}_{rank:05d}" for rank in range(count)]


def _file_prefix(name: str) -> str:
    return name.split("/")[0]


def find_tfds(name: str, data_dir: Path) -> Path | None:
    """The folder of the newest version of the prepared TFDS set `name` in `data_dir`; None if there is none."""
    infos = sorted((data_dir / name).glob(f"*/{_INFO}"))
    return infos[-1].parent if infos else None


def num_examples(name: str, split: str, data_dir: Path | None) -> int:
    """How many examples one split of a prepared TFDS set has. Needs no TensorFlow."""
    return next((count for own, _, count in _splits_in(check_tfds(name, data_dir)) if own == split), 0)


def check_tfds(name: str, data_dir: Path | None) -> Path:
    """The folder of the prepared TFDS set `name` in `data_dir`. Needs no TensorFlow.

    Raises:
        ValueError: if it is not there, or not whole.
    """
    how = f"`tfds build {name} --data_dir={data_dir or 'DIR'}`, or --download here, makes one (with a network)"
    if data_dir is None:
        raise ValueError(f"data set {name} needs --data_dir, a folder that holds a prepared TFDS copy: {how}")
    folder = find_tfds(name, data_dir)
    if folder is None:
        raise ValueError(f"data set {name} is not in --data_dir ({data_dir}), which has no {name}/VERSION/{_INFO}: {how}")
    try:
        splits = _splits_in(folder)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"data set {name}: {folder / _INFO} is damaged; remove its folder and prepare it again: {how}"
        ) from error
    for split, num_bytes, count in splits:
        expected = num_bytes + 16 * count  # A record's frame takes 16 bytes.
        found = sum(file.stat().st_size for file in _paths(folder, name, split))
        if found != expected:
            raise ValueError(
                f"data set {name} in {folder} is damaged: the files of its {split} part have {found:,} bytes in "
                f"place of {expected:,}; remove the folder and prepare it again: {how}"
            )
    return folder


class TfdsFacts(NamedTuple):
    """What a prepared TFDS set says of itself.

    Attributes:
        image_shape: (height, width, channels); None for sides that differ.
        num_classes: number of classes.
        num_train: examples of its train part.
        test_split: name of the part to test on.
    """

    image_shape: tuple[int | None, int | None, int]
    num_classes: int
    num_train: int
    test_split: str


def tfds_facts(name: str, data_dir: Path | None) -> TfdsFacts:
    """Reads what a prepared TFDS set says of itself. Needs no TensorFlow.

    Raises:
        ValueError: if it is not there or not whole, or not of images with `image` and `label` in a `train` and a `test` part.
    """
    folder = check_tfds(name, data_dir)
    try:
        features = json.loads((folder / _FEATURES).read_text())["featuresDict"]["features"]
        sides = [int(side) for side in features["image"]["image"]["shape"]["dimensions"]]
        num_classes = int(features["label"]["classLabel"]["numClasses"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"data set {name} in {folder} is none of classified images: {_FEATURES} has no `image` with a `label` ({error!r})"
        ) from error
    height, width, channels = (*sides, 0, 0, 0)[:3]
    if len(sides) != 3 or channels not in (1, 3) or (channels == 1 and -1 in sides):
        raise ValueError(f"data set {name} in {folder} has images of shape {sides}, and must have grey or colored ones")
    counts = {split: count for split, _, count in _splits_in(folder) if count}
    test = next((split for split in ("test", "validation") if split in counts), None)
    if "train" not in counts or test is None:
        raise ValueError(f"data set {name} in {folder} has {', '.join(counts) or 'nothing'}, and must have train and test")
    shape = (None if height < 0 else height, None if width < 0 else width, channels)
    return TfdsFacts(shape, num_classes, counts["train"], test)


def _splits_in(folder: Path) -> list[tuple[str, int, int]]:
    """Name, bytes and examples of each split, as the folder's own description says."""
    return [
        (split["name"], int(split["numBytes"]), sum(int(length) for length in split["shardLengths"]))
        for split in json.loads((folder / _INFO).read_text())["splits"]
    ]
