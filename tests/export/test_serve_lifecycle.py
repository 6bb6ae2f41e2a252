"""New versions and the stop of export.serve, under load; and its command line."""

import itertools
import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException

import grpc
import numpy as np
import pytest
from conftest import ROOT
from grpc_health.v1 import health_pb2, health_pb2_grpc
from serving import ROW, RunningServer, Slow, expected, png, random_images, request, wait_until, write_model
from serving_api import stub

from export import serve
from export.serving.addresses import listen
from export.serving.folders import version_folders

PREDICT = "/v1/models/tiny:predict"


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    """Two versions of a model, to be copied."""
    folder = tmp_path_factory.mktemp("versions")
    return [write_model(folder / str(seed), seed=seed) for seed in (0, 1)]


@pytest.fixture
def folder(versions, tmp_path):
    shutil.copytree(versions[0], tmp_path / "tiny" / "1")
    return tmp_path / "tiny"


@pytest.fixture(autouse=True)
def log(caplog):
    caplog.set_level(logging.INFO, "export.serve")
    return caplog


def version_of(server):
    current = server.server.versions.current
    return current.number if current else None


def appear(source, target):
    """A folder that is there at once, with all its files."""
    shutil.copytree(source, target.with_name(".copy"))
    target.with_name(".copy").rename(target)


def test_a_higher_version_takes_over_while_requests_go_on(folder, versions, log):
    images = random_images(1)
    answers, stop = [], threading.Event()

    def ask_on():
        while not stop.is_set():
            answers.append(server.predict({"instances": images.tolist()}))

    with RunningServer(folder) as server, ThreadPoolExecutor(2) as pool:
        old = weakref.ref(server.server.versions.current)
        clients = [pool.submit(ask_on) for _ in range(2)]
        appear(versions[1], folder / "2")
        wait_until(lambda: version_of(server) == 2)
        count = len(answers)
        wait_until(lambda: len(answers) > count + 20)
        stop.set()
        assert [client.result() for client in clients] == [None, None]
        assert old() is None
        assert server.ask("GET", "/v1/models/tiny/versions/1")[1]["model_version_status"][0]["state"] == "END"
        assert server.predict(ROW, "/v1/models/tiny/versions/1:predict")[0] == 404
        assert server.predict(ROW, "/v1/models/tiny/versions/2:predict")[0] == 200
    found = set()
    for status, answer in answers:
        assert status == 200
        probabilities = answer["predictions"][0]["probabilities"]
        found.add(next(seed for seed in (0, 1) if np.allclose(probabilities, expected(images, seed)[0], atol=1e-6)))
    assert found == {0, 1}
    assert log.text.count("version 2 has taken over from version 1") == 1


def test_a_request_is_answered_by_the_version_that_it_began_with(folder, versions):
    images = random_images(1)
    with RunningServer(folder) as server, ThreadPoolExecutor(1) as pool:
        slow = Slow(server)
        answer = pool.submit(server.predict, {"instances": images.tolist()})
        wait_until(lambda: slow.calls == 1)
        appear(versions[1], folder / "2")
        wait_until(lambda: version_of(server) == 2)
        slow.gate.set()
        probabilities = answer.result()[1]["predictions"][0]["probabilities"]
        np.testing.assert_allclose(probabilities, expected(images, 0)[0], atol=1e-6)


def half_copied(source, target):
    target.mkdir()
    shutil.copy(source / "saved_model.pb", target)


def cut_off(source, target):
    appear(source, target)
    data = target / "variables" / "variables.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:20])


def no_model(source, target):
    appear(source, target)
    (target / "saved_model.pb").write_bytes(b"\xff" * 100)


@pytest.mark.parametrize("damage", [half_copied, cut_off, no_model])
def test_a_version_that_does_not_load_is_told_once_and_tried_again_when_its_files_change(damage, folder, versions, log):
    with RunningServer(folder) as server:
        damage(versions[1], folder / "2")
        wait_until(lambda: "version 2 does not load; version 1 goes on" in log.text)
        time.sleep(0.5)
        assert log.text.count("version 2 does not load") == 1
        status = server.ask("GET", "/v1/models/tiny")[1]["model_version_status"]
        assert [(state["version"], state["state"]) for state in status] == [("2", "END"), ("1", "AVAILABLE")]
        assert status[0]["status"]["error_message"]
        assert status[0]["status"]["error_code"] == "UNKNOWN"
        assert server.predict(ROW)[0] == 200
        shutil.copytree(versions[1], folder / "2", dirs_exist_ok=True)
        wait_until(lambda: version_of(server) == 2)
        assert server.predict(ROW, "/v1/models/tiny/versions/2:predict")[0] == 200


