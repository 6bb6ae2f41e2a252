"""tools.load_test: what it sends, what it notices, and that a good server passes."""

import asyncio
import shutil
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
from conftest import ROOT, unpadded
from serving import RunningServer, write_model

from tools.load_test import __main__ as load_test
from tools.load_test import attacks, disturbances, load_report, reference
from tools.load_test.cases import Case
from tools.load_test.load import Connections, NoAnswerError, Tally, run_stage
from tools.load_test.load_report import LoadTestResult, Memory, Stop, broken_promises
from tools.load_test.reference import largest_difference
from tools.shared import server_process
from tools.shared.server_process import ServerProcess

KEPT = Stop(exit_code=0, seconds=1.0, read=5, answered=5, cut=Counter(), last_line="")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("load") / "tiny"
    write_model(folder / "1")
    return folder


@pytest.fixture(autouse=True)
def short_loops(monkeypatch):
    monkeypatch.setattr(reference, "_MEASURED_SECONDS", 0.05)


def run_against(server, *flags):
    addresses = f"--server={server.rest},{server.grpc}"
    return load_test.main(
        [f"--model={server.server.settings.folder}", addresses, "--requests=600", "--concurrency=1,4", *flags]
    )


def test_a_right_server_passes(folder, capsys):
    with RunningServer(folder) as server:
        assert run_against(server, "--malformed=0.5") == 0
    out = unpadded(capsys.readouterr().out)
    assert "600 requests: 0 lost, 0 with a wrong answer, 0 with an unexpected code" in out
    assert out.count("\n| rest |") == out.count("\n| grpc |") == 2
    assert "All promises are kept." in out


def spoil(server, function):
    signature = server.server.versions.current.signatures["serving_default"]
    original = signature._function
    signature._function = lambda **inputs: function(original(**inputs))


def test_a_server_that_answers_otherwise_than_the_model_fails(folder, capsys):
    with RunningServer(folder) as server:
        spoil(server, lambda outputs: outputs | {"probabilities": outputs["probabilities"] + 2e-6})
        assert run_against(server) == 1
        error = capsys.readouterr().err
        assert "were answered otherwise than by the model (more than 1e-06)" in error
        assert run_against(server, "--tolerance=1e-5") == 0


def test_a_server_that_fails_on_right_requests_fails(folder, capsys):
    with RunningServer(folder) as server:
        spoil(server, lambda outputs: {}["probabilities"])
        assert run_against(server) == 1
    error = capsys.readouterr().err
    assert "got an unexpected code" in error
    assert "-> 500" in error


def test_a_server_that_fails_on_wrong_requests_fails(folder, capsys, monkeypatch):
    monkeypatch.setattr("export.serving.signatures.Spec.admits", lambda spec, shape: True)
    monkeypatch.setattr("export.serving.signatures.graph_message", lambda message: {}["x"])
    with RunningServer(folder) as server:
        assert run_against(server, "--malformed=0.9") == 1
    assert "wrong shape -> 500" in capsys.readouterr().err


def test_a_server_that_is_gone_fails(folder, capsys):
    assert load_test.main([f"--model={folder}", "--server=localhost:9,localhost:9", "--requests=50"]) == 1
    assert "got no answer: connection refused" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("memory", "stop", "message"),
    [
        (Memory(100, 104), KEPT, None),
        (Memory(100, 106), KEPT, "memory grew by 6.0 %"),
        (None, KEPT._replace(exit_code=1), "SIGTERM: exit code 1"),
        (None, KEPT._replace(exit_code=None), "SIGTERM: the server still ran after 1 s, and was killed"),
        (None, KEPT._replace(answered=4), "5 requests read, 4 answers came"),
        (None, KEPT._replace(cut=Counter({"reset": 1})), "1 cut off reset (1)"),
    ],
)
def test_each_promise_can_be_broken(memory, stop, message):
    broken = broken_promises(LoadTestResult([], [], memory, stop, 0), tolerance=1e-6)
    assert len(broken) == (message is not None)
    assert message is None or message in broken[0]


