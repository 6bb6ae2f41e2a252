"""Connections to export.serve that say nothing, or too little, or do not read; and too many of them."""

import errno
import json
import socket
import time
from contextlib import ExitStack

import pytest
from serving import ROW, RunningServer, Slow, random_images, wait_until, write_model

from export.serving.protocols import site
from export.serving.server_settings import Settings

PREDICT = "/v1/models/tiny:predict"
HEAD = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\n".encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("connections") / "tiny"
    write_model(folder / "1")
    return folder


def connected(server):
    host, port = server.rest.split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def request_bytes():
    body = json.dumps(ROW).encode()
    return HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize("said", [b"", HEAD + b"X-"])
def test_a_connection_without_a_whole_head_is_closed(folder, said):
    with RunningServer(folder, head_seconds=0.3) as server, connected(server) as connection:
        connection.sendall(said)
        started = time.monotonic()
        assert connection.recv(100) == b""
        assert 0.2 < time.monotonic() - started < 3


def test_the_head_of_a_later_request_has_its_time_too_while_a_silent_connection_is_kept(folder):
    with RunningServer(folder, head_seconds=0.3) as server, connected(server) as connection:
        for _ in range(2):
            connection.sendall(request_bytes())
            assert connection.recv(10_000).startswith(b"HTTP/1.1 200 OK")
            time.sleep(0.5)
        connection.sendall(HEAD)
        assert connection.recv(100) == b""


def test_a_body_may_take_longer_than_a_head(folder):
    with RunningServer(folder, head_seconds=0.2) as server, connected(server) as connection:
        content = request_bytes()
        connection.sendall(content[:-10])
        time.sleep(0.5)
        connection.sendall(content[-10:])
        assert connection.recv(10_000).startswith(b"HTTP/1.1 200 OK")


def test_a_silent_connection_is_kept_only_so_long(folder, monkeypatch):
    monkeypatch.setattr("export.serving.protocols.site.IDLE_SECONDS", 0.3)
    with RunningServer(folder) as server, connected(server) as connection:
        connection.sendall(request_bytes())
        assert connection.recv(10_000).startswith(b"HTTP/1.1 200 OK")
        assert connection.recv(100) == b""


def answer_on(connection, content=None):
    connection.sendall(content or request_bytes())
    return connection.recv(10_000)


HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def soon_silent(monkeypatch):
    monkeypatch.setattr(site, "SILENT_SECONDS", 0.05)


def test_above_the_limit_the_connection_that_is_silent_for_longest_makes_room(folder, soon_silent):
    with RunningServer(folder, max_connections=2, max_connections_per_address=2) as server, ExitStack() as stack:
        first, second = (stack.enter_context(connected(server)) for _ in range(2))
        assert answer_on(first).startswith(b"HTTP/1.1 200 OK")
        time.sleep(0.2)
        third = stack.enter_context(connected(server))
        assert answer_on(third).startswith(b"HTTP/1.1 200 OK")
        assert second.recv(100) == b"", "it has never said anything, and the first one has since it came"
        assert answer_on(first).startswith(b"HTTP/1.1 200 OK")


def test_a_full_server_tells_its_health_and_refuses_all_else(folder):
    with RunningServer(folder, max_connections=2) as server, ExitStack() as stack:
        slow = Slow(server)
        busy = stack.enter_context(connected(server))
        busy.sendall(request_bytes())
        wait_until(lambda: slow.calls == 1)
        assert server.ask("GET", "/healthz") == (200, "alive\n")
        assert server.ask("GET", "/readyz") == (200, "ready\n")
        assert server.ask("GET", "/metrics")[0] == 200
        status, answer = server.predict(ROW)
        assert (status, answer) == (503, {"error": "too many connections are open: try again later"})
        slow.gate.set()
        assert busy.recv(10_000).startswith(b"HTTP/1.1 200 OK")


def test_silent_connections_in_great_number_keep_nobody_waiting(folder):
    with RunningServer(folder, max_connections=4) as server, ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(connected(server))
        started = time.monotonic()
        assert server.ask("GET", "/healthz") == (200, "alive\n")
        assert time.monotonic() - started < 1
        time.sleep(site.SILENT_SECONDS)
        assert server.predict(ROW)[0] == 200, "the first ones are silent for long enough to make room"


