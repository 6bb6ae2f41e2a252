"""Runs the commands of pages as their readers would, one after the other, in a folder where all that they name is there.

A command's own words stay as they are and in front; flags behind them shorten what takes long.
"""

import functools
import importlib
import itertools
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest
from conftest import ROOT
from markdown_pages import Command
from things import Things

from r2d2_tf.config.command_line import from_command_line, named_flags
from r2d2_tf.recipes import inputs
from r2d2_tf.system.commands import CONSOLE_MODULE, MODULES

SHORT = ("--supervised_epochs=1", "--rounds=1:0.01,1:0.01", "--finetune_epochs=1", "--max_steps=2", "--nostop_on_collapse")
TAILS = {
    "export": ("--latency_rounds=1",),
    "r2d2_tf.train": SHORT,
    "tools.benchmark": (
        *("--quick", "--rounds=1", "--seconds=0", "--rows=2000", "--classes=10", "--images=16", "--backbones=lenet"),
        "--parts=prediction",
    ),
    "tools.check_data.proposal_trial": ("--seeds=0", "--num_labels=30", "--num_unlabeled=60", "--num_test=30", "--minutes=1"),
    "tools.label_queue.queue_experiment": (*SHORT, "--seeds=0"),
    # Rounding in batches of other sizes is a little more than the default, where a network is very sure.
    "tools.load_test": ("--requests=600", "--concurrency=1,4", "--tolerance=1e-5"),
    "tools.repeat": (*SHORT, "--seeds=0,1"),
    "tools.reproduce": ("--seeds=0", "--trial"),
    "tools.reproduce.baselines": (*SHORT, "--seeds=0", "--epochs=1"),
    "tools.tune": (*SHORT, "--trials=2"),
}
"""Program -> flags that shorten it. One that a command names itself stays as it is there, but for these:"""
COUNTS = {"seeds", "trials", "requests", "concurrency", "num_labels", "num_unlabeled", "num_test", "backbones"}
OPEN = ("--minutes=1",)
"""In place of the tail of a run that leaves its recipe open: any other flag about training would close it."""
SMALL_NETWORK = ("--backbone=small_network:strided",)
ON_A_PAGE = {
    # Tens of thousands of images are predicted whatever the number of steps is.
    ("docs/data_sets.md", "r2d2_tf.train"): SMALL_NETWORK,
    ("docs/results/interruptions.md", "r2d2_tf.train"): (*SMALL_NETWORK, "--image_size=48"),
    # Devices are not in a run's name, and an earlier command has made it.
    ("docs/training.md", "--strategy=mirrored"): ("--new_run",),
    # The page has labels that are held out, which named sets have for the asking alone.
    ("docs/run.md", "r2d2_tf.train"): ("--held_out=0.2",),
    # It enlarges photographs, which takes half a minute: once is enough.
    ("docs/results/photographs_speed.md", "tools.benchmark"): ("--rounds=2",),
    # A batch of the paper's has more images than a small folder.
    ("docs/own_network.md", "--dataset=folder"): ("--batch_size=8", "--finetune_batch_size=8", "--image_size=64"),
    # One label a class is too few to hold any out.
    ("docs/results/photographs.md", "--dataset=cifar100"): ("--num_labels=200",),
}
"""Page and words of a command -> what else it needs, behind its own words."""
HELD = {
    "make quickstart": "tests/documents/test_walks.py: test_the_quickstart_of_the_makefile_works",
    "make test": ".ci/run: make test",
    "make check": "Makefile: $(LINT)",
    "make test-all": "Makefile: test-all:",
    "make docs": "tests/documents/test_pages.py: zensical",
    "python3 -m venv": "Makefile: -m venv .venv",
    "pip install --require-hashes -r requirements.txt": "Makefile: $(INSTALL) -r requirements.txt",
    "pip install .": "tests/package/test_wheel.py: test_a_wheel_brings_what_it_needs",
    "pip install --no-deps .": "tests/package/installed.py: --no-deps",
    "pip wheel --no-deps --wheel-dir=dist .": "tests/package/installed.py: --no-deps",
    "python -m pytest": "pyproject.toml: testpaths",
    "python -m tools.torture": "tests/tools/test_torture.py: torture.main([",
}
"""How commands begin, or what they are, that a test of their own or the CI runs -> the file, and words that stand in it."""
IN_A_SHELL = ("curl", "(printf", "saved_model_cli")
"""Programs of others that a page shows beside ours; where one is not installed it is left out, and told."""
BESIDE = ("export.serve",)
"""Programs that run until they are stopped."""
_OF_A_PAGE = re.compile(r"RUN|EXPORT|localhost|runs/|my[._]|labels\.|--(run_dir|out|config_out|output_dir)=")
"""In the words of a command that is about files of its page, so that it is run on each page that has it."""
_READ_BY_NONE = re.compile(r"--output_dir=runs/trial\w*")
"""Files of which no other command reads."""
_LONGEST = 1800
"""Seconds that a process may take where others run beside it; a minute or less on an idle machine."""


