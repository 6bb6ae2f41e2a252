import os
import shutil
import stat
import struct
import threading

import numpy as np
import pytest

from r2d2_tf.data import cache
from r2d2_tf.data.cache import FileCache
from r2d2_tf.data.readers import tfrecord, tfrecord_index

NAMES = [b"n02_7.JPEG", b"n01_9.JPEG", b"n03_1.JPEG", b"n01_2.JPEG"]


def example(number, *, named=True, name=None):
    record = tfrecord._Example()
    if named:
        record.features.feature["file_name"].bytes_list.value.append(NAMES[number] if name is None else name)
    record.features.feature["image"].bytes_list.value.append(b"image %d" % number * (50 + number))
    record.features.feature["label"].int64_list.value.append(number)
    return record.SerializeToString()


def write(path, records):
    path.write_bytes(b"".join(struct.pack("<Q", len(record)) + b"1234" + record + b"5678" for record in records))


@pytest.fixture
def paths(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    paths = (folder / "set-train.tfrecord-00000-of-00002", folder / "set-train.tfrecord-00001-of-00002")
    write(paths[0], [example(0), example(1), example(2)])
    write(paths[1], [example(3)])
    return paths


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.delenv(cache.FOLDER_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))


def index_of(paths):
    return tfrecord_index.photograph_index(paths, 4)


def kept_in(folder):
    return sorted(folder.glob("**/r2d2_tf-*.npz"))


def no_pass(monkeypatch):
    monkeypatch.setattr(tfrecord_index, "_photographs_in", lambda path, bar: pytest.fail("looked through the files again"))


def assert_right(index, paths):
    """Rows are in the order of the names, and where the index says are the images."""
    assert index.names == ["n01_2.JPEG", "n01_9.JPEG", "n02_7.JPEG", "n03_1.JPEG"]
    assert index.labels.tolist() == [3, 1, 0, 2]
    for label, number, offset, length in zip(index.labels, index.file_of_row, index.offset, index.length, strict=True):
        assert paths[number].read_bytes()[offset : offset + length] == b"image %d" % label * (50 + label)


def test_the_index_is_made_once_and_kept_beside_the_files(paths, monkeypatch):
    assert_right(index_of(paths), paths)
    assert len(kept_in(paths[0].parent)) == 1
    no_pass(monkeypatch)
    assert_right(index_of(paths), paths)


def test_it_goes_with_a_copy_that_keeps_the_times_of_its_files(paths, tmp_path, monkeypatch):
    index_of(paths)
    shutil.copytree(paths[0].parent, tmp_path / "copy")
    no_pass(monkeypatch)
    index_of(tuple(tmp_path / "copy" / path.name for path in paths))


def test_without_names_rows_are_in_the_order_of_a_digest(paths):
    write(paths[0], [example(number, named=False) for number in range(3)])
    write(paths[1], [example(3, named=False)])
    made, kept = index_of(paths), index_of(paths)
    assert made.names is None
    assert kept.names is None
    assert sorted(made.labels) == [0, 1, 2, 3]
    np.testing.assert_array_equal(made.labels, kept.labels)


@pytest.mark.parametrize("change", ["size", "time", "name", "another file"])
def test_a_copy_that_changed_is_looked_through_anew(change, paths):
    index_of(paths)
    if change == "size":
        write(paths[1], [example(3), example(0, name=b"n99.JPEG")])
    elif change == "time":
        os.utime(paths[1], ns=(0, 123_456_789))
    elif change == "name":
        paths = (paths[0], paths[1].rename(paths[1].with_name("set-train.tfrecord-00001-of-00003")))
    else:
        third = paths[1].with_name("set-train.tfrecord-00002-of-00002")
        write(third, [example(0, name=b"n99.JPEG")])
        paths = (*paths, third)
    index = index_of(paths)
    assert len(kept_in(paths[0].parent)) == 2
    assert len(index.labels) == (5 if change in ("size", "another file") else 4)


