"""What `--help` prints: what a program is for, and the flags of a run in their groups, as wide as the terminal."""

import dataclasses
import itertools
import shutil
import textwrap

from absl import flags

from r2d2_tf.config.config import Config

_FLAGFILE = ("flagfile=FILE", "flags of this list, one a line; of several settings of a flag the last wins")
_NARROWEST = 40
"""Columns."""


def help_text(about: str, *, full: bool = False) -> str:
    """The flags of a run, their defaults and what they mean, below what the program is; if `full`, with absl's own."""
    width = max(_NARROWEST, shutil.get_terminal_size().columns)
    paragraphs = [*about.strip().split("\n\n"), "Flags and their defaults; what is true or false is set by --NAME or --noNAME."]
    blocks = [_wrapped(paragraph, width) for paragraph in paragraphs]
    for group, fields in itertools.groupby(dataclasses.fields(Config), lambda field: field.metadata["group"]):
        entries = [_entry(f"{field.name}={_default(field)}", _meaning(field), width) for field in fields]
        # No field of Config, and of every day.
        entries += [_entry(*_FLAGFILE, width)] if len(blocks) == len(paragraphs) else []
        blocks.append("\n".join([group, *entries]))
    if full:
        own = textwrap.indent(flags.FlagValues().get_help(), "  ")
        blocks.append(f"Of absl, which parses them; --undefok is refused\n{own}")
    return "\n\n".join(blocks)


def _default(field: dataclasses.Field) -> str:
    return str(field.default).lower() if isinstance(field.default, bool) else str(field.default)


def _meaning(field: dataclasses.Field) -> str:
    choices = [*field.metadata.get("choices", ()), *filter(None, [field.metadata.get("others")])]
    return f"{field.metadata['help']} ({' | '.join(choices)})" if choices else field.metadata["help"]


def _entry(flag: str, meaning: str, width: int) -> str:
    return f"  --{flag}\n{_wrapped(meaning, width, ' ' * 6)}"


def _wrapped(text: str, width: int, indent: str = "") -> str:
    # What a person may copy, such as a flag or a path, stays in one piece.
    return textwrap.fill(
        text, width, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
