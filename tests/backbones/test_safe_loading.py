"""No file that somebody hands over can run code: what the source may call, and what happens to files that try."""

import ast
import dataclasses
import os
import re
import shutil

import keras
import numpy as np
import pytest
from conftest import SHORT
from PIL import Image
from test_architecture import ROOT, SOURCES, imported
from test_run_tools import folder_of

import r2d2_tf
from export import __main__ as export_command
from r2d2_tf import backbones, train
from r2d2_tf.config.command_line import from_command_line
from r2d2_tf.runs import run_directory
from r2d2_tf.system import arrays
from tools.evaluate import __main__ as evaluate
from tools.predict import __main__ as predict
from tools.report import __main__ as report
from tools.reproduce import feature_plot, theorem_check

MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "yaml", "tarfile"}
CALLS = {"eval", "exec", "extractall", "unpack_archive", "enable_unsafe_deserialization"}


def dangers(tree):
    """What in a parsed source could run code from a file, as `line: what`."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        owner = node.func.value.id if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name) else ""
        given = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
        if (
            name in CALLS
            or owner in MODULES
            or (owner == "os" and name in ("system", "popen"))
            or (given.get("allow_pickle", False) is not False)
            or (given.get("shell", False) is not False)
            or (owner in ("np", "numpy") and name == "load" and given.get("allow_pickle") is not False)
            or (name == "load_model" and given.get("safe_mode") is not True)
        ):
            yield f"{node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_source_calls_nothing_that_runs_code_from_a_file(path):
    assert not list(dangers(ast.parse(path.read_text())))
    assert not {name.split(".")[0] for name in imported(path)} & MODULES


@pytest.mark.parametrize(
    "line",
    [
        "pickle.load(file)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "numpy.load(path, allow_pickle=chosen)",
        "np.save(path, a, allow_pickle=True)",
        "archive.extractall()",
        "keras.config.enable_unsafe_deserialization()",
        "load_model(path)",
        "keras.saving.load_model(path, safe_mode=False)",
        "eval(text)",
        "exec(text)",
        "yaml.load(text)",
        "subprocess.run(line, shell=True)",
        "os.system(line)",
    ],
)
def test_that_test_sees(line):
    assert list(dangers(ast.parse(line)))


class Payload:
    """An object whose unpickling makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def with_payload(path, witness):
    np.savez(path, given_labels=np.array([Payload(witness)], object), stage=np.array([Payload(witness)], object))


def cut(path):
    path.write_bytes(path.read_bytes()[:-200])


