import dataclasses
import fcntl
import json
import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT, SUMMARY

from r2d2_tf.config.config import Config
from r2d2_tf.runs import run_directory
from r2d2_tf.system import files, provenance


@pytest.fixture
def config(tmp_path):
    return Config(run_dir=str(tmp_path / "run"))


def make(config):
    """The folder of a run that was begun and then left, as by a kill."""
    with run_directory.claimed(config) as folder:
        return folder


def finish(folder):
    (folder / run_directory.SUMMARY_FILE).write_text(json.dumps(SUMMARY))


def test_a_free_folder_is_made_with_the_config_in_it(config):
    assert run_directory.finished_summary(config) is None
    folder = make(config)
    assert run_directory.load_config(folder).digest == config.digest
    assert {path.name for path in folder.iterdir()} == {run_directory.CONFIG_FILE, run_directory.LOCK_FILE}


def test_a_run_of_before_keeps_the_view_of_its_photographs_under_the_same_command(tmp_path):
    config = Config(dataset="folder", data_dir="photos", run_dir=str(tmp_path / "run"))
    assert run_directory.as_begun(config) == config
    path = make(config) / run_directory.CONFIG_FILE
    assert run_directory.as_begun(config) == config
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if "image_view" not in line))
    assert run_directory.as_begun(config) == dataclasses.replace(config, image_view="stored")
    assert run_directory.load_config(path.parent).image_view == "stored"
    assert run_directory.finished_summary(config) is None, "it is no other run"
    afresh = dataclasses.replace(config, new_run=True)
    assert run_directory.as_begun(afresh) == afresh


def test_asking_writes_nothing(config):
    run_directory.finished_summary(config)
    assert not config.resolved_run_dir.exists()


def test_a_finished_run_is_shown(config):
    finish(make(config))
    assert run_directory.finished_summary(config) == SUMMARY


def test_an_unfinished_run_is_gone_on_with(config):
    assert not run_directory.is_unfinished(config)
    (make(config) / "mark").touch()
    assert run_directory.finished_summary(config) is None
    assert run_directory.is_unfinished(config)
    assert not run_directory.is_unfinished(Config(run_dir=config.run_dir, new_run=True))
    assert (make(config) / "mark").exists()


def test_what_the_same_command_does_after_a_run_broke_off_is_told_by_what_is_in_its_folder(config):
    folder = make(config)
    assert run_directory.how_to_go_on(config) == "the same command begins anew, as nothing was saved yet"
    (folder / run_directory.CHECKPOINTS).mkdir()
    (folder / run_directory.CHECKPOINTS / "000001-0123456789abcdef.npz").touch()
    assert run_directory.how_to_go_on(config) == "the same command goes on from the last checkpoint"
    afresh = dataclasses.replace(config, new_run=True)
    assert run_directory.how_to_go_on(afresh) == "the same command, without --new_run, goes on from the last checkpoint"
    shutil.rmtree(folder)
    assert run_directory.how_to_go_on(config) == f"the same command begins anew: {folder} is gone, and what was saved in it"


def test_a_file_whose_folder_is_gone_is_told(tmp_path):
    with pytest.raises(OSError, match=r"x could not be written: No such file or directory, its folder is gone"):
        files.write_text(tmp_path / "gone" / "x", "")


def test_flags_that_change_no_result_may_change_until_a_run_is_finished(config):
    make(config)
    changed = Config(run_dir=config.run_dir, strategy="mirrored", checkpoint_minutes=1.0, eval_batch_size=7, name="other")
    assert run_directory.finished_summary(changed) is None


def test_the_stage_1_that_a_run_began_with_stays_until_it_is_finished(config):
    folder = make(config)
    changed = Config(run_dir=config.run_dir, stage_1_from="elsewhere")
    with pytest.raises(ValueError, match=r"with other flags \(--stage_1_from:  -> elsewhere\)"):
        run_directory.finished_summary(changed)
    finish(folder)
    assert run_directory.finished_summary(changed) == SUMMARY


def test_what_a_killed_process_left_half_written_is_removed(config):
    folder = config.resolved_run_dir
    (folder / "checkpoints").mkdir(parents=True)
    for place in (folder, folder / "checkpoints"):
        (place / f"{files.PARTIAL}x.npz").write_text("x")
    (folder / run_directory.CONFIG_FILE).write_text(config.to_flagfile())
    make(config)
    assert not list(folder.rglob(f"{files.PARTIAL}*"))


def test_a_folder_that_a_process_was_killed_in_before_it_wrote_anything_is_free(config):
    folder = config.resolved_run_dir
    folder.mkdir()
    (folder / run_directory.LOCK_FILE).touch()
    (folder / f"{files.PARTIAL}config.cfg").write_text("--al")
    assert run_directory.finished_summary(config) is None
    assert not run_directory.is_unfinished(config)
    assert run_directory.load_config(make(config)).digest == config.digest


def test_another_run_is_refused_with_the_flags_that_differ(config):
    make(config)
    with pytest.raises(ValueError, match=r"holds another run.*--seed: 0 -> 1; --alpha: 0\.1 -> 0\.2"):
        run_directory.finished_summary(Config(run_dir=config.run_dir, alpha=0.2, seed=1))


def test_a_folder_that_is_no_run_is_refused_and_left_alone(config):
    folder = config.resolved_run_dir
    folder.mkdir()
    (folder / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match="is not the folder of a run"):
        run_directory.finished_summary(Config(run_dir=config.run_dir, new_run=True))
    assert (folder / "thesis.tex").read_text() == "x"


