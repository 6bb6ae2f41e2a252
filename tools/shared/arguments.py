"""The seeds that a command line asks for."""

from collections.abc import Iterable, Sequence

from absl import flags

from r2d2_tf.config.command_line import parse_flags


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


def parse(flag_values: flags.FlagValues, arguments: Sequence[str]) -> list[str]:
    """Parses `--flag=value` arguments and returns the others; after a `--` all are others.

    Raises:
        ValueError: in one line, for whatever `parse_flags` refuses.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    own, rest = arguments[:end], list(arguments[end + 1 :])
    parse_flags(flag_values, [argument for argument in own if argument.startswith("-")])
    return [argument for argument in own if not argument.startswith("-")] + rest
