"""What `--help` prints: what a program is for, and its flags, those of a run in their groups; as wide as the terminal."""

import dataclasses
import itertools
import shutil
import textwrap

from absl import flags

from r2d2_tf.config.config import Config
from r2d2_tf.system import terminal

HELP, FULL_HELP = "--help", "--helpfull"
_FLAGFILE = ("flagfile=FILE", "flags of this list, one a line; of several settings of a flag the last wins")
_FLAGS = "Flags and their defaults; what is true or false is set by --NAME or --noNAME."


def help_text(about: str, *, full: bool = False) -> str:
    """The flags of a run, their defaults and what they mean, below what the program is; if `full`, with absl's own."""
    blocks = [about.strip(), _FLAGS]
    for group, fields in itertools.groupby(dataclasses.fields(Config), lambda field: field.metadata["group"]):
        entries = [_entry(f"{field.name}={_written(field.default)}", _meaning(field)) for field in fields]
        # No field of Config, and of every day.
        entries += [_entry(*_FLAGFILE)] if len(blocks) == 2 else []
        blocks.append("\n".join([group, *entries]))
    return printed("\n\n".join([*blocks, *([full_text()] if full else [])]))


def flags_text(flag_values: flags.FlagValues) -> str:
    """The flags of a program, their defaults and what they mean, in the order in which they were defined."""
    own = [flag_values[name] for name in flag_values if name not in flags.FlagValues()]
    entries = (_entry(f"{flag.name}={_written(flag.default)}", _meaning_of(flag)) for flag in own)
    return "\n".join([f"{_FLAGS}\n", *entries])


def full_text() -> str:
    """Absl's own flags."""
    return f"Of absl, which parses them; --undefok is refused\n{textwrap.indent(flags.FlagValues().get_help(), '  ')}"


def printed(text: str) -> str:
    """A help text as wide as the terminal, or 80 columns in a file: paragraphs are filled, other lines parted where need be."""
    width = max(terminal.NARROWEST, shutil.get_terminal_size().columns)
    blocks = (block.strip("\n") for block in text.split("\n\n"))
    return "\n\n".join(_filled(block, width) for block in blocks if block)


def _filled(block: str, width: int) -> str:
    if any(line.startswith(" ") for line in block.split("\n")):
        return terminal.fitted(block, width)
    # What a person may copy, such as a flag or a path, stays in one piece.
    return textwrap.fill(block, width, break_long_words=False, break_on_hyphens=False)


def _written(default: object) -> str:
    if isinstance(default, list):
        return ",".join(map(str, default))
    return "" if default is None else str(default).lower() if isinstance(default, bool) else str(default)


def _meaning(field: dataclasses.Field) -> str:
    return _with_choices(
        field.metadata["help"], [*field.metadata.get("choices", ()), *filter(None, [field.metadata.get("others")])]
    )


def _meaning_of(flag: flags.Flag) -> str:
    choices = getattr(flag.parser, "enum_values", None) or []
    # absl writes them before the words, and after those of a list that it may be given again.
    words = (flag.help or "").removeprefix(f"<{'|'.join(choices)}>: ").partition(";\n")[0]
    return _with_choices(words, choices)


def _with_choices(words: str, choices: list[str]) -> str:
    return f"{words} ({' | '.join(choices)})" if choices else words


def _entry(flag: str, meaning: str) -> str:
    return f"  --{flag}\n      {meaning}"
