"""What a command line asks for beside plain flags: seeds, names, and the flags of a run."""

from collections.abc import Iterable, Sequence

from absl import flags

from r2d2_tf.config.command_line import parse_flags
from r2d2_tf.system.files import with_home


def parse_seeds(texts: Iterable[str]) -> list[int]:
    """Seeds in the order in which they are asked for, each once.

    Raises:
        ValueError: if there is none, or one is no whole number.
    """
    try:
        seeds = list(dict.fromkeys(int(text) for text in texts))
    except ValueError:
        seeds = []
    if not seeds:
        raise ValueError("say which seeds to run, separated by commas, as in --seeds=0,1,2")
    return seeds


def define_stage(flag_values: flags.FlagValues) -> None:
    """Defines `--stage`."""
    flags.DEFINE_integer(
        "stage", 0, "of a run, the stage whose network it is; 0: the result", 0, upper_bound=3, flag_values=flag_values
    )


def parse_own(own: flags.FlagValues, arguments: Sequence[str]) -> list[str]:
    """Parses the arguments that are of a tool's `own` flags; returns the others, which are a run's.

    Raises:
        ValueError: in one line, if a value is wrong.
    """
    names = {f"--{prefix}{name}" for name in own for prefix in ("", "no" * own[name].boolean)}
    mine = [argument for argument in arguments if argument.partition("=")[0] in names]
    parse_flags(own, mine)
    return [argument for argument in arguments if argument not in mine]


def parse_with_names(flag_values: flags.FlagValues, arguments: Sequence[str]) -> list[str]:
    """Parses `--flag=value` arguments and returns the others, names of files or folders; after a `--` all are others.

    Raises:
        ValueError: in one line, for whatever `parse_flags` refuses.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    own, rest = arguments[:end], list(arguments[end + 1 :])
    parse_flags(flag_values, [argument for argument in own if argument.startswith("-")])
    return [with_home(name) for name in [argument for argument in own if not argument.startswith("-")] + rest]