def attacked(**changed):
    return attacks.Attacked(
        "x", requests=9, wrong=0, retried=0, p50=0.01, p99=0.02, first=0.02, health=0.1, usual=0.01
    )._replace(**changed)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({}, None),
        ({"wrong": 2}, "beside x: 2 small requests were not answered rightly"),
        ({"requests": 0}, "were not answered rightly"),
        ({"p99": 0.2}, "beside x: p99 of small requests grew by 190 ms"),
        ({"health": 2.0}, "beside x: /healthz answered only after 2.0 s"),
    ],
)
def test_an_attack_can_break_promises(changed, message):
    found = LoadTestResult([], [], None, None, 0, attacks=[attacked(**changed)])
    broken = broken_promises(found, tolerance=1e-6)
    assert len(broken) == (message is not None)
    assert message is None or message in broken[0]
    assert "| x |" in unpadded(load_report.attack_table(found.attacks))


def test_what_did_not_come_true_in_the_middle_of_load_is_a_broken_promise():
    found = LoadTestResult([], [], None, None, 0, load_report.Disturbed(2, 1, ["version 2 did not take over within 60 s"]))
    assert broken_promises(found, tolerance=1e-6) == ["version 2 did not take over within 60 s"]
    assert "another version took over 2 times, and the server was killed 1 times" in load_report.summary(found)


def test_disturbances_are_spread_over_the_requests():
    disturber, done = disturbances.Disturber(None, None, None, "x"), []

    async def swap():
        done.append("swap")

    async def kill():
        done.append("kill")

    disturber._swap, disturber._kill = swap, kill

    async def count():
        disturber.plan(100, swaps=3, kills=1)
        for number in range(100):
            disturber.answered()
            await asyncio.sleep(0)
            done.append(number) if number % 10 == 9 else None
        await disturber.wait()

    asyncio.run(count())
    assert [step for step in done if isinstance(step, str)] == ["swap", "swap", "kill", "swap"]
    assert done[:2] == [9, "swap"]
    assert done[-2:] == [89, 99]


@pytest.mark.parametrize(("failures", "patience", "lost"), [(2, 10.0, 0), (1, 0.0, 1)])
def test_a_request_without_an_answer_is_sent_again_while_there_is_patience(monkeypatch, failures, patience, lost):
    monkeypatch.setattr("tools.load_test.load._RETRY_SECONDS", 0.0)
    left = [failures]

    async def send(case):
        left[0] -= 1
        if left[0] >= 0:
            raise NoAnswerError("gone", refused=True)
        return "400", b""

    tally = Tally("rest", 1)
    cases, until = iter([Case("x", b"", frozenset(["400"]))]), time.monotonic() + 10
    asyncio.run(run_stage(send, cases, tally, tolerance=0, until=until, progress=lambda: None, patience=patience))
    assert (tally.sent, tally.lost.total(), tally.retried.total()) == (1, lost, failures - lost)


def test_requests_that_were_not_sent_are_a_broken_promise(folder, capsys):
    with RunningServer(folder) as server:
        assert run_against(server, "--requests=100000", "--seconds=1") == 1
        assert "of 100,000 requests were sent: the time was over" in capsys.readouterr().err
        assert run_against(server, "--requests=7") == 0
        assert "7 requests: 0 lost" in capsys.readouterr().out


ABRUPT = """
import os, sys, grpc, concurrent.futures

class Handlers(grpc.GenericRpcHandler):
    def service(self, details):
        def answer(content, context):
            if sys.argv[1] == "stop":
                context.abort(grpc.StatusCode.UNAVAILABLE, "the server is stopping: ask another one")
            os._exit(9)
        return grpc.unary_unary_rpc_method_handler(answer)

server = grpc.server(concurrent.futures.ThreadPoolExecutor(1), handlers=[Handlers()])
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
server.wait_for_termination()
"""


def outcome_of_one(port):
    tally = Tally("grpc", 1)

    async def send():
        async with Connections("127.0.0.1:9", f"127.0.0.1:{port}") as connections:
            cases, until = iter([Case("x", b"", frozenset(["OK"]), {})]), time.monotonic() + 20
            await run_stage(connections.sender("grpc"), cases, tally, tolerance=1, until=until, progress=lambda: None)

    asyncio.run(send())
    assert tally.lost.total() == 1
    return tally.refused.total()


@pytest.mark.parametrize(("how", "refused"), [("stop", 1), ("die", 0)])
def test_of_requests_without_an_answer_those_that_were_read_are_not_refused(how, refused):
    with subprocess.Popen([sys.executable, "-c", ABRUPT, how], stdout=subprocess.PIPE, text=True) as program:
        try:
            assert outcome_of_one(program.stdout.readline().strip()) == refused
        finally:
            program.kill()


