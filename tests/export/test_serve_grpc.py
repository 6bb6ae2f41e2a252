"""The gRPC side of export.serve, asked with TensorFlow Serving's own stubs."""

import socket
import threading
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from serving import NAMES, RunningServer, expected, png, random_images, request, wait_until, write_model
from serving_api import message_class, stub
from tensorflow.core.framework.tensor_pb2 import TensorProto

from export.serving.protocols import tensor_messages

IMAGES = random_images(5)
PNGS = [png(image) for image in IMAGES]
LIMIT = 100_000
PREDICT = "/tensorflow.serving.PredictionService/Predict"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grpc") / "tiny"
    write_model(folder / "1")
    with RunningServer(folder, max_body_bytes=LIMIT) as running:
        yield running


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(server.grpc) as open_channel:
        yield open_channel


@pytest.fixture(scope="module")
def predictions(channel):
    return stub(channel, "PredictionService")


@pytest.fixture(scope="module")
def models(channel):
    return stub(channel, "ModelService")


def refused(call, message) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(message, timeout=10)
    return caught.value.code().name, caught.value.details()


def test_predictions_equal_the_model(predictions):
    response = predictions.Predict(request("serving_default", images=IMAGES))
    probabilities = expected(IMAGES)
    np.testing.assert_allclose(tf.make_ndarray(response.outputs["probabilities"]), probabilities, atol=1e-6)
    assert list(tf.make_ndarray(response.outputs["class_index"])) == list(probabilities.argmax(1))
    assert list(response.outputs["class_name"].string_val) == [NAMES[n].encode() for n in probabilities.argmax(1)]
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("tiny", 1, "serving_default")


def test_values_stand_in_the_field_of_their_type_as_in_tensorflow_serving(predictions):
    response = predictions.Predict(request(images=IMAGES))
    assert len(response.outputs["probabilities"].float_val) == IMAGES.shape[0] * 3
    assert len(response.outputs["class_index"].int64_val) == IMAGES.shape[0]


def test_values_may_come_in_the_field_of_their_type(predictions):
    values = tf.make_tensor_proto(IMAGES)
    values.int_val.extend(IMAGES.ravel().tolist())
    values.tensor_content = b""
    response = predictions.Predict(request(images=values))
    np.testing.assert_allclose(tf.make_ndarray(response.outputs["probabilities"]), expected(IMAGES), atol=1e-6)


def test_a_single_value_may_stand_for_all_of_one_row(predictions):
    response = predictions.Predict(request(images=tensor(tf.uint8, [1, 4, 4, 1], int_val=[7])))
    wanted = expected(np.full((1, 4, 4, 1), 7, np.uint8))
    np.testing.assert_allclose(tf.make_ndarray(response.outputs["probabilities"]), wanted, atol=1e-6)


def test_encoded_images_and_logits(predictions):
    response = predictions.Predict(request("image_bytes", image_bytes=PNGS))
    np.testing.assert_allclose(tf.make_ndarray(response.outputs["probabilities"]), expected(IMAGES), atol=1e-6)
    assert list(predictions.Predict(request("logits", images=IMAGES)).outputs) == ["logits"]


def test_large_messages_are_read_and_written_beside_the_event_loop(predictions, monkeypatch):
    threads = set()
    for name in ("to_array", "write"):
        original = getattr(tensor_messages, name)

        def noting(*arguments, original=original):
            threads.add((original.__name__, threading.current_thread().name.partition("_")[0]))
            return original(*arguments)

        monkeypatch.setattr(tensor_messages, name, noting)
    predictions.Predict(request("echo", text=[b"a" * 80] * 1000, x=np.zeros(1000)))
    assert threads == {("to_array", "converter"), ("write", "converter")}


