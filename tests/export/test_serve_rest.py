"""The REST side of export.serve, asked with plain HTTP."""

import base64
import gzip
import json
import math
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
from serving import NAMES, RunningServer, Slow, expected, in_base64, png, random_images, raw, wait_until, write_model

from export.serving.protocols import tensors

URL = "/v1/models/tiny"
PREDICT = f"{URL}:predict"
LIMIT = 100_000


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rest") / "tiny"
    write_model(folder / "1")
    with RunningServer(folder, max_body_bytes=LIMIT) as running:
        yield running


IMAGES = random_images(5)
ROWS = IMAGES.tolist()


def test_rows_are_answered_in_rows(server):
    status, answer = server.predict({"instances": ROWS})
    assert status == 200
    assert list(answer) == ["predictions"]
    probabilities = expected(IMAGES)
    np.testing.assert_allclose([row["probabilities"] for row in answer["predictions"]], probabilities, atol=1e-6)
    assert [row["class_index"] for row in answer["predictions"]] == probabilities.argmax(1).tolist()
    assert [row["class_name"] for row in answer["predictions"]] == [NAMES[number] for number in probabilities.argmax(1)]


def test_rows_may_name_the_input(server):
    assert server.predict({"instances": [{"images": row} for row in ROWS]}) == server.predict({"instances": ROWS})


def test_columns_are_answered_in_columns(server):
    for inputs in (ROWS, {"images": ROWS}):
        status, answer = server.predict({"inputs": inputs})
        assert status == 200
        np.testing.assert_allclose(answer["outputs"]["probabilities"], expected(IMAGES), atol=1e-6)
        assert sorted(answer["outputs"]) == ["class_index", "class_name", "probabilities"]


def test_a_single_output_comes_without_its_name(server):
    rows = server.predict({"signature_name": "logits", "instances": ROWS})[1]["predictions"]
    columns = server.predict({"signature_name": "logits", "inputs": ROWS})[1]["outputs"]
    assert rows == columns
    assert np.shape(rows) == (5, 3)


def test_encoded_images_are_decoded_in_the_graph(server):
    body = {"signature_name": "image_bytes", "instances": [in_base64(png(image)) for image in IMAGES]}
    status, answer = server.predict(body)
    assert status == 200
    np.testing.assert_allclose([row["probabilities"] for row in answer["predictions"]], expected(IMAGES), atol=1e-6)


def test_base64_may_be_wrapped_and_without_padding(server):
    text = base64.encodebytes(png(IMAGES[0])).decode().rstrip("=\n")
    assert server.predict({"signature_name": "image_bytes", "instances": [{"b64": text}]})[0] == 200


def test_strings_come_back_as_text_or_as_base64_by_their_name(server):
    body = {"signature_name": "echo", "inputs": {"text": ["\u00e4", in_base64(b"\xff")], "x": [0.1, -2]}}
    outputs = server.predict(body)[1]["outputs"]
    assert outputs["text"] == ["\u00e4", "\ufffd"]
    assert [base64.b64decode(item["b64"]) for item in outputs["text_bytes"]] == ["\u00e4".encode(), b"\xff"]
    assert outputs["x"] == [0.1, -2.0]


def test_not_a_number_and_infinity_pass_as_in_tensorflow_serving(server):
    body = b'{"signature_name": "echo", "inputs": {"text": ["", "", ""], "x": [NaN, Infinity, -Infinity]}}'
    x = server.predict(body)[1]["outputs"]["x"]
    assert math.isnan(x[0])
    assert x[1:] == [math.inf, -math.inf]


def test_a_float_is_written_as_short_as_it_can_be(server):
    body = {"signature_name": "scaled_sum", "inputs": {"a": [[0.1, 0.1]], "b": 1}}
    assert server.predict(body) == (200, {"outputs": 0.2})


