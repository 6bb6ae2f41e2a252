import dataclasses
import hashlib
import os
import zipfile

import keras
import numpy as np
import pytest
from conftest import NUM_CLASSES, table_values, tiny_labels

from r2d2_tf.method.pseudo_labels import NotFinite, PseudoLabelTable
from r2d2_tf.method.row_measures import TYPES, RowMeasures
from r2d2_tf.runs import run_directory
from r2d2_tf.runs.checkpoints import CannotResume, Checkpoints
from r2d2_tf.runs.predictions import PredictionHistory
from r2d2_tf.runs.run_state import RunState

COUNT, LABELED = 12, 6
STATE = RunState(2, 3, 4, argmax_changes=5, rows=[{"loss": 0.1 + 0.2, "predicted_classes": [1, 2]}], seconds={"total": 1.5})


def variables_of(value):
    return {f"network/{i}": keras.Variable(np.full(shape, value, "float32")) for i, shape in enumerate([(3, 2), ()])}


def table_of(value):
    table = PseudoLabelTable(tiny_labels(COUNT, LABELED), NUM_CLASSES)
    table.repredict(table.unlabeled_rows, np.full((COUNT - LABELED, NUM_CLASSES), value, np.float32))
    return table


def history_of(*values):
    history = PredictionHistory(np.arange(LABELED, COUNT))
    for number, value in enumerate(values):
        measured = RowMeasures(*(np.full(COUNT - LABELED, value, kind) for kind in TYPES))
        history.add(measured, stage=2, epoch=number, replaced=True, first=not number)
    return history


def save(checkpoints, value, place=(2, 3, 4)):
    state = dataclasses.replace(STATE, stage=place[0], epoch=place[1], step=place[2])
    checkpoints.save(state, variables_of(value), table_of(value), history_of(*range(int(value))))


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path, "--alpha=0.1\n")


def refuse(text):
    raise AssertionError(text)


def files(tmp_path):
    return sorted(path for path in (tmp_path / "checkpoints").iterdir())


def test_everything_comes_back_exactly(checkpoints, tmp_path):
    assert checkpoints.newest(refuse) is None
    save(checkpoints, 3.0)
    found = Checkpoints(tmp_path, "").newest(refuse)
    variables, table, history = variables_of(0.0), table_of(0.0), history_of(1.0)
    found.restore(variables, table, history)
    assert found.state == STATE
    for name, variable in variables_of(3.0).items():
        np.testing.assert_array_equal(variables[name], variable)
    np.testing.assert_array_equal(table_values(table), table_values(table_of(3.0)))
    np.testing.assert_array_equal(table.predicted_sums(np.arange(COUNT)), table_of(3.0).predicted_sums(np.arange(COUNT)))
    history.save(tmp_path / "ours.npz")
    history_of(0, 1, 2).save(tmp_path / "saved.npz")
    with np.load(tmp_path / "ours.npz") as ours, np.load(tmp_path / "saved.npz") as saved:
        assert set(ours.files) == set(saved.files)
        for name in saved.files:
            assert ours[name].dtype == saved[name].dtype
            np.testing.assert_array_equal(ours[name], saved[name])


def test_a_checkpoint_holds_the_config_and_can_be_read_with_numpy(checkpoints, tmp_path):
    save(checkpoints, 1.0)
    with np.load(files(tmp_path)[0], allow_pickle=False) as archive:
        assert archive["config.cfg"] == b"--alpha=0.1\n"
        assert archive["table/pseudo_logits"].shape == (COUNT, NUM_CLASSES)


def test_the_last_two_are_kept(checkpoints, tmp_path):
    for value in range(1, 5):
        save(checkpoints, value)
    assert [path.name[:6] for path in files(tmp_path)] == ["000003", "000004"]
    later = Checkpoints(tmp_path, "")
    later.newest(refuse)
    save(later, 9.0)
    assert [path.name[:6] for path in files(tmp_path)] == ["000004", "000005"]


def truncate(path):
    path.write_bytes(path.read_bytes()[:-7])


def empty(path):
    path.write_bytes(b"")


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def flip_in_a_date(path):
    # A byte that nothing reads: the file is refused all the same.
    content = bytearray(path.read_bytes())
    content[11] ^= 1
    path.write_bytes(content)


def extend(path):
    path.write_bytes(path.read_bytes() + b"\0")


@pytest.mark.parametrize("damage", [truncate, empty, flip, flip_in_a_date, extend])
def test_a_damaged_newest_one_is_reported_and_the_one_before_it_used_and_kept(damage, checkpoints, tmp_path):
    for value in (1.0, 2.0):
        save(checkpoints, value)
    damage(files(tmp_path)[-1])
    warnings, later = [], Checkpoints(tmp_path, "")
    found = later.newest(warnings.append)
    assert found.path == files(tmp_path)[0]
    assert len(warnings) == 1
    assert str(files(tmp_path)[1]) in warnings[0]
    assert "damaged" in warnings[0]
    save(later, 3.0)
    assert files(tmp_path)[0] == found.path
    assert [path.name[:6] for path in files(tmp_path)] == ["000001", "000003"]


def test_a_removed_newest_one_leaves_the_one_before_it(checkpoints, tmp_path):
    for value in (1.0, 2.0):
        save(checkpoints, value)
    files(tmp_path)[-1].unlink()
    assert Checkpoints(tmp_path, "").newest(refuse).path.name.startswith("000001")


