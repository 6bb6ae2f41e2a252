"""Asks a model server for predictions: TensorFlow Serving itself, or `python -m export.serve`.

    python -m export.client --server=localhost:8501 --model=NAME IMAGE...
    python -m export.client --server=localhost:8500 --protocol=grpc --model=NAME IMAGE...

This file stands alone: copy it to a client. REST needs requests and NumPy; gRPC needs serving_protocol.py beside this file,
grpcio and protobuf.
"""

import argparse
import base64
import contextlib
import importlib
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
import requests

DEFAULT_SIGNATURE = "serving_default"
IMAGE_SIGNATURE = "image_bytes"
IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".pjpeg", ".bmp", ".gif")
"""Of what `image_bytes` decodes."""
_REFUSALS = ("400", "INVALID_ARGUMENT", "413", "RESOURCE_EXHAUSTED")
"""Codes of a request that is wrong or too large; half of it may be neither."""


class ServerError(Exception):
    """The server refused (`code`: HTTP status, or the name of gRPC's status), or gave no answer (`code` is empty)."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}" if code else message)
        self.code = code


class RestClient:
    """Speaks REST to `server` (`host:port`); each method raises ServerError.

    `version` None: of the model, the server's choice. `timeout`: seconds.
    """

    def __init__(self, server: str, model: str, *, version: int | None = None, timeout: float = 60.0) -> None:
        self._url = f"http://{server}/v1/models/{quote(model, safe='')}" + ("" if version is None else f"/versions/{version}")
        self._timeout = timeout
        self._session = requests.Session()
        self._session.trust_env = not _is_local(server)
        self._signatures: dict[str, Any] | None = None

    def predict(self, inputs: Mapping[str, Any], signature: str = DEFAULT_SIGNATURE) -> dict[str, np.ndarray]:
        """The outputs by name for inputs by name: arrays, or lists of bytes, with a first axis of rows."""
        columns = {name: _to_json(values) for name, values in inputs.items()}
        body = json.dumps({"signature_name": signature, "inputs": columns})
        with _understanding(self._url):
            outputs = self._ask("POST", ":predict", body)["outputs"]
            names = list(self._output_names(signature, outputs))
            # A single output comes without its name.
            outputs = {names[0]: outputs} if len(names) == 1 else outputs
            return {name: _from_json(name, outputs[name]) for name in names}

    def metadata(self) -> dict[str, Any]:
        """The signatures: name -> {"inputs": {name: dtype}, "outputs": {name: dtype}}, dtypes as in DT_UINT8."""
        with _understanding(self._url):
            definitions = self._ask("GET", "/metadata")["metadata"]["signature_def"]["signature_def"]
            return {name: _dtypes(definition) for name, definition in definitions.items()}

    def status(self) -> dict[int, str]:
        """Version -> state, as in AVAILABLE."""
        with _understanding(self._url):
            states = self._ask("GET", "")["model_version_status"]
            return {int(state["version"]): state["state"] for state in states}

    def close(self) -> None:
        """Closes the connection."""
        self._session.close()

    def _output_names(self, signature: str, outputs: Any) -> Sequence[str]:
        if isinstance(outputs, dict) and outputs.keys() != {"b64"}:
            return list(outputs)
        self._signatures = self._signatures or self.metadata()
        return list(self._signatures[signature]["outputs"])

    def _ask(self, method: str, path: str, body: str | None = None) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        try:
            response = self._session.request(method, self._url + path, data=body, headers=headers, timeout=self._timeout)
        except requests.RequestException as error:
            raise ServerError("", f"no answer from {self._url} ({type(error).__name__}): is the server up there?") from error
        try:
            content = response.json()
        except ValueError as error:
            raise ServerError(str(response.status_code), f"{self._url} answers no JSON: is it a model server?") from error
        told = content.get("error") if isinstance(content, dict) else None
        if response.status_code != requests.codes.ok or told:
            raise ServerError(str(response.status_code), str(told or response.reason))
        return content


class GrpcClient:
    """Speaks gRPC, as RestClient does REST. Raises ServerError if what it needs is not there."""

    def __init__(self, server: str, model: str, *, version: int | None = None, timeout: float = 60.0) -> None:
        try:
            import grpc

            self._protocol: Any = importlib.import_module(
                f"{__package__}.serving_protocol" if __package__ else "serving_protocol"
            )
        except ImportError as error:
            raise ServerError("", f"gRPC needs grpcio, protobuf and serving_protocol.py ({error}): or use REST") from error
        self._grpc = grpc
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        options += [("grpc.enable_http_proxy", 0)] if _is_local(server) else []
        self._channel = grpc.insecure_channel(server, options=options)
        self._model, self._version, self._timeout = model, version, timeout

    def predict(self, inputs: Mapping[str, Any], signature: str = DEFAULT_SIGNATURE) -> dict[str, np.ndarray]:
        """See RestClient."""
        request = self._addressed("Predict")
        request.model_spec.signature_name = signature
        for name, values in inputs.items():
            self._protocol.set_tensor(request.inputs[name], values)
        response = self._ask("Predict", request)
        return {name: self._protocol.array_of(tensor) for name, tensor in sorted(response.outputs.items())}

    def metadata(self) -> dict[str, Any]:
        """See RestClient."""
        from google.protobuf.json_format import MessageToDict

        request = self._addressed("GetModelMetadata", metadata_field=["signature_def"])
        definitions = self._protocol.SignatureDefMap()
        self._ask("GetModelMetadata", request).metadata["signature_def"].Unpack(definitions)
        return {name: _dtypes(MessageToDict(definition)) for name, definition in definitions.signature_def.items()}

    def status(self) -> dict[int, str]:
        """See RestClient."""
        response = self._ask("GetModelStatus", self._addressed("GetModelStatus"))
        names = self._protocol.ModelVersionStatus.State
        return {state.version: names.Name(state.state) for state in response.model_version_status}

    def close(self) -> None:
        """See RestClient."""
        self._channel.close()

    def _addressed(self, method: str, **fields: Any) -> Any:
        request = self._protocol.METHODS[method].request(**fields)
        request.model_spec.name = self._model
        if self._version is not None:
            request.model_spec.version.value = self._version
        return request

    def _ask(self, method: str, request: Any) -> Any:
        try:
            return self._protocol.call(self._channel, method)(request, timeout=self._timeout)
        except self._grpc.RpcError as error:
            raise ServerError(error.code().name, str(error.details())[:300]) from error


def _is_local(server: str) -> bool:
    """Whether it is this machine, which no proxy reaches."""
    host = urlsplit(f"//{server}").hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


@contextlib.contextmanager
def _understanding(url: str) -> Iterator[None]:
    """Makes a ServerError of an answer that has another form."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ServerError("", f"{url} answers in a form that is no model server's ({type(error).__name__})") from error