def test_a_signature_without_a_batch_is_served_in_columns(server):
    assert server.predict({"signature_name": "scaled_sum", "inputs": {"a": [[1, 2], [3, 4]], "b": 2}})[1] == {"outputs": 20.0}


def test_a_version_can_be_asked_for(server):
    assert server.predict({"instances": ROWS}, f"{URL}/versions/1:predict")[0] == 200
    status, answer = server.predict({"instances": ROWS}, f"{URL}/versions/7:predict")
    assert status == 404
    assert "version 1 is" in answer["error"]


def test_urls_ignore_case_as_in_tensorflow_serving(server):
    assert server.predict({"instances": ROWS}, "/v1/Models/tiny:Predict")[0] == 200


def test_status_and_metadata_have_the_shape_of_tensorflow_servings(server):
    ok = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for path in (URL, f"{URL}/versions/1"):
        assert server.ask("GET", path) == (200, {"model_version_status": [ok]})
    for path in (f"{URL}/metadata", f"{URL}/versions/1/metadata"):
        status, answer = server.ask("GET", path)
        assert status == 200
        assert answer["model_spec"]["name"] == "tiny"
        assert answer["model_spec"]["version"] == "1"
        images = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]["inputs"]["images"]
        assert images["dtype"] == "DT_UINT8"
        assert [side["size"] for side in images["tensor_shape"]["dim"]] == ["-1", "4", "4", "1"]


def changed(value: object) -> list[object]:
    """One image, whose first pixel is `value`."""
    image = random_images(1).tolist()
    image[0][0][0] = [value]
    return image


def deep(depth: int) -> bytes:
    return b'{"instances": ' + b"[" * depth + b"]" * depth + b"}"


