"""Generated messages of both protocols, most of them wrong, to a running server; see serving_fuzz.py."""

import json
import os
import subprocess
import sys

import pytest
import serving_fuzz
from conftest import ROOT
from serving import RunningServer, write_model


def test_generated_messages_are_answered_without_a_traceback(tmp_path, caplog, monkeypatch):
    # Beside other tests, in one process with the server, time is no promise.
    monkeypatch.setattr(serving_fuzz, "SECONDS", 60.0)
    write_model(tmp_path / "tiny" / "1")
    with RunningServer(tmp_path / "tiny", max_body_bytes=serving_fuzz.BODY_BYTES) as server:
        client = serving_fuzz.Client(server.rest, server.grpc)
        serving_fuzz.send(client, 100, tmp_path)
        client.close()
    assert {"rest 200", "rest 400", "grpc INVALID_ARGUMENT"} <= client.answers.keys()
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.slow
def test_many_generated_messages_leave_a_server_as_it_was():
    command = [sys.executable, ROOT / "tests" / "serving_fuzz.py", "10000"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    assert json.loads(done.stdout)["messages"] >= 10_000
