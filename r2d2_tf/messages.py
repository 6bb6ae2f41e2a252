"""What an error says to people."""

import sys

LONGEST = 500
"""Characters of a message."""


def one_line(message: object) -> str:
    """`message` as one printable line, which may quote anything that somebody typed.

    Control characters are written as escapes. Of a longer message the middle is left out: what came stands at the beginning,
    how to mend it at the end.
    """
    words = " ".join(str(message).split())
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in words)
    half = LONGEST // 2 - 3
    return line if len(line) <= LONGEST else f"{line[:half]} ... {line[-half:]}"


def warn(text: str) -> None:
    """Prints a warning."""
    print(f"warning: {text}", file=sys.stderr)
