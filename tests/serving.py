"""A tiny model with the signatures of an export, and servers that run it in a thread."""

import asyncio
import base64
import io
import json
import socket
import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image
from serving_api import message_class
from tensorflow.core.framework.tensor_pb2 import TensorProto

from export.serving.addresses import listen
from export.serving.server import Server
from export.serving.server_settings import Settings

SIDE, CLASSES = 4, 3
NAMES = ("cat", "dog", "owl")
IMAGES = tf.TensorSpec([None, SIDE, SIDE, 1], tf.uint8, name="images")


class TinyModel(tf.Module):
    """A linear classifier of 4x4 images, and two signatures of other kinds."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.weights = tf.Variable(np.random.default_rng(seed).normal(size=(SIDE * SIDE, CLASSES)).astype(np.float32))
        self.names = tf.constant(NAMES)

    def _logits(self, images):
        return tf.reshape(tf.cast(images, tf.float32) / 255, [-1, SIDE * SIDE]) @ self.weights

    def _outputs(self, images):
        probabilities = tf.nn.softmax(self._logits(images))
        index = tf.argmax(probabilities, 1)
        return {"probabilities": probabilities, "class_index": index, "class_name": tf.gather(self.names, index)}

    @tf.function(input_signature=[IMAGES])
    def serving_default(self, images):
        return self._outputs(images)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def image_bytes(self, image_bytes):
        def decoded(content):
            return tf.ensure_shape(tf.io.decode_image(content, channels=1, expand_animations=False), IMAGES.shape[1:])

        spec = tf.TensorSpec(IMAGES.shape[1:], tf.uint8)
        return self._outputs(tf.map_fn(decoded, image_bytes, fn_output_signature=spec))

    @tf.function(input_signature=[IMAGES])
    def logits(self, images):
        return {"logits": self._logits(images)}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="a"), tf.TensorSpec([], tf.float32, name="b")])
    def scaled_sum(self, a, b):
        return {"total": tf.reduce_sum(a) * b}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text"), tf.TensorSpec([None], tf.float64, name="x")])
    def echo(self, text, x):
        return {"text": text, "text_bytes": text, "x": x}


def write_model(folder: Path, *, seed: int = 0) -> Path:
    model = TinyModel(seed)
    names = ("serving_default", "image_bytes", "logits", "scaled_sum", "echo")
    tf.saved_model.save(model, str(folder), signatures={name: getattr(model, name) for name in names})
    return folder


def random_images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 1)).astype(np.uint8)


def png(image: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image[..., 0]).save(content, "png")
    return content.getvalue()


def expected(images: np.ndarray, seed: int = 0) -> np.ndarray:
    """Probabilities, computed with NumPy."""
    weights = np.random.default_rng(seed).normal(size=(SIDE * SIDE, CLASSES)).astype(np.float32)
    logits = (images.reshape(len(images), -1) / np.float32(255)).astype(np.float32) @ weights
    exponents = np.exp(logits - logits.max(1, keepdims=True))
    return exponents / exponents.sum(1, keepdims=True)


def in_base64(content: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(content).decode()}


def request(signature: str = "", *, model: str = "tiny", version: int | None = None, **inputs: object):
    message = message_class("PredictRequest")()
    message.model_spec.name = model
    message.model_spec.signature_name = signature
    if version is not None:
        message.model_spec.version.value = version
    for name, values in inputs.items():
        tensor = values if isinstance(values, TensorProto) else tf.make_tensor_proto(values)
        message.inputs[name].MergeFromString(tensor.SerializeToString())
    return message


class RunningServer:
    """A server in a thread of its own, on free ports, while it is entered."""

    def __init__(self, folder: Path, **settings: float) -> None:
        defaults = {"poll_seconds": 0.05, "stop_seconds": 10.0}
        self.server = Server(Settings(name="tiny", folder=folder, **(defaults | settings)))
        self.dropped: int | None = None

    def __enter__(self) -> "RunningServer":
        self.server.versions.load_newest()
        started = threading.Event()

        async def run() -> None:
            self.loop = asyncio.get_running_loop()
            listener = listen("127.0.0.1", rest_port=0, grpc_port=0)
            self.dropped = await self.server.run(listener, lambda _: started.set())

        self.thread = threading.Thread(target=lambda: asyncio.run(run()))
        self.thread.start()
        assert started.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.thread.join(20)
        assert not self.thread.is_alive()

    def stop(self) -> None:
        if self.thread.is_alive():
            self.loop.call_soon_threadsafe(self.server.ask_to_stop)

    @property
    def rest(self) -> str:
        return f"127.0.0.1:{self.server.rest_port}"

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.server.grpc_port}"

    def ask(self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> tuple[int, object]:
        """Status and content of an answer; `body` is bytes, or an object to be sent as JSON."""
        connection = HTTPConnection(self.rest, timeout=20)
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection.request(method, path, content, headers or {})
        response = connection.getresponse()
        text = response.read()
        connection.close()
        is_json = response.headers.get_content_type() == "application/json"
        return response.status, json.loads(text) if is_json else text.decode()

    def predict(self, body: object, path: str = "/v1/models/tiny:predict") -> tuple[int, object]:
        return self.ask("POST", path, body)


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.01)


def raw(server: RunningServer, content: bytes) -> bytes:
    """All that the server answers until it closes the connection."""
    host, port = server.rest.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(content)
        return b"".join(iter(lambda: connection.recv(4096), b""))


class Slow:
    """Holds the model up until it is released."""

    def __init__(self, server):
        self.signature = server.server.versions.current.signatures["serving_default"]
        self.original = self.signature._function
        self.gate = threading.Event()
        self.calls = 0
        self.signature._function = self

    def __call__(self, **inputs):
        self.calls += 1
        assert self.gate.wait(20)
        return self.original(**inputs)


ROW = {"instances": random_images(1).tolist()}
