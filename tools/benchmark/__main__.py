"""`python -m tools.benchmark`: what the program costs, beside what it could cost.

Each part compares arms that take turns in one process, and prints a Markdown table: ratios of the medians first (and the
range of the rounds' own ratios), then medians and ranges. --json=FILE writes every round. To be measured on a machine that
does nothing else; --quick is a first look. What is compared with PyTorch needs torch: see docs/results/cost.md.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from r2d2_tf.config.command_line import run_program
from r2d2_tf.config.flag_help import flags_text
from r2d2_tf.system import files, provenance
from r2d2_tf.system.commands import shown
from tools.benchmark.measuring import PartFailed, Row, in_fresh_process, table
from tools.benchmark.settings import PARTS, Settings, define_flags, parse


def main(arguments: Sequence[str]) -> int:
    """Runs the command line `arguments` and returns the exit code."""
    flag_values = flags.FlagValues()
    define_flags(flag_values)
    parts = "\n".join(f"  {name:12}  {what}" for name, what in PARTS.items())
    help_text = f"{__doc__}\n\n{flags_text(flag_values)}\n\nParts:\n{parts}"
    return run_program(arguments, help_text, lambda: _run(flag_values, arguments))


def _run(flag_values: flags.FlagValues, arguments: Sequence[str]) -> int:
    settings = parse(flag_values, arguments)
    where = provenance_of(arguments, settings)
    print("\n".join(heading(where)))
    measured: dict[str, list[Row]] = {}
    failed = False
    for name in settings.parts:
        try:
            # A process each: its memory, threads and devices are its own.
            measured[name] = in_fresh_process(f"{name}:part", settings)
        except PartFailed as error:
            print(f"error: {name} was not measured: {error}", file=sys.stderr)
            failed = True
            continue
        print("\n".join(["", f"**{name}**: {PARTS[name]}", *table(measured[name])]), flush=True)
    if flag_values["json"].value:
        numbers = json.dumps(where | {"parts": measured}, indent=2, default=Row.to_json)
        files.write_text(Path(flag_values["json"].value), f"{numbers}\n")
    return 1 if failed else 0


def provenance_of(arguments: Sequence[str], settings: Settings) -> dict[str, Any]:
    return {
        "command": " ".join([shown("tools.benchmark"), *arguments]),
        "machine": provenance.machine(),
        "commit": provenance.git_commit(),
        "threads": settings.threads,
        "versions": provenance.versions("torch"),
        "rounds": settings.rounds,
        "seconds": settings.seconds,
    }


def heading(where: dict[str, Any]) -> list[str]:
    """The same in words."""
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    source = provenance.told_commit(where["commit"])
    return [
        f"    $ {where['command']}",
        "",
        f"{where['machine']}, {where['threads']} threads; {source}; {versions}. Medians of {where['rounds']} "
        f"alternating rounds of about {where['seconds']:g} s, and their range.",
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
