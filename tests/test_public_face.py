"""The names of `r2d2_tf` itself: lazy, and what they promise in a process that asks for no more."""

import importlib
import os
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
import small_network
from conftest import ROOT

import r2d2_tf
from r2d2_tf import backbones
from r2d2_tf.config.command_line import from_command_line
from r2d2_tf.system.interrupts import RunInterrupted, StopSignals
from r2d2_tf.training import loop

BEFORE = ROOT / "tests" / "before" / "finished"


def output_of(program: str) -> str:
    """What a fresh process prints that runs `program` in the project's folder."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_and_config_and_load_and_run_is_light():
    heavy = "sorted({'tensorflow', 'keras', 'sklearn', 'pandas', 'matplotlib'} & sys.modules.keys())"
    program = f"import sys, r2d2_tf; r2d2_tf.Config(dataset='mnist5k'); r2d2_tf.load; r2d2_tf.run; print({heavy})"
    assert output_of(program) == "[]"


@pytest.mark.parametrize("name", sorted(r2d2_tf.__all__))
def test_each_public_name_is_there_and_says_what_it_is(name):
    assert name in dir(r2d2_tf)
    assert len(getattr(r2d2_tf, name).__doc__) > 40


def test_a_name_that_is_none_is_told_with_those_that_are():
    with pytest.raises(AttributeError, match=r"^module 'r2d2_tf' has no attribute 'fit'.*Config.*PseudoLabelTable"):
        r2d2_tf.fit  # noqa: B018


def test_the_layers_are_known_to_keras_once_the_package_is_imported_if_keras_was_before(monkeypatch):
    called = []
    monkeypatch.setattr(backbones, "register_layers", lambda: called.append(True))
    importlib.reload(r2d2_tf)
    assert called


@pytest.mark.slow
@pytest.mark.parametrize("imports", ["import keras, r2d2_tf", "import r2d2_tf, keras; r2d2_tf.R2D2Model"])
def test_keras_itself_reads_a_saved_network_once_the_package_is_imported(imports):
    program = f"{imports}; print(keras.models.load_model({str(BEFORE / 'backbone.keras')!r}).output_shape)"
    assert output_of(program) == "(None, 3)"


@pytest.mark.parametrize("name", ["", "stage_1.keras"])
def test_load_gives_the_network_of_a_run_or_of_a_file_in_it(name, monkeypatch):
    # The run's network is of a module of its own.
    monkeypatch.syspath_prepend(str(BEFORE.parent))
    images = np.zeros([2, 12, 12, 1], np.uint8)
    expected = backbones.load(BEFORE / (name or "backbone.keras")).predict(images, verbose=0)
    np.testing.assert_array_equal(r2d2_tf.load(BEFORE / name).predict(images, verbose=0), expected)


def test_what_cannot_be_loaded_is_told_in_a_line(tmp_path):
    for path, why in (
        (tmp_path / "none.keras", "there is no network"),
        (tmp_path, "is not the folder of a run"),
        (BEFORE.parent / "unfinished", "is not finished: go on with it by"),
        (BEFORE / "config.cfg", "cannot be read"),
    ):
        with pytest.raises(ValueError, match=why) as error:
            r2d2_tf.load(path)
        assert "\n" not in str(error.value)


SHORT = {
    "dataset": "mnist5k",
    "backbone": f"{small_network.__name__}:strided",
    "supervised_epochs": 1,
    "rounds": "",
    "finetune_epochs": 0,
}


class Interrupt(keras.callbacks.Callback):
    """Ctrl-C after the first step."""

    def __init__(self, *_):
        super().__init__()

    def on_train_batch_end(self, batch, logs=None):
        os.kill(os.getpid(), signal.SIGINT)


def test_run_saves_when_interrupted_and_the_same_call_goes_on_and_then_shows_the_result(tmp_path, monkeypatch, capsys):
    config, folder, handler = r2d2_tf.Config(**SHORT), tmp_path / "digits", signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(loop, "Locator", Interrupt)
    with pytest.raises(KeyboardInterrupt, match="stopped by Ctrl-C; the same call"):
        r2d2_tf.run(config, run_dir=folder)
    monkeypatch.undo()
    assert signal.getsignal(signal.SIGINT) == handler
    summary = r2d2_tf.run(config, run_dir=folder)
    assert "Going on from the checkpoint" in capsys.readouterr().out
    assert (list(summary["test_error_percent"]), summary["resumes"]) == (["stage_1"], 1)
    assert r2d2_tf.load(folder).predict(np.zeros([1, 28, 28, 1]), verbose=0).shape == (1, 10)
    assert r2d2_tf.run(config, run_dir=str(folder)) == summary
    assert capsys.readouterr().out == ""
    # The command's own flags name the same run.
    assert from_command_line([f"--flagfile={folder / 'config.cfg'}"]).digest == config.digest
    with pytest.raises(ValueError, match="holds another run, with other flags"):
        r2d2_tf.run(r2d2_tf.Config(**SHORT, seed=1), run_dir=folder)


def test_run_refuses_what_the_command_refuses_before_anything_is_written(tmp_path):
    config = r2d2_tf.Config(dataset="cifar10", data_dir=str(tmp_path / "none"))
    with pytest.raises(ValueError, match="cifar10"):
        r2d2_tf.run(config, run_dir=tmp_path / "run")
    with pytest.raises(ValueError, match="--dry_run says what a run would take"):
        r2d2_tf.run(r2d2_tf.Config(dry_run=True))
    assert not (tmp_path / "run").exists()


def test_a_second_signal_raises_at_once_where_the_process_is_somebody_elses():
    with StopSignals(ends_process=False) as signals:
        signals.defer()
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(RunInterrupted):
            os.kill(os.getpid(), signal.SIGINT)
