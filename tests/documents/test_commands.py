"""The commands that pages show exist, with flags and values that they take; each is run by a test, or marked as not run."""

import contextlib
import dataclasses
import functools
import io
import re

import markdown_pages
import pytest
import walking
from conftest import ROOT
from markdown_pages import Command

from r2d2_tf.config.command_line import from_command_line
from r2d2_tf.config.config import Config
from r2d2_tf.system.commands import CONSOLE_MODULE

TAKES_A_RUNS_FLAGS = {
    "tools.evaluate",
    "tools.label_queue.queue_experiment",
    "tools.repeat",
    "tools.reproduce",
    "tools.reproduce.baselines",
    "tools.tune",
}
COMMANDS = list(markdown_pages.commands())
OWN = [command for command in COMMANDS if command.module.split(".")[0] in ("r2d2_tf", "export", "tools")]
KINDS = {"indented", "sh", "python", "json", "text", "nginx"}
"""Code of pages; commands stand in the first two."""
_RUN_FLAGS = {field.name for field in dataclasses.fields(Config)}


def shown(command: Command) -> str:
    return f"{command.page}: {command.text}"


@functools.cache
def flags_of(module: str) -> set[str]:
    """The flags that a command's own help tells of, and those of a run where it hands them on."""
    if module == CONSOLE_MODULE:
        return {"help", "version"}
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
        walking.program(module).main(["--help"])
    found = {name.removeprefix("[no]") for name in re.findall(r"--((?:\[no\])?[a-z]\w*)", output.getvalue())}
    run = _RUN_FLAGS if module in TAKES_A_RUNS_FLAGS or module == "r2d2_tf.train" else set()
    return found | run | {"flagfile", "help", "helpfull", "seeds"}


def test_there_are_commands_on_many_pages():
    assert len({command.page for command in OWN}) > 20
    assert {block.kind for page in markdown_pages.PAGES for block in markdown_pages.parts(page)[1]} <= KINDS


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


def test_each_command_is_walked_or_run_elsewhere_or_marked():
    unknown = [command for command in COMMANDS if not (command.is_marked or walking.is_known(command))]
    # What is marked where it is told of may be named elsewhere.
    marked = {walking.plain(command) for command in COMMANDS if command.is_marked}
    assert not [shown(command) for command in unknown if not (command.is_inline and walking.plain(command) in marked)]


@pytest.mark.parametrize("where", sorted(set(walking.HELD.values())))
def test_what_is_run_elsewhere_is_there(where):
    file, words = where.split(": ", 1)
    assert words in (ROOT / file).read_text()


def test_files_of_tests_exist():
    named = [text for command in COMMANDS if command.module == "pytest" for text in command.arguments if "/" in text]
    assert named
    assert not [name for name in named if not (ROOT / name).is_file()]


def test_what_shortens_a_command_are_flags_that_it_takes():
    own = [command for command in OWN if walking.is_walked(command)]
    names = {(command.module, flag[2:].partition("=")[0]) for command in own for flag in walking.tail(command)}
    assert not {(module, name) for module, name in names if not {name, name.removeprefix("no")} & flags_of(module)}


@pytest.mark.parametrize("text", ["python -m tools.dance --seeds=0", "make tea", "pip install r2d2", "docker run r2d2"])
def test_a_command_that_nothing_runs_is_seen(text):
    [command] = markdown_pages.commands_in(text, page="x", is_marked=False)
    assert not walking.is_known(command)
