import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from r2d2_tf.system import commands, provenance


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The project as a wheel lays it out; the folder with its programs."""
    monkeypatch.setattr(commands, "INSTALLED", tmp_path)
    return tmp_path


def test_every_program_has_a_name_and_every_name_a_program():
    files = [path for room in ("r2d2_tf", "tools", "export") for path in (ROOT / room).rglob("*.py")]
    starts = [path for path in files if "\nif __name__ ==" in path.read_text() and path.parent.name != "r2d2_tf"]
    starts.append(ROOT / "r2d2_tf" / "train.py")
    programs = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__") for path in starts}
    # The server starts it, not a person.
    programs.remove("export.serving.protocols.json_process")
    assert sorted(commands.MODULES) == sorted(programs)
    assert len(commands.BY_NAME) == len(commands.MODULES)


def test_a_checkout_names_programs_as_python_does():
    assert not commands.is_installed()
    assert commands.shown("tools.report", "--run_dir=a b") == "python -m tools.report --run_dir='a b'"
    assert commands.command_of("export").endswith(" -m export")
    assert commands.command_line("export", ["--x"]) == [sys.executable, "-m", "export", "--x"]
    assert commands.in_text("see `python -m tools.tune`.") == "see `python -m tools.tune`."


def test_a_wheel_names_programs_by_its_console_command(installed):
    assert commands.shown("tools.check_data", "--data_dir=a b") == "r2d2 check-data --data_dir='a b'"
    assert commands.shown("r2d2_tf.train") == "r2d2 train"
    assert commands.command_line("export.serve", ["--x"]) == [sys.executable, "-m", "r2d2_tf", "serve", "--x"]
    text = "`python -m r2d2_tf.train --a`: as python -m tools.tune. python -m pytest"
    assert commands.in_text(text) == "`r2d2 train --a`: as r2d2 tune. python -m pytest"


def test_a_command_to_paste_does_not_ask_for_a_path_that_knows_it(installed, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setenv("PATH", "")
    assert commands.command_of("export") == f"{tmp_path}/bin/python -m r2d2_tf export"
    script = tmp_path / "bin" / "r2d2"
    script.parent.mkdir()
    script.touch(mode=0o755)
    assert commands.command_of("export") == f"{script} export"
    monkeypatch.chdir(tmp_path)
    assert commands.command_of("export") == "bin/r2d2 export"
    monkeypatch.setenv("PATH", str(script.parent))
    assert commands.command_of("export", "--format=onnx") == "r2d2 export --format=onnx"


def test_what_is_pasted_is_read_as_it_was():
    words = ["a b", "", "--x=", "--x", "--x=a b", "--a b=c", "-x=a b", "--y=a=b\n'c", "$x", "--z=0.1:0.2"]
    assert shlex.split(commands.pasted(words)) == words
    assert commands.pasted(["--x=a b", "--z=0.1:0.2"]) == "--x='a b' --z=0.1:0.2"


def test_a_process_of_a_checkout_finds_the_project_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"/a{os.pathsep}/b")
    assert commands.environment()["PYTHONPATH"] == os.pathsep.join([str(ROOT), "/a", "/b"])
    command = commands.command_line("export.inference", ["--help"])
    done = subprocess.run(command, cwd=tmp_path, env=commands.environment(), capture_output=True, text=True, check=True)
    assert "--images" in done.stdout


def test_a_process_of_a_wheel_keeps_its_environment(installed):
    assert commands.environment() == dict(os.environ)


def test_configs_come_with_the_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert commands.brought(Path("configs/mnist5k.cfg")) == ROOT / "configs" / "mnist5k.cfg"
    for missing in (Path("configs/none.cfg"), Path("mnist5k.cfg"), Path("configs")):
        assert commands.brought(missing) == missing
    own = Path("configs/mnist5k.cfg")
    own.parent.mkdir()
    own.touch()
    assert commands.brought(own) == own


def test_an_installed_package_claims_no_commit_of_the_repository_that_it_lies_in(installed):
    assert provenance.git_commit() is None
    assert provenance.told_commit(None) == "commit unknown, of an installed package"


@pytest.mark.parametrize("room", ["r2d2_tf", "tools", "export"])
def test_printed_commands_are_named_where_they_run(room):
    # Docstrings are read in a checkout, or go through `in_text`.
    for path in (ROOT / room).rglob("*.py"):
        code = re.sub(r'"""[\s\S]*?"""', "", path.read_text())
        assert not re.search(r"python -m (tools|export|r2d2_tf)\b", code), f"{path}: name the program by commands.shown"
