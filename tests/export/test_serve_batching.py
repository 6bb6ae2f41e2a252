"""How export.serve joins requests, and what it does with too many, too slow and bad ones."""

import asyncio
import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import grpc
import numpy as np
import pytest
from serving import ROW, RunningServer, Slow, expected, in_base64, png, random_images, request, wait_until, write_model
from serving_api import stub

from export.serving import batching
from export.serving.batching import Batcher, Job, run_jobs
from export.serving.errors import ServingError, graph_message, invalid
from export.serving.server_settings import Settings


class DoublingSignature:
    """Doubles its input, and refuses batches with a negative number; `per_row` False: returns one row alone."""

    name = "double"

    def __init__(self, *, per_row: bool = True, seconds: float = 0.0, fixed_size: bool = True) -> None:
        self.merges = True
        self.inputs = {"x": SimpleNamespace(has_fixed_size=fixed_size)}
        self.threads: list[str] = []
        self.batches: list[int] = []
        self._per_row = per_row
        self._seconds = seconds

    def run(self, inputs):
        x = inputs["x"]
        self.batches.append(len(x))
        self.threads.append(threading.current_thread().name.partition("_")[0])
        time.sleep(self._seconds)
        if (x < 0).any():
            raise invalid("negative")
        return {"y": 2 * x if self._per_row else 2 * x[:1]}


def jobs_of(signature, *values):
    return [Job(None, signature, {"x": np.array(v)}, len(v), (("x", ()),), 0.0, None) for v in values]


def test_joined_requests_get_their_own_rows_back():
    signature = DoublingSignature()
    answers = run_jobs(jobs_of(signature, [1], [2, 3], [4]))
    assert [answer["y"].tolist() for answer in answers] == [[2], [4, 6], [8]]
    assert signature.batches == [4]


@pytest.mark.parametrize("bad", [{0}, {3}, {7}, {1, 6}, set(range(8))])
def test_a_bad_request_fails_alone(bad):
    values = [[-1] if number in bad else [number] for number in range(8)]
    answers = run_jobs(jobs_of(DoublingSignature(), *values))
    for number, answer in enumerate(answers):
        if number in bad:
            assert isinstance(answer, ServingError)
        else:
            assert answer["y"].tolist() == [2 * number]


def settings(**given):
    return Settings("double", Path("nowhere"), **given)


def batches_of(signature, *values, max_batch_size=8, batch_timeout_ms=0.0):
    """What a Batcher answers to requests that come together."""
    rows = []

    async def ask():
        batcher = Batcher(settings(max_batch_size=max_batch_size, batch_timeout_ms=batch_timeout_ms), rows.append)
        answers = await asyncio.gather(*(batcher.predict(None, signature, {"x": np.array(v)}) for v in values))
        batcher.close()
        return [answer["y"].tolist() for answer in answers]

    return asyncio.run(ask()), rows


def test_requests_gather_while_a_batch_runs_up_to_the_limit():
    answers, rows = batches_of(DoublingSignature(seconds=0.02), *([n] for n in range(10)), max_batch_size=4)
    assert answers == [[2 * n] for n in range(10)]
    assert rows == [4, 4, 2]


def test_a_request_of_more_rows_than_a_batch_is_run_in_parts_and_others_come_in_between():
    answers, rows = batches_of(DoublingSignature(), list(range(10)), [10, 11, 12], [13], max_batch_size=4)
    assert answers == [list(range(0, 20, 2)), [20, 22, 24], [26]]
    assert rows == [4, 4, 4, 2]


@pytest.mark.parametrize("values", [([1, 1], [2, 2], [3, 3]), ([1, 1, 1, 1, 1], [2])])
def test_a_signature_without_a_row_for_each_row_is_run_one_request_at_a_time_from_then_on(values):
    signature = DoublingSignature(per_row=False)
    answers, _ = batches_of(signature, *values, max_batch_size=4)
    assert answers == [[2 * value[0]] for value in values]
    assert not signature.merges


def test_a_large_request_that_nobody_waits_for_is_run_no_further():
    signature = DoublingSignature(seconds=0.05)

    async def give_up():
        batcher = Batcher(settings(max_batch_size=1), lambda rows: None)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.12):
                await batcher.predict(None, signature, {"x": np.arange(1000)})
        await batcher.predict(None, signature, {"x": np.array([5])})
        batcher.close()

    asyncio.run(give_up())
    assert len(signature.batches) < 10


@pytest.mark.parametrize(
    ("signature", "at_once"),
    [
        (DoublingSignature(), True),
        (DoublingSignature(seconds=2 * batching.QUICK_SECONDS), False),
        (DoublingSignature(fixed_size=False), False),
    ],
)
def test_a_request_that_is_alone_and_known_to_be_quick_waits_for_no_thread(signature, at_once):
    async def ask():
        batcher = Batcher(settings(), lambda rows: None)
        for _ in range(2):
            await batcher.predict(None, signature, {"x": np.array([1])})
        await asyncio.gather(*(batcher.predict(None, signature, {"x": np.array([1])}) for _ in range(2)))
        await batcher.predict(None, signature, {"x": np.arange(3)})
        batcher.close()

    asyncio.run(ask())
    assert signature.batches == [1, 1, 2, 3]
    own = threading.current_thread().name.partition("_")[0]
    assert signature.threads == ["model", own if at_once else "model", "model", "model"]