def test_a_request_that_was_never_sent_is_refused():
    assert outcome_of_one("9") == 1


def test_a_server_that_does_not_stop_is_killed(monkeypatch):
    monkeypatch.setattr(server_process, "STOP_SECONDS", 0.3)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    deaf += "print('REST  http://127.0.0.1:1/v1\\ngRPC  127.0.0.1:2', flush=True); time.sleep(60)"
    process = ServerProcess(ROOT, "x")
    process._command = [sys.executable, "-c", deaf]
    with process:
        assert (process.rest, process.grpc) == ("127.0.0.1:1", "127.0.0.1:2")
        assert process.runs
        assert process.stop() is None


def test_a_server_that_does_not_start_leaves_nothing_behind():
    process = ServerProcess(ROOT / "nowhere", "x")
    with pytest.raises(ValueError, match=r"the server did not start: .*there is no folder"), process:
        pass
    assert not process.runs


def test_the_newest_version_is_one_with_a_model(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "tiny")
    (tmp_path / "tiny" / "2").mkdir()
    assert reference.Reference(tmp_path / "tiny", None, seed=0).input == "images"


@pytest.mark.parametrize(
    ("file", "message"),
    [("a.txt", "holds no image file (.png, .jpg"), ("a.png", "the model refuses "), (None, "holds no image file")],
)
def test_images_that_cannot_be_sent_are_one_line(folder, tmp_path, file, message, capsys):
    if file:
        (tmp_path / file).write_bytes(b"hello")
    assert load_test.main([f"--model={folder}", f"--images={tmp_path}", "--server=localhost:9,localhost:9"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_speed_is_a_part_of_the_loops(capsys):
    tally = Tally("rest", 8, latencies=[0.1] * 50, seconds=1.0, answered=50)
    row = load_report.table([tally], {1: 100.0, reference.BATCH_SIZE: 500.0}).splitlines()[2]
    assert unpadded(row) == "| rest | 8 | 50 | 0 | 50 | 0.50 | 0.10 | 100.0 | 100.0 | 100.0 |"


def test_answers_differ_by_number_text_shape_and_name():
    answer = {"p": np.array([0.5], np.float32), "name": np.array([b"cat"], object)}
    assert largest_difference(answer, answer) == 0
    assert largest_difference(answer | {"p": np.array([0.75])}, answer) == 0.25
    for changed in ({"p": np.array([np.nan])}, {"p": np.array([[0.5]])}, {"name": np.array([b"dog"], object)}):
        assert largest_difference(answer | changed, answer) == np.inf
    assert largest_difference({"p": answer["p"]}, answer) == np.inf


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say which model to test"),
        (["--model=nowhere"], "there is no folder nowhere"),
        (["--model={folder}", "--concurrency=0"], "concurrency (0) must be numbers above 0"),
        (["--model={folder}", "--server=example.com:80,example.com:81"], "must be on this machine"),
        (["--model={folder}", "--server=localhost:8501"], "must be two addresses"),
        (["--model={folder}", "--server=localhost:1,localhost:2", "--kills=1"], "is not ours, and kills needs one that is"),
        (["--model={folder}", "--images=nowhere"], "images (nowhere) is no folder"),
        (["--model={folder}", "--malformed=2"], "malformed"),
    ],
)
def test_a_wrong_command_is_one_line(arguments, message, folder, capsys):
    assert load_test.main([argument.format(folder=folder) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.slow
def test_the_server_that_it_starts_keeps_all_promises(folder):
    command = [sys.executable, "-m", "tools.load_test", f"--model={folder}", "--requests=5000", "--concurrency=1,16"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert "SIGTERM in the middle of load" in done.stdout
    assert "Memory of the server" in done.stdout


@pytest.mark.slow
def test_versions_that_take_over_kills_and_attacks_break_no_promise(folder):
    command = [sys.executable, "-m", "tools.load_test", f"--model={folder}", "--requests=4000", "--concurrency=8"]
    done = subprocess.run(
        [*command, "--swaps=2", "--kills=2", "--attacks"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "another version took over 2 times, and the server was killed 2 times" in done.stdout
    assert "| 500 silent connections |" in unpadded(done.stdout)
