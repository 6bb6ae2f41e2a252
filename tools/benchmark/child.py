"""`python -m tools.benchmark.child REQUEST RESULT`: one function in a process of its own, see measuring.in_fresh_process."""

import importlib
import pickle
import sys
from pathlib import Path

from tools.benchmark.measuring import PartFailed


def main(request: str, result: str) -> None:
    """Calls the function that the file `request` names, and writes what it returns into the file `result`."""
    function, settings, arguments = pickle.loads(Path(request).read_bytes())
    module, name = function.split(":")
    answer = getattr(importlib.import_module(f"tools.benchmark.arms.{module}"), name)(settings, *arguments)
    Path(result).write_bytes(pickle.dumps(answer))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (OSError, PartFailed) as error:
        sys.exit(f"error: {error}")