def scratched(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3 : len(content) // 3 + 64] = bytes(range(64))
    path.write_bytes(content)


def another_archive(path):
    with path.open("wb") as file:
        np.savez(file, x=np.zeros(3))


DAMAGE = {
    "cut short": cut,
    "scratched": scratched,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not a network, not an archive\n"),
    "another archive": another_archive,
}


@pytest.fixture
def copied_run(finished_run, tmp_path):
    return shutil.copytree(finished_run, tmp_path / "copy", ignore=shutil.ignore_patterns("theorems.png"))


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_predictions_are_one_line_and_no_traceback(damage, copied_run, capsys):
    damage(copied_run / run_directory.HISTORY_FILE)
    assert_one_line(theorem_check.main([f"--run_dir={copied_run}"]), capsys, "predictions.npz cannot be read")
    assert not (copied_run / "theorems.png").exists()


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_pseudo_labels_are_one_line_and_no_traceback(damage, finished_run, tmp_path, capsys):
    folder = folder_of(tmp_path, backbone="lenet_2d")
    shutil.copy(finished_run / run_directory.TABLE_FILE, folder)
    for name in (run_directory.STAGE_1_FILE, run_directory.STAGE_2_FILE):
        (folder / name).touch()
    damage(folder / run_directory.TABLE_FILE)
    assert_one_line(feature_plot.main([f"--run_dir={folder}"]), capsys, "cannot be read")


def test_a_damaged_network_is_one_line_for_the_feature_plot(finished_run, tmp_path, capsys):
    folder = folder_of(tmp_path, backbone="lenet_2d")
    shutil.copy(finished_run / run_directory.TABLE_FILE, folder)
    for name in (run_directory.STAGE_1_FILE, run_directory.STAGE_2_FILE):
        (folder / name).write_bytes(b"PK\3\4")
    assert_one_line(feature_plot.main([f"--run_dir={folder}"]), capsys, "stage_1.keras cannot be read")


def assert_one_line(code, capsys, message):
    out, error = capsys.readouterr()
    assert (code, out, error.count("\n")) == (2, "", 1), error
    assert error.startswith("error: ")
    assert message in error


def test_arrays_of_objects_are_refused_and_nothing_in_them_is_run(copied_run, tmp_path, capsys):
    witness = tmp_path / "witness"
    for name, array in ((run_directory.HISTORY_FILE, "stage"), (run_directory.TABLE_FILE, "given_labels")):
        with_payload(copied_run / name, witness)
        with pytest.raises(ValueError, match="cannot be read: it is damaged, or holds what no run wrote"):
            arrays.read(copied_run / name, {array: "i rows"})
    assert_one_line(theorem_check.main([f"--run_dir={copied_run}"]), capsys, "predictions.npz cannot be read")
    assert not witness.exists()
    np.load(copied_run / name, allow_pickle=True)["stage"]
    assert witness.exists(), "it would have been run"


@pytest.fixture
def network_with_code(tmp_path):
    """The file of a network that makes a folder when it is read, and that folder."""
    witness = tmp_path / "witness"
    # Its code holds all that it needs.
    code = keras.layers.Lambda(eval(f"lambda x: [__import__('os').makedirs({str(witness)!r}, exist_ok=True), x][1]"))
    keras.Sequential([keras.Input((28, 28, 1)), code, keras.layers.Flatten(), keras.layers.Dense(10)]).save(
        tmp_path / "network.keras"
    )
    witness.rmdir()
    return tmp_path / "network.keras", witness


def test_a_network_that_holds_code_is_refused(network_with_code):
    path, witness = network_with_code
    with pytest.raises(
        ValueError, match=r"network .* cannot be read: it is damaged, or holds code, which is never run"
    ) as caught:
        backbones.load(path)
    assert "\n" not in str(caught.value)
    assert not witness.exists()
    keras.saving.load_model(path, compile=False, safe_mode=False)
    assert witness.exists(), "it would have been run"


def test_no_program_runs_the_code_of_a_network(network_with_code, copied_run, tmp_path, capsys):
    path, witness = network_with_code
    for name in (run_directory.BACKBONE_FILE, run_directory.STAGE_1_FILE, run_directory.STAGE_2_FILE):
        shutil.copy(path, copied_run / name)
    Image.new("L", (28, 28)).save(tmp_path / "digit.png")
    other = [*SHORT, f"--run_dir={tmp_path / 'other'}"]
    programs = {
        "evaluate": lambda: evaluate.main([f"--run_dir={copied_run}"]),
        "evaluate a stage": lambda: evaluate.main([f"--run_dir={copied_run}", "--stage=2"]),
        "predict": lambda: predict.main([f"--model={copied_run}", str(tmp_path / "digit.png"), "--out=-"]),
        "report": lambda: report.main([f"--run_dir={copied_run}"]),
        "export": lambda: export_command.main([f"--run_dir={copied_run}", f"--output_dir={tmp_path / 'out'}"]),
        "stage_1_from": lambda: train.main([*other, f"--stage_1_from={copied_run}"]),
        "warm_start": lambda: train.main([*other, f"--warm_start={copied_run}"]),
    }
    for name, program in programs.items():
        assert program() == 2, name
        error = capsys.readouterr().err.splitlines()[-1]
        assert re.fullmatch(r"error: the network .*\.keras cannot be read: it is damaged, or holds code.*", error), name
        assert not witness.exists(), name
    with pytest.raises(ValueError, match="holds code, which is never run"):
        r2d2_tf.load(copied_run)
    assert not witness.exists()


def test_a_file_of_kerass_older_format_runs_none_either(network_with_code, tmp_path):
    path, witness = network_with_code
    keras.saving.load_model(path, compile=False, safe_mode=False).save(tmp_path / "network.h5")
    witness.rmdir()
    with pytest.raises(ValueError, match="holds code, which is never run"):
        r2d2_tf.load(tmp_path / "network.h5")
    assert not witness.exists()


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_network_is_one_line_for_stage_1_from_and_for_export(damage, copied_run, tmp_path, capsys):
    damage(copied_run / run_directory.STAGE_1_FILE)
    damage(copied_run / run_directory.BACKBONE_FILE)
    config = dataclasses.replace(
        from_command_line([f"--flagfile={copied_run / 'config.cfg'}"]), stage_1_from=str(copied_run), name="again"
    )
    (tmp_path / "again.cfg").write_text(config.to_flagfile())
    arguments = [f"--flagfile={tmp_path / 'again.cfg'}", f"--run_dir={tmp_path / 'again'}"]
    assert_one_line(train.main(arguments), capsys, "stage_1.keras cannot be read")
    assert not (tmp_path / "again").exists()
    arguments = [f"--run_dir={copied_run}", f"--output_dir={tmp_path / 'out'}"]
    assert_one_line(export_command.main(arguments), capsys, "backbone.keras cannot be read")
    assert not (tmp_path / "out").exists()


def test_a_network_that_is_not_there_is_one_line(copied_run, tmp_path, capsys):
    (copied_run / run_directory.BACKBONE_FILE).unlink()
    assert_one_line(export_command.main([f"--run_dir={copied_run}"]), capsys, "there is no network")
