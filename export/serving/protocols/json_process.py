"""A process beside the server, for large JSON: reading it holds the interpreter, and all other requests with it.

The same module is the program of that process.
"""

import asyncio
import gc
import os
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

from export.serving.errors import Code, ServingError

_NICENESS = 5
"""The process gets less of the processor than the server: those who ask for much wait for those who ask for little."""


class JsonProcess:
    """Calls functions in the process, one at a time. It is started when it is first needed, and again if it was killed."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="json")
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    async def call(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """What `function`, of a module, returns in the process; it is waited for in a thread.

        Raises:
            ServingError: if it raises one, or the process is gone.
            RuntimeError: if it raises anything else, with its traceback.
        """
        call = (function, arguments, named)
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._call, call)

    def _call(self, call: Any) -> Any:
        try:
            if self._connection is None:
                self._start()
            self._connection.send(call)  # type: ignore[union-attr]
            answer, refusal, failure = self._connection.recv()  # type: ignore[union-attr]
        except (EOFError, OSError) as error:
            self._end()
            message = "the process that reads large messages was ended: try again, or send fewer at a time"
            raise ServingError(Code.UNAVAILABLE, message) from error
        if refusal:
            raise ServingError(*refusal)
        if failure:
            raise RuntimeError(failure)
        return answer

    def _start(self) -> None:
        own, other = socket.socketpair()
        with own, other:
            # By the path of this process, as a wheel has its programs where only it finds them. Signals of a terminal are
            # for the server, whose end the process sees by the end of the connection.
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(other.fileno())],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[other.fileno()],
                start_new_session=True,
            )
            self._connection = Connection(own.detach())

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _end(self) -> None:
        self._kill()
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None

    def close(self) -> None:
        """Ends the process, which is doing nothing that anybody waits for."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        # The thread may be reading from the connection, and closes it.
        self._kill()


def _answered(call: Any) -> tuple[Any, tuple[Code, str] | None, str]:
    """What a function returns, or how it refuses, or what went wrong."""
    function, arguments, named = call
    try:
        return function(*arguments, **named), None, ""
    except ServingError as error:
        return None, (error.code, str(error)), ""
    except Exception:
        return None, None, traceback.format_exc()


def main(descriptor: int) -> None:
    """Answers calls until the server is gone."""
    os.nice(_NICENESS)
    # A list for each pixel, of which none is garbage, makes for many collections: four fifths of the time of reading JSON.
    gc.disable()
    connection = Connection(descriptor)
    while True:
        try:
            connection.send(_answered(connection.recv()))
        except (EOFError, OSError):
            return


if __name__ == "__main__":
    main(int(sys.argv[1]))