def test_what_is_refused_at_once_makes_no_signature_quick():
    signature = DoublingSignature()

    async def ask():
        batcher = Batcher(settings(), lambda rows: None)
        for value in (-1, -1, 1):
            with contextlib.suppress(ServingError):
                await batcher.predict(None, signature, {"x": np.array([value])})
        batcher.close()

    asyncio.run(ask())
    assert signature.threads == ["model"] * 3


def test_requests_of_other_shapes_are_not_joined():
    answers, rows = batches_of(DoublingSignature(), [1], [[1, 2]], [2])
    assert answers == [[2], [[2, 4]], [4]]
    assert rows == [2, 1]


def test_a_batch_waits_for_more_only_as_long_as_it_may():
    started = time.monotonic()
    assert batches_of(DoublingSignature(), [1], batch_timeout_ms=100.0)[1] == [1]
    assert time.monotonic() - started >= 0.1
    started = time.monotonic()
    assert batches_of(DoublingSignature(), *([n] for n in range(8)), batch_timeout_ms=30_000.0)[1] == [8]
    assert time.monotonic() - started < 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("batching") / "tiny"
    write_model(folder / "1")
    return folder


def test_many_clients_of_both_protocols_get_the_models_answers(folder):
    images = random_images(64)
    wanted = expected(images)

    def by_rest(number):
        status, answer = server.predict({"instances": images[number : number + 1].tolist()})
        assert status == 200
        return answer["predictions"][0]["probabilities"]

    def by_grpc(number):
        return predictions.Predict(request(images=images[number : number + 1])).outputs["probabilities"].float_val

    with RunningServer(folder) as server, grpc.insecure_channel(server.grpc) as channel, ThreadPoolExecutor(8) as pool:
        predictions = stub(channel, "PredictionService")
        for ask in (by_rest, by_grpc):
            np.testing.assert_allclose(list(pool.map(ask, range(len(images)))), wanted, atol=1e-6)


def test_bytes_that_are_no_image_do_not_harm_their_neighbors(folder):
    images, bad = random_images(8), {2, 5}

    def ask(number):
        content = b"no image" if number in bad else png(images[number])
        return server.predict({"signature_name": "image_bytes", "instances": [in_base64(content)]})

    with RunningServer(folder, batch_timeout_ms=10_000.0, max_batch_size=8) as server, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))
        assert "serving_batch_rows_sum 8.0" in server.ask("GET", "/metrics")[1]
        assert "serving_batch_rows_count 1.0" in server.ask("GET", "/metrics")[1]
    for number, (status, answer) in enumerate(answers):
        if number in bad:
            assert (status, "Unknown image file format" in answer["error"]) == (400, True)
        else:
            np.testing.assert_allclose(
                answer["predictions"][0]["probabilities"], expected(images[number : number + 1])[0], atol=1e-6
            )


def test_a_full_queue_refuses_and_recovers(folder):
    with RunningServer(folder, max_queued=2) as server, ThreadPoolExecutor(3) as pool:
        slow = Slow(server)
        first = pool.submit(server.predict, ROW)
        wait_until(lambda: slow.calls == 1)
        others = [pool.submit(server.predict, ROW) for _ in range(2)]
        wait_until(lambda: "serving_queued_requests 2.0" in server.ask("GET", "/metrics")[1])
        status, answer = server.predict(ROW)
        assert status == 503
        assert "2 requests wait already" in answer["error"]
        with grpc.insecure_channel(server.grpc) as channel:
            predictions = stub(channel, "PredictionService")
            with pytest.raises(grpc.RpcError) as caught:
                predictions.Predict(request(images=random_images(1)))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        slow.gate.set()
        assert [future.result()[0] for future in (first, *others)] == [200, 200, 200]
        assert server.predict(ROW)[0] == 200


def test_a_request_that_takes_too_long_is_given_up_and_leaves_the_queue(folder):
    with RunningServer(folder, request_timeout=0.3) as server, ThreadPoolExecutor(2) as pool:
        slow = Slow(server)
        first = pool.submit(server.predict, ROW)
        wait_until(lambda: slow.calls == 1)
        status, answer = server.predict(ROW)
        assert status == first.result()[0] == 504
        assert "not answered within 0.3 seconds" in answer["error"]
        assert "serving_queued_requests 0.0" in server.ask("GET", "/metrics")[1]
        with grpc.insecure_channel(server.grpc) as channel:
            predictions = stub(channel, "PredictionService")
            with pytest.raises(grpc.RpcError) as caught:
                predictions.Predict(request(images=random_images(1)))
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        slow.gate.set()
        assert server.predict(ROW)[0] == 200


GRAPH_MESSAGES = {
    "node": (
        "Graph execution error:\n\nDetected at node a/b defined at (most recent call last):\n<stack traces unavailable>\n"
        "No image.\n\t [[{{node a/b}}]] [Op:__inference_1]",
        "No image.",
    ),
    "several": (
        "2 root error(s) found.\n  (0) INVALID_ARGUMENT: Bad.\n\t [[{{node x}}]]\n\t [[y]]\n  (1) INVALID_ARGUMENT: Bad.",
        "Bad.",
    ),
    "eager": ("{{function_node __wrapped__MatMul_device_/CPU:0}} Sizes differ [Op:MatMul]", "Sizes differ"),
    "nothing": ("Graph execution error:\n", "the model refuses this input"),
}


@pytest.mark.parametrize(("message", "telling"), GRAPH_MESSAGES.values(), ids=GRAPH_MESSAGES)
def test_of_a_tensorflow_error_the_telling_line_is_kept(message, telling):
    assert graph_message(message) == telling
