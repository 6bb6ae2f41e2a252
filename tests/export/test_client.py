"""export.client against export.serve, by both protocols; and what it needs to run."""

import ast
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from conftest import ROOT
from serving import NAMES, RunningServer, expected, png, random_images, write_model
from test_architecture import imported

from export import client

IMAGES = random_images(5)
PNGS = [png(image) for image in IMAGES]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("client") / "tiny"
    write_model(folder / "1")
    with RunningServer(folder) as running:
        yield running


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for number, content in enumerate(PNGS):
        (folder / f"{number}.png").write_bytes(content)
    return folder


@pytest.fixture(params=["rest", "grpc"])
def protocol(request):
    return request.param


@pytest.fixture
def connected(server, protocol):
    asking = client.connect(getattr(server, protocol), "tiny", protocol=protocol)
    yield asking
    asking.close()


def test_arrays_and_encoded_images_are_predicted(connected):
    for signature, inputs in (("serving_default", {"images": IMAGES}), ("image_bytes", {"image_bytes": PNGS})):
        outputs = connected.predict(inputs, signature)
        probabilities = expected(IMAGES)
        assert sorted(outputs) == ["class_index", "class_name", "probabilities"]
        np.testing.assert_allclose(outputs["probabilities"], probabilities, atol=1e-6)
        assert outputs["class_name"].tolist() == [NAMES[number].encode() for number in probabilities.argmax(1)]


def test_a_single_output_has_its_name(connected):
    assert connected.predict({"images": IMAGES}, "logits")["logits"].shape == (5, 3)


def test_binary_outputs_and_other_types_come_back(connected):
    outputs = connected.predict({"text": [b"a", b"b"], "x": np.array([0.5, -1])}, "echo")
    assert outputs["text_bytes"].tolist() == outputs["text"].tolist() == [b"a", b"b"]
    assert outputs["x"].tolist() == [0.5, -1]


def test_metadata_and_status(connected):
    assert connected.metadata()["logits"] == {"inputs": {"images": "DT_UINT8"}, "outputs": {"logits": "DT_FLOAT"}}
    assert connected.status() == {1: "AVAILABLE"}


def test_a_refusal_has_its_code_and_message(server, connected, protocol):
    codes = {"rest": ("400", "404"), "grpc": ("INVALID_ARGUMENT", "NOT_FOUND")}[protocol]
    with pytest.raises(client.ServerError, match="there is no signature 'x'") as caught:
        connected.predict({"images": IMAGES}, "x")
    assert caught.value.code == codes[0]
    older = client.connect(getattr(server, protocol), "tiny", protocol=protocol, version=7)
    with pytest.raises(client.ServerError, match="version 7") as caught:
        older.predict({"images": IMAGES})
    older.close()
    assert caught.value.code == codes[1]


def test_the_command_prints_class_and_probability(server, protocol, pictures, capsys):
    arguments = [f"--server={getattr(server, protocol)}", f"--protocol={protocol}", "--model=tiny", "--batch_size=2"]
    assert client.main([*arguments, str(pictures)]) == 0
    lines = capsys.readouterr().out.splitlines()
    probabilities = expected(IMAGES)
    wanted = [f"{n}.png  {NAMES[p.argmax()]}  {100 * p.max():5.1f} %" for n, p in enumerate(probabilities)]
    assert lines == wanted


def test_a_file_that_is_no_image_is_a_line_and_the_others_go_on(server, protocol, pictures, tmp_path, capsys):
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "folder.png").mkdir()
    arguments = [f"--server={getattr(server, protocol)}", f"--protocol={protocol}", "--model=tiny"]
    files = [str(pictures / "0.png"), str(tmp_path), str(pictures)]
    assert client.main([*arguments, *files]) == 1
    out, error = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["0.png", *(f"{n}.png" for n in range(5))]
    assert "text.png is refused" in error
    assert "Unknown image file format" in error
    assert error.count("\n") == 1


def test_a_file_that_cannot_be_read_is_a_line(server, pictures, tmp_path, capsys):
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "0.png").write_bytes(PNGS[0])
    asking = client.connect(server.rest, "tiny", protocol="rest")
    found = list(client.classify(asking, [tmp_path / "gone.png", tmp_path / "0.png"], batch_size=2))
    asking.close()
    assert "is refused: [Errno 2] No such file" in found[0][1]
    assert found[1][1] in NAMES


