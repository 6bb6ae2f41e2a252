"""A run in words: what it learned from, which network is its result and why. Needs no TensorFlow."""

from pathlib import Path
from typing import Any

from r2d2_tf.config.config import Config
from r2d2_tf.data.datasets import OWN_SETS
from r2d2_tf.runs import run_directory
from r2d2_tf.runs.outcome import schema

NO_BREAK = "\N{NO-BREAK SPACE}"


def title_of(config: Config, summary: dict[str, Any]) -> str:
    """What a run learned from, in a few words: its name, and that of its folder or file where it does not say it."""
    data = Path(config.data_dir).name if config.dataset in OWN_SETS else config.dataset
    name = data if summary["name"] in (data, config.dataset) else f"{summary['name']} ({data})"
    return f"{name}, seed {summary['seed']}"


def chosen_words(run_dir: Path, summary: dict[str, Any]) -> list[str]:
    """Which network is the result and why, and what was chosen before it, a line each; [] of a run of before."""
    if "result" not in summary:
        return []
    result = f"The result is the network after stage {summary['result']['stage']}"
    path = run_dir / run_directory.CHOICE_FILE
    if path.is_file():
        # A record of before has them in one line.
        words = schema.choice_in(path).get("words") or f"Chosen: {summary['result']['why']}".split("; ")
        return [f"{result}.", *(line.strip() for line in words)]
    why = summary["result"]["why"].removeprefix(f"the network of stage {summary['result']['stage']}: ")
    return [f"{result}{', ' if why.startswith(('the last', 'asked')) else ': '}{why}."]
