"""Requests a second of export.serve, beside a plain aiohttp handler around the same SavedModel."""

import asyncio
import itertools
import json
import multiprocessing
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from export.formats import stage
from export.inference import saved_model_folder
from export.serving.folders import DEFAULT_SIGNATURE
from export.serving_model import ServingModel
from r2d2_tf.config.config import Config
from r2d2_tf.data.datasets import DATASETS
from tools.benchmark import networks
from tools.benchmark.measuring import Row, Work, alternate, per_second
from tools.benchmark.settings import Settings
from tools.shared.server_process import ServerProcess

OURS, PLAIN = "export.serve, requests/s", "plain aiohttp, requests/s"
AT_A_TIME = (1, 32)
_NAME = "model"
_PATH = f"/v1/models/{_NAME}:predict"
_IMAGES = 64
_TOLERANCE = 1e-5


def part(settings: Settings) -> list[Row]:
    networks.prepare(settings)
    return [row for config in settings.cases for row in measure(config, settings)]


def measure(config: Config, settings: Settings) -> list[Row]:
    """A row for each number of requests at a time."""
    images = networks.noise(DATASETS[config.dataset].image_shape, _IMAGES)
    backbone = networks.build_backbone(config)
    model = ServingModel(backbone, [str(number) for number in range(backbone.output_shape[-1])], images)
    with tempfile.TemporaryDirectory(dir=settings.folder) as name:
        folder = Path(name) / _NAME
        folder.mkdir()
        stage("saved_model", model, Path(name)).rename(folder / "1")
        with ServerProcess(folder, _NAME) as ours, PlainServer(folder) as plain, asyncio.Runner() as runner:
            addresses = {OURS: ours.rest, PLAIN: plain.rest}
            clients = {arm: runner.run(_client(address)) for arm, address in addresses.items()}
            bodies = [json.dumps({"instances": image[None].tolist()}).encode() for image in images]
            _check_alike(*(runner.run(_answer(client, bodies[0])) for client in clients.values()))
            rows = []
            for count in AT_A_TIME:
                arms = {arm: _work(runner, client, bodies, count) for arm, client in clients.items()}
                seconds, steps = alternate(arms, settings)
                rows.append(
                    Row(
                        f"{config.backbone}, {count} at a time",
                        {arm: per_second(1, seconds[arm]) for arm in arms},
                        {"export.serve / plain": (OURS, PLAIN)},
                        note="One image a request, as JSON; server and client share the processor.",
                        steps=steps,
                    )
                )
            for client in clients.values():
                runner.run(client.close())
    return rows


async def _client(address: str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(f"http://{address}", connector=aiohttp.TCPConnector(limit=0))


async def _answer(client: aiohttp.ClientSession, body: bytes) -> Any:
    async with client.post(_PATH, data=body) as response:
        response.raise_for_status()
        return json.loads(await response.read())


def _check_alike(one: Any, other: Any) -> None:
    """Raises ValueError unless both servers give the same answer."""
    first, second = (answer["predictions"][0]["probabilities"] for answer in (one, other))
    if not np.allclose(first, second, atol=_TOLERANCE):
        raise ValueError("the two servers do not answer alike")


def _work(runner: asyncio.Runner, client: aiohttp.ClientSession, bodies: list[bytes], at_a_time: int) -> Work:
    """Sends so many requests, `at_a_time` of them, each as soon as another is answered."""

    async def send(steps: int) -> None:
        left = itertools.islice(itertools.cycle(bodies), steps)

        async def work() -> None:
            for body in left:
                await _answer(client, body)

        await asyncio.gather(*(work() for _ in range(at_a_time)))

    return lambda steps: runner.run(send(steps))


class PlainServer:
    """What somebody would write in a minute, in a process of its own while it is entered.

    Attributes:
        rest: its address.
    """

    def __init__(self, model: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._port, theirs = context.Pipe(duplex=False)
        self._process = context.Process(target=serve_plainly, args=(model, theirs), daemon=True)
        self.rest = ""

    def __enter__(self) -> "PlainServer":
        self._process.start()
        self.rest = f"127.0.0.1:{self._port.recv()}"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()


def serve_plainly(model: Path, port: Connection) -> None:
    """Serves a SavedModel by aiohttp alone: no batches, no threads, no bounds."""
    import tensorflow as tf
    from aiohttp import web

    loaded = tf.saved_model.load(str(saved_model_folder(model)))
    signature = loaded.signatures[DEFAULT_SIGNATURE]
    (key,) = signature.structured_input_signature[1]

    async def predict(request: web.Request) -> web.Response:
        instances = (await request.json())["instances"]
        outputs = signature(**{key: tf.constant(np.array(instances, np.uint8))})
        columns = {name: output.numpy() for name, output in outputs.items()}
        lists = {name: (array.astype(str) if array.dtype == object else array).tolist() for name, array in columns.items()}
        rows = [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
        return web.json_response({"predictions": rows})

    async def serve() -> None:
        app = web.Application(client_max_size=2**30)
        app.router.add_post(_PATH, predict)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(serve())