def test_a_request_that_is_too_large_is_halved(tmp_path_factory, protocol, pictures, capsys):
    folder = tmp_path_factory.mktemp("small") / "tiny"
    write_model(folder / "1")
    with RunningServer(folder, max_body_bytes=2 * len(PNGS[0]) + 150, max_rows=2) as small:
        arguments = [f"--server={getattr(small, protocol)}", f"--protocol={protocol}", "--model=tiny"]
        assert client.main([*arguments, str(pictures)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 5


def test_answers_are_printed_as_they_come(server, pictures):
    asking = client.connect(server.rest, "tiny", protocol="rest")
    found = client.classify(asking, client.image_files([pictures]), batch_size=2)
    assert next(found)[0].name == "0.png"
    assert server.server.metrics.read["rest"] >= 1
    asking.close()


def test_version_0_is_a_version(connected, server, protocol):
    zeroth = client.connect(getattr(server, protocol), "tiny", protocol=protocol, version=0)
    with pytest.raises(client.ServerError, match="version 0 of model 'tiny' is not loaded"):
        zeroth.predict({"images": IMAGES})
    zeroth.close()


def test_a_server_on_this_machine_is_asked_without_a_proxy(server, protocol, pictures, monkeypatch, capsys):
    for name in ("http_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    arguments = [f"--server={getattr(server, protocol)}", f"--protocol={protocol}", "--model=tiny"]
    assert client.main([*arguments, str(pictures / "0.png")]) == 0
    assert client.RestClient("example.com:8501", "m")._session.trust_env


class Odd(BaseHTTPRequestHandler):
    """Answers whatever its server is told to."""

    def do_GET(self):
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(("status", "body"), [(404, b"[1]"), (200, b"{}"), (200, b'{"outputs": []}'), (200, b"3"), (200, b"x")])
def test_an_odd_answer_is_one_line(status, body, pictures, capsys):
    with ThreadingHTTPServer(("127.0.0.1", 0), Odd) as odd:
        odd.status, odd.body = status, body
        threading.Thread(target=odd.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{odd.server_port}"
        assert client.main([f"--server={address}", "--model=m", str(pictures / "0.png")]) == 2
        asking = client.RestClient(address, "m")
        for ask in (asking.status, asking.metadata, lambda: asking.predict({"images": IMAGES})):
            with pytest.raises(client.ServerError):
                ask()
        asking.close()
        odd.shutdown()
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--server=127.0.0.1:9", "{image}"], "no answer from http://127.0.0.1:9"),
        (["--server=127.0.0.1:9", "--protocol=grpc", "{image}"], "UNAVAILABLE"),
        (["--server={rest}", "--model=other", "{image}"], "there is no model 'other'"),
        (["nowhere.png"], "there is no image at nowhere.png"),
        (["--batch_size=0", "{image}"], "must be at least 1"),
    ],
)
def test_a_failure_is_one_line(arguments, message, server, pictures, capsys):
    filled = [argument.format(rest=server.rest, image=pictures / "0.png") for argument in arguments]
    assert client.main(["--model=tiny", *filled]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("file", "packages"), [("client.py", {"numpy", "requests", "grpc", "google"}), ("serving_protocol.py", {"numpy", "google"})]
)
def test_the_file_stands_alone(file, packages):
    roots = {name.split(".")[0] for name in imported(ROOT / "export" / file)}
    standard = {
        "argparse",
        "base64",
        "contextlib",
        "importlib",
        "json",
        "math",
        "os",
        "re",
        "sys",
        "collections",
        "pathlib",
        "textwrap",
        "typing",
        "urllib",
    }
    assert roots <= standard | packages
    tree = ast.parse((ROOT / "export" / file).read_text())
    at_start = {a.name for node in tree.body if isinstance(node, ast.Import) for a in node.names}
    assert not at_start & {"grpc", "tensorflow"}


@pytest.mark.parametrize("files", [("client.py",), ("client.py", "serving_protocol.py")], ids=["client alone", "both files"])
def test_a_copy_runs_without_tensorflow_and_this_project(server, pictures, tmp_path, files, protocol):
    missing = ("tensorflow", "keras", "r2d2_tf", "export", "tensorflow_serving")
    for name in missing if len(files) > 1 else (*missing, "grpc", "google"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('blocked')")
    for file in files:
        shutil.copy(ROOT / "export" / file, tmp_path)
    address = [f"--server={getattr(server, protocol)}", f"--protocol={protocol}", "--model=tiny"]
    command = [sys.executable, "client.py", *address, str(pictures)]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path, env=environment)
    if protocol == "grpc" and len(files) == 1:
        assert done.returncode == 2
        assert "gRPC needs grpcio" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == 5
