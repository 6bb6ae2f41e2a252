"""Sends generated messages to a running server, and checks each answer.

`PYTHONPATH=. python tests/serving_fuzz.py COUNT [SEED]` starts a server, sends it COUNT messages, and prints what was answered
as JSON. It fails at the first message that is answered by a 5xx, by a status that blames the server, or after more than two
seconds; and in the end if the log has a traceback, or the server's memory has grown.
"""

import json
import socket
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import grpc
import hypothesis
import hypothesis.configuration
import numpy as np
from generated_messages import BODY_BYTES, RAW, Message, messages
from serving import SIDE, expected, write_model

from export import serving_protocol
from tools.load_test.load_report import MOST_GROWTH
from tools.shared.server_process import ServerProcess

SECONDS = 2.0
"""What an answer may take."""
LONGEST_MESSAGE = 600
CODES = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED"}
PROBABILITIES = expected(np.repeat(np.arange(256, dtype=np.uint8), SIDE * SIDE).reshape(-1, SIDE, SIDE, 1))
"""Of images of one value, by that value."""


class Client:
    """Sends messages, and counts what was answered."""

    def __init__(self, rest_address: str, grpc_address: str) -> None:
        self._rest = rest_address
        self._http = HTTPConnection(rest_address, timeout=60)
        self._channel = grpc.insecure_channel(grpc_address, options=[("grpc.max_send_message_length", -1)])
        self.answers: Counter[str] = Counter()
        self.slowest = (0.0, "")

    def close(self) -> None:
        self._http.close()
        self._channel.close()

    def check(self, message: Message) -> None:
        """Asserts that the answer to a message is one of a server that is well."""
        started = time.perf_counter()
        if message.verb == RAW:
            code, told = self._raw(message.body)
        elif message.verb:
            code, told = self._ask_rest(message)
        else:
            code, told = self._ask_grpc(message)
        seconds = time.perf_counter() - started
        self.answers[f"{'grpc' if not message.verb else 'raw' if message.verb == RAW else 'rest'} {code}"] += 1
        self.slowest = max(self.slowest, (seconds, f"{code} {message!r:.200}"))
        assert seconds < SECONDS, f"{code} after {seconds:.1f} s"
        assert message.pixel is None or code in ("200", "OK"), told

    def _ask_rest(self, message: Message) -> tuple[str, str]:
        try:
            self._http.request(message.verb, message.path, message.body, dict(message.headers))
            response = self._http.getresponse()
            content = response.read()
        except OSError:
            # The server may answer and close before it has read the whole body.
            self._http.close()
            return "closed", ""
        assert response.status < 500, content[:LONGEST_MESSAGE]
        if message.pixel is not None:
            (row,) = json.loads(content)["predictions"]
            np.testing.assert_allclose(row["probabilities"], PROBABILITIES[message.pixel], atol=1e-5)
        if message.headers:
            # After an offer to upgrade nothing more is read from a connection.
            self._http.close()
        if response.status >= 400 and message.verb != "HEAD":
            told = json.loads(content)["error"]
            assert told.isprintable(), told
            assert 0 < len(told) <= LONGEST_MESSAGE
        return str(response.status), content[:LONGEST_MESSAGE].decode(errors="replace")

    def _ask_grpc(self, message: Message) -> tuple[str, str]:
        try:
            answer = self._channel.unary_unary(message.path)(message.body, timeout=60)
        except grpc.RpcError as error:
            code, told = error.code().name, error.details() or ""
            assert code in CODES, f"{code}: {told}"
            assert told.isprintable(), told
            assert len(told) <= LONGEST_MESSAGE
            return code, told
        if message.pixel is not None:
            outputs = serving_protocol.PredictResponse.FromString(answer).outputs
            (probabilities,) = serving_protocol.array_of(outputs["probabilities"])
            np.testing.assert_allclose(probabilities, PROBABILITIES[message.pixel], atol=1e-5)
        return "OK", ""

    def _raw(self, content: bytes) -> tuple[str, str]:
        host, port = self._rest.split(":")
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            try:
                connection.sendall(content)
                connection.shutdown(socket.SHUT_WR)
                answer = b"".join(iter(lambda: connection.recv(65_536), b""))
            except OSError:
                return "closed", ""
        assert not any(line.startswith((b"HTTP/1.1 5", b"HTTP/1.0 5")) for line in answer.split(b"\r\n")), answer
        return "answered" if answer else "closed", ""


def send(client: Client, count: int, folder: Path, *, seed: int = 0, after_each: Callable[[], Any] = lambda: None) -> None:
    """Sends `count` generated messages, and checks each answer; hypothesis keeps its files in `folder`."""
    hypothesis.configuration.set_hypothesis_home_dir(folder / "hypothesis")

    @hypothesis.seed(seed)
    @hypothesis.settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(messages)
    def body(message):
        client.check(message)
        after_each()

    with warnings.catch_warnings():
        # What is drawn from is long.
        warnings.simplefilter("ignore", hypothesis.errors.HypothesisWarning)
        body()


def main(count: int, seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder) / "tiny" / "1")
        with ServerProcess(Path(folder) / "tiny", "tiny", f"--max_body_bytes={BODY_BYTES}") as server:
            client, memory = Client(server.rest, server.grpc), []

            def note() -> None:
                if client.answers.total() % max(1, count // 10) == 0:
                    memory.append(server.memory())

            started = time.monotonic()
            send(client, count, Path(folder), seed=seed, after_each=note)
            seconds = time.monotonic() - started
            client.close()
            exit_code, log = server.stop(), server.log()
    found = {
        "messages": client.answers.total(),
        "seconds": round(seconds, 1),
        "slowest_ms": round(1000 * client.slowest[0]),
        "slowest": client.slowest[1],
        "memory_mib": [held // 2**20 for held in memory],
        "answers": dict(sorted(client.answers.items())),
        "log_lines": log.count("\n"),
    }
    print(json.dumps(found, indent=1))
    assert exit_code == 0, exit_code
    assert "Traceback" not in log, log[-3000:]
    assert "internal error" not in log, log[-3000:]
    assert memory[-1] < memory[0] * (1 + MOST_GROWTH), memory


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
