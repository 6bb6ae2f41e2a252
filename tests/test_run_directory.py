import json

import pytest

from r2d2_tf import run_directory
from r2d2_tf.config import Config

SUMMARY = {"test_error_percent": {"stage_1": 5.0}, "seconds": {"total": 1.0}, "files": {}}


@pytest.fixture
def config(tmp_path):
    return Config(run_dir=str(tmp_path / "run"))


def finish(folder):
    (folder / run_directory.SUMMARY_FILE).write_text(json.dumps(SUMMARY))


def test_a_free_folder_is_made_with_the_config_in_it(config):
    assert run_directory.finished_summary(config) is None
    folder = run_directory.create(config)
    assert run_directory.load_config(folder).digest == config.digest
    assert [path.name for path in folder.iterdir()] == [run_directory.CONFIG_FILE]


def test_asking_writes_nothing(config):
    run_directory.finished_summary(config)
    assert not config.resolved_run_dir.exists()


def test_a_finished_run_is_shown(config):
    finish(run_directory.create(config))
    assert run_directory.finished_summary(config) == SUMMARY


def test_an_unfinished_run_is_refused_with_the_way_out(config):
    run_directory.create(config)
    with pytest.raises(ValueError, match=r"did not finish.*--new_run"):
        run_directory.finished_summary(config)


def test_another_run_is_refused_with_the_flags_that_differ(config):
    run_directory.create(config)
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
    folder = run_directory.create(config)
    for text in ("", "{}", "[]", '{"test_error_percent": 1}'):
        (folder / run_directory.SUMMARY_FILE).write_text(text)
        with pytest.raises(ValueError, match=r"summary\.json is damaged"):
            run_directory.finished_summary(config)


def test_a_folder_taken_since_the_check_is_not_taken_over(config):
    assert run_directory.finished_summary(config) is None
    assert run_directory.finished_summary(config) is None
    folder = run_directory.create(config)
    with pytest.raises(ValueError, match="running twice"):
        run_directory.create(config)
    assert [path.name for path in folder.parent.iterdir()] == ["run"]


def test_a_new_run_moves_earlier_ones_aside_and_loses_nothing(config):
    again = Config(run_dir=config.run_dir, new_run=True)
    folder = run_directory.create(config)
    for count in (1, 2):
        (folder / "mark").write_text(str(count))
        assert run_directory.finished_summary(again) is None
        run_directory.create(again)
        assert (folder.with_name(f"run.{count}") / "mark").read_text() == str(count)
    assert not (folder / "mark").exists()


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "result.json"
    path.write_text("old")

    def fail():
        with run_directory.written_whole(path) as temporary:
            temporary.write_text("ha")
            raise OSError

    with pytest.raises(OSError):  # noqa: PT011
        fail()
    assert path.read_text() == "old"
    with run_directory.written_whole(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.parametrize("read", [run_directory.load_config, run_directory.read_summary])
def test_a_folder_without_a_run_is_named(read, tmp_path):
    with pytest.raises(ValueError, match=str(tmp_path)):
        read(tmp_path)


def test_versions_name_keras_and_a_tensorflow():
    versions = run_directory.versions()
    assert "keras" in versions
    assert any(name.startswith("tensorflow") for name in versions)


def test_a_folder_in_use_is_refused_even_to_a_new_run_and_free_after_it(config):
    folder = run_directory.create(config)
    with run_directory.owned(folder):
        for new_run in (False, True):
            with pytest.raises(ValueError, match="is in use: a living process trains in it"):
                run_directory.finished_summary(Config(run_dir=config.run_dir, new_run=new_run))
        with pytest.raises(ValueError, match="was taken while this run was starting"):
            run_directory.create(Config(run_dir=config.run_dir, new_run=True))
    assert not run_directory.is_in_use(folder)