def test_without_its_folder_a_version_gives_way_to_the_next_lower(folder, versions):
    appear(versions[1], folder / "2")
    with RunningServer(folder) as server:
        assert version_of(server) == 2
        shutil.rmtree(folder / "2")
        wait_until(lambda: version_of(server) == 1)
        shutil.rmtree(folder / "1")
        time.sleep(0.3)
        assert server.predict(ROW)[0] == 200


def test_one_folder_that_keeps_changing_does_not_keep_others_from_being_loaded(folder, versions):
    with RunningServer(folder) as server:
        (folder / "3").mkdir()
        end = threading.Event()

        def change_on():
            for number in itertools.count():
                (folder / "3" / f"{number}.part").write_text("")
                if end.wait(0.01):
                    return

        with ThreadPoolExecutor(1) as pool:
            pool.submit(change_on)
            try:
                appear(versions[1], folder / "2")
                wait_until(lambda: version_of(server) == 2)
            finally:
                end.set()


def test_a_missing_folder_is_told_once(folder, versions, log):
    with RunningServer(folder) as server:
        folder.rename(folder.with_name("gone"))
        wait_until(lambda: "cannot look for versions" in log.text)
        time.sleep(0.4)
        assert log.text.count("cannot look for versions") == 1
        folder.with_name("gone").rename(folder)
        appear(versions[1], folder / "2")
        wait_until(lambda: version_of(server) == 2)


def test_other_files_under_the_number_that_is_served_are_told_once(folder, versions, log):
    with RunningServer(folder) as server:
        before = server.predict(ROW)
        (folder / "1").rename(folder / ".old")
        appear(versions[1], folder / "1")
        wait_until(lambda: "the files of version 1 have changed; the one that was loaded goes on" in log.text)
        time.sleep(0.4)
        assert log.text.count("have changed") == 1
        assert server.predict(ROW) == before


def test_a_number_with_a_zero_before_it_is_no_version(folder):
    for name in ("02", "2", "99999999999999999999"):
        (folder / name).mkdir()
    assert [number for number, _ in version_folders(folder)] == [2, 1]


def keep_asking(server_address, answers, stopped):
    """Asks on one kept connection until the server closes it; returns the last answer's Connection header."""
    body, last = json.dumps(ROW), None
    connection = HTTPConnection(server_address, timeout=20)
    while not stopped.is_set():
        try:
            connection.request("POST", PREDICT, body)
            response = connection.getresponse()
            response.read()
        except (ConnectionRefusedError, HTTPException, OSError) as error:
            return last if isinstance(error, ConnectionRefusedError) else error
        answers.append(response.status)
        last = response.headers.get("Connection")
    return None


def keep_asking_grpc(address, answers):
    with grpc.insecure_channel(address) as channel:
        predictions = stub(channel, "PredictionService")
        while True:
            try:
                predictions.Predict(request(images=random_images(1)), timeout=20)
            except grpc.RpcError as error:
                return error.code().name
            answers.append("OK")