@pytest.mark.parametrize("damage", ["empty", "cut", "zeros", "noise", "pickle", "offset", "shape", "text", "folder"])
def test_a_damaged_index_is_made_anew(damage, paths, capsys):
    index_of(paths)
    (kept,) = kept_in(paths[0].parent)
    content = kept.read_bytes()
    with np.load(kept, allow_pickle=False) as archive:
        arrays = dict(archive)
    changed = {
        "offset": {"offset": arrays["offset"] + 10_000},
        "shape": {"labels": arrays["labels"][:2]},
        "text": {"names": np.array([b"\xff\xfe"] * 4)},
    }
    if damage in changed:
        np.savez(kept, **{**arrays, **changed[damage]})
    elif damage == "pickle":
        np.savez(kept, **{**arrays, "names": np.array([{}, {}, {}, {}], object)})
    elif damage == "folder":
        kept.unlink()
        kept.mkdir()
    else:
        noise = content[:900] + os.urandom(40) + content[940:]
        kept.write_bytes({"empty": b"", "cut": content[:-9], "zeros": bytes(len(content)), "noise": noise}[damage])
    assert_right(index_of(paths), paths)
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("marked", [True, False])
def test_where_the_files_folder_cannot_be_written_to_the_users_cache_is_used(marked, paths, tmp_path, monkeypatch):
    if marked:
        paths[0].parent.chmod(stat.S_IRUSR | stat.S_IXUSR)
    else:
        written = cache.files.written_whole

        def refuse(path):
            if path.parent == paths[0].parent:
                raise OSError(30, "Read-only file system")
            return written(path)

        monkeypatch.setattr(cache.files, "written_whole", refuse)
    index_of(paths)
    assert not kept_in(paths[0].parent)
    assert len(kept_in(tmp_path / "home")) == 1
    no_pass(monkeypatch)
    assert_right(index_of(paths), paths)
    paths[0].parent.chmod(0o755)


def test_a_folder_may_be_named_and_where_nothing_can_be_written_a_run_goes_on(paths, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(cache.FOLDER_VARIABLE, str(tmp_path / "named"))
    assert_right(index_of(paths), paths)
    assert len(kept_in(tmp_path / "named")) == 1
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(cache.FOLDER_VARIABLE, str(tmp_path / "file"))
    assert_right(index_of(paths), paths)
    told = capsys.readouterr().err
    assert told.startswith("warning: what was found in ")
    assert told.endswith("name a folder in the environment variable R2D2_TF_CACHE\n")
    assert told.count("\n") == 1


def test_processes_that_start_at_once_do_not_disturb_each_other(paths):
    arrays = [{"rows": np.full(200_000, number)} for number in range(8)]
    kept, seen = FileCache(paths), []
    threads = [threading.Thread(target=kept.save, args=("rows", array)) for array in arrays]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        seen.append(kept.load("rows", ["rows"]))
    for thread in threads:
        thread.join()
    seen.append(kept.load("rows", ["rows"]))
    assert all(found is None or len(set(found["rows"].tolist())) == 1 for found in seen)
    assert seen[-1] is not None
    assert [path.name for path in paths[0].parent.iterdir() if "partial" in path.name] == []


@pytest.mark.parametrize("wrong", ["no image", "some named", "no text", "nothing"])
def test_files_that_are_no_photographs_are_one_line(wrong, paths):
    empty = tfrecord._Example()
    empty.features.feature["label"].int64_list.value.append(1)
    records = {
        "no image": [empty.SerializeToString()],
        "some named": [example(0), example(1, named=False)],
        "no text": [example(0, name=b"\xff\xfe")],
        "nothing": [],
    }
    for path in paths:
        write(path, records[wrong])
    with pytest.raises(ValueError, match=r"prepare the data set again$") as caught:
        index_of(paths)
    assert "\n" not in str(caught.value)
    assert not kept_in(paths[0].parent)