def test_the_output_filter_chooses_outputs(predictions):
    message = request(images=IMAGES)
    message.output_filter.append("class_name")
    assert list(predictions.Predict(message).outputs) == ["class_name"]
    message.output_filter.append("nothing")
    code, details = refused(predictions.Predict, message)
    assert code == "INVALID_ARGUMENT"
    assert "there is no output 'nothing'; signature 'serving_default' has class_index" in details
    message.output_filter[:] = ["class_name"] * 5000
    told = ("INVALID_ARGUMENT", "output_filter names 'class_name' twice: once is enough")
    assert refused(predictions.Predict, message) == told


def test_metadata_is_the_signatures_of_the_file(predictions):
    message = message_class("GetModelMetadataRequest")(metadata_field=["signature_def"])
    message.model_spec.name = "tiny"
    response = predictions.GetModelMetadata(message)
    signatures = message_class("SignatureDefMap")()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert {"serving_default", "image_bytes", "logits"} <= set(signatures.signature_def)
    assert signatures.signature_def["logits"].inputs["images"].dtype == tf.uint8.as_datatype_enum
    assert response.model_spec.version.value == 1
    message.metadata_field.extend(["more"] * 5000)
    told = "metadata_field is ['signature_def', 'more']; it must be ['signature_def']"
    assert refused(predictions.GetModelMetadata, message) == ("INVALID_ARGUMENT", told)


def test_status_of_all_versions_and_of_one(models):
    message = message_class("GetModelStatusRequest")()
    message.model_spec.name = "tiny"
    (state,) = models.GetModelStatus(message).model_version_status
    assert (state.version, state.state) == (1, state.AVAILABLE)
    message.model_spec.version.value = 2
    assert refused(models.GetModelStatus, message) == ("NOT_FOUND", "model 'tiny' has no version 2: it has 1")


def tensor(dtype: tf.DType, shape: list[int], **fields: object):
    message = TensorProto(dtype=dtype.as_datatype_enum, tensor_shape=tf.TensorShape(shape).as_proto(), **fields)
    return message


def negative_side():
    message = tf.make_tensor_proto(IMAGES)
    message.tensor_shape.dim[0].size = -1
    return message


