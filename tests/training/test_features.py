"""--trainable=head: the features of images are computed once, and a head is trained on them."""

import contextlib
import csv
import json
import shutil
import time

import keras
import numpy as np
import pytest
import small_network
import tensorflow as tf
from conftest import LIGHT, StopAt
from own_photographs import colored_folder, photograph

from export import __main__ as export_command
from r2d2_tf import backbones, train
from r2d2_tf.backbones.layers import normalizations_of
from r2d2_tf.config.command_line import from_command_line
from r2d2_tf.data import cache
from r2d2_tf.data.datasets import DATASETS
from r2d2_tf.runs.checkpoints import CannotResume
from r2d2_tf.system.interrupts import RunInterrupted
from r2d2_tf.training.experiment import Experiment
from r2d2_tf.training.features.computing import FeatureComputer
from r2d2_tf.training.features.features import Views
from r2d2_tf.training.features.heads import Head, check_has_head
from r2d2_tf.training.features.store import FeatureStore
from tools.predict import __main__ as predict
from tools.torture.exactness import differences

SPEC = DATASETS["mnist5k"]
NETWORK = f"{small_network.__name__}:normalized"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A network that stands for one that was trained on other images."""
    path = tmp_path_factory.mktemp("weights") / "body.keras"
    network = backbones.build(NETWORK, SPEC.image_shape, SPEC.num_classes, mean=SPEC.mean, std=SPEC.std)
    pixels = np.random.default_rng(0).integers(0, 256, (64, *SPEC.image_shape), np.uint8)
    network(pixels, training=True)
    network.save(path)
    return path


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """An empty folder for what is computed."""
    monkeypatch.setenv(cache.FOLDER_VARIABLE, str(tmp_path / "kept"))
    return tmp_path / "kept"


def start(folder, weights, *flags, signals=None):
    common = [*LIGHT, f"--backbone={NETWORK}", "--trainable=head_then_all", f"--weights={weights}", "--deterministic"]
    flags = [*common, *flags, f"--run_dir={folder}"]
    experiment = Experiment(from_command_line(flags), signals=signals)
    with experiment.claimed() as claimed:
        return experiment, experiment.run(claimed, time.perf_counter())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, weights):
    folder = tmp_path_factory.mktemp("runs") / "undisturbed"
    return folder, *start(folder, weights)


def test_the_whole_network_is_saved_and_errs_as_the_run_says(undisturbed):
    folder, experiment, summary = undisturbed
    images, labels = np.asarray(experiment.data.test_images), experiment.data.test_labels
    for number, name in enumerate(("stage_1", "stage_2", "backbone"), start=1):
        logits = backbones.load(folder / f"{name}.keras", experiment.config.backbone).predict(images, verbose=0)
        wrong = (logits.argmax(1) != labels).mean() * 100
        assert wrong == pytest.approx(summary["test_error_percent"][f"stage_{number}"])


def test_a_run_stopped_while_it_computes_and_in_each_stage_ends_as_an_undisturbed_one(undisturbed, weights, kept):
    # 142 checks while features are computed, the first time, some 20 in stage 1, 190 in stage 2 and 50 in stage 3.
    for checks in (90, 60, 100, 130, 10_000):
        with contextlib.suppress(RunInterrupted):
            start(kept / "run", weights, signals=StopAt(checks))
    assert differences(kept / "run", undisturbed[0]) == []


@pytest.mark.slow
def test_two_replicas_learn_what_one_does(weights, tmp_path):
    tables = []
    for name, flags in (("one", []), ("two", ["--strategy=mirrored"])):
        start(tmp_path / name, weights, "--trainable=head", "--head_dropout=0", "--num_logical_cpus=2", *flags)
        tables.append(np.load(tmp_path / name / "pseudo_labels.npz")["pseudo_logits"])
    assert np.linalg.norm(tables[0] - tables[1]) < 1e-4 * np.linalg.norm(tables[0])


def test_other_runs_start_from_its_stage_1_and_from_its_end(undisturbed, weights, tmp_path):
    folder, _, summary = undisturbed
    flags = ["--trainable=head", f"--stage_1_from={folder}", "--rounds=1:0.01", "--finetune_epochs=0"]
    _, other = start(tmp_path / "borrowed", weights, *flags)
    assert other["test_error_percent"]["stage_1"] == summary["test_error_percent"]["stage_1"]
    flags = ["--trainable=head", f"--warm_start={folder}", "--rounds=", "--finetune_epochs=1", "--finetune_from=prediction"]
    experiment, other = start(tmp_path / "warm", weights, *flags, "--finetune_learning_rate=1e-9")
    assert other["test_error_percent"]["stage_3"] == summary["test_error_percent"]["stage_3"]
    ours, theirs = (backbones.load(run / "backbone.keras", experiment.config.backbone) for run in (tmp_path / "warm", folder))
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-3, atol=1e-5)


def test_stage_3_trains_all_but_batch_normalisation_the_body_less(undisturbed, weights):
    folder, experiment, _ = undisturbed
    before, between, after = (backbones.load(path) for path in (weights, folder / "stage_2.keras", folder / "backbone.keras"))
    # That training does as evaluation is not in the file.
    assert all(layer.trainable for layer in normalizations_of(after))
    assert [layer.rate for layer in after._flatten_layers() if isinstance(layer, keras.layers.Dropout)] == [0.1]
    for theirs, mine in zip(normalizations_of(before), normalizations_of(after), strict=True):
        for a, b in zip(theirs.get_weights(), mine.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    kernels = [next(w for w in network.trainable_weights if w.ndim == 4).numpy() for network in (before, between, after)]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert 0 < np.linalg.norm(kernels[2] - kernels[1]) < 0.1 * np.linalg.norm(kernels[1])
    stages = experiment.stages
    assert [(stage.on_features, stage.keeps_statistics, stage.body_share) for stage in stages] == [
        (True, False, 1.0),
        (True, False, 1.0),
        (False, True, 0.1),
    ]
    # A roll-back to stage 2 finds the body as that has it.
    assert "the head alone is trained in stages 1 and 2, 2,890 parameters" in experiment.plan_text(folder)
    experiment.learners.of(stages[0])
    np.testing.assert_array_equal(experiment.learners.network.get_weights()[0], before.get_weights()[0])


def test_all_may_be_trained_with_batch_normalisation_as_it_is(weights, tmp_path):
    flags = ["--trainable=all", "--batch_norm_statistics=stored", "--body_learning_rate_scale=0.5"]
    experiment, _ = start(tmp_path, weights, *flags, "--rounds=", "--finetune_epochs=0", "--supervised_epochs=1")
    before, after = (backbones.load(path) for path in (weights, tmp_path / "backbone.keras"))
    for theirs, mine in zip(normalizations_of(before), normalizations_of(after), strict=True):
        np.testing.assert_array_equal(theirs.get_weights(), mine.get_weights())
    assert experiment.model.optimizer.shares == [0.5, 1.0, 1.0]


def test_other_weights_than_a_run_began_with_are_refused(weights, kept):
    own = kept.parent / "own.keras"
    shutil.copy(weights, own)
    with pytest.raises(RunInterrupted):
        start(kept / "run", own, "--trainable=head", signals=StopAt(160))
    changed = backbones.load(own)
    changed.set_weights([2 * weight for weight in changed.get_weights()])
    changed.save(own)
    with pytest.raises(CannotResume, match=r"the network that gives the features changed .* give it the --weights that it"):
        start(kept / "run", own, "--trainable=head")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--weights=none"], "trainable (head) trains a head on features that are random with --weights=none: give --weights"),
        (["--weights={}", "--freeze_epochs=2"], "freeze_epochs (2) says nothing with --trainable=head"),
        (
            ["--weights=none", "--trainable=all", "--batch_norm_statistics=stored"],
            "batch_norm_statistics (stored) are of no images",
        ),
        (["--weights={}", "--rand_augment=2:9"], "rand_augment (2:9) says nothing with --trainable=head"),
        (["--weights={}", "--network_size=20"], "network_size (20) is smaller than the images, 28x28 pixels: raise it"),
    ],
)
def test_what_cannot_be_is_one_line(flags, message, weights, tmp_path, capsys):
    flags = [flag.format(weights) for flag in flags]
    assert train.main([*LIGHT, f"--backbone={NETWORK}", "--trainable=head", *flags, f"--run_dir={tmp_path / 'run'}"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("name", ["conv_large_weight_norm", f"{small_network.__name__}:two_heads"])
def test_a_network_whose_last_layer_cannot_be_replaced_is_refused(name):
    network = backbones.build(name, (28, 28, 1), 3, mean=(0.1,), std=(0.3,))
    with pytest.raises(ValueError, match="does not end in a plain dense layer"):
        check_has_head(network, name)


class Counting:
    """A body of a network, and how many images it was shown."""

    def __init__(self, store):
        pixels = keras.Input((4, 4, 1))
        # Of 16 pixels the first of each line.
        features = keras.layers.Lambda(lambda x: tf.cast(x[:, :, 0, 0], tf.float32), output_shape=(4,))(pixels)
        self.computer = FeatureComputer(keras.Model(pixels, features), VIEWS, store, self.check)
        self.shown, self.stops_after, forward = 0, 1000, self.computer.forward

        def counted(pixels):
            self.shown += len(pixels)
            return forward(pixels)

        self.computer.forward = counted

    def check(self):
        if self.shown >= self.stops_after:
            raise RunInterrupted(2)


VIEWS = Views(count=4, flip=True, translate=1, crop_scale=0.5)
IMAGES = np.random.default_rng(0).integers(0, 256, (150, 4, 4, 1), np.uint8)


def test_what_was_computed_before_it_was_killed_is_not_computed_again(tmp_path):
    store = FeatureStore(tmp_path, "features.bin", 4)
    body = Counting(store)
    body.stops_after = 200
    with pytest.raises(RunInterrupted):
        body.computer.features([(IMAGES, VIEWS.names(IMAGES))])
    # Killed while it wrote a record.
    with store.path.open("ab") as file:
        file.write(b"half")
    body.stops_after = 1000
    (features,) = body.computer.features([(IMAGES, VIEWS.names(IMAGES))])
    assert body.shown == IMAGES.shape[0] * VIEWS.count
    np.testing.assert_array_equal(features.numbers[features.places[:, 0]], IMAGES[:, :, 0, 0])
    np.testing.assert_array_equal(features.numbers[features.places[:, 1]], IMAGES[:, :, -1, 0])
    # Another process, other images among them, in another order: half of them are known.
    others = np.concatenate([255 - IMAGES[:20], IMAGES[::-1]])
    again = Counting(FeatureStore(tmp_path, "features.bin", 4))
    (more,) = again.computer.features([(others, VIEWS.names(others))])
    assert again.shown == 20 * VIEWS.count
    np.testing.assert_array_equal(more.numbers[more.places[20:]], features.numbers[features.places[::-1]])


def test_a_record_that_is_damaged_is_computed_anew(tmp_path):
    store = FeatureStore(tmp_path, "features.bin", 4)
    Counting(store).computer.features([(IMAGES, ["central"])])
    content = bytearray(store.path.read_bytes())
    content[10 * store.record.itemsize + 15] ^= 1
    store.path.write_bytes(content)
    body = Counting(store)
    (features,) = body.computer.features([(IMAGES, ["central"])])
    assert body.shown > 0
    np.testing.assert_array_equal(features.numbers[features.places[:, 0]], IMAGES[:, :, 0, 0])


def test_where_nothing_can_be_kept_it_is_told_and_computed_all_the_same(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    store = FeatureStore(tmp_path / "file", "features.bin", 4)
    (features,) = Counting(store).computer.features([(IMAGES, ["central"])])
    assert "features cannot be kept for later runs" in capsys.readouterr().err
    assert len(features) == len(IMAGES)


def test_a_stretch_of_a_batch_gets_the_views_that_it_has_in_the_whole(tmp_path):
    (features,) = Counting(FeatureStore(tmp_path, "f", 4)).computer.features([(IMAGES, VIEWS.names(IMAGES))])
    rows, seed = tf.range(64, dtype=tf.int64), tf.constant([1, 2])
    whole = features.drawn(rows, seed, first=0, batch=64).numpy()
    part = features.drawn(rows[40:60], seed, first=40, batch=64).numpy()
    np.testing.assert_array_equal(part, whole[40:60])
    drawn = [(whole == features.numbers[features.places[:64, view]]).all(1).mean() for view in range(VIEWS.count)]
    assert min(drawn) > 0.1
    np.testing.assert_array_equal(features.central(rows), IMAGES[:64, :, 0, 0])


def test_a_head_is_folded_into_the_network_and_back():
    network = backbones.build("lenet", (28, 28, 1), 3, mean=(0.1,), std=(0.3,))
    head = Head(network, 0.5)
    generator = np.random.default_rng(0)
    head.standardize(generator.normal(size=500).astype(np.float32), generator.uniform(0.5, 2, 500).astype(np.float32))
    head.unfold()
    pixels = generator.integers(0, 256, (5, 28, 28, 1), np.uint8)
    before = network.predict(pixels, verbose=0)
    on_features = head.model.predict(head.body.predict(pixels, verbose=0), verbose=0)
    np.testing.assert_allclose(on_features, before, atol=1e-4)
    head.fold()
    np.testing.assert_allclose(network.predict(pixels, verbose=0), before, atol=1e-4)


@pytest.mark.slow
def test_photographs_are_told_apart_by_a_head_on_imagenets_features_and_so_they_are_by_its_export(kept, capsys):
    folder, run = colored_folder(kept.parent / "photos"), kept.parent / "run"
    flags = [
        "--dataset=folder",
        f"--data_dir={folder}",
        "--image_size=64",
        "--backbone=efficientnet_lite0",
        "--weights=imagenet",
    ]
    flags += ["--trainable=head", "--feature_views=4", "--flip", "--crop_scale=0.5", "--supervised_learning_rate=0.01"]
    flags += ["--supervised_epochs=10", "--rounds=2:0.01", "--batch_size=8", "--finetune_epochs=1", "--nostop_on_collapse"]
    assert train.main([*flags, f"--run_dir={run}"]) == 0
    errors = json.loads((run / "summary.json").read_text())["test_error_percent"]
    assert errors["stage_3"] < 15
    assert export_command.main([f"--run_dir={run}", "--format=tflite", "--latency_rounds=0"]) == 0
    labels = []
    for model in (run, run / "export" / "model.tflite"):
        out = kept.parent / "labels.csv"
        assert predict.main([f"--model={model}", str(folder / "test"), f"--out={out}"]) == 0
        with out.open() as file:
            labels.append([(line["file"], line["label"]) for line in csv.DictReader(file)])
    assert labels[0] == labels[1]
    wrong = sum(label not in file for file, label in labels[0])
    assert 100 * wrong / len(labels[0]) == pytest.approx(errors["stage_3"])
    # One more photograph, another seed: four views of it are all that is computed.
    (store,) = kept.glob("r2d2_tf-features-*.bin")
    before = store.stat().st_size
    photograph(folder / "unlabeled" / "new.png", (10, 20, 30), 999)
    assert train.main([*flags, "--seed=1", f"--run_dir={run.with_name('again')}"]) == 0
    assert store.stat().st_size - before == 4 * FeatureStore(kept, store.name, 1280).record.itemsize
