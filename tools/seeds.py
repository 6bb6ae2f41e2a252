"""The seeds that a command line asks for."""

from collections.abc import Iterable


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
