"""`python -m tools.benchmark.child REQUEST RESULT`: one function in a process of its own, see measuring.in_fresh_process."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

from tools.benchmark.measuring import PartFailed, Row
from tools.benchmark.settings import Settings


def main(request_text: str, result: str) -> None:
    """Calls the function that the request, JSON, names, and writes what it returns into the file `result`."""
    request = json.loads(request_text)
    # JSON knows no tuples.
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in request["settings"].items()
    }
    module, function = request["function"].split(":")
    answer = getattr(importlib.import_module(f"tools.benchmark.arms.{module}"), function)(
        Settings(**values), *request["arguments"]
    )
    Path(result).write_text(json.dumps(answer, default=Row.to_json))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (OSError, PartFailed) as error:
        sys.exit(f"error: {error}")