BAD_BODIES = {
    "empty": (b"", "the body is empty"),
    "no JSON": (b"{instances: 1}", "the body is not JSON"),
    "cut off": (b'{"instances": [[1, 2', "the body is not JSON"),
    "no UTF-8": (b'{"instances": ["\xff"]}', "the body is not UTF-8"),
    "huge integer": (b'{"instances": [' + b"9" * 5000 + b"]}", "the body is not JSON"),
    "nested too deeply": (deep(40_000), "nested too deeply"),
    "nested deeply": (deep(200), "nested more than"),
    "a list": ([1], "the body is a list"),
    "neither form": ({"signature_name": "logits"}, "none of them came ('signature_name')"),
    "both forms": ({"instances": ROWS, "inputs": ROWS}, "both came"),
    "signature of another type": ({"signature_name": 3, "instances": ROWS}, "signature_name is a whole number"),
    "unknown signature": ({"signature_name": "x", "instances": ROWS}, "there is no signature 'x': use echo, image_bytes"),
    "no list": ({"instances": 3}, '"instances" is a whole number'),
    "empty batch": ({"instances": []}, '"instances" is empty'),
    "empty columns": ({"inputs": []}, "has shape [0]"),
    "no rows": ({"inputs": np.zeros((0, 4, 4, 1)).tolist()}, "has shape [0]"),
    "unknown input": ({"inputs": {"pictures": ROWS}}, "there is no input 'pictures'"),
    "missing input": ({"signature_name": "echo", "inputs": {"text": ["a"]}}, "input 'x' is missing"),
    "unnamed inputs": ({"signature_name": "echo", "inputs": [1]}, "name them in"),
    "unnamed rows": ({"signature_name": "echo", "instances": [1]}, "name them in"),
    "mixed rows": ({"instances": [{"images": ROWS[0]}, ROWS[0]]}, "instance 1 is a list"),
    "rows of other inputs": ({"instances": [{"images": ROWS[0]}, {"image": ROWS[0]}]}, "there is no input 'image'"),
    "ragged": ({"instances": [[[[1]], [[1], [2]]]]}, "ragged: the lists at depth 3 hold 1 items, 2 items"),
    "ragged with values": ({"instances": [[1], 2]}, "ragged"),
    "ragged with lists": ({"instances": [2, [1]]}, "ragged"),
    "wrong shape": ({"instances": [[[1, 2], [3, 4]]]}, "has shape [1, 2, 2]; signature 'serving_default' takes uint8"),
    "decimal": ({"instances": changed(3.7)}, "a decimal number (3.7) among its values; it takes uint8"),
    "too large": ({"instances": changed(300)}, "has 300; uint8 takes 0 to 255"),
    "negative": ({"instances": changed(-1)}, "has -1; uint8 takes 0 to 255"),
    "far too large": ({"instances": changed(10**30)}, "too large for uint8"),
    "not a number": (b'{"instances": [[[[NaN]]]]}', "a decimal number (nan)"),
    "null": ({"instances": changed(None)}, "has null among its values"),
    "true": ({"instances": changed(True)}, "has true or false (True)"),
    "text for a number": ({"instances": changed("7")}, "has a string among its values; it takes uint8"),
    "object for a number": ({"instances": changed({"b64": "AA=="})}, "has an object among its values"),
    "number for text": ({"signature_name": "image_bytes", "instances": [3]}, "has a whole number among its values"),
    "float overflow": ({"signature_name": "scaled_sum", "inputs": {"a": [[1e39, 1]], "b": 1}}, "float32 takes"),
    "no base64": ({"signature_name": "image_bytes", "instances": [{"b64": "a*b"}]}, "invalid base64"),
    "base64 beyond ASCII": ({"signature_name": "image_bytes", "instances": [{"b64": "\u00e4"}]}, "invalid base64"),
    "half a character": ({"signature_name": "image_bytes", "instances": ["\ud800"]}, "not Unicode"),
    "other object": ({"signature_name": "image_bytes", "inputs": [{"b64": "", "x": 1}]}, "bytes are written"),
    "no image": ({"signature_name": "image_bytes", "instances": [in_base64(b"hello")]}, "Unknown image file format"),
    "image cut off": ({"signature_name": "image_bytes", "instances": [in_base64(png(IMAGES[0])[:40])]}, "PNG"),
    "image of another size": ({"signature_name": "image_bytes", "instances": [in_base64(png(IMAGES[0][:2]))]}, "shape"),
    "rows for no batch": ({"signature_name": "scaled_sum", "instances": [{"a": [1, 2], "b": 1}]}, "has shape [1]"),
}


@pytest.mark.parametrize(("body", "message"), BAD_BODIES.values(), ids=BAD_BODIES)
def test_a_bad_body_is_told_in_a_line(server, body, message):
    status, answer = server.predict(body)
    assert status == 400, answer
    assert list(answer) == ["error"]
    assert message in answer["error"]
    assert "Traceback" not in answer["error"]
    assert re.search(r"[{][{]|File \"|\n", answer["error"]) is None
    assert server.predict({"instances": ROWS})[0] == 200


BAD_REQUESTS = {
    "unknown model": ("POST", "/v1/models/other:predict", 404, "there is no model 'other'"),
    "unknown model's status": ("GET", "/v1/models/other", 404, "there is no model 'other'"),
    "unknown version's status": ("GET", f"{URL}/versions/9", 404, "no version 9"),
    "unknown version's metadata": ("GET", f"{URL}/versions/9/metadata", 404, "version 9"),
    "huge version": ("GET", f"{URL}/versions/{'9' * 30}", 404, "there is no version"),
    "label": ("POST", f"{URL}/labels/stable:predict", 404, "no version labels"),
    "no version number": ("POST", f"{URL}/versions/x:predict", 404, "there is nothing at"),
    "classify": ("POST", f"{URL}:classify", 400, "use :predict"),
    "regress": ("POST", f"{URL}:regress", 400, "use :predict"),
    "unknown verb": ("POST", f"{URL}:sing", 400, "use :predict"),
    "unknown path": ("GET", "/v1/x", 404, "there is nothing at /v1/x"),
    "path elsewhere": ("GET", "/", 404, "there is nothing at /"),
    "no POST": ("GET", PREDICT, 405, "GET is not allowed"),
    "no GET": ("POST", URL, 405, "POST is not allowed"),
    "health by POST": ("POST", "/healthz", 405, "POST is not allowed"),
}


