"""`python -m tools.load_test --model=RUN/export/saved_model`: thousands of requests, and what became of each.

Starts export.serve on this machine, sends right and wrong requests by REST and gRPC, more and more at a time, compares each
answer with the model run directly, watches the server's memory, and sends SIGTERM in the middle of load. With --swaps and
--kills other versions take over and the server is killed meanwhile; with --attacks another one is attacked. Prints Markdown;
the exit code is 1 if a promise is broken. The client runs beside the server, and takes its part of the processor.
"""

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from r2d2_tf.config.command_line import run_with_flags
from r2d2_tf.system.startup import import_tensorflow_quietly
from tools.load_test.load_settings import Settings, define_flags, settings_of


def main(arguments: Sequence[str]) -> int:
    """Runs the command line `arguments` and returns the exit code."""
    return run_with_flags(arguments, __doc__, define_flags(), lambda values: _test(settings_of(values)))


def _test(settings: Settings) -> int:
    print(f"running {settings.model} directly, to know the answers ...", flush=True)
    import_tensorflow_quietly()
    from tools.load_test import load_report
    from tools.load_test.attacks import attack
    from tools.load_test.disturbances import copied_model
    from tools.load_test.load_stages import LoadTest, largest_body
    from tools.load_test.reference import Reference
    from tools.shared.server_process import ServerProcess

    reference = Reference(settings.model, settings.images, seed=settings.seed)
    most = largest_body(reference)
    with contextlib.ExitStack() as stack:
        process, model = None, settings.model
        # Of a server that is ours, the memory and the stop can be tested.
        if not settings.rest:
            print("starting the server ...", flush=True)
            if settings.swaps:
                model = copied_model(model, Path(stack.enter_context(tempfile.TemporaryDirectory())))
            process = stack.enter_context(ServerProcess(model, settings.name, f"--max_body_bytes={most}"))
        load_test = LoadTest(settings, reference, process, model, oversized_bytes=most + 1 if process else 0)
        found = asyncio.run(load_test.run())
    if settings.attacks:
        print("attacking another server ...", flush=True)
        found = found._replace(attacks=asyncio.run(attack(settings, reference)))
    print(f"\n{load_report.table(found.stages, reference.loops)}\n\n{load_report.summary(found)}")
    if found.attacks:
        print(f"\n{load_report.attack_table(found.attacks)}")
    broken = load_report.broken_promises(found, tolerance=settings.tolerance)
    for line in broken:
        print(f"error: {line}", file=sys.stderr)
    if not broken:
        print("All promises are kept.")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
