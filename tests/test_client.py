"""export.client against export.serve, by both protocols; and what it needs to run."""

import ast
import os
import shutil
import subprocess
import sys

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


def test_a_file_that_is_no_image_is_named(server, protocol, pictures, tmp_path, capsys):
    (tmp_path / "text.png").write_text("hello")
    arguments = [f"--server={getattr(server, protocol)}", f"--protocol={protocol}", "--model=tiny"]
    assert client.main([*arguments, str(pictures), str(tmp_path / "text.png")]) == 2
    error = capsys.readouterr().err
    assert "text.png is refused" in error
    assert "Unknown image file format" in error
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


def test_the_file_stands_alone():
    roots = {name.split(".")[0] for name in imported(ROOT / "export" / "client.py")}
    standard = {"argparse", "base64", "contextlib", "json", "sys", "collections", "pathlib", "textwrap", "typing", "urllib"}
    assert roots <= standard | {"numpy", "requests", "grpc", "google", "tensorflow", "tensorflow_serving"}
    tree = ast.parse((ROOT / "export" / "client.py").read_text())
    at_start = {a.name for node in tree.body if isinstance(node, ast.Import) for a in node.names}
    assert not at_start & {"grpc", "tensorflow"}


def test_rest_runs_as_a_copy_without_tensorflow_and_this_project(server, pictures, tmp_path):
    for name in ("tensorflow", "grpc", "keras", "r2d2_tf", "export"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('blocked')")
    shutil.copy(ROOT / "export" / "client.py", tmp_path)
    command = [sys.executable, "client.py", f"--server={server.rest}", "--model=tiny", str(pictures)]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    how = {"capture_output": True, "text": True, "cwd": tmp_path, "env": environment}
    done = subprocess.run(command, check=False, **how)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 5
    done = subprocess.run(
        [*command, "--protocol=grpc"], capture_output=True, text=True, cwd=tmp_path, check=False, env=environment
    )
    assert done.returncode == 2
    assert "gRPC needs grpcio" in done.stderr