BAD_REQUESTS = {
    "unknown model": (request(model="other", images=IMAGES), "NOT_FOUND", "there is no model 'other'"),
    "unknown version": (request(version=9, images=IMAGES), "NOT_FOUND", "version 9 of model 'tiny' is not loaded"),
    "unknown signature": (request("x", images=IMAGES), "INVALID_ARGUMENT", "there is no signature 'x'"),
    "missing input": (request(), "INVALID_ARGUMENT", "input 'images' is missing"),
    "unknown input": (request(images=IMAGES, more=IMAGES), "INVALID_ARGUMENT", "there is no input 'more'"),
    "wrong type": (request(images=IMAGES.astype(np.float32)), "INVALID_ARGUMENT", "is float32; it must be uint8"),
    "unknown type": (request(images=TensorProto(dtype=999)), "INVALID_ARGUMENT", "unknown type (999)"),
    "no type": (request(images=TensorProto()), "INVALID_ARGUMENT", "it must be uint8"),
    "wrong shape": (request(images=IMAGES[:, :3]), "INVALID_ARGUMENT", "has shape [5, 3, 4, 1]; signature"),
    "empty batch": (request(images=IMAGES[:0]), "INVALID_ARGUMENT", "has no rows"),
    "negative side": (request(images=negative_side()), "INVALID_ARGUMENT", "no complete shape"),
    "too few bytes": (
        request(images=tensor(tf.uint8, [1, 4, 4, 1], tensor_content=b"123")),
        "INVALID_ARGUMENT",
        "does not hold [1, 4, 4, 1] values of uint8: 3 bytes came, send 16",
    ),
    "too many values": (
        request(images=tensor(tf.uint8, [1, 4, 4, 1], int_val=range(17))),
        "INVALID_ARGUMENT",
        "does not hold [1, 4, 4, 1] values of uint8: 17 came, send all 16",
    ),
    "no values": (
        request(images=tensor(tf.uint8, [1, 4, 4, 1])),
        "INVALID_ARGUMENT",
        "of shape [1, 4, 4, 1] has no values: send all 16",
    ),
    "a value too large": (
        request(images=tensor(tf.uint8, [1, 4, 4, 1], int_val=[300])),
        "INVALID_ARGUMENT",
        "has 300 in int_val, which must lie in 0 to 255",
    ),
    "a value too small": (
        request(images=tensor(tf.uint8, [1, 4, 4, 1], int_val=[7, -5])),
        "INVALID_ARGUMENT",
        "has -5 in int_val, which must lie in 0 to 255",
    ),
    "values in two fields": (
        request(images=tensor(tf.uint8, [1, 4, 4, 1], int_val=[7], tensor_content=bytes(16))),
        "INVALID_ARGUMENT",
        "has values in tensor_content and int_val; uint8 stands in tensor_content or int_val",
    ),
    "values in another type's field": (
        request(images=tensor(tf.uint8, [1, 4, 4, 1], float_val=[7])),
        "INVALID_ARGUMENT",
        "has values in float_val; uint8 stands in tensor_content or int_val",
    ),
    "strings in bytes": (
        request("image_bytes", image_bytes=tensor(tf.string, [1], tensor_content=b"\1a")),
        "INVALID_ARGUMENT",
        "has values in tensor_content; string stands in string_val",
    ),
    "too many sides": (
        request(images=tensor(tf.uint8, [1, 4, 4, 1, 2**62], int_val=[1])),
        "INVALID_ARGUMENT",
        "has shape [1, 4, 4, 1, 4611686018427387904]; signature",
    ),
    "far too many sides": (
        request(images=tensor(tf.uint8, [1] + [2**62] * 7000)),
        "INVALID_ARGUMENT",
        "a shape of 84,004 bytes came; this server takes at most 4,096",
    ),
    "more sides than an array has": (
        request(images=tensor(tf.uint8, [1] * 33)),
        "INVALID_ARGUMENT",
        "input 'images' has 33 sides; at most 32 are allowed",
    ),
    "many inputs": (
        request(**{f"x{number}": IMAGES for number in range(9)}),
        "INVALID_ARGUMENT",
        "9 inputs came; this server takes at most 2",
    ),
    "a value for all of several rows": (
        request(images=tensor(tf.uint8, [2, 4, 4, 1], int_val=[1])),
        "INVALID_ARGUMENT",
        "does not hold [2, 4, 4, 1] values of uint8: 1 came, send all 32",
    ),
    "a string for all of several rows": (
        request("image_bytes", image_bytes=tensor(tf.string, [1000], string_val=[PNGS[0]])),
        "INVALID_ARGUMENT",
        "does not hold [1000] values of string: 1 came, send all 1,000",
    ),
    "too many rows": (
        request(images=tensor(tf.uint8, [10**12, 4, 4, 1], int_val=[1])),
        "RESOURCE_EXHAUSTED",
        "1,000,000,000,000 rows; a request may have 1,024",
    ),
    "no image": (request("image_bytes", image_bytes=[b"hello"]), "INVALID_ARGUMENT", "Unknown image file format"),
    "oversized": (request(images=np.zeros((LIMIT, 4, 4, 1), np.uint8)), "RESOURCE_EXHAUSTED", "larger than max"),
}


@pytest.mark.parametrize(("message", "code", "details"), BAD_REQUESTS.values(), ids=BAD_REQUESTS)
def test_a_bad_request_is_told_in_a_line(predictions, message, code, details):
    actual_code, actual_details = refused(predictions.Predict, message)
    assert actual_code == code
    assert details in actual_details
    assert "\n" not in actual_details
    assert predictions.Predict(request(images=IMAGES))


def test_a_version_label_is_refused(predictions):
    message = request(images=IMAGES)
    message.model_spec.version_label = "stable"
    assert refused(predictions.Predict, message)[0] == "NOT_FOUND"


