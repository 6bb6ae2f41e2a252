import dataclasses
import hashlib
import io
import os
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from export import inference
from r2d2_tf.config.config import Config
from r2d2_tf.data import decoding
from r2d2_tf.data.datasets import DATASETS
from r2d2_tf.data.decoding import central_crop, decode, decoded_random_crop, random_crop
from r2d2_tf.data.photographs import NO_ROW, Photographs
from r2d2_tf.runs.dataset import spec_of
from r2d2_tf.training import pipeline
from r2d2_tf.training.stages import plan


def encoded(pixels, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def smooth(height, width, seed=0):
    small = np.random.default_rng(seed).integers(0, 256, (5, 4, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture
def photographs(tmp_path):
    """Four photographs of different sizes and kinds in two files, one of them grey."""
    contents = [encoded(smooth(40, 60)), encoded(smooth(50, 30, 1), "JPEG"), encoded(smooth(33, 32, 2)[..., 0]), b"PADDING"]
    contents += [encoded(smooth(64, 64, 3), "GIF")]
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"".join(contents[:2]))
    second.write_bytes(b"".join(contents[2:]))
    lengths = np.array([len(contents[i]) for i in (0, 1, 2, 4)])
    offsets = np.array([0, lengths[0], 0, lengths[2] + len(b"PADDING")])
    # The quicker decoder, unless a test asks for the other: it takes a second to trace in each pipeline.
    return Photographs((first, second), np.array([0, 0, 1, 1]), offsets, lengths, size=24, resize=28, as_shown=False)


def test_a_row_is_its_stretch_of_bytes_whatever_kind_of_image_it_is(photographs):
    shapes = [tuple(decode(tf.constant(photographs.read(row))).shape) for row in range(len(photographs))]
    assert shapes == [(40, 60, 3), (50, 30, 3), (33, 32, 3), (64, 64, 3)]
    assert photographs[np.array([2, 0])].read(1) == photographs.read(0)


def crops(photographs, rows):
    seeds = tf.random.split(tf.constant([1, 0]), len(rows))
    batches = tf.data.Dataset.from_tensors((tf.constant(rows, tf.int64), seeds, tf.zeros([len(rows)])))
    (images, own_rows, _), *none = photographs.random_batches(batches, len(rows), 0.1)
    assert not none
    assert own_rows.numpy().tolist() == rows
    return images


def test_crops_of_a_batch_are_squares_of_the_networks_size(photographs):
    rows = [3, 1, 0, 2]
    centers, own_rows = next(iter(photographs.central_batches(tf.data.Dataset.from_tensors(tf.constant(rows, tf.int64)), 4)))
    assert own_rows.numpy().tolist() == rows
    # By the other decoder, too.
    shown = dataclasses.replace(photographs, as_shown=True).central(tf.constant(rows, tf.int64))
    np.testing.assert_array_equal(shown, centers)
    for batch in (photographs.central(tf.constant(rows, tf.int64)), centers, crops(photographs, rows)):
        assert batch.shape == (4, 24, 24, 3)
        assert batch.dtype == tf.uint8


def test_a_crop_is_a_function_of_its_seed_alone_however_many_are_decoded_at_once(photographs):
    rows = [2, NO_ROW, 0, 1, 3, 3, *[0] * 40]
    at_once = crops(dataclasses.replace(photographs, as_shown=True), rows)
    assert not at_once[1].numpy().any(), "no image"
    assert (at_once[4].numpy() != at_once[5].numpy()).any(), "another seed"
    for place, seed in enumerate(tf.random.split(tf.constant([1, 0]), len(rows))[:6]):
        if rows[place] != NO_ROW:
            expected = random_crop(decode(photographs.read(rows[place])), 0.1, 24, seed)
            np.testing.assert_array_equal(at_once[place], expected)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_file_stays_open(photographs):
    before = os.listdir("/proc/self/fd")
    for row in range(len(photographs)):
        photographs.read(row)
    assert os.listdir("/proc/self/fd") == before


JPEGS = {
    "full color": {"subsampling": 0},
    "half color": {"subsampling": 1},
    "quarter color": {"subsampling": 2},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 3},
}


@pytest.fixture(scope="module")
def traced_crops():
    """A crop of an image that is decoded in part, and one of an image that is decoded whole."""
    return tf.function(decoded_random_crop), tf.function(lambda encoded, *crop: random_crop(decode(encoded), *crop))


@pytest.mark.parametrize("kind", ["grey", *JPEGS])
def test_decoding_a_part_of_a_jpeg_gives_the_pixels_of_the_whole(kind, traced_crops):
    pixels = smooth(97, 131, 4) ^ np.random.default_rng(0).integers(0, 64, (97, 131, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if kind == "grey" else pixels).save(file, "JPEG", **JPEGS.get(kind, {}))
    jpeg = tf.constant(file.getvalue())
    part, whole = traced_crops
    for number in range(12):
        seed = tf.constant([5, number])
        np.testing.assert_array_equal(part(jpeg, 0.01, 32, seed), whole(jpeg, 0.01, 32, seed))


def test_the_central_crop_is_the_middle_of_the_resized_image():
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, 20:60] = 200
    inside = central_crop(tf.constant(image), 20, 20)[:, 1:-1]
    np.testing.assert_array_equal(inside, np.full((20, 18, 3), 200))
    assert tuple(central_crop(tf.constant(smooth(31, 97)), 28, 24).shape) == (24, 24, 3)


traced_crop = tf.function(random_crop)


def crop_area(number):
    """Share of the area of a crop, from the mean steepness of two ramps that it shows."""
    y, x = np.meshgrid(np.arange(192), np.arange(192), indexing="ij")
    image = np.stack([x, y, np.zeros_like(x)], -1).astype(np.uint8)
    crop = traced_crop(tf.constant(image), 0.25, 32, tf.constant([3, number])).numpy().astype(float)
    spans = [(crop[-2, -2, c] - crop[1, 1, c]) * 32 / 29 / 192 for c in (0, 1)]
    return spans[0] * spans[1]


def test_random_crops_follow_the_seed_cover_the_image_and_keep_to_the_scale():
    ramp = np.tile(np.linspace(0, 255, 96, dtype=np.uint8)[None, :, None], (96, 1, 3))
    crops = [traced_crop(tf.constant(ramp), 0.25, 16, tf.constant([7, i])).numpy() for i in range(200)]
    np.testing.assert_array_equal(crops[5], random_crop(tf.constant(ramp), 0.25, 16, tf.constant([7, 5])))
    # Area and shape as defined; what does not fit into a square is drawn again, which favors the smaller ones.
    draws = np.random.default_rng(0).uniform((0.25, -np.log(4 / 3)), (1, np.log(4 / 3)), (20_000, 2))
    expected = draws[draws[:, 0] * np.exp(np.abs(draws[:, 1])) <= 1, 0]
    areas = np.array([crop_area(i) for i in range(400)])
    assert abs(areas.mean() - expected.mean()) < 0.03
    np.testing.assert_allclose(np.quantile(areas, [0.25, 0.5, 0.75]), np.quantile(expected, [0.25, 0.5, 0.75]), atol=0.06)
    # On a ramp from left to right a crop's contrast tells its width, and its lowest value where it begins.
    widths = np.array([(int(c.max()) - int(c.min())) / 255 for c in crops])
    lefts = np.array([int(c.min()) / 255 for c in crops])
    # A quarter of the area at 3:4 is 0.43 wide; resizing takes up to half a pixel of the crop from each side.
    assert 0.38 < widths.min() < 0.5
    assert widths.max() > 0.9
    assert lefts.min() < 0.02
    assert lefts.max() > 0.45


def test_a_whole_crop_is_the_image_resized_but_for_its_shape():
    crop = random_crop(tf.constant(np.full((50, 50, 3), 9, np.uint8)), 1.0, 8, tf.constant([0, 0]))
    np.testing.assert_array_equal(crop, np.full((8, 8, 3), 9))


@pytest.mark.parametrize(("kind", "shape"), [("JPEG", (50, 71)), ("PNG", (300, 200)), ("JPEG", (29, 28)), ("PNG", (28, 600))])
def test_training_and_serving_see_the_same_pixels(kind, shape, tmp_path):
    path = tmp_path / "image"
    path.write_bytes(encoded(smooth(*shape), kind))
    served = inference.read_image(path, (24, 24, 3), resize_shorter_side=28)
    trained = central_crop(decode(tf.constant(path.read_bytes())), 28, 24).numpy()
    assert np.abs(served.astype(int) - trained).max() <= 1
    assert np.mean(served != trained) < 0.01


def test_real_photographs_have_stable_ids_and_labels_and_are_served_as_trained(data_dir, tmp_path):
    data = DATASETS["imagenette"].load(data_dir)
    assert np.bincount(data.train_labels).tolist() == [len(data.train_ids) // 10] * 10
    assert data.train_ids[:2] == ["imagenette_train_00000", "imagenette_train_00001"]
    assert data.class_names[0] == "n01440764"
    digests = [hashlib.sha256(data.test_images.read(row)).digest() for row in range(len(data.test_images))]
    assert digests == sorted(digests)
    for row in range(0, len(data.test_images), 20):
        path = tmp_path / f"{row}.jpg"
        path.write_bytes(data.test_images.read(row))
        served = inference.read_image(path, (224, 224, 3), resize_shorter_side=256)
        trained = data.test_images.central(tf.constant([row]))[0].numpy()
        assert np.abs(served.astype(int) - trained).max() <= 1


def test_batches_of_photographs_are_the_same_for_the_same_seed_and_cropped_anew_each_epoch(photographs):
    config = Config(
        dataset="imagenette", num_labels=10, rounds="2:0.1", batch_size=4, crop_scale=0.1, translate=0, backbone="resnet18"
    )
    stage = plan(config, spec_of(config))[1]
    labeled, unlabeled = np.array([0]), np.array([1, 2, 3])
    first, again, other = (
        list(pipeline.training_batches(photographs, labeled, unlabeled, stage, seed=seed)) for seed in (0, 0, 1)
    )
    assert len(first) == 2
    for (images, rows), (same_images, same_rows) in zip(first, again, strict=True):
        np.testing.assert_array_equal(images, same_images)
        np.testing.assert_array_equal(rows, same_rows)
    whole = {int(row): image for images, rows in first[:1] for image, row in zip(images.numpy(), rows.numpy(), strict=True)}
    later = {int(row): image for images, rows in first[1:] for image, row in zip(images.numpy(), rows.numpy(), strict=True)}
    assert all((whole[row] != later[row]).any() for row in whole)
    assert any((a[0].numpy() != b[0].numpy()).any() for a, b in zip(first, other, strict=True))


def test_pipelines_share_the_graphs_that_decode_and_crop(photographs):
    graphs = (decoding._as_shown, decoding._as_stored, decoding._resize)

    def traced():
        pipeline.prediction_batches(photographs, np.array([1, 3]), 8)
        return [graph.experimental_get_tracing_count() for graph in graphs]

    counts = traced()
    assert counts[-1] > 0
    assert traced() == counts


def test_a_prediction_sees_the_center(photographs):
    (batch, _) = next(iter(pipeline.prediction_batches(photographs, np.array([1, 3]), 8)))
    np.testing.assert_array_equal(batch, photographs.central(tf.constant([1, 3], tf.int64)))


def test_the_number_of_prediction_batches_is_known_though_images_are_decoded_one_by_one(data_dir):
    photographs = DATASETS["imagenette"].load(data_dir).test_images[np.arange(7)]
    assert int(pipeline.prediction_batches(photographs, np.arange(7), 3).cardinality()) == 3
