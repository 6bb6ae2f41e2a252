import re
import runpy
import sys

import pytest
from conftest import ROOT

from r2d2_tf import __main__ as console
from r2d2_tf.system import commands


@pytest.fixture
def started(monkeypatch):
    """The module and arguments of the program that was started."""
    seen = []
    monkeypatch.setattr(sys, "argv", ["r2d2"])
    monkeypatch.setattr(runpy, "run_module", lambda module, **_: seen.append((module, sys.argv[1:])))
    return seen


@pytest.mark.parametrize("name", ["label-queue", "label_queue", "tools.label_queue"])
def test_a_program_has_the_name_of_its_module(name, started):
    assert console.run([name, "--count=3"]) == 0
    assert started == [("tools.label_queue", ["--count=3"])]


def test_a_name_that_is_none_is_answered_by_the_nearest(started, capsys):
    assert console.run(["infrence"]) == 2
    assert capsys.readouterr().err == "error: there is no command infrence: did you mean inference?\n"
    assert console.run(["x"]) == 2
    assert "r2d2 --help lists all" in capsys.readouterr().err
    assert not started


def test_no_name_is_a_question_for_all(started, capsys):
    assert console.run([]) == console.run(["--help"]) == 0
    assert "  export                        writes a finished run's network as models to serve\n" in capsys.readouterr().out


def test_a_package_of_an_extra_that_is_not_there_is_named(started, monkeypatch, capsys):
    def run_module(module, **_):
        raise ModuleNotFoundError("No module named 'grpc_health.v1'", name="grpc_health.v1")

    monkeypatch.setattr(runpy, "run_module", run_module)
    assert console.run(["serve"]) == 2
    message = "error: serve needs grpc_health.v1, which is not installed: pip install 'r2d2_tf[serve]'\n"
    assert capsys.readouterr().err == message


def test_the_working_directory_is_searched_after_the_programs(started, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["/environment/bin"])
    monkeypatch.setattr(sys, "argv", ["r2d2", "report"])
    console.main()
    assert sys.path == [str(console.commands.root()), str(tmp_path), "/environment/bin"]


def test_pages_name_programs_that_there_are():
    text = "\n".join(page.read_text() for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")))
    named = set(re.findall(r"^    r2d2 (\w[\w.-]*)|`r2d2 (\w[\w.-]*)", text, re.MULTILINE))
    assert len(named) > 5
    assert {first or second for first, second in named} <= commands.BY_NAME.keys()