def started_program(folder, *flags, program=("-m", "export.serve")):
    program = subprocess.Popen(
        [sys.executable, *program, f"--model={folder}", "--rest_port=0", "--grpc_port=0", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
    )
    lines = []
    while not any(line.startswith("gRPC") for line in lines):
        lines.append(program.stdout.readline())
        assert lines[-1], program.stderr.read()
    rest = re.search(r"http://([\d.:]+)/", "".join(lines))[1]
    return program, rest, lines[-1].split()[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_in_the_middle_of_load_drops_nothing(number, folder):
    program, rest, grpc_address = started_program(folder)
    by_rest, by_grpc = [], []
    with ThreadPoolExecutor(6) as pool:
        rest_clients = [pool.submit(keep_asking, rest, by_rest, threading.Event()) for _ in range(4)]
        grpc_clients = [pool.submit(keep_asking_grpc, grpc_address, by_grpc) for _ in range(2)]
        wait_until(lambda: len(by_rest) > 100 and len(by_grpc) > 50)
        program.send_signal(number)
        assert [client.result() for client in rest_clients] == ["close"] * 4
        assert {client.result() for client in grpc_clients} == {"UNAVAILABLE"}
    _, error = program.communicate(timeout=20)
    assert program.returncode == 0, error
    assert set(by_rest) == {200}
    assert f"stopped: {len(by_rest)} REST and {len(by_grpc)} gRPC requests answered, 0 dropped" in error
    assert len(error.splitlines()) == 2


def test_a_body_that_is_half_read_when_the_stop_comes_is_still_answered(folder):
    body = json.dumps(ROW).encode()
    with RunningServer(folder) as server:
        host, port = server.rest.split(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            connection.sendall(head + body[:10])
            wait_until(lambda: server.server.metrics.under_way == 1)
            server.stop()
            time.sleep(0.8)
            connection.sendall(body[10:])
            answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"Connection: close" in answer
    assert server.dropped == 0


def test_while_it_stops_it_says_that_it_is_not_ready(folder):
    with RunningServer(folder) as server, ThreadPoolExecutor(2) as pool, grpc.insecure_channel(server.grpc) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        watched = health.Watch(health_pb2.HealthCheckRequest())
        assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
        slow = Slow(server)
        held = pool.submit(server.predict, ROW)
        wait_until(lambda: slow.calls == 1)
        kept = HTTPConnection(server.rest, timeout=20)
        kept.request("GET", "/readyz")
        assert kept.getresponse().read() == b"ready\n"
        server.stop()
        assert next(watched).status == health_pb2.HealthCheckResponse.NOT_SERVING
        kept.request("GET", "/readyz")
        response = kept.getresponse()
        assert (response.status, response.read()) == (503, b"stopping\n")
        watched.cancel()
        slow.gate.set()
        assert held.result()[0] == 200
    assert server.dropped == 0


def test_a_stop_takes_no_longer_than_it_may(folder):
    with RunningServer(folder, stop_seconds=0.5) as server, ThreadPoolExecutor(1) as pool:
        slow = Slow(server)
        held = pool.submit(server.predict, ROW)
        wait_until(lambda: slow.calls == 1)
        started = time.monotonic()
        server.stop()
        wait_until(lambda: server.dropped is not None)
        assert time.monotonic() - started < 3
        slow.gate.set()
        assert isinstance(held.exception(), HTTPException | ConnectionError)
    assert server.dropped == 1


def test_a_second_signal_ends_it_at_once(folder):
    with RunningServer(folder, stop_seconds=60.0) as server, ThreadPoolExecutor(1) as pool:
        slow = Slow(server)
        held = pool.submit(server.predict, ROW)
        wait_until(lambda: slow.calls == 1)
        server.stop()
        time.sleep(0.2)
        assert server.dropped is None
        server.stop()
        wait_until(lambda: server.dropped == 1, 3)
        slow.gate.set()
        assert isinstance(held.exception(), HTTPException | ConnectionError)


def test_a_request_that_comes_when_the_server_has_closed_is_told(folder):
    with RunningServer(folder) as server:
        kept = HTTPConnection(server.rest, timeout=20)
        kept.request("GET", "/readyz")
        kept.getresponse().read()
        slow = Slow(server)
        server.stop()
        time.sleep(0.56)
        kept.request("POST", PREDICT, json.dumps(ROW))
        response = kept.getresponse()
        assert response.status == 503
        assert response.headers["Connection"] == "close"
        assert json.loads(response.read()) == {"error": "the server is stopping: ask another one"}
        assert slow.calls == 0
    assert server.dropped == 0


STUCK = """
import sys, time
from export import serve
from export.serving.addresses import listen
from export.serving.folders import version_folders
from export.serving import signatures, versions

load = versions.LoadedVersion.__init__

def slow_load(self, number, folder):
    if number == 2:
        print("loading the second", file=sys.stderr, flush=True)
        time.sleep(60)
    load(self, number, folder)
    for signature in self.signatures.values():
        signature._function = lambda **inputs: time.sleep(60)

versions.LoadedVersion.__init__ = slow_load
sys.exit(serve.main(sys.argv[1:]))
"""


def test_a_stop_waits_neither_for_a_version_that_loads_nor_for_work_that_nobody_wants(folder, versions):
    appear(versions[1], folder / "2")
    (folder / "2").rename(folder / ".2")
    limits = ("--request_timeout=0.3", "--stop_seconds=3", "--poll_seconds=0.1")
    program, rest, _ = started_program(folder, *limits, program=("-c", STUCK))
    try:
        connection = HTTPConnection(rest, timeout=20)
        connection.request("POST", PREDICT, json.dumps(ROW))
        assert connection.getresponse().status == 504
        connection.close()
        (folder / ".2").rename(folder / "2")
        assert "loading the second\n" in iter(program.stderr.readline, "")
        started = time.monotonic()
        program.send_signal(signal.SIGTERM)
        _, error = program.communicate(timeout=20)
        assert time.monotonic() - started < 8
    finally:
        program.kill()
    assert program.returncode == 0, error
    assert "stopped: 1 REST and 0 gRPC requests answered, 0 dropped" in error


BAD_COMMANDS = {
    "no model": ([], "say which model to serve: --model="),
    "missing model": (["--model=nowhere"], "there is no folder nowhere"),
    "empty folder": (["--model={empty}"], "holds no version of a SavedModel, such as"),
    "version as model": (["--model={folder}/1"], "looks like the one meant"),
    "unknown flag": (["--modle=x"], "did you mean --model?"),
    "wrong port": (["--model={folder}", "--rest_port=70000"], "rest_port"),
    "taken port": (["--model={folder}", "--rest_port={taken}", "--grpc_port=0"], "choose another --rest_port"),
    "taken gRPC port": (["--model={folder}", "--rest_port=0", "--grpc_port={taken}"], "choose another --grpc_port"),
    "no host": (["--model={folder}", "--host=nowhere.invalid"], "host (nowhere.invalid) is no address"),
    "wrong name": (["--model={folder}", "--name=a/b"], "name (a/b) must be without"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD_COMMANDS.values(), ids=BAD_COMMANDS)
def test_a_wrong_command_is_one_line(arguments, message, folder, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        filled = [a.format(folder=folder, empty=tmp_path / "empty", taken=taken) for a in arguments]
        assert serve.main(filled) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_port_is_taken_as_soon_as_a_server_starts():
    with listen("127.0.0.1", rest_port=0, grpc_port=0).rest_socket as first:
        port = first.getsockname()[1]
        with pytest.raises(ValueError, match="choose another --rest_port"):
            listen("127.0.0.1", rest_port=port, grpc_port=0)


def test_connections_are_fewer_than_a_process_may_open(monkeypatch):
    monkeypatch.setattr("resource.getrlimit", lambda _: (256, 256))
    assert serve.most_connections(1000, 1 / 2) == 128
    assert serve.most_connections(10, 1 / 2) == 10
    assert sum(serve.most_connections(1000, part) for part in serve.DESCRIPTORS.values()) == 192


def test_a_model_of_which_no_version_loads_is_one_line_after_the_log(folder, capsys):
    (folder / "1" / "saved_model.pb").write_bytes(b"\xff" * 100)
    assert serve.main([f"--model={folder}", "--rest_port=0", "--grpc_port=0"]) == 2
    assert capsys.readouterr().err.endswith(f"error: no version in {folder} loads: export it again\n")


def test_help_lists_the_flags(capsys):
    assert serve.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "--[no]" not in out
    assert "--batch_timeout_ms" in out


def test_what_it_prints_can_be_typed(folder):
    (folder.parent / "examples").mkdir()
    # As long as a photograph: the system takes no argument of that length. What follows the image is ignored.
    (folder.parent / "examples" / "true_class_0.png").write_bytes(png(random_images(1)[0]) + bytes(200_000))
    with RunningServer(folder) as server:
        text = serve.banner(server.server, "127.0.0.1")
        assert "serving tiny, version 1" in text
        assert "serving_default: images uint8 [any, 4, 4, 1] -> class_index int64 [any]" in text
        command = next(line for line in text.splitlines() if "curl" in line)
        answer = json.loads(subprocess.run(command, shell=True, capture_output=True, check=True).stdout)
    np.testing.assert_allclose(answer["predictions"][0]["probabilities"], expected(random_images(1))[0], atol=1e-6)


@pytest.mark.parametrize("module", ["export.serve", "tools.load_test.__main__"])
def test_a_command_line_is_checked_without_tensorflow(module):
    program = f"import sys, {module}; assert {module}.main(['--model=nowhere']) == 2; assert 'tensorflow' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("error: there is no folder nowhere")
