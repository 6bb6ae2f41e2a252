"""Two processes that train together, on this machine; and the parts of which their batches are made."""

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from conftest import LIGHT, ROOT, SHORT, batches_of, make_model, make_strategy, table_values, tiny_images, tiny_labels

from r2d2_tf import backbones
from r2d2_tf.config.command_line import from_command_line
from r2d2_tf.config.config import Config
from r2d2_tf.data import cache
from r2d2_tf.data.augment import Augmentation
from r2d2_tf.data.datasets import DATASETS
from r2d2_tf.distributed import workers
from r2d2_tf.distributed.cluster import Cluster, cluster_from_environment, meet, wait_to_see
from r2d2_tf.distributed.sharding import Shard
from r2d2_tf.runs.dataset import spec_of
from r2d2_tf.training import pipeline
from r2d2_tf.training.experiment import Experiment
from r2d2_tf.training.features.store import FeatureStore
from r2d2_tf.training.stages import plan
from tools.torture.exactness import differences

# Batches that end in short ones, of 1 image (a worker gets none) and of 64; small rates, as rounding soon grows at large
# ones (docs/training.md). A checkpoint a second.
FLAGS = (
    *(*SHORT, "--supervised_epochs=1", "--rounds=1:0.001", "--finetune_epochs=1", "--supervised_batch_size=33"),
    *("--supervised_learning_rate=0.005", "--finetune_learning_rate=0.0005", "--deterministic", "--checkpoint_minutes=0.015"),
)
PROGRAM = (sys.executable, str(ROOT / "tests" / "worker_program.py"))
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("localhost", 0))
        return [each.getsockname()[1] for each in sockets]


def start_pair(run, *flags, others=()):
    """Starts two workers; `others` are flags of the second alone."""
    addresses = [f"localhost:{port}" for port in free_ports(2)]
    pair = []
    for index in range(2):
        cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        command = [
            *PROGRAM,
            f"{run}.worker_{index}.npz",
            "--strategy=multi_worker",
            *flags,
            *(others if index else ()),
            f"--run_dir={run}",
        ]
        environment = ENVIRONMENT | {"TF_CONFIG": json.dumps(cluster)}
        with open(f"{run}.{index}.log", "a") as log:
            pair.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))
    return pair


def end_of(pair, seconds=300):
    """The exit codes; a worker that hangs is killed, and fails the test."""
    deadline = time.monotonic() + seconds
    try:
        return [process.wait(max(0.1, deadline - time.monotonic())) for process in pair]
    finally:
        for process in pair:
            process.kill()


def logs_of(run):
    return [run.with_name(f"{run.name}.{index}.log").read_text() for index in range(2)]


