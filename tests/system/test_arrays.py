import io
import zipfile

import numpy as np
import pytest

from r2d2_tf.system import arrays

LAYOUT = {"rows": "i rows", "values": "f comparisons rows"}
GOOD = {"rows": np.arange(3), "values": np.ones((2, 3), np.float32)}


def header(shape, kind="<f4"):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
    return file.getvalue()


def archive_of(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def bytes_of(values):
    file = io.BytesIO()
    np.lib.format.write_array(file, values)
    return file.getvalue()


def members(**changed):
    return {name: bytes_of(values) for name, values in GOOD.items()} | changed


def test_what_a_run_wrote_is_read_and_mapped_alike(tmp_path):
    np.savez(tmp_path / "run.npz", allow_pickle=False, **GOOD)
    for found in (arrays.read(tmp_path / "run.npz", LAYOUT), arrays.mapped(tmp_path / "run.npz", LAYOUT)):
        assert all(np.array_equal(found[name], values) for name, values in GOOD.items())
    assert list(arrays.read(tmp_path / "run.npz", LAYOUT, ["rows"])) == ["rows"]


def test_what_is_compressed_is_refused_unread_as_it_may_be_a_thousand_times_larger(tmp_path):
    path = archive_of(tmp_path / "x.npz", members(), zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="is compressed"):
        arrays.read(path, LAYOUT)


HOSTILE = {
    "more than there is": ({"values": header((2**10, 2**19)) + bytes(24)}, "has 24 bytes"),
    "less than there is": ({"values": header((1, 1)) + bytes(24)}, "has 24 bytes"),
    "a side below 0": ({"values": header((-2, -3)) + bytes(24)}, "cannot be read"),
    "no bytes each": ({"values": header((2**40, 3), "|S0")}, "has 0 bytes"),
    "another side": ({"rows": bytes_of(np.arange(4))}, "values has 3 rows, and rows has 4"),
    "a side too many": ({"rows": bytes_of(np.zeros((3, 1), int))}, "must have the sides rows"),
    "another kind": ({"rows": bytes_of(np.ones(3))}, "rows is float64"),
    "objects": ({"rows": header((3,), "|O") + b"cos\nsystem\n"}, "could be code"),
    "a header that is deep": ({"rows": b"\x93NUMPY\1\0\x10\x27" + b"(" * 10_000}, "cannot be read"),
    "no array": ({"rows": b"x"}, "cannot be read"),
    "none of this name": ({"other": b""}, "There is no item named 'values.npy'"),
}


@pytest.mark.parametrize(("changed", "message"), HOSTILE.values(), ids=HOSTILE)
def test_what_an_array_says_of_itself_is_checked_first(changed, message, tmp_path):
    all_members = members(**changed)
    if "other" in changed:
        del all_members["values"]
    path = archive_of(tmp_path / "x.npz", all_members)
    for read in (arrays.read, arrays.mapped):
        with pytest.raises(ValueError, match=message) as caught:
            read(path, LAYOUT)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)


def test_an_array_that_a_member_hides_in_another_takes_no_more_than_the_file_has(tmp_path):
    path = archive_of(tmp_path / "x.npz", members(values=header((2, 3)) + bytes(24)))
    content = bytearray(path.read_bytes())
    # The directory says that the member is larger; the header says so, too.
    place = content.rindex(b"values.npy") - 46
    size = int.from_bytes(content[place + 24 : place + 28], "little")
    for at in (20, 24):
        content[place + at : place + at + 4] = (size + 2**30).to_bytes(4, "little")
    path.write_bytes(bytes(content).replace(b"(2, 3), }", b"(2, 44739245), }"))
    with pytest.raises(ValueError, match="cannot be read"):
        arrays.read(path, LAYOUT)