@pytest.mark.parametrize("below", ["", "further/down"])
def test_a_file_in_the_way_is_refused(config, below):
    config.resolved_run_dir.write_text("x")
    with pytest.raises(ValueError, match="run is a file; choose another place"):
        run_directory.finished_summary(Config(run_dir=str(config.resolved_run_dir / below)))


def test_a_damaged_summary_is_refused(config):
    folder = make(config)
    for text in ("", "{}", "[]", '{"test_error_percent": 1}'):
        (folder / run_directory.SUMMARY_FILE).write_text(text)
        with pytest.raises(ValueError, match=r"summary\.json is damaged"):
            run_directory.finished_summary(config)


def test_a_run_that_another_process_finished_since_the_check_is_not_trained_again(config):
    folder = make(config)
    assert run_directory.finished_summary(config) is None
    finish(folder)
    with pytest.raises(ValueError, match="was finished by another process"):
        make(config)


def test_a_damaged_config_is_refused_and_left_alone(config):
    path = make(config) / run_directory.CONFIG_FILE
    for text in (path.read_text()[:30], "--alpha=0.1\n--seed=\n", "\0"):
        path.write_text(text)
        with pytest.raises(ValueError, match=rf"{path} is damaged.*--new_run"):
            run_directory.finished_summary(config)
        assert path.read_text() == text


def test_a_new_run_moves_earlier_ones_aside_and_loses_nothing(config):
    again = Config(run_dir=config.run_dir, new_run=True)
    folder = make(config)
    for count in (1, 2):
        (folder / "mark").write_text(str(count))
        assert run_directory.finished_summary(again) is None
        make(again)
        assert (folder.with_name(f"run.{count}") / "mark").read_text() == str(count)
    assert not (folder / "mark").exists()


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "result.json"
    path.write_text("old")

    def fail():
        with files.written_whole(path) as temporary:
            temporary.write_text("ha")
            raise OSError

    with pytest.raises(OSError):  # noqa: PT011
        fail()
    assert path.read_text() == "old"
    with files.written_whole(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def test_two_processes_may_write_the_same_file_at_the_same_time(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    with files.written_whole(path) as first:
        first.write_text("first")
        with monkeypatch.context() as another_process:
            another_process.setattr(os, "getpid", lambda: 1)
            with files.written_whole(path) as second:
                second.write_text("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"


@pytest.mark.parametrize("read", [run_directory.load_config, run_directory.read_summary])
def test_a_folder_without_a_run_is_named(read, tmp_path):
    with pytest.raises(ValueError, match=str(tmp_path)):
        read(tmp_path)


def test_versions_name_keras_and_a_tensorflow():
    versions = provenance.versions()
    assert "keras" in versions
    assert any(name.startswith("tensorflow") for name in versions)


def test_a_folder_in_use_is_refused_even_to_a_new_run_and_free_after_it(config):
    with run_directory.claimed(config) as folder:
        for new_run in (False, True):
            another = Config(run_dir=config.run_dir, new_run=new_run)
            for use in (run_directory.finished_summary, make):
                with pytest.raises(ValueError, match=rf"is in use: a living process trains in it \(.*process {os.getpid()}\)"):
                    use(another)
        assert run_directory.is_in_use(folder)
    assert not run_directory.is_in_use(folder)


def test_the_lock_of_a_killed_process_is_gone_with_it(config):
    program = (
        "import os, sys; from r2d2_tf.config.config import Config; from r2d2_tf.runs import run_directory\n"
        "with run_directory.claimed(Config(run_dir=sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, config.run_dir]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(ValueError, match=f"process {process.pid}"):
            run_directory.finished_summary(config)
        process.kill()
        process.wait()
    assert run_directory.finished_summary(config) is None
    make(config)


def test_a_lock_of_a_folder_that_was_moved_aside_meanwhile_is_not_taken_for_the_new_ones(config, monkeypatch):
    folder, lock = make(config), fcntl.flock

    def move_first(file, kind):
        monkeypatch.setattr(fcntl, "flock", lock)
        folder.rename(folder.with_name("aside"))
        folder.mkdir()
        lock(file, kind)

    monkeypatch.setattr(fcntl, "flock", move_first)
    with run_directory.claimed(config) as claimed, (folder / run_directory.LOCK_FILE).open() as file:
        assert claimed == folder
        with pytest.raises(BlockingIOError):
            lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_linked_folder_is_moved_aside_itself_and_the_link_stays(config, tmp_path):
    real = tmp_path / "real"
    real.mkdir()
    config.resolved_run_dir.symlink_to(real)
    (make(config) / "mark").touch()
    make(Config(run_dir=config.run_dir, new_run=True))
    assert (tmp_path / "real.1" / "mark").exists()
    assert config.resolved_run_dir.is_symlink()
    assert (real / run_directory.CONFIG_FILE).exists()


def test_an_empty_list_of_images_that_were_left_out_is_no_file_for_people(tmp_path):
    (tmp_path / run_directory.LEFT_OUT_FILE).touch()
    assert run_directory.LEFT_OUT_FILE not in run_directory.files_in(tmp_path)
    (tmp_path / run_directory.LEFT_OUT_FILE).write_text("train a.jpg\n")
    assert run_directory.LEFT_OUT_FILE in run_directory.files_in(tmp_path)
