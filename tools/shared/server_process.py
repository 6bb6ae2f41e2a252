"""A server in a process of its own, on free ports."""

import re
import signal
import subprocess
import tempfile
from pathlib import Path

import psutil

from r2d2_tf.system.commands import command_line, environment

STOP_SECONDS = 60
"""Until a server that was told to stop is killed."""


class ServerProcess:
    """Runs export.serve while it is entered.

    Attributes:
        rest, grpc: its addresses.
    """

    def __init__(self, model: Path, name: str, *flags: str) -> None:
        self._command = command_line("export.serve", [f"--model={model}", f"--name={name}"])
        self._command += ["--rest_port=0", "--grpc_port=0", *flags]
        self.rest = self.grpc = ""

    def __enter__(self) -> "ServerProcess":
        # A file rather than a pipe: nobody has to read it while the server writes.
        self._log = tempfile.TemporaryFile("w+")
        self._start()
        return self

    def _start(self) -> None:
        self._process = subprocess.Popen(self._command, env=environment(), stdout=subprocess.PIPE, stderr=self._log, text=True)
        try:
            self.rest, self.grpc = self._addresses()
        except BaseException:  # Ctrl-C too: nobody else would end the process.
            self.__exit__()
            raise

    def restart(self) -> None:
        """Kills the server without a word (kill -9), and starts it again at the same addresses."""
        self._end()
        ports = [f"--{flag}={at.rpartition(':')[2]}" for flag, at in (("rest_port", self.rest), ("grpc_port", self.grpc))]
        self._command += ports
        self._start()

    def _addresses(self) -> tuple[str, str]:
        said = ""
        for line in self._process.stdout or ():
            said += line
            if line.startswith("gRPC"):
                break
        addresses = re.search(r"^REST +http://([^/]+)/.*\ngRPC +(\S+)$", said, re.MULTILINE)
        if addresses is None:
            self._process.wait()
            raise ValueError(f"the server did not start: {self.log().strip().splitlines()[-1:]}")
        return addresses[1], addresses[2]

    def __exit__(self, *_: object) -> None:
        self._end()
        self._log.close()

    def _end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    def memory(self) -> int:
        """Bytes of memory that the server holds; 0 if it has ended."""
        return psutil.Process(self._process.pid).memory_info().rss if self.runs else 0

    def stop(self) -> int | None:
        """Sends SIGTERM, waits for the end, and returns the exit code; None if it had to be killed."""
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return None

    def log(self) -> str:
        self._log.seek(0)
        return self._log.read()