def test_one_address_cannot_take_all(folder):
    half = HEAD + b"Content-Length: 10\r\n\r\n12345"
    with RunningServer(folder, max_connections=8) as server, ExitStack() as stack:
        for _ in range(12):
            stack.enter_context(connected(server)).sendall(half)
        wait_until(lambda: server.server.metrics.under_way >= 7)
        assert server.predict(ROW)[0] == 503
        host, port = server.rest.split(":")
        with socket.create_connection((host, int(port)), timeout=10, source_address=("127.0.0.2", 0)) as other:
            assert answer_on(other).startswith(b"HTTP/1.1 200 OK")


def test_the_part_of_one_address_is_most_of_all_unless_it_is_given(folder):
    settings = Settings("x", folder, max_connections=16)
    assert settings.most_from_one_address == 14
    assert Settings("x", folder, max_connections=16, max_connections_per_address=16).most_from_one_address == 16
    assert Settings("x", folder, max_connections=1).most_from_one_address == 1


@pytest.mark.parametrize(
    ("address", "origin"),
    [
        (("10.1.2.3", 80), "10.1.2.3"),
        (("::ffff:10.1.2.3", 80, 0, 0), "10.1.2.3"),
        (("2001:db8:1:2:3:4:5:6", 80, 0, 0), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 80, 0, 2), "fe80::/64"),
        ("", ""),
    ],
)
def test_who_has_an_address_of_ipv6_has_its_network(address, origin):
    assert site.origin_of(address) == origin


class NoDescriptors:
    """A listening socket that fails until it is mended."""

    def __init__(self, listening):
        self._listening = listening
        self.calls = 0
        self.mended = False

    def accept(self):
        self.calls += 1
        if not self.mended:
            raise OSError(errno.EMFILE, "Too many open files")
        return self._listening.accept()

    def __getattr__(self, name):
        return getattr(self._listening, name)


def test_without_descriptors_the_log_has_one_line_until_it_goes_on(folder, monkeypatch, caplog):
    broken = []
    original = site.Site.__init__

    def wrapped(self, server, listening, settings):
        broken.append(NoDescriptors(listening))
        original(self, server, broken[0], settings)

    monkeypatch.setattr(site.Site, "__init__", wrapped)
    monkeypatch.setattr(site, "_PAUSE_SECONDS", 0.05)
    with RunningServer(folder) as server, connected(server) as connection:
        wait_until(lambda: broken[0].calls >= 4)
        broken[0].mended = True
        connection.sendall(request_bytes())
        assert connection.recv(10_000).startswith(b"HTTP/1.1 200 OK")
    assert caplog.text.count("cannot accept connections: Too many open files") == 1


def test_a_client_that_does_not_read_its_answer_is_left_after_the_time_of_a_request(folder):
    # More than what the system takes for a connection.
    body = json.dumps({"signature_name": "echo", "inputs": {"text": ["a" * 7000] * 1000, "x": [0] * 1000}}).encode()
    with RunningServer(folder, request_timeout=2.0) as server, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, port = server.rest.split(":")
        connection.connect((host, int(port)))
        connection.sendall(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        metrics = server.server.metrics
        wait_until(lambda: metrics.under_way == 1)
        wait_until(lambda: metrics.under_way == 0)
        assert 'serving_requests_total{code="cancelled",protocol="rest"} 1.0' in server.ask("GET", "/metrics")[1]
    assert server.dropped == 0


def test_a_client_that_leaves_is_not_worked_for(folder):
    images = json.dumps({"instances": random_images(1000).tolist()}).encode()
    with RunningServer(folder, max_batch_size=1) as server:
        signature = server.server.versions.current.signatures["serving_default"]
        original, calls = signature._function, []

        def slow(**inputs):
            calls.append(1)
            time.sleep(0.02)
            return original(**inputs)

        signature._function = slow
        with connected(server) as connection:
            connection.sendall(HEAD + f"Content-Length: {len(images)}\r\n\r\n".encode() + images)
            wait_until(lambda: len(calls) > 2)
        wait_until(lambda: server.server.metrics.under_way == 0)
        count = len(calls)
        time.sleep(0.2)
        assert len(calls) <= count + 1
