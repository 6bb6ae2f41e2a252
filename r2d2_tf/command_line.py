"""From command lines and flagfiles to a Config. Needs no TensorFlow."""

import dataclasses
import difflib
import re
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from r2d2_tf.config import Config


def define_flags(flag_values: flags.FlagValues) -> None:
    """Defines one flag for each field of Config in `flag_values`."""
    define = {bool: flags.DEFINE_bool, int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string}
    for field in dataclasses.fields(Config):
        define[type(field.default)](field.name, field.default, field.metadata["help"], flag_values=flag_values)


def from_flags(flag_values: flags.FlagValues) -> Config:
    """The Config that parsed flags describe."""
    return Config(**{field.name: flag_values[field.name].value for field in dataclasses.fields(Config)})


def parse_flags(flag_values: flags.FlagValues, arguments: Sequence[str]) -> None:
    """Parses `--flag=value` and `--flagfile=FILE` arguments (without the program's name); later settings win.

    Raises:
        ValueError: for an unknown flag, a malformed value, a missing flagfile, or an argument or a
            flagfile's line that does not begin with `--`.
    """
    try:
        expanded = flag_values.read_flags_from_files(list(arguments), force_gnu=True)
        # absl reads over both: flags that nobody defines, and a flagfile without a name.
        for argument in (*expanded, *arguments):
            if argument.lstrip("-").split("=")[0] == "undefok" or argument.lstrip("-") == "flagfile=":
                raise flags.Error(f"{argument} is not allowed")
        leftover = flag_values(["program", *expanded])[1:]
    except flags.UnrecognizedFlagError as error:
        near = difflib.get_close_matches(error.flagname, list(flag_values), n=1)
        hint = f"did you mean --{near[0]}?" if near else "--help lists the flags"
        raise ValueError(f"there is no flag --{error.flagname}: {hint}") from error
    except (flags.Error, UnicodeDecodeError, ValueError) as error:
        message = str(error).removeprefix("ERROR:: ").replace("\n", " ")
        raise ValueError(f"cannot read the flags: {message}; write --flag=value (--help lists them)") from error
    if leftover:
        raise ValueError(
            f"{leftover[0]!r} is not a flag: every argument and every line of a flagfile begins with --, as in --alpha=0.1"
        )


def from_command_line(arguments: Sequence[str]) -> Config:
    """The Config of a command line; a run without `--name` is named after the last flagfile on it.

    Raises:
        ValueError: for whatever `parse_flags` or `Config` refuse.
    """
    flag_values = flags.FlagValues()
    define_flags(flag_values)
    parse_flags(flag_values, arguments)
    config = from_flags(flag_values)
    return config if config.name else dataclasses.replace(config, name=_last_flagfile_stem(arguments) or config.dataset)


def _last_flagfile_stem(arguments: Sequence[str]) -> str:
    joined = re.findall(r"^--?flagfile(?:=|\n)(.+)$", "\n".join(arguments), re.MULTILINE)
    return Path(joined[-1]).stem if joined else ""


def flag_help() -> str:
    """All flags, their defaults and what they mean, for `--help`."""
    lines = []
    for field in dataclasses.fields(Config):
        choices = field.metadata.get("choices")
        among = f" ({' | '.join(choices)})" if choices else ""
        lines += [f"  --{field.name}={field.default}", f"      {field.metadata['help']}{among}"]
    return "\n".join(lines)
