"""Files of PyTorch's tensors, whole, damaged and hostile: nothing in them is ever run."""

import io
import json
import os
import pickle
import re
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from r2d2_tf.backbones.weights import safetensors_files, torch_files

HERE = Path(__file__).parent
MAGIC = 0x1950A86A20F9469CFC6C
MACHINE = {"protocol_version": 1001, "little_endian": True}


# Files that PyTorch 2.13 wrote of the same tensors: see record_efficientnet_lite.py.
@pytest.mark.parametrize("file", ["state_dict_old.pth", "state_dict_zip.pth"])
def test_what_pytorch_saved_is_read_in_both_formats(file):
    tensors = torch_files.read((HERE / file).read_bytes())
    counted = np.arange(24).reshape(2, 3, 4)
    expected = {
        "plain": counted.astype(np.float32),
        "transposed": counted.transpose(2, 0, 1).astype(np.float32),
        "part": counted[1:, ::2].astype(np.float32),
        "half": counted.astype(np.float16),
        "count": np.array(7),
    }
    assert tensors.keys() == expected.keys()
    for name, values in expected.items():
        assert tensors[name].dtype == values.dtype
        np.testing.assert_array_equal(tensors[name], values)


def plain(value):
    """The steps that put numbers, texts and tuples on the stack."""
    return pickle.dumps(value, 2)[2:-1]


def tensor(key="0", length=24, offset=0, size=(2, 3, 4), strides=(12, 4, 1), kind=b"FloatStorage", *, old=True):
    storage = b"(" + plain("storage") + b"ctorch\n" + kind + b"\n" + plain(key) + plain("cpu") + plain(length)
    storage += (b"N" if old else b"") + b"tQ"
    arguments = b"(" + storage + plain(offset) + plain(size) + plain(strides) + b"\x89ccollections\nOrderedDict\n)Rt"
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"R"


def state_dict(**tensors):
    items = b"".join(plain(name) + steps for name, steps in tensors.items())
    return b"\x80\x02ccollections\nOrderedDict\n)R(" + items + b"u."


NUMBERS = np.arange(24, dtype=np.float32).tobytes()


def old_file(pickled, keys=("0",), length=24, data=NUMBERS, machine=MACHINE):
    begin = b"".join(pickle.dumps(value, 2) for value in (MAGIC, 1001, machine))
    return begin + pickled + pickle.dumps(list(keys), 2) + struct.pack("<q", length) + data