def test_where_all_are_damaged_nothing_is_begun_afresh(checkpoints, tmp_path):
    for value in (1.0, 2.0):
        save(checkpoints, value)
    for path in files(tmp_path):
        truncate(path)
    with pytest.raises(CannotResume, match=r"none of the 2 checkpoints in .* is whole.*--new_run"):
        Checkpoints(tmp_path, "").newest(lambda text: None)
    assert len(files(tmp_path)) == 2


def test_a_checkpoint_from_before_a_place_can_be_asked_for(checkpoints):
    save(checkpoints, 1.0, (1, 9, 0))
    save(checkpoints, 2.0, (2, 0, 0))
    assert checkpoints.newest(refuse, before=(2, 0, 1)).state.place == (2, 0, 0)
    assert checkpoints.newest(refuse, before=(2, 0, 0)).state.place == (1, 9, 0)
    assert checkpoints.newest(refuse, before=(1, 9, 0)) is None


@pytest.mark.parametrize("place", ["variable", "table"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_not_saved(place, value, checkpoints, tmp_path):
    save(checkpoints, 1.0)
    before = files(tmp_path)
    variables, table = variables_of(1.0), table_of(1.0)
    if place == "variable":
        variables["network/0"].assign(np.full((3, 2), value))
    else:
        table.repredict(np.array([8]), np.full((1, NUM_CLASSES), value, np.float32))
    with pytest.raises(NotFinite, match="the value of" if place == "variable" else "the row 8 of pseudo-logits"):
        checkpoints.save(STATE, variables, table, history_of())
    assert files(tmp_path) == before


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failed_write_leaves_the_earlier_ones_and_says_what_to_do(failing, checkpoints, tmp_path, monkeypatch):
    save(checkpoints, 1.0)
    before = files(tmp_path)

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((os, "fsync", fail) if failing == "fsync" else (run_directory.Path, "replace", fail)))
    with pytest.raises(OSError, match=r"could not be written: No space left on device, .* GiB are free there"):
        save(checkpoints, 2.0)
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    "change", [lambda v: v.pop("network/1"), lambda v: v.update({"network/1": keras.Variable([1.0, 2.0])})]
)
def test_a_checkpoint_of_another_network_is_refused(change, checkpoints):
    save(checkpoints, 1.0)
    variables = variables_of(0.0)
    change(variables)
    with pytest.raises(CannotResume, match="is of another network"):
        checkpoints.newest(refuse).restore(variables, table_of(0.0), history_of())


def test_a_checkpoint_of_another_version_is_refused(checkpoints, monkeypatch):
    monkeypatch.setattr(RunState, "to_json", lambda self: '{"stage": 1, "unknown": 2}')
    save(checkpoints, 1.0)
    with pytest.raises(CannotResume, match="written by another version of this program"):
        checkpoints.newest(refuse)


def renamed(path):
    """With the digest of what is in it now, as somebody does who changed it."""
    return path.rename(path.with_name(f"{path.name[:7]}{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}.npz"))


def changed(path, members, compression=zipfile.ZIP_STORED):
    """Writes a checkpoint anew, with other members."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()} | members
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, own in content.items():
            archive.writestr(name, own)
    renamed(path)


@pytest.mark.parametrize(
    ("members", "compression"),
    [({}, zipfile.ZIP_DEFLATED), ({"state.json": "[" * 100_000}, zipfile.ZIP_STORED)],
    ids=["what may be a thousand times as large", "brackets"],
)
def test_a_checkpoint_that_somebody_changed_is_refused_before_it_is_read(members, compression, checkpoints, tmp_path):
    save(checkpoints, 1.0)
    changed(files(tmp_path)[0], members, compression)
    with pytest.raises(CannotResume, match="was written by another version of this program"):
        Checkpoints(tmp_path, "").newest(refuse)


@pytest.mark.parametrize("name", ["variables/network/0", "table/predicted_sums", "history/0000/class_loss"])
def test_an_array_of_a_checkpoint_that_says_more_than_it_has_is_refused(name, checkpoints, tmp_path):
    save(checkpoints, 1.0)
    header = b"\x93NUMPY\1\0\x76\0" + b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1073741824), }".ljust(117) + b"\n"
    changed(files(tmp_path)[0], {f"{name}.npy": header})
    with pytest.raises(CannotResume, match="is of another network, perhaps of another version"):
        Checkpoints(tmp_path, "").newest(refuse).restore(variables_of(0.0), table_of(0.0), history_of())


def test_one_that_cannot_be_read_counts_as_damaged(checkpoints, tmp_path, monkeypatch):
    for value in (1.0, 2.0):
        save(checkpoints, value)
    newest, open_file = files(tmp_path)[-1], run_directory.Path.open

    def fail(self, *arguments, **options):
        if self == newest:
            raise OSError(5, "Input/output error")
        return open_file(self, *arguments, **options)

    monkeypatch.setattr(run_directory.Path, "open", fail)
    warnings = []
    assert checkpoints.newest(warnings.append).path.name.startswith("000001")
    assert "it cannot be read (Input/output error)" in warnings[0]


def test_those_of_a_finished_run_are_removed(checkpoints, tmp_path):
    save(checkpoints, 1.0)
    run_directory.remove_checkpoints(tmp_path)
    assert list(tmp_path.iterdir()) == []
