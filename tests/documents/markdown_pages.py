"""The Markdown of the project: its lines, links, headings and the shell commands in its code."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from conftest import ROOT

from r2d2_tf.system.commands import BY_NAME, CONSOLE_MODULE
from r2d2_tf.system.commands import name_of as name_of_program

DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
NOT_RUN = "**not run here"
"""Marks, in the paragraph above them, commands that no test runs; the words after it say why."""
_FENCE = re.compile(r"^\s*```(\w*)")
_COMMAND = re.compile(r"(?:^|[\s'(])(?:\S*/)?(?:python3? -m (?P<module>[\w.]+)|r2d2(?= ))(?P<rest>.*)")
_OTHERS = re.compile(r"^(?:\S*/)?(?:make|pip|curl|docker|srun|saved_model_cli|python3?|\(printf)(?= )")
_IN_BACKTICKS = ("python -m ", ".venv/bin/python -m ", "make ", "pip install ", "pip check", "r2d2 ")
"""How code begins that is a command, or the name of one, in the midst of a sentence."""


class Block(NamedTuple):
    """Code of a page. `kind`: of a fence, or "indented"; `above`: the paragraph before it."""

    kind: str
    lines: list[str]
    above: str


class Command(NamedTuple):
    """A command as it stands in a page; `module` is what `python -m` runs, or "" for other programs.

    `is_inline`: it stands between backticks, in a sentence or in a cell of a table.
    """

    page: str
    text: str
    module: str
    arguments: list[str]
    is_marked: bool
    is_inline: bool = False


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def parts(page: Path) -> tuple[list[str], list[Block]]:
    """The lines of a page that are no code, and its code."""
    prose: list[str] = []
    blocks: list[Block] = []
    block: Block | None = None
    is_fenced = False
    for line in page.read_text().splitlines():
        if fence := _FENCE.match(line):
            is_fenced = not is_fenced
            block = Block(fence[1], [], _paragraph_above(prose)) if is_fenced else None
            blocks += [block] if block else []
        elif is_fenced and block:
            block.lines.append(line)
        elif line.startswith("    ") and (block or not prose or not prose[-1].strip()):
            if block is None:
                block = Block("indented", [], _paragraph_above(prose))
                blocks.append(block)
            block.lines.append(line)
        else:
            block = None
            prose.append(line)
    return prose, blocks


def _paragraph_above(prose: list[str]) -> str:
    text = "\n".join(prose).rstrip()
    return text.rpartition("\n\n")[2]


def commands() -> Iterator[Command]:
    """All commands of all pages, those between backticks too."""
    for page in PAGES:
        prose, blocks = parts(page)
        for block in blocks:
            if block.kind in ("indented", "sh"):
                for line in re.sub(r"\s*\\\n\s*", " ", "\n".join(block.lines)).splitlines():
                    yield from commands_in(line.strip(), page=name_of(page), is_marked=_is_mark(block.above))
        for text in _pieces(prose):
            for code in re.findall(r"`([^`]+)`", text):
                if code.startswith(_IN_BACKTICKS):
                    found = commands_in(" ".join(code.split()), page=name_of(page), is_marked=_is_mark(text))
                    yield from (command._replace(is_inline=True) for command in found)


def _is_mark(text: str) -> bool:
    return NOT_RUN in " ".join(text.lower().split())


def _pieces(prose: list[str]) -> Iterator[str]:
    """Paragraphs, and of tables each row."""
    for paragraph in "\n".join(prose).split("\n\n"):
        yield from paragraph.splitlines() if paragraph.lstrip().startswith("|") else [paragraph]


def commands_in(text: str, *, page: str, is_marked: bool) -> Iterator[Command]:
    """The command in a line, if there is one."""
    if found := _COMMAND.search(text):
        # In quotes it is a part of another command, which closes them.
        rest = found["rest"].rstrip("'") if found["rest"].count("'") % 2 else found["rest"]
        arguments = shlex.split(rest, comments=True)
        module = found["module"] or CONSOLE_MODULE
        if module == CONSOLE_MODULE and arguments and not arguments[0].startswith("-"):
            # A name that is none stands for itself, and fails where commands are looked for.
            module = BY_NAME.get(name_of_program(arguments[0]), arguments[0])
            del arguments[0]
        yield Command(page, text, module, arguments, is_marked)
    elif other := _OTHERS.match(text):
        yield Command(page, text, "", [other[0], *text[other.end() :].partition(" #")[0].split()], is_marked)


def anchors(page: Path) -> set[str]:
    """What headings are called in links, as GitHub and the site make them."""
    prose, _ = parts(page)
    titles = [line.lstrip("#").strip() for line in prose if line.startswith("#")]
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


def links(page: Path) -> list[str]:
    prose, _ = parts(page)
    return re.findall(r"\]\(([^)\s]+)\)", "\n".join(prose))