def learned(run, index):
    with np.load(f"{run}.worker_{index}.npz", allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def disturb(run, flags, index, number, checkpoints=3):
    """Sends a signal to one of a pair once so many checkpoints were written; returns the exit codes and the seconds it took."""
    pair = start_pair(run, *flags)
    deadline = time.monotonic() + 300
    while not any(int(path.name[:6]) >= checkpoints for path in (run / "checkpoints").glob("0*.npz")):
        assert time.monotonic() < deadline, logs_of(run)
        assert all(process.poll() is None for process in pair), logs_of(run)
        time.sleep(0.02)
    pair[index].send_signal(number)
    began = time.monotonic()
    return end_of(pair), time.monotonic() - began


# Stages 1 and 3 still end in short batches, of 1 and of 4 images.
FEW_STEPS = (LIGHT[-1], "--batch_size=400", "--finetune_batch_size=666", "--checkpoint_minutes=15")


@pytest.fixture(scope="module", params=[FEW_STEPS, pytest.param(("--backbone=lenet",), marks=pytest.mark.slow)])
def pair(request, tmp_path_factory):
    """The flags and the folder of a run of two workers."""
    flags = (*FLAGS, *request.param)
    run = tmp_path_factory.mktemp("runs") / "pair"
    assert end_of(start_pair(run, *flags)) == [0, 0], logs_of(run)
    return flags, run


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A run of two workers that takes long enough to be disturbed."""
    run = tmp_path_factory.mktemp("runs") / "undisturbed"
    assert end_of(start_pair(run, *FLAGS)) == [0, 0], logs_of(run)
    return run


def relative_difference(one, other):
    return np.linalg.norm(one - other) / np.linalg.norm(other)


def test_one_and_two_processes_make_the_same_table_and_weights(pair, tmp_path):
    flags, run = pair
    alone = Experiment(from_command_line([*flags, f"--run_dir={tmp_path / 'alone'}"]))
    with alone.claimed() as folder:
        alone_summary = alone.run(folder, time.perf_counter())
    two = learned(run, 0)
    assert relative_difference(two["table"], table_values(alone.table)) < 1e-5
    weights = [value for name, value in two.items() if name.startswith("weight")]
    ours, theirs = (np.concatenate([v.ravel() for v in each]) for each in (alone.model.backbone.get_weights(), weights))
    assert relative_difference(ours, theirs) < 1e-5
    summary = json.loads((run / "summary.json").read_text())
    assert summary["devices"] == "2 replicas on the CPUs of 2 workers"
    assert summary["test_error_percent"] == alone_summary["test_error_percent"]


def test_workers_are_the_same_bit_for_bit(pair):
    _, run = pair
    ours, theirs = learned(run, 0), learned(run, 1)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)
    assert np.abs(ours["table"]).max() > 0


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1])
def test_a_killed_worker_stops_the_other_and_the_pair_goes_on_bit_for_bit(index, undisturbed, tmp_path):
    run = tmp_path / "run"
    codes, seconds = disturb(run, FLAGS, index, signal.SIGKILL)
    assert (codes[index], codes[1 - index]) == (-signal.SIGKILL, 1), logs_of(run)
    assert seconds < 60
    log = logs_of(run)[1 - index]
    assert f"stopped, or cannot be reached from worker {1 - index} (of 2)" in log
    assert "Traceback" not in log
    assert "the same command goes on from the last checkpoint" in log
    assert end_of(start_pair(run, *FLAGS)) == [0, 0], logs_of(run)
    assert differences(run, undisturbed) == []
    for worker in range(2):
        assert learned(run, worker)["table"].tobytes() == learned(undisturbed, worker)["table"].tobytes()


@pytest.mark.slow
def test_batch_statistics_of_each_worker_survive_a_kill(tmp_path):
    # conv_small has batch normalisation, whose running statistics differ between workers.
    flags = [*FLAGS, "--backbone=conv_small", "--max_steps=6", "--eval_batch_size=500"]
    undisturbed, run = tmp_path / "undisturbed", tmp_path / "run"
    assert end_of(start_pair(undisturbed, *flags)) == [0, 0], logs_of(undisturbed)
    disturb(run, flags, 1, signal.SIGKILL, checkpoints=4)
    assert end_of(start_pair(run, *flags)) == [0, 0], logs_of(run)
    ours = [learned(run, worker) for worker in range(2)]
    assert any(value.tobytes() != ours[1][name].tobytes() for name, value in ours[0].items()), "statistics should differ"
    for worker in range(2):
        for name, value in learned(undisturbed, worker).items():
            np.testing.assert_array_equal(value, ours[worker][name], err_msg=name)


@pytest.mark.slow
def test_workers_train_a_head_on_features_that_one_of_them_computes_and_then_all(tmp_path, monkeypatch):
    monkeypatch.setitem(ENVIRONMENT, cache.FOLDER_VARIABLE, str(tmp_path / "kept"))
    run, name = tmp_path / "run", "small_network:normalized"
    backbones.build(name, (28, 28, 1), 10, mean=(0.1,), std=(0.3,)).save(tmp_path / "body.keras")
    flags = [f"--backbone={name}", f"--weights={tmp_path / 'body.keras'}", "--trainable=head_then_all", "--max_steps=4"]
    assert end_of(start_pair(run, *FLAGS, *flags, "--synchronized_batch_norm")) == [0, 0], logs_of(run)
    ours, theirs = learned(run, 0), learned(run, 1)
    for key, value in ours.items():
        np.testing.assert_array_equal(value, theirs[key], err_msg=key)
    # 4,000 images in two views and 1,000 in one, once.
    (kept,) = (tmp_path / "kept").glob("r2d2_tf-features-*.bin")
    assert kept.stat().st_size == 9000 * FeatureStore(None, "", 288).record.itemsize


@pytest.mark.slow
def test_workers_share_statistics_and_skipped_steps_of_mixed_precision(tmp_path):
    run = tmp_path / "run"
    flags = ["--backbone=conv_small", "--max_steps=4", "--synchronized_batch_norm", "--mixed_precision=float16"]
    assert end_of(start_pair(run, *FLAGS, *flags)) == [0, 0], logs_of(run)
    ours, theirs = learned(run, 0), learned(run, 1)
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)
        assert np.isfinite(value).all()


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1])
def test_a_signal_to_one_worker_saves_and_stops_both(index, undisturbed, tmp_path):
    run = tmp_path / "run"
    codes, _ = disturb(run, FLAGS, index, signal.SIGTERM)
    assert codes == [143, 143], logs_of(run)
    assert all("saved: " in log for log in logs_of(run))
    assert end_of(start_pair(run, *FLAGS)) == [0, 0], logs_of(run)
    assert differences(run, undisturbed) == []


@pytest.mark.slow
def test_one_process_goes_on_where_two_were_stopped(tmp_path):
    run = tmp_path / "run"
    assert disturb(run, FLAGS, 0, signal.SIGTERM)[0] == [143, 143]
    command = [sys.executable, "-m", "r2d2_tf.train", *FLAGS, f"--run_dir={run}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, check=True)
    assert "Going on from the checkpoint" in done.stdout
    assert json.loads((run / "summary.json").read_text())["resumes"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("other", ["--alpha=0.2", "--backbone=conv_small"])
def test_workers_with_different_flags_are_refused(other, tmp_path):
    run = tmp_path / "run"
    assert end_of(start_pair(run, *FLAGS, others=[other])) == [2, 2], logs_of(run)
    for log in logs_of(run):
        assert "error: worker 1 has not the same flags as worker 0" in log
    assert not run.exists()


@pytest.mark.slow
@pytest.mark.parametrize("flags", [[], ["--on_divergence=rollback"]], ids=["stop", "rollback"])
def test_what_is_not_finite_stops_both_workers_with_the_same_words(flags, tmp_path):
    run = tmp_path / "run"
    assert end_of(start_pair(run, *FLAGS, "--supervised_learning_rate=1e30", *flags)) == [3, 3], logs_of(run)
    for log in logs_of(run):
        assert "is not finite" in log
        assert "lower --supervised_learning_rate" in log
        assert ("(after 3 roll-backs)" in log) == bool(flags)


@pytest.mark.slow
def test_a_worker_that_waits_says_for_whom_and_stops_at_ctrl_c(tmp_path, monkeypatch):
    run = tmp_path / "run"
    waiting, other = start_pair(run, *FLAGS)
    other.kill()
    other.wait()
    deadline = time.monotonic() + 120
    while "has waited 10 s for localhost:" not in logs_of(run)[0]:
        assert time.monotonic() < deadline, logs_of(run)
        assert waiting.poll() is None, logs_of(run)
        time.sleep(0.2)
    waiting.send_signal(signal.SIGINT)
    assert end_of([waiting], seconds=20) == [130]
    assert "stopped by Ctrl-C; nothing was trained yet" in logs_of(run)[0]
    assert not run.exists()


@pytest.mark.slow
def test_a_worker_that_ends_by_itself_after_all_have_met_ends_the_other(tmp_path, monkeypatch):
    run = tmp_path / "run"
    monkeypatch.setitem(ENVIRONMENT, "WORKER_WITHOUT_MEMORY", "1")
    assert end_of(start_pair(run, *FLAGS), seconds=120) == [1, 2], logs_of(run)
    assert "stopped, or cannot be reached" in logs_of(run)[0]
    assert "error: no memory here" in logs_of(run)[1]
    assert not run.exists()


GOOD = {"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 1}}


def test_the_cluster_is_read_from_tf_config():
    assert cluster_from_environment({"TF_CONFIG": json.dumps(GOOD)}) == Cluster(("a:1", "b:2"), 1)
    with_chief = {"cluster": {"chief": ["c:1"], "worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}
    cluster = cluster_from_environment({"TF_CONFIG": json.dumps(with_chief)})
    assert cluster == Cluster(("c:1", "a:1"), 1, has_chief=True)
    assert not cluster.is_chief


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (None, "is not set"),
        ("{", "is no JSON"),
        ("[]", "needs the parts"),
        ({"cluster": {"worker": ["a:1"]}}, "needs the parts"),
        ({**GOOD, "cluster": {"worker": "a:1"}}, "as a list of 'host:port'"),
        ({**GOOD, "cluster": {"worker": ["a:1", "b"]}}, "lists 'b', which is not 'host:port'"),
        ({**GOOD, "cluster": {"worker": ["a:1", "b:99999"]}}, "is not 'host:port'"),
        ({**GOOD, "cluster": {"worker": ["a:1", "a:1"]}}, "twice"),
        ({**GOOD, "cluster": {"worker": ["a:1"], "ps": ["b:1"]}}, "lists 'ps'"),
        ({**GOOD, "cluster": {"worker": ["a:1"], "chief": ["b:1", "c:1"]}}, "more than one chief"),
        ({**GOOD, "task": {"type": "worker", "index": 2}}, "number 2, which its cluster does not list"),
        ({**GOOD, "task": {"type": "worker", "index": True}}, "number True"),
        ({**GOOD, "task": {"type": "evaluator", "index": 0}}, "'evaluator'"),
    ],
)
def test_a_wrong_tf_config_is_told_with_an_example(config, words):
    text = config if isinstance(config, str) else json.dumps(config)
    with pytest.raises(ValueError, match="TF_CONFIG") as error:
        cluster_from_environment({} if config is None else {"TF_CONFIG": text})
    assert words in str(error.value)
    assert '"task": {"type": "worker", "index": 0}' in str(error.value)


def test_a_file_that_the_chief_wrote_and_nobody_sees_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("r2d2_tf.distributed.cluster.SECONDS_TO_SEE", 0)
    with pytest.raises(ValueError, match="a --run_dir on a file system that they share"):
        wait_to_see(tmp_path / "config.cfg")


def test_a_port_that_is_taken_is_told():
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        address = f"localhost:{taken.getsockname()[1]}"
        with pytest.raises(ValueError, match=r"worker 0 \(of 2\) cannot listen at port .* give another port"):
            meet(Cluster((address, "localhost:1"), 0))


def test_logical_cpus_and_processes_are_not_for_each_other():
    with pytest.raises(ValueError, match="num_logical_cpus"):
        Config(strategy="multi_worker", num_logical_cpus=2)


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_the_parts_of_a_batch_are_what_they_are_in_the_whole_batch(stage):
    config = Config(supervised_batch_size=7, batch_size=8, finetune_batch_size=7, translate=2, flip=True, cutout=4)
    stage = plan(config, spec_of(config))[stage]
    images = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3)).astype(np.uint8)
    labeled, unlabeled = np.arange(8), np.arange(8, 30)

    def batches(**options):
        return list(pipeline.training_batches(images, labeled, unlabeled, stage, seed=3, **options).take(9).as_numpy_iterator())

    whole = batches()
    for of in (2, 3):
        parts = [batches(shard=Shard(number, of)) for number in range(of)]
        for number, (pixels, rows) in enumerate(whole):
            np.testing.assert_array_equal(rows, np.concatenate([part[number][1] for part in parts]))
            np.testing.assert_array_equal(pixels, np.concatenate([part[number][0] for part in parts]))
    assert stage.images.augmentation != Augmentation()


def test_the_parts_of_predicted_batches_are_all_of_them():
    images, rows, make = np.arange(11, dtype=np.uint8).reshape(11, 1, 1, 1), np.arange(11), pipeline.prediction_batches
    whole = list(make(images, rows, 4).as_numpy_iterator())
    parts = [list(make(images, rows, 4, shard=Shard(number, 3)).as_numpy_iterator()) for number in range(3)]
    for number, (pixels, values) in enumerate(whole):
        np.testing.assert_array_equal(values, np.concatenate([part[number][1] for part in parts]))
        np.testing.assert_array_equal(pixels, np.concatenate([part[number][0] for part in parts]))


def test_rows_that_go_through_all_processes_are_learned_and_predicted_as_without():
    # Two replicas of one process, which gather as those of several do: stands for two GPUs in each process.
    images, labels = tiny_images(12), tiny_labels(12, 6)
    order = np.random.default_rng(1).permutation(12)
    tables = []
    for shares_rows in (False, True):
        model = make_model(make_strategy(2), labels, rows=np.random.default_rng(2).normal(size=(12, 3)))
        model.shares_rows = shares_rows
        # The last batch, of one image, leaves a replica without any.
        model.fit(batches_of(images[order], order, 11), shuffle=False, verbose=0)
        learned = table_values(model.table)
        changes = model.repredict(batches_of(images, np.arange(12), 5))
        tables.append((learned, table_values(model.table), model.table.notes(np.arange(12)), changes))
    for one, two in zip(*tables, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-6, atol=1e-6)
    assert tables[0][3] > 0


def test_alone_a_process_gets_back_what_it_gave():
    alone = workers.Workers(tf.distribute.get_strategy())
    np.testing.assert_array_equal(alone.exchange(np.array([3, 4])), [[3, 4]])
    assert alone.largest([3, 4]) == [3, 4]
    assert alone.is_chief
    assert alone.first_replica == 0
    alone.check_same({"flags": "a"})


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (tf.errors.UnavailableError(None, None, "gone"), "another worker"),
        (tf.errors.InternalError(None, None, "unhealthy:\n/job:worker/replica:0/task:1\nx"), "worker 1"),
        (tf.errors.NotFoundError(None, None, "no such file"), None),
        (ValueError("x"), None),
    ],
)
def test_the_loss_of_a_worker_is_told_from_other_errors(error, told):
    lost = workers.lost_worker(error, Cluster(("a:1", "b:2"), 0))
    assert lost == (told and f"{told} stopped, or cannot be reached from worker 0 (of 2)")
    assert workers.lost_worker(error, Cluster(("a:1",), 0)) is None


def test_the_parts_of_a_batch_of_photographs_are_what_they_are_in_the_whole_batch(data_dir):
    data = DATASETS["imagenette"].load(data_dir)
    # Decoded by the quicker decoder: it is traced sixteen times.
    photographs = dataclasses.replace(data.train_images[np.arange(11)], as_shown=False)
    config = Config(dataset="imagenette", supervised_batch_size=4, translate=0, flip=True)

    def training(**options):
        made = pipeline.training_batches(
            photographs, np.arange(11), np.arange(0), plan(config, spec_of(config))[0], seed=1, **options
        )
        return list(made.take(3).as_numpy_iterator())

    def predicting(**options):
        return list(pipeline.prediction_batches(photographs, np.arange(11), 4, **options).as_numpy_iterator())

    for batches in (training, predicting):
        parts = [batches(shard=Shard(number, 3)) for number in range(3)]
        for number, (pixels, rows) in enumerate(batches()):
            # Of 4 images the first two parts have two each, and the third none.
            assert [len(part[number][1]) for part in parts][2] == (0 if len(rows) == 4 else 1)
            np.testing.assert_array_equal(rows, np.concatenate([part[number][1] for part in parts]))
            np.testing.assert_array_equal(pixels, np.concatenate([part[number][0] for part in parts]))