def plain(command: Command) -> str:
    """Its words, without the folder of its program, variables of make and what stands behind it."""
    words = re.sub(r"^\S*/(?=(python|pip) )", "", command.text.partition("#")[0]).strip()
    return re.sub(r"^make (\w+=\S+ )*", "make ", words)


def held(command: Command) -> str:
    """Where a command is run that is not walked, or ""."""
    words = plain(command)
    exact = [name for name in HELD if words == name]
    begun = [name for name in HELD if name.startswith("python") and words.startswith(f"{name} ")]
    return HELD[(exact or begun)[0]] if exact or begun else ""


def is_own(command: Command) -> bool:
    return command.module in (*MODULES, CONSOLE_MODULE)


def is_name(command: Command) -> bool:
    """Whether it is in the midst of a sentence and names a program, no more."""
    return command.is_inline and is_own(command) and not command.arguments


def is_walked(command: Command) -> bool:
    """Whether it is to be run on its page."""
    if command.is_marked or is_name(command) or held(command):
        return False
    return is_own(command) or (not command.module and command.arguments[0] in IN_A_SHELL)


def is_known(command: Command) -> bool:
    """Whether a command that is not marked is run somewhere, or names a program, no more."""
    return is_walked(command) or bool(held(command)) or is_name(command)


def program(module: str) -> ModuleType:
    """The module whose `main` is what `python -m` runs."""
    is_folder = (ROOT / module.replace(".", "/") / "__main__.py").is_file()
    return importlib.import_module(f"{module}.__main__" if is_folder else module)


def tail(command: Command) -> list[str]:
    """The flags that shorten a command."""
    given = command.arguments
    may_be_open = command.module == "r2d2_tf.train" and "--flagfile=" not in command.text
    if may_be_open and inputs.is_open(named_flags(given), from_command_line(given)):
        return list(OPEN)
    if command.module == CONSOLE_MODULE or "--dry_run" in given or "--help" in given:
        return []
    named = {text.partition("=")[0] for text in given}
    more = [flags for (page, words), flags in ON_A_PAGE.items() if page == command.page and words in command.text]
    flags = [*TAILS.get(command.module, ()), *itertools.chain(*more)]
    return [flag for flag in flags if (name := flag.partition("=")[0]) not in named or name.removeprefix("--") in COUNTS]


def shortened(command: Command) -> tuple[str, ...]:
    """What a command comes to: those that differ only in what their tails replace are the same."""
    words = [text for text in [*command.arguments, *tail(command)] if not _READ_BY_NONE.match(text)]
    # Of a flag that is there twice the last one counts.
    return (command.module, *sorted({text.partition("=")[0]: text for text in words}.values()))


