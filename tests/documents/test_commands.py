"""The commands that pages show exist, with the flags that they are given; and each is run by a test, or marked as not run."""

import contextlib
import dataclasses
import functools
import importlib
import io
import re

import markdown_pages
import pytest
from conftest import ROOT
from markdown_pages import Command

from r2d2_tf.config.command_line import from_command_line
from r2d2_tf.config.config import Config
from r2d2_tf.system.commands import CONSOLE_MODULE

RUN_IN = {
    "export": "export/test_export.py",
    "export.client": "export/test_client.py",
    "export.inference": "export/test_export.py",
    "export.serve": "export/test_serve_lifecycle.py",
    "pytest": "backbones/test_efficientnet_lite.py",
    "r2d2_tf": "package/test_console.py",
    "r2d2_tf.train": "training/test_end_to_end.py",
    "tools.benchmark": "tools/test_benchmark.py",
    "tools.check_data": "tools/check_data/test_check_data.py",
    "tools.check_data.proposal_trial": "tools/check_data/test_proposal_trial.py",
    "tools.compare": "tools/test_compare.py",
    "tools.evaluate": "tools/test_evaluate.py",
    "tools.label_queue": "tools/label_queue/test_label_queue.py",
    "tools.label_queue.queue_experiment": "tools/label_queue/test_queue_experiment.py",
    "tools.load_test": "tools/test_load_test.py",
    "tools.predict": "tools/test_predict.py",
    "tools.pseudo_labels": "tools/test_pseudo_label_files.py",
    "tools.repeat": "tools/test_repeat.py",
    "tools.report": "tools/test_report.py",
    "tools.reproduce": "tools/reproduce/test_reproduce.py",
    "tools.reproduce.baselines": "tools/reproduce/test_table_updates.py",
    "tools.reproduce.feature_plot": "tools/reproduce/test_run_tools.py",
    "tools.reproduce.theorem_check": "tools/reproduce/test_run_tools.py",
    "tools.suspects": "tools/test_suspects.py",
    "tools.torture": "tools/test_torture.py",
    "tools.tune": "tools/test_tune.py",
}
"""Command -> the tests, below tests/, that run it."""
PIP = (
    "install --require-hashes -r requirements.txt",
    "install .",
    "install --no-deps .",
    "wheel --no-deps --wheel-dir=dist .",
)
"""Of `make` and of package/test_wheel.py."""
TAKES_A_RUNS_FLAGS = {
    "tools.evaluate",
    "tools.label_queue.queue_experiment",
    "tools.repeat",
    "tools.reproduce",
    "tools.reproduce.baselines",
    "tools.tune",
}
COMMANDS = [command for command in markdown_pages.commands() if command.module != "venv"]
OWN = [command for command in COMMANDS if command.module.split(".")[0] in ("r2d2_tf", "export", "tools")]
_RUN_FLAGS = {field.name for field in dataclasses.fields(Config)}


def shown(command: Command) -> str:
    return f"{command.page}: {command.text}"


@functools.cache
def flags_of(module: str) -> set[str]:
    """The flags that a command's own help tells of, and those of a run where it hands them on."""
    is_folder = (ROOT / module.replace(".", "/") / "__main__.py").is_file()
    if module == CONSOLE_MODULE:
        return {"help", "version"}
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
        importlib.import_module(f"{module}.__main__" if is_folder else module).main(["--help"])
    found = {name.removeprefix("[no]") for name in re.findall(r"--((?:\[no\])?[a-z]\w*)", output.getvalue())}
    run = _RUN_FLAGS if module in TAKES_A_RUNS_FLAGS or module == "r2d2_tf.train" else set()
    return found | run | {"flagfile", "help", "helpfull", "seeds"}


def test_there_are_commands_on_many_pages():
    assert len({command.page for command in OWN}) > 20


@pytest.mark.parametrize("module", sorted({command.module for command in OWN}))
def test_commands_exist_with_their_flags(module):
    wrong = []
    for command in OWN:
        if command.module == module:
            names = [text[2:].partition("=")[0] for text in command.arguments if text.startswith("--")]
            known = flags_of(module)
            wrong += [
                f"{shown(command)}: --{name}" for name in names if name not in known and name.removeprefix("no") not in known
            ]
    assert not wrong


def test_flags_in_the_text_are_those_of_a_command():
    # `--flag` stands for any of them.
    known = {"flag"}.union(*(flags_of(command.module) for command in OWN))
    named = {
        (page.name, name)
        for page in markdown_pages.PAGES
        for code in re.findall(r"`([^`]+)`", "\n".join(markdown_pages.parts(page)[0]))
        for name in re.findall(r"(?:^|\s)--([a-z]\w*)", code)
    }
    assert not {(page, name) for page, name in named if name not in known and name.removeprefix("no") not in known}


def test_flagfiles_exist():
    named = {text.partition("=")[2] for command in OWN for text in command.arguments if text.startswith("--flagfile=configs/")}
    assert named
    assert not [name for name in named if not (ROOT / name).is_file()]


@pytest.mark.parametrize(
    "command", [command for command in OWN if command.module in ("r2d2_tf.train", "tools.repeat")], ids=shown
)
def test_flags_of_a_run_have_values_that_it_takes(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = ("--help", "--seeds=")
    arguments = [text for text in command.arguments if not text.startswith(words) and "..." not in text]
    # What is in the reader's hands: any file with flags does.
    own = [text for text in arguments if not text.startswith("--flagfile=") or text.startswith("--flagfile=configs/")]
    from_command_line(own)


def test_each_command_is_run_by_a_test_or_marked():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    unknown = []
    for command in COMMANDS:
        if command.is_marked:
            continue
        if command.module:
            path = ROOT / "tests" / RUN_IN.get(command.module, "?")
            is_known = path.is_file() and command.module.rpartition(".")[2] in path.read_text()
        else:
            program, *rest = command.arguments
            is_known = program == "make" and {text for text in rest if "=" not in text} <= targets
            is_known |= program.endswith("pip") and " ".join(rest) in PIP
        unknown += [] if is_known else [shown(command)]
    assert not unknown
