"""Tensors of a state_dict that `torch.save` wrote, in the old format (until PyTorch 1.5) and in the new one, a zip archive."""

import io
import zipfile
from collections.abc import Iterator, Mapping

import numpy as np

from r2d2_tf.backbones.weights import torch_pickle
from r2d2_tf.backbones.weights.torch_pickle import Storage, Tensor

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
Tensors = Mapping[str, Tensor]


def read(content: bytes) -> dict[str, np.ndarray]:
    """The tensors of a file, by name; they are views of its bytes.

    Nothing in it is executed, and nothing is unpacked: what is taken of memory is a small multiple of the file.

    Raises:
        ValueError: if it is damaged, or holds anything but a state_dict of float32, float16 and int64.
    """
    tensors, places = _archive(content) if content.startswith(b"PK") else _old_file(content)
    return {name: _view(name, tensor, places) for name, tensor in tensors.items()}


def _old_file(content: bytes) -> tuple[Tensors, dict[str, memoryview]]:
    """Five pickles: magic number, version, kind of machine, state_dict, keys of the storages; these follow in that order."""
    file = io.BytesIO(content)
    if torch_pickle.load(file) != _MAGIC or torch_pickle.load(file) != _PROTOCOL:
        raise ValueError("it is no file of torch.save")
    machine, found, keys = (torch_pickle.load(file) for _ in range(3))
    if not (isinstance(machine, dict) and machine.get("little_endian") is True):
        raise ValueError("it was written by a machine with another order of bytes")
    tensors = _checked(found)
    storages = dict(_storages(tensors))
    places, at, data = {}, file.tell(), memoryview(content)
    for key in keys if isinstance(keys, list) else []:
        storage = storages.get(key) if isinstance(key, str) else None
        if storage is None or int.from_bytes(data[at : at + 8], "little") != storage.length:
            raise ValueError("its storages are not as its tensors say: it is cut short or damaged")
        places[key] = data[at + 8 : at + 8 + storage.length * storage.dtype.itemsize]
        at += 8 + len(places[key])
    return tensors, places


def _archive(content: bytes) -> tuple[Tensors, dict[str, memoryview]]:
    """Of one folder: `data.pkl`, `data/KEY` for each storage, perhaps `byteorder`."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            # As torch.save writes it; so it cannot unpack to more than it is.
            if any(m.compress_type != zipfile.ZIP_STORED for m in members) or sum(m.file_size for m in members) > len(content):
                raise ValueError("it is a compressed archive, which torch.save does not write")
            folder = members[0].filename.partition("/")[0] + "/"
            if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
                raise ValueError("it was written by a machine with another order of bytes")
            tensors = _checked(torch_pickle.load(io.BytesIO(archive.read(f"{folder}data.pkl"))))
            return tensors, {key: memoryview(archive.read(f"{folder}data/{key}")) for key, _ in _storages(tensors)}
    except ValueError:
        raise
    # Whatever a zip archive makes of bytes that are not its own.
    except Exception as error:
        raise ValueError(f"as an archive it is damaged ({error})") from error


def _checked(found: object) -> Tensors:
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise ValueError("it holds something else than the tensors of a network: save its state_dict()")
    return found


def _storages(tensors: Tensors) -> Iterator[tuple[str, Storage]]:
    """The storages of all tensors by key, each once."""
    known: dict[str, Storage] = {}
    for storage in (tensor.storage for tensor in tensors.values()):
        if known.setdefault(storage.key, storage) != storage:
            raise ValueError("two of its tensors do not agree on what they share: it is damaged")
    yield from known.items()


def _view(name: str, tensor: Tensor, places: Mapping[str, memoryview]) -> np.ndarray:
    """Numbers of a tensor, in place, whatever the order of its axes is there."""
    storage = tensor.storage
    width, data = storage.dtype.itemsize, places.get(storage.key, memoryview(b""))
    reach = 1
    for stride, length in sorted(zip(tensor.strides, tensor.size, strict=True)):
        if length > 1:
            if stride < reach:
                raise ValueError(f"{name[:100]!r} overlaps itself: it is damaged")
            reach += stride * (length - 1)
    if len(data) != storage.length * width or tensor.offset + reach > storage.length:
        raise ValueError(f"{name[:100]!r} reaches beyond its storage: the file is cut short or damaged")
    strides = [stride * width for stride in tensor.strides]
    return np.ndarray(tensor.size, storage.dtype, buffer=data, offset=tensor.offset * width, strides=strides)