def _to_json(values: Any) -> Any:
    if isinstance(values, bytes):
        return {"b64": base64.b64encode(values).decode()}
    if isinstance(values, np.ndarray):
        return _to_json(values.tolist()) if values.dtype.kind in "OS" else values.tolist()
    return [_to_json(value) for value in values] if isinstance(values, list | tuple) else values


def _from_json(name: str, values: Any) -> np.ndarray:
    if name.endswith("_bytes"):
        return np.array([base64.b64decode(value["b64"]) for value in values], object)
    array = np.array(values)
    # As gRPC has it.
    return np.char.encode(array, "utf-8").astype(object) if array.dtype.kind == "U" else array


def _dtypes(definition: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    def of(side: str) -> dict[str, str]:
        return {name: info.get("dtype", "DT_INVALID") for name, info in sorted(definition.get(side, {}).items())}

    return {"inputs": of("inputs"), "outputs": of("outputs")}


Client = RestClient | GrpcClient


def connect(server: str, model: str, *, protocol: str, version: int | None = None, timeout: float = 60.0) -> Client:
    """A client of `rest` or `grpc`."""
    kind = GrpcClient if protocol == "grpc" else RestClient
    return kind(server, model, version=version, timeout=timeout)


def image_files(paths: Sequence[Path]) -> list[Path]:
    """The files among `paths`, and the images in the folders among them. Raises ValueError where there is none."""
    files = []
    for path in paths:
        inside = sorted(path.iterdir()) if path.is_dir() else []
        found = [f for f in inside if f.suffix.lower() in IMAGE_ENDINGS and f.is_file()] if path.is_dir() else [path]
        if not found or not path.exists():
            raise ValueError(f"there is no image at {path}: give image files, or folders of them ({', '.join(IMAGE_ENDINGS)})")
        files += found
    return files


def classify(client: Client, files: Sequence[Path], *, batch_size: int) -> Iterator[tuple[Path, str, float]]:
    """The class and its probability of each image file, as the answers come; NaN for a file that is refused, with the reason.

    Raises ServerError if the server does not answer, or not what is needed.
    """
    for start in range(0, len(files), batch_size):
        yield from _classified(client, files[start : start + batch_size])


def _classified(client: Client, files: Sequence[Path]) -> Iterator[tuple[Path, str, float]]:
    try:
        outputs = client.predict({IMAGE_SIGNATURE: [file.read_bytes() for file in files]}, IMAGE_SIGNATURE)
    except (ServerError, OSError) as error:
        if isinstance(error, ServerError) and error.code not in _REFUSALS:
            raise
        if len(files) == 1:
            yield files[0], f"is refused: {error}", math.nan
            return
        # Halved again and again, what is too large fits, and a bad file stands alone.
        yield from classify(client, files, batch_size=(len(files) + 1) // 2)
        return
    if "probabilities" not in outputs:
        raise ServerError("", f"the model returns {', '.join(outputs)}; probabilities are needed")
    with _understanding("the server"):
        probabilities = outputs["probabilities"]
        names = outputs.get("class_name", [f"class {number}".encode() for number in probabilities.argmax(1)])
        classes = [name.decode(errors="replace") for name in names]
        found = list(zip(files, classes, map(float, probabilities.max(1)), strict=True))
    yield from found


def _path(name: str) -> Path:
    return Path(os.path.expanduser(name))


def main(arguments: Sequence[str]) -> int:
    """Classifies image files from a command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Classifies images on a model server.")
    parser.add_argument("--server", default="localhost:8501", help="host:port (default: %(default)s)")
    parser.add_argument("--protocol", choices=["rest", "grpc"], default="rest", help="(default: %(default)s)")
    parser.add_argument("--model", required=True, help="name of the model on the server")
    parser.add_argument("--version", type=int, help="of the model; by default the newest")
    parser.add_argument("--batch_size", type=int, default=32, help="images a request (default: %(default)s)")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds (default: %(default)s)")
    parser.add_argument("images", nargs="+", type=_path, metavar="IMAGE", help="image file, or folder of images")
    options = parser.parse_args(arguments)
    try:
        if options.batch_size < 1:
            raise ValueError(f"--batch_size ({options.batch_size}) must be at least 1")
        files = image_files(options.images)
        how = {"protocol": options.protocol, "version": options.version, "timeout": options.timeout}
        with contextlib.closing(connect(options.server, options.model, **how)) as client:
            if IMAGE_SIGNATURE not in client.metadata():
                raise ValueError(f"the model has no signature {IMAGE_SIGNATURE}, which takes image files")
            return _print_classes(classify(client, files, batch_size=options.batch_size), max(len(f.name) for f in files))
    except (ServerError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _print_classes(found: Iterator[tuple[Path, str, float]], width: int) -> int:
    """Prints a line a file; returns the exit code, 1 if one was refused."""
    refused = 0
    for file, name, probability in found:
        is_refused = math.isnan(probability)
        line = f"error: {file} {name}" if is_refused else f"{file.name:{width}}  {name}  {100 * probability:5.1f} %"
        # Whatever a file or a class is called, it moves no cursor.
        plain = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
        print(plain, file=sys.stderr if is_refused else sys.stdout, flush=True)
        refused |= is_refused
    return refused


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
