"""`python -m export.serve --model=RUN/export/saved_model`: serves a SavedModel as TensorFlow Serving does.

The folder holds versions, 1/, 2/, ...; the highest is served, and a higher one that appears takes over. REST and gRPC are
those of TensorFlow Serving: POST /v1/models/NAME:predict, and PredictionService.Predict. Beside them GET /healthz, /readyz
and /metrics. SIGTERM or Ctrl-C stops it; what was read is still answered.
"""

import asyncio
import dataclasses
import gc
import json
import logging
import os
import resource
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from absl import flags

from export.serving.addresses import Listener, authority, listen
from export.serving.folders import check_model_folder
from export.serving.server_settings import Settings
from r2d2_tf.config import command_line
from r2d2_tf.config.path_flags import define_path
from r2d2_tf.system.startup import import_tensorflow_quietly

if TYPE_CHECKING:
    from export.serving.server import Server
    from export.serving.signatures import Signature

_LONGEST_BODY = 300
"""Characters of an example that is printed."""
DESCRIPTORS = {"max_connections": 1 / 2, "max_grpc_connections": 1 / 4}
"""The part of what the process may open that connections may take: model files and the log need some too."""
_ALLOCATIONS = 10_000
"""New objects until Python looks for garbage among them."""
_FORBIDDEN_IN_NAMES = "/:?#%"


def define_flags() -> flags.FlagValues:
    values = flags.FlagValues()
    define_path("model", "", "folder that holds the versions of a SavedModel: 1/, 2/, ...", flag_values=values)
    flags.DEFINE_string("name", "", "name of the model in requests; by default that of its folder", flag_values=values)
    flags.DEFINE_string("host", "127.0.0.1", "where to listen; 0.0.0.0: for other machines too", flag_values=values)
    flags.DEFINE_integer("rest_port", 8501, "port for REST; 0: any free one", 0, 65535, flag_values=values)
    flags.DEFINE_integer("grpc_port", 8500, "port for gRPC; 0: any free one", 0, 65535, flag_values=values)
    flags.DEFINE_integer("threads", 0, "threads of an operation of TensorFlow; 0: one a core", 0, flag_values=values)
    command_line.define_flags(values, Settings)
    return values


def main(arguments: Sequence[str]) -> int:
    """Runs the command line `arguments` and returns the exit code."""
    return command_line.run_with_flags(arguments, __doc__, define_flags(), _start)


def _start(values: flags.FlagValues) -> NoReturn:
    if not values["model"].value:
        raise ValueError("say which model to serve: --model=RUN/export/saved_model")
    folder = Path(values["model"].value)
    check_model_folder(folder)
    name = values["name"].value or folder.resolve().name
    if not name or any(c in _FORBIDDEN_IN_NAMES or not c.isprintable() or c.isspace() for c in name):
        raise ValueError(f"name ({name}) must be without spaces and {_FORBIDDEN_IN_NAMES}, as it stands in URLs: give --name")
    listener = listen(values["host"].value, rest_port=values["rest_port"].value, grpc_port=values["grpc_port"].value)
    with listener.rest_socket:
        _serve(values, folder, name, listener)


def _serve(values: flags.FlagValues, folder: Path, name: str, listener: Listener) -> NoReturn:
    print(f"loading {folder} ...", flush=True)
    import_tensorflow_quietly()
    import tensorflow as tf

    from export.serving.server import Server

    if values["threads"].value:
        tf.config.threading.set_intra_op_parallelism_threads(values["threads"].value)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", stream=sys.stderr)
    logging.getLogger("export.serve").setLevel(logging.INFO)
    # What is imported stays; without it each collection of garbage, with a request waiting, takes a tenth of a second.
    gc.collect()
    gc.freeze()
    # There is a list for each pixel of JSON; by default each request is looked through several times.
    gc.set_threshold(_ALLOCATIONS)
    asked = {field.name: values[field.name].value for field in dataclasses.fields(Settings) if field.name in values}
    asked |= {"name": name, "folder": folder}
    asked |= {key: most_connections(asked[key], part) for key, part in DESCRIPTORS.items()}
    server = Server(Settings(**asked))
    server.versions.load_newest()
    if server.versions.current is None:
        raise ValueError(f"no version in {folder} loads: export it again")
    dropped = asyncio.run(_run(server, listener))
    # What TensorFlow still runs in a thread, a batch that nobody waits for or a version that loads, would keep the process.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1 if dropped else 0)


def most_connections(wanted: int, part: float) -> int:
    """At most this part of what the system lets a process open."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return wanted if limit == resource.RLIM_INFINITY else max(1, min(wanted, int(limit * part)))


async def _run(server: "Server", listener: Listener) -> int:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, server.ask_to_stop)
    return await server.run(listener, lambda started: print(banner(started, listener.host), flush=True))


def banner(server: "Server", host: str) -> str:
    """What is served, where, and a command to try it."""
    name, version = server.settings.name, server.versions.current
    signatures = version.signatures if version else {}
    url = f"http://{authority(host, server.rest_port)}/v1/models/{name}"
    lines = [
        f"serving {name}, version {version.number if version else 0}, from {server.settings.folder}",
        *(f"  {signature.name}: {signature}" for signature in signatures.values()),
        f"REST  {url}",
        f"gRPC  {authority(host, server.grpc_port)}",
        "Try it:",
        f"  {curl_line(signatures, url, server.settings.folder)}",
        "Ctrl-C or SIGTERM stops it.",
    ]
    return "\n".join(lines)


def curl_line(signatures: "Mapping[str, Signature]", url: str, folder: Path) -> str:
    """A command that asks for a prediction: of an image, or of zeros if they are few; else for the model's status."""
    inputs = {name: signature.inputs for name, signature in signatures.items()}
    for name, specs in inputs.items():
        ((key, spec), *others) = specs.items()
        if not others and key.endswith("_bytes") and spec.shape == (None,):
            examples = sorted((folder.parent / "examples").glob("*.*"))
            file = shlex.quote(str(examples[0])) if examples else "IMAGE.png"
            start, end = f'{{"signature_name": "{name}", "instances": [{{"b64": "', '"}]}'
            # By a pipe: as an argument an image could be too long.
            body = f"printf '%s' '{start}'; base64 < {file} | tr -d '\\n'; printf '%s' '{end}'"
            return f"({body}) | curl -d @- {url}:predict"
    for name, specs in inputs.items():
        shapes = [spec.shape for spec in specs.values()]
        numeric = all(spec.dtype.is_floating or spec.dtype.is_integer for spec in specs.values())
        if numeric and all(shape is not None and None not in shape[1:] for shape in shapes):
            zeros = {key: np.zeros([side or 1 for side in spec.shape or ()], int).tolist() for key, spec in specs.items()}
            body = json.dumps({"signature_name": name, "inputs": zeros})
            if len(body) <= _LONGEST_BODY:
                return f"curl -d '{body}' {url}:predict"
    return f"curl {url}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
