"""Command lines that take names of files beside flags."""

from collections.abc import Sequence

from absl import flags

from r2d2_tf.command_line import parse_flags


def parse(flag_values: flags.FlagValues, arguments: Sequence[str]) -> list[str]:
    """Parses `--flag=value` arguments and returns the others; after a `--` all are others.

    Raises:
        ValueError: in one line, for whatever `parse_flags` refuses.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    own, rest = arguments[:end], list(arguments[end + 1 :])
    parse_flags(flag_values, [argument for argument in own if argument.startswith("-")])
    return [argument for argument in own if not argument.startswith("-")] + rest