class Walk:
    """Walks through a page in the working directory. `done`: commands, of other pages too, that need not be run once more.

    `in_processes`: each of our programs is a process of its own, and nothing shortens it.
    """

    def __init__(self, things: Things, done: set[tuple[str, ...]], *, in_processes: bool = False) -> None:
        self.things, self.done, self.in_processes = things, done, in_processes
        self.left_out: list[str] = []
        self.beside: list[tuple[Command, subprocess.Popen, Path]] = []

    def walk(self, commands: Sequence[Command]) -> None:
        """Runs the commands, and stops what still runs then; fails with all that failed."""
        failures: list[Exception] = []
        steps = [(command.text, functools.partial(self._step, command)) for command in commands]
        try:
            for text, step in [*steps, ("what still runs at the end", self._stop)]:
                try:
                    step()
                except Exception as failure:
                    failure.add_note(text)
                    failures.append(failure)
        finally:
            for _, process, _ in self.beside:
                process.kill()
                process.wait()
        if failures:
            raise ExceptionGroup("commands that fail", failures)

    def _stop(self) -> None:
        for command, process, log in self.beside:
            if command.module in BESIDE:
                process.send_signal(signal.SIGTERM)
            assert process.wait(_LONGEST) == 0, f"{command.text}\n{log.read_text()}"

    def _step(self, command: Command) -> None:
        words = shortened(command)
        if words in self.done:
            return
        if missing := self.things.lay_out(command):
            self.left_out.append(f"{command.text}: {missing}")
            return
        began = time.monotonic()
        if not command.module:
            self._in_a_shell(command)
        elif command.module in BESIDE or command.text.startswith("TF_CONFIG="):
            self._beside(command)
        elif self.in_processes:
            process, log = self._start(command, [])
            assert process.wait(_LONGEST) == 0, f"{command.text}\n{log.read_text()}"
            print(log.read_text())
        else:
            self._here(command)
        print(f"WALKED in {time.monotonic() - began:.1f} s: {command.text}")
        if command.module and not _OF_A_PAGE.search(" ".join(words)):
            self.done.add(words)

    def _here(self, command: Command) -> None:
        arguments = [*command.arguments, *tail(command)]
        if command.module == CONSOLE_MODULE:
            code = importlib.import_module(f"{CONSOLE_MODULE}.__main__").run(arguments)
        else:
            try:
                code = program(command.module).main(arguments)
            except SystemExit as ended:
                code = ended.code
        assert not code, f"{command.page}: {command.text} {' '.join(tail(command))}: exit code {code}"

    def _beside(self, command: Command) -> None:
        process, log = self._start(command, [] if self.in_processes else tail(command))
        self.beside.append((command, process, log))
        ready, end = "Try it:" if command.module in BESIDE else "", time.monotonic() + _LONGEST
        while ready not in log.read_text():
            assert process.poll() is None, f"{command.text}\n{log.read_text()}"
            assert time.monotonic() < end, f"{command.text} does not say {ready!r}\n{log.read_text()}"
            time.sleep(0.1)

    def _start(self, command: Command, more: Sequence[str]) -> tuple[subprocess.Popen, Path]:
        given = dict(word.split("=", 1) for word in shlex.split(command.text, comments=True) if re.match(r"[A-Z_]+=", word))
        paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        log = Path(f"{time.monotonic_ns()}.log")
        with log.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", command.module, *command.arguments, *more],
                env={**os.environ, "PYTHONPATH": paths, **given},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        return process, log

    def _in_a_shell(self, command: Command) -> None:
        own = Path(sys.executable).parent
        environment = {**os.environ, "PATH": f"{own}{os.pathsep}{os.environ['PATH']}"}
        needed = [name for name in ("curl", "saved_model_cli") if name in command.text]
        if missing := [name for name in needed if not shutil.which(name, path=environment["PATH"])]:
            self.left_out.append(f"{command.text}: {', '.join(missing)} is not installed")
            return
        done = subprocess.run(["bash", "-c", command.text], env=environment, capture_output=True, text=True, timeout=_LONGEST)
        said = f"{command.text}\n{done.stdout}\n{done.stderr}"
        assert done.returncode == 0, said
        assert done.stdout.strip(), said
        assert '"error"' not in done.stdout, said


def train_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that start runs as processes make them here: TensorFlow is imported already."""
    from r2d2_tf import train
    from tools.shared import runner
    from tools.tune import trials

    def trained(command: Sequence[str]) -> int:
        assert list(command[:3]) == [sys.executable, "-m", "r2d2_tf.train"]
        return train.main(command[3:])

    monkeypatch.setattr(runner, "run_to_the_end", lambda command, pass_fds=(): trained(command))
    monkeypatch.setattr(trials, "run_jobs", lambda jobs, at_once, **_: [trained(job.command()) for job in jobs])