@pytest.mark.parametrize("part", [b"\x12\0", b"\x1a\0"], ids=["inputs", "names of outputs"])
def test_a_message_of_tiny_parts_is_refused_before_it_is_read(channel, part):
    code, details = refused(channel.unary_unary(PREDICT), b"\x0a\x06\x0a\x04tiny" + part * (LIMIT // 2 - 10))
    assert code == "INVALID_ARGUMENT"
    assert details in ("49,990 inputs came; this server takes at most 2", "there is no output ''; signature 'serving_default' "
                       "has class_index, class_name, probabilities")  # fmt: skip


@pytest.mark.parametrize("content", [b"\xff\xff\xff", b"\x0a\x03\x0a\x01\xff"])
def test_what_is_no_message_is_refused_without_a_traceback(channel, content, caplog):
    code, details = refused(channel.unary_unary(PREDICT), content)
    assert (code, details) == ("INVALID_ARGUMENT", "the message is no PredictRequest")
    assert not caplog.records


def test_a_client_that_does_not_take_its_answer_leaves_no_traceback(server, caplog):
    with grpc.insecure_channel(server.grpc, options=[("grpc.max_receive_message_length", 10)]) as channel:
        assert refused(stub(channel, "PredictionService").Predict, request(images=IMAGES))[0] == "RESOURCE_EXHAUSTED"
    assert not caplog.records


def test_methods_that_are_not_served_say_so(predictions, models):
    calls = (
        (predictions.Classify, message_class("ClassificationRequest")()),
        (predictions.Regress, message_class("RegressionRequest")()),
        (predictions.MultiInference, message_class("MultiInferenceRequest")()),
        (models.HandleReloadConfigRequest, message_class("ReloadConfigRequest")()),
    )
    for call, message in calls:
        code, details = refused(call, message)
        assert code == "UNIMPLEMENTED"
        assert "is not served here: use Predict" in details


@pytest.mark.parametrize("content", [b"\xff\xff\xff", b"\x0a\x7f" + bytes(127) * 9, b"\x0a\xd0\x0f" + b"x" * 2000])
@pytest.mark.parametrize("method", ["Check", "Watch"])
def test_a_question_for_health_that_is_none_is_refused_without_a_traceback(channel, method, content, caplog):
    kind = channel.unary_stream if method == "Watch" else channel.unary_unary
    answer = kind(f"/grpc.health.v1.Health/{method}")
    code, _ = refused(lambda message, timeout: [*answer(message, timeout=timeout)], content)
    assert code == "INVALID_ARGUMENT"
    assert not caplog.records


@pytest.mark.parametrize("service", ["", "tensorflow.serving.PredictionService"])
def test_the_health_service_answers(channel, service):
    stub = health_pb2_grpc.HealthStub(channel)
    assert stub.Check(health_pb2.HealthCheckRequest(service=service)).status == health_pb2.HealthCheckResponse.SERVING


def test_requests_are_counted_by_code(server, predictions):
    predictions.Predict(request(images=IMAGES))
    refused(predictions.Predict, request())
    text = server.ask("GET", "/metrics")[1]
    assert 'serving_requests_total{code="OK",protocol="grpc"}' in text
    assert 'serving_requests_total{code="INVALID_ARGUMENT",protocol="grpc"}' in text


def silent(server):
    host, port = server.grpc.split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def code_of_a_new_client(server):
    with grpc.insecure_channel(server.grpc) as channel:
        call = stub(channel, "PredictionService").Predict.future(request(images=IMAGES), timeout=10)
        return call.code().name


def test_silent_connections_are_bounded_in_number_and_time(server):
    folder = server.server.settings.folder
    with RunningServer(folder, max_grpc_connections=2, head_seconds=0.5) as bounded:
        started = time.monotonic()
        with silent(bounded) as first, silent(bounded) as second:
            assert code_of_a_new_client(bounded) == "UNAVAILABLE"
            assert bounded.ask("GET", "/healthz")[0] == 200
            for connection in (first, second):
                while connection.recv(4096):
                    pass
            assert 0.4 < time.monotonic() - started < 5
            wait_until(lambda: code_of_a_new_client(bounded) == "OK")