@pytest.mark.parametrize(("method", "path", "status", "message"), BAD_REQUESTS.values(), ids=BAD_REQUESTS)
def test_a_bad_request_is_told_in_a_line(server, method, path, status, message):
    actual, answer = server.ask(method, path, {"instances": ROWS} if method == "POST" else None)
    assert (actual, list(answer)) == (status, ["error"])
    assert message in answer["error"]


def test_a_body_over_the_limit_is_refused_with_or_without_a_length(server):
    body = json.dumps({"instances": ROWS}).encode() + b" " * LIMIT
    for headers in ({}, {"Transfer-Encoding": "chunked"}):
        content = body if not headers else b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        status, answer = server.ask("POST", PREDICT, content, headers)
        assert status == 413
        assert "larger than 100,000 bytes" in answer["error"]


NO_HTTP = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
    "no path": b"GET\r\n\r\n",
    "bad header": b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
    "two lengths": b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
    "negative length": b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
    "long line": b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("content", NO_HTTP.values(), ids=NO_HTTP)
def test_what_is_no_http_is_refused_in_json_without_a_traceback(server, content, caplog):
    head, _, body = raw(server, content).partition(b"\r\n\r\n")
    assert head.splitlines()[0].split()[1] == b"400"
    assert json.loads(body)["error"].startswith("this is no HTTP request: ")
    assert not caplog.records


def test_chunks_that_are_none_are_refused_without_a_traceback(server, caplog):
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    answer = raw(server, head + b"zz\r\n\r\n")
    assert answer.split()[1] == b"400"
    assert b"error" in answer
    assert not caplog.records


