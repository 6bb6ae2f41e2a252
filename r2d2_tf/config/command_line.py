"""From command lines and flagfiles to a Config. Needs no TensorFlow."""

import dataclasses
import difflib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from r2d2_tf.config.config import Config
from r2d2_tf.config.flag_help import FULL_HELP, HELP, flags_text, full_text, printed
from r2d2_tf.config.identity import OF_BEFORE
from r2d2_tf.config.path_flags import define_path
from r2d2_tf.system import terminal
from r2d2_tf.system.commands import brought, in_text
from r2d2_tf.system.messages import mistake, one_line

_DEEPEST = 8
"""How many flagfiles may include each other, one in another."""
_LARGEST = 2**20
"""Bytes of a flagfile."""
_LONGEST_FLAG = 100
_FLAGS_OF_A_RUN = 35
"""The first runs with photographs wrote more."""
# Help shows flags under the module that asks for them to be defined, not under this one.
flags.disclaim_key_flags()


def run_with_flags(
    arguments: Sequence[str], about: str, flag_values: flags.FlagValues, work: Callable[[flags.FlagValues], int]
) -> int:
    """`run_program` where every argument is a flag: `work` gets them parsed; `about` stands above them in the help."""

    def body() -> int:
        parse_flags(flag_values, arguments)
        return work(flag_values)

    return run_program(arguments, f"{about}\n\n{flags_text(flag_values)}", body)


def run_program(arguments: Sequence[str], help_text: str, body: Callable[[], int]) -> int:
    """What every program does around its own work, `body`, which reads its flags and returns the exit code.

    Prints `help_text` where `--help` is asked for, and by `--helpfull` the flags of absl, too. A ValueError or OSError is one
    line and exit code 2; Ctrl-C is 130; and where nobody reads the output any more, as behind `| head`, the program ends in
    silence with 1.
    """
    try:
        if HELP in arguments or FULL_HELP in arguments:
            print(printed("\n\n".join([in_text(help_text).strip(), *([full_text()] if FULL_HELP in arguments else [])])))
            code = 0
        else:
            with terminal.plain_output():
                code = body()
        # What is left in the buffer would break the pipe when Python ends, with a traceback.
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def described(default: Any, help_text: str, **bounds: float) -> Any:
    """A field of a dataclass that is a flag, too; absl checks its bounds, and `is_path` writes ~ out."""
    return dataclasses.field(default=default, metadata={"help": help_text, **bounds})


def define_flags(flag_values: flags.FlagValues, settings: type = Config) -> None:
    """Defines in `flag_values` one flag for each field of a dataclass that has a help text."""
    define: dict[type, Callable[..., Any]] = {bool: flags.DEFINE_bool, int: flags.DEFINE_integer, float: flags.DEFINE_float}
    define |= {str: flags.DEFINE_string, list: flags.DEFINE_list}
    for field in dataclasses.fields(settings):
        if "help" in field.metadata:
            bounds = {key: field.metadata[key] for key in ("lower_bound", "upper_bound") if key in field.metadata}
            default = list(field.default) if isinstance(field.default, tuple) else field.default
            if field.metadata.get("is_path"):
                define_path(field.name, str(default), field.metadata["help"], flag_values=flag_values)
                continue
            define[type(default)](field.name, default, field.metadata["help"], flag_values=flag_values, **bounds)


def from_flags(flag_values: flags.FlagValues) -> Config:
    """The Config that parsed flags describe."""
    return Config(**{field.name: flag_values[field.name].value for field in dataclasses.fields(Config)})


def parse_flags(flag_values: flags.FlagValues, arguments: Sequence[str]) -> None:
    """Parses `--flag=value` and `--flagfile=FILE` arguments (without the program's name); later settings win.

    Raises:
        ValueError: in one line, for an unknown flag, a malformed value, a flagfile that cannot be read or includes itself,
            or an argument or a flagfile's line that does not begin with `--`.
    """
    try:
        leftover = flag_values(["program", *_expanded(arguments)])[1:]
    except flags.UnrecognizedFlagError as error:
        near = difflib.get_close_matches(error.flagname, list(flag_values), n=1)
        hint = f"did you mean --{near[0]}?" if near else "--help lists the flags"
        raise mistake(f"there is no flag --{error.flagname}: {hint}") from error
    except (flags.Error, OSError, ValueError) as error:
        raise mistake(f"cannot read the flags: {error}; write --flag=value (--help lists them)") from error
    if leftover:
        raise mistake(
            f"{leftover[0]!r} is not a flag: every argument and every line of a flagfile begins with --, as in --alpha=0.1"
        )