def archive(pickled, data=NUMBERS, compression=zipfile.ZIP_STORED, **members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as written:
        for name, content in {"data.pkl": pickled, "data/0": data, **members}.items():
            written.writestr(f"archive/{name}", content)
    return file.getvalue()


def test_the_files_of_these_tests_are_read():
    for content in (old_file(state_dict(a=tensor())), archive(state_dict(a=tensor(old=False)), byteorder=b"little")):
        [(name, values)] = torch_files.read(content).items()
        assert name == "a"
        np.testing.assert_array_equal(values, np.arange(24).reshape(2, 3, 4))


class Payload:
    """An object whose unpickling makes a folder."""

    def __init__(self, path, protocol=2):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def shelled(path):
    return b"\x80\x02cos\nsystem\n" + plain(f"mkdir {path}") + b"\x85R."


HOSTILE = {
    "a call": lambda path: pickle.dumps({"a": Payload(path)}, 2),
    "a call, protocol 0": lambda path: pickle.dumps({"a": Payload(path)}, 0),
    "a call, protocol 4": lambda path: pickle.dumps({"a": Payload(path)}, 4),
    "os.system": shelled,
    "a call in place of tensors": lambda path: state_dict(a=shelled(path)[2:-1]),
    "a name in an allowed module": lambda path: b"\x80\x02ctorch\nload\n" + plain(str(path)) + b"\x85R.",
    "a name through an allowed one": lambda path: (
        b"\x80\x04\x8c\x0ctorch._utils\x8c\x1f_rebuild_tensor_v2.__globals__\x93" + plain(str(path)) + b"\x85R."
    ),
    "an old instance": lambda path: b"\x80\x02(" + plain(str(path)) + b"ios\nmkdir\n.",
    "a new instance": lambda path: b"\x80\x02cos\nmkdir\n" + plain(str(path)) + b"\x85\x81.",
    "a registered one": lambda path: b"\x80\x02\x82\x01" + plain(str(path)) + b"\x85R.",
    "a state that is set": lambda path: b"\x80\x02ccollections\nOrderedDict\n" + plain({"a": str(path)}) + b"b.",
}


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("place", ["first", "state", "keys", "archive"])
def test_code_in_a_file_is_refused_and_not_run(make, place, tmp_path):
    witness = tmp_path / "witness"
    hostile = make(witness)
    good = state_dict(a=tensor())
    begin = b"".join(pickle.dumps(value, 2) for value in (MAGIC, 1001, MACHINE))
    content = {
        "first": hostile + good,
        "state": old_file(hostile),
        "keys": begin + good + hostile + struct.pack("<q", 24) + NUMBERS,
        "archive": archive(hostile),
    }[place]
    with pytest.raises(ValueError, match=r"\w"):
        torch_files.read(content)
    assert not witness.exists()


def test_that_code_would_be_run_by_pickle(tmp_path):
    for name in ("a call", "os.system"):
        pickle.loads(HOSTILE[name](tmp_path / name.replace(" ", "_")))
        assert (tmp_path / name.replace(" ", "_")).exists()


DAMAGED = {
    "empty": b"",
    "text": b"no weights\n",
    "a pickle alone": pickle.dumps({"a": 1}, 2),
    "a number in place of tensors": old_file(state_dict(a=plain(3))),
    "no table": old_file(plain(3) + b"."),
    "a name that is no text": old_file(b"\x80\x02ccollections\nOrderedDict\n)R(" + plain(1) + tensor() + b"u."),
    "a table within": old_file(state_dict(a=b"}")),
    "another order of bytes": old_file(state_dict(a=tensor()), machine={"little_endian": False}),
    "another kind of storage": old_file(state_dict(a=tensor(kind=b"ByteStorage"))),
    "a storage that is not there": old_file(state_dict(a=tensor("1"))),
    "storages that disagree": old_file(state_dict(a=tensor(), b=tensor(kind=b"HalfStorage"))),
    "lengths that disagree": old_file(state_dict(a=tensor()), length=25),
    "a length below zero": old_file(state_dict(a=tensor(length=-24)), length=-24),
    "cut short": old_file(state_dict(a=tensor()), data=NUMBERS[:-1]),
    "a huge storage": old_file(state_dict(a=tensor(length=1 << 39)), length=1 << 39),
    "more digits than a length has": old_file(state_dict(a=tensor(length=1 << 9000))),
    "an offset beyond": old_file(state_dict(a=tensor(offset=1))),
    "an offset below zero": old_file(state_dict(a=tensor(offset=-1))),
    "a size beyond": old_file(state_dict(a=tensor(size=(3, 3, 4)))),
    "a huge size": old_file(state_dict(a=tensor(size=(1 << 20, 1 << 20, 4), strides=(0, 0, 1)))),
    "a size of no number": old_file(state_dict(a=tensor(size=(2, 3, 4.0)))),
    "no numbers": old_file(state_dict(a=tensor(size=(0, 1 << 39, 1 << 39)))),
    "many axes": old_file(state_dict(a=tensor(size=(1,) * 99, strides=(1,) * 99))),
    "strides below zero": old_file(state_dict(a=tensor(strides=(12, 4, -1), offset=3))),
    "strides of a line": old_file(state_dict(a=tensor(strides=(12, 3, 1)))),
    "strides of nothing": old_file(state_dict(a=tensor(strides=(0, 4, 1)))),
    "fewer strides": old_file(state_dict(a=tensor(strides=(4, 1)))),
    "no end": old_file(state_dict(a=tensor())[:-1]),
    "nothing on the stack": old_file(b"\x80\x02u."),
    "no memory": old_file(b"\x80\x02h\x05."),
    "no mark": old_file(b"\x80\x02N0t."),
    "nothing at the end": old_file(b"\x80\x02."),
    "a text longer than the file": old_file(b"\x80\x02X\xff\xff\xff\xffab."),
    "an integer longer than the file": old_file(b"\x80\x02\x8b\xff\xff\xff\x7fab."),
    "steps without end": old_file(b"\x80\x02" + b"N0" * 120_000 + b"."),
    "values without end": old_file(b"\x80\x02" + b"N" * 220_000 + b"."),
    "tuples of tuples": old_file(b"\x80\x02N" + b"q\x00h\x00\x86" * 80_000 + b"."),
    "an archive cut short": archive(state_dict(a=tensor(old=False)))[:-40],
    "an archive of another kind": archive(state_dict(a=tensor(old=False)), compression=zipfile.ZIP_DEFLATED),
    "an archive that unpacks to much": archive(b"\0" * 100_000_000, compression=zipfile.ZIP_DEFLATED),
    "an archive without tensors": archive(b""),
    "an archive without numbers": archive(state_dict(a=tensor("1", old=False))),
    "an archive with too few numbers": archive(state_dict(a=tensor(old=False)), data=NUMBERS[4:]),
    "an archive that leads elsewhere": archive(state_dict(a=tensor("../../etc/passwd", old=False))),
    "an archive of another order of bytes": archive(state_dict(a=tensor(old=False)), byteorder=b"big"),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_damaged_files_are_one_error_and_take_no_memory(content):
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"\w") as caught:
            torch_files.read(content)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 300
    # A step of a hostile pickle is a byte, a value on the stack eight.
    assert most < 16 * len(content) + 1_000_000


def test_a_claim_of_the_archives_index_is_not_believed():
    content = bytearray(archive(state_dict(a=tensor(old=False))))
    for place in [match.start() for match in re.finditer(rb"PK\x01\x02", bytes(content))]:
        content[place + 24 : place + 28] = struct.pack("<I", 0xFFFFFFF0)
    with pytest.raises(ValueError, match="archive"):
        torch_files.read(bytes(content))


@pytest.mark.parametrize("make", [lambda: old_file(state_dict(a=tensor())), lambda: archive(state_dict(a=tensor(old=False)))])
def test_a_file_with_any_byte_changed_is_read_or_is_one_error(make):
    good = make()
    for place in range(0, len(good), 3):
        for byte in (0, 255, good[place] ^ 1):
            content = good[:place] + bytes([byte]) + good[place + 1 :]
            try:
                tensors = torch_files.read(content)
            except ValueError:
                continue
            assert all(values.size <= 24 for values in tensors.values())


def safetensors(header, data=NUMBERS):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


GOOD = {"dtype": "F32", "shape": [2, 3, 4], "data_offsets": [0, 96]}


def test_safetensors_are_read():
    [(name, values)] = safetensors_files.read(safetensors({"__metadata__": {"format": "pt"}, "a": GOOD})).items()
    assert name == "a"
    np.testing.assert_array_equal(values, np.arange(24).reshape(2, 3, 4))


WRONG_SAFETENSORS = {
    "empty": b"",
    "text": b"no weights\n",
    "a header longer than the file": (1 << 40).to_bytes(8, "little") + b"{}",
    "no JSON": safetensors(b"{"),
    "brackets without end": safetensors(b"[" * 200_000),
    "a number without end": safetensors(b'{"a":' + b"1" * 10_000 + b"}"),
    "a list": safetensors([GOOD]),
    "no table": safetensors({"a": 3}),
    "another kind": safetensors({"a": {**GOOD, "dtype": "U8"}}),
    "a kind that is none": safetensors({"a": {**GOOD, "dtype": ["F32"]}}),
    "another size": safetensors({"a": {**GOOD, "shape": [2, 3, 5]}}),
    "a huge size": safetensors({"a": {**GOOD, "shape": [1 << 50, 0]}}),
    "a size below zero": safetensors({"a": {**GOOD, "shape": [-2, -3, 4]}}),
    "a size of no number": safetensors({"a": {**GOOD, "shape": [2, 3, True]}}),
    "many axes": safetensors({"a": {**GOOD, "shape": [2, 3, 4] + [1] * 99}}),
    "a place beyond": safetensors({"a": {**GOOD, "data_offsets": [4, 100]}}),
    "a place below zero": safetensors({"a": {**GOOD, "data_offsets": [-96, 0]}}),
    "a place backwards": safetensors({"a": {**GOOD, "data_offsets": [96, 0]}}),
    "no place": safetensors({"a": {**GOOD, "data_offsets": []}}),
    "cut short": safetensors({"a": GOOD}, NUMBERS[:-1]),
}


@pytest.mark.parametrize("content", WRONG_SAFETENSORS.values(), ids=WRONG_SAFETENSORS)
def test_damaged_safetensors_are_one_error(content):
    with pytest.raises(ValueError, match=r"\w") as caught:
        safetensors_files.read(content)
    assert len(str(caught.value)) < 300