@pytest.mark.parametrize("expected_by_client", ["200-ok", "100-continue"])
def test_of_expectations_only_100_continue_is_known(server, expected_by_client):
    body = json.dumps({"instances": ROWS}).encode()
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: {expected_by_client}\r\n"
    answer = raw(server, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    if expected_by_client == "100-continue":
        assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")
    else:
        assert answer.split()[1] == b"417"
        assert b'{"error": "Expect: 200-ok is not known' in answer


BODY = json.dumps({"instances": ROWS}).encode()
ZIPPED = gzip.compress(BODY)
ENCODED = {
    "gzip": ("gzip", ZIPPED, 200, "predictions"),
    "gzip in two members": ("gzip", gzip.compress(BODY[:50]) + gzip.compress(BODY[50:]), 200, "predictions"),
    "identity": ("identity", BODY, 200, "predictions"),
    "no gzip": ("gzip", BODY, 400, "the body is not gzip"),
    "gzip cut off": ("gzip", ZIPPED[:-20], 400, "the body is not gzip"),
    "gzip with errors": ("gzip", ZIPPED[:30] + b"\xff" * 9 + ZIPPED[39:], 400, "the body is not gzip"),
    "gzip bomb": ("gzip", gzip.compress(b" " * 10**7), 413, "larger than 100,000 bytes"),
    "deflate": ("deflate", BODY, 415, "Content-Encoding deflate is not known"),
    "br": ("br", BODY, 415, "Content-Encoding br is not known"),
    "zstd": ("zstd", BODY, 415, "Content-Encoding zstd is not known"),
}


@pytest.mark.parametrize(("encoding", "body", "status", "message"), ENCODED.values(), ids=ENCODED)
def test_bodies_may_be_zipped_and_nothing_else(server, encoding, body, status, message, caplog):
    actual, answer = server.ask("POST", PREDICT, body, {"Content-Encoding": encoding})
    assert actual == status
    assert message in json.dumps(answer)
    assert not caplog.records


def test_too_many_rows_are_refused(server):
    status, answer = server.predict({"signature_name": "echo", "inputs": {"text": [""] * 1025, "x": [0] * 1025}})
    assert (status, answer["error"]) == (413, "1,025 rows; a request may have 1,024: send fewer at a time")


LARGE = {"signature_name": "echo", "inputs": {"text": ["a" * 80] * 1000, "x": [0.5] * 1000}}


def test_large_messages_are_read_and_written_in_a_process_beside(server, monkeypatch):
    here = []
    for name in ("parse_body", "response_content"):
        original = getattr(tensors, name)

        def noting(*arguments, original=original, **named):
            here.append(original.__name__)
            return original(*arguments, **named)

        monkeypatch.setattr(tensors, name, noting)
    status, answer = server.predict(LARGE)
    assert status == 200
    assert answer["outputs"] == LARGE["inputs"] | {"text_bytes": [in_base64(b"a" * 80)] * 1000}
    assert server.ask("POST", PREDICT, ZIPPED, {"Content-Encoding": "gzip"})[0] == 200, "nobody knows how long it becomes"
    assert here == ["response_content"], "of the short answer"
    here.clear()
    assert server.predict({"instances": ROWS})[0] == 200
    assert here == ["parse_body", "response_content"]


def children():
    return [child for child in psutil.Process().children() if "json_process" in " ".join(child.cmdline())]


def test_a_process_beside_that_was_killed_is_started_again_and_ends_with_the_server(tmp_path):
    write_model(tmp_path / "tiny" / "1")
    before = children()
    with RunningServer(tmp_path / "tiny") as server:
        assert server.predict(LARGE)[0] == 200
        (child,) = [child for child in children() if child not in before]
        child.kill()
        child.wait(10)
        status, answer = server.predict(LARGE)
        assert (status, "was ended: try again" in answer["error"]) == (503, True)
        assert server.predict(LARGE)[0] == 200
    assert children() == before


def test_bytes_in_memory_are_bounded(tmp_path):
    write_model(tmp_path / "tiny" / "1")
    body = {"instances": random_images(200).tolist()}
    with RunningServer(tmp_path / "tiny", max_held_bytes=20_000) as server, ThreadPoolExecutor(1) as pool:
        slow = Slow(server)
        held = pool.submit(server.predict, body)
        wait_until(lambda: slow.calls == 1)
        status, answer = server.predict(body)
        assert status == 503
        assert "bytes of requests wait already" in answer["error"]
        slow.gate.set()
        assert held.result()[0] == 200
        assert server.predict(body)[0] == 200


def test_health_and_metrics(server):
    assert server.ask("GET", "/healthz") == (200, "alive\n")
    assert server.ask("GET", "/readyz") == (200, "ready\n")
    server.predict({"instances": ROWS})
    server.predict(b"")
    for path in ("/metrics", "/monitoring/prometheus/metrics"):
        status, text = server.ask("GET", path)
        assert status == 200
        for code in ("200", "400"):
            assert float(re.search(rf'serving_requests_total{{code="{code}",protocol="rest"}} (\S+)', text)[1]) >= 1
        assert 'serving_model_version{model="tiny"} 1.0' in text
        assert "serving_queued_requests 0.0" in text
        assert float(re.search(r"serving_batch_rows_count (\S+)", text)[1]) >= 1
        assert 'serving_request_seconds_bucket{le="0.01",protocol="rest"}' in text


def test_an_internal_error_has_a_number_and_its_traceback_is_in_the_log_alone(server, caplog, monkeypatch):
    def broken(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("export.serving.protocols.tensors.request_arrays", broken)
    status, answer = server.predict({"instances": ROWS})
    assert status == 500
    number = re.fullmatch(r"internal error (\w{8}): .*", answer["error"])[1]
    assert "secret" not in answer["error"]
    assert number in caplog.text
    assert "RuntimeError: secret" in caplog.text