def _expanded(arguments: Sequence[str], including: tuple[Path, ...] = ()) -> Iterator[str]:
    """The arguments, and in place of each flagfile its lines; `including` are the files in which `arguments` stand.

    absl's own reading hangs on a pipe and on files that include each other many times, reads over a file that includes itself
    with a warning, and over a flagfile without a name in silence.
    """
    for argument in _with_flagfiles(arguments):
        if isinstance(argument, str):
            flag = argument.lstrip("-").partition("=")[0]
            if flag == "undefok":
                raise ValueError(f"{argument} is not allowed")
            # absl looks for the flag that was meant, and of a name too long recurses too deeply.
            if argument.startswith("-") and len(flag) > _LONGEST_FLAG:
                raise ValueError(f"there is no flag --{flag}")
            yield argument
            continue
        path = argument.resolve()
        if path in including:
            raise ValueError(f"flagfile {argument} includes itself")
        if len(including) == _DEEPEST:
            raise ValueError(f"flagfile {argument} is included by more than {_DEEPEST} others, one in another")
        # A pipe or a device might never end.
        if not path.is_file():
            raise ValueError(f"flagfile {argument} does not exist, or is no file")
        if path.stat().st_size > _LARGEST:
            raise ValueError(f"flagfile {argument} is larger than {_LARGEST:,} bytes: is it a text of flags?")
        # "sig": some editors begin a text with a byte order mark.
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
        lines = [line for line in lines if line and not line.startswith(("#", "//"))]
        yield from _as_before(lines)
        yield from _expanded(lines, (*including, path))


def _as_before(lines: Sequence[str]) -> Iterator[str]:
    """The flags that a flagfile lacks if it is what a run wrote that did not know them, or is made of one: it stays as it was.

    A run writes all its flags, a person never so many.
    """
    names = {line.lstrip("-").partition("=")[0] for line in lines}
    if len(names) >= _FLAGS_OF_A_RUN:
        yield from (f"--{name}={value}" for name, value in OF_BEFORE.items() if name not in names)


def _with_flagfiles(arguments: Sequence[str]) -> Iterator[str | Path]:
    """The arguments, flagfiles (`--flagfile=FILE`, `--flagfile FILE`) as paths."""
    remaining = iter(arguments)
    for argument in remaining:
        flag, equals, value = argument.partition("=")
        if flag not in ("--flagfile", "-flagfile"):
            yield argument
            continue
        name = value if equals else next(remaining, "")
        if not name:
            raise ValueError("--flagfile names no file")
        yield brought(Path(os.path.expanduser(name)))


def named_flags(arguments: Sequence[str]) -> dict[str, Any]:
    """The flags that a command line, or a flagfile on it, names, with their values."""
    flag_values = flags.FlagValues()
    define_flags(flag_values)
    parse_flags(flag_values, arguments)
    return {
        field.name: flag_values[field.name].value for field in dataclasses.fields(Config) if flag_values[field.name].present
    }


def from_command_line(arguments: Sequence[str]) -> Config:
    """The Config of a command line; a run without `--name` is named after the last flagfile on it.

    Raises:
        ValueError: in one line, for whatever `parse_flags` or `Config` refuse.
    """
    flag_values = flags.FlagValues()
    define_flags(flag_values)
    parse_flags(flag_values, arguments)
    config = from_flags(flag_values)
    stems = [argument.stem for argument in _with_flagfiles(arguments) if isinstance(argument, Path)]
    return config if config.name else dataclasses.replace(config, name=stems[-1] if stems else config.default_name)
