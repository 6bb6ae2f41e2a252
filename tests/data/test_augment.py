import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT
from scipy.ndimage import map_coordinates

from r2d2_tf.data.augment import OPERATIONS, Augmentation, augment, cutout, flip, rand_augment, translate
from r2d2_tf.data.image_data import BORDERS

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 5, 7, 2)).astype(np.uint8)
KEY = tf.constant([1, 2])


@pytest.fixture
def addons():
    path = Path(os.environ.get("R2D2_TF_REFERENCE", ROOT.parent / "shared" / "reference")) / "tensorflow_addons_vectors.npz"
    if not path.is_file():
        pytest.skip(f"NO REFERENCE NUMBERS: {path} is absent; set R2D2_TF_REFERENCE to its folder")
    return np.load(path)


@pytest.mark.parametrize("border", BORDERS)
def test_translating_moves_pixels_and_mirrors_them_at_the_border_as_numpy_does(border):
    shifts = np.array([[0, 0], [2, 0], [-1, 3], [4, -4], [-6, 1], [1, 1]], np.int32)
    for image, (dx, dy), moved in zip(IMAGES, shifts, translate(IMAGES, shifts, border).numpy(), strict=True):
        padded = np.pad(image, ((6, 6), (6, 6), (0, 0)), mode=border)
        np.testing.assert_array_equal(moved, padded[6 - dy : 11 - dy, 6 - dx : 13 - dx])


def test_the_authors_border_does_not_repeat_the_edge_and_that_of_before_does():
    line = np.arange(6, dtype=np.uint8).reshape(1, 1, 6, 1)
    moved = {border: translate(line, tf.constant([[3, 0]]), border).numpy().ravel().tolist() for border in BORDERS}
    assert moved == {"symmetric": [2, 1, 0, 0, 1, 2], "reflect": [3, 2, 1, 0, 1, 2]}
    assert Augmentation().border == "symmetric"


def test_translating_agrees_with_tensorflow_addons(addons):
    shifts = addons["translate_dx_dy"].astype(np.int32)
    np.testing.assert_array_equal(translate(addons["images"], shifts), addons["translate_reflect_nearest"])


def test_cutout_agrees_with_tensorflow_addons(addons):
    result = cutout(addons["images"], addons["cutout_offset_yx"].astype(np.int32), 4, [0.0] * addons["images"].shape[-1])
    np.testing.assert_array_equal(result, addons["cutout_4x4_fill0"])


def test_cutout_hangs_over_the_border_and_fills_each_channel():
    result = cutout(IMAGES[:1], tf.constant([[0, 6]]), 4, (1.5, 2.5)).numpy()
    assert (result[0, :2, 4:] == [1.5, 2.5]).all()
    np.testing.assert_array_equal(result[0, 2:], IMAGES[0, 2:])
    np.testing.assert_array_equal(result[0, :, :4], IMAGES[0, :, :4])


def test_flipping_mirrors_the_chosen_images():
    flipped = flip(tf.constant(IMAGES), tf.constant([True, False] * 3)).numpy()
    np.testing.assert_array_equal(flipped[::2], IMAGES[::2, :, ::-1])
    np.testing.assert_array_equal(flipped[1::2], IMAGES[1::2])


ALL_OF_IT = Augmentation(translate=2, flip=True, cutout=2, fill=(0.0, 0.0))


def test_the_same_seed_gives_the_same_batch_and_another_seed_another():
    first, again = (augment(tf.constant(IMAGES), ALL_OF_IT, KEY).numpy() for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (augment(tf.constant(IMAGES), ALL_OF_IT, KEY + 1).numpy() != first).any()


def test_no_augmentation_changes_nothing():
    np.testing.assert_array_equal(augment(tf.constant(IMAGES), Augmentation(), KEY), IMAGES)


def test_translations_reach_the_limit_both_ways_and_not_beyond():
    column = np.tile(np.arange(9, dtype=np.uint8)[None, :, None, None], (2000, 1, 9, 1))
    moved = augment(tf.constant(column), Augmentation(translate=3), KEY).numpy()
    shifts = 4 - moved[:, 4, 0, 0].astype(int)
    assert np.bincount(shifts + 3, minlength=7).min() > 200
    assert set(shifts) == set(range(-3, 4))


def test_half_of_the_images_are_flipped_and_cutouts_are_anywhere():
    ramp = np.tile(np.arange(4, dtype=np.uint8)[None, None, :, None], (2000, 4, 1, 1))
    flipped = augment(tf.constant(ramp), Augmentation(flip=True), KEY).numpy()[:, 0, 0, 0] == 3
    assert 900 < flipped.sum() < 1100
    cut = augment(tf.constant(ramp), Augmentation(cutout=2, fill=(-1.0,)), KEY).numpy() == -1
    assert cut.any(axis=0).all()
    assert set(cut.sum((1, 2, 3))) == {1, 2, 4}


PHOTOGRAPHS = np.random.default_rng(1).integers(20, 230, (2, 9, 12, 3)).astype(np.uint8)
LEVELS = np.float32([0.5, -1.0])


def moved_as(matrix, shift=(0.0, 0.0)):
    """Oracle: the image whose pixel (y, x) is the old one at `matrix` times it, from the center, and a share of the side."""

    def move(image, level):
        center = (np.array(image.shape[:2]) - 1) / 2
        places = np.indices(image.shape[:2]).reshape(2, -1) - center[:, None]
        away = center + level * np.array(shift) * image.shape[:2]
        there = np.array(matrix(level)) @ places + away[:, None]
        channels = [map_coordinates(channel, there, order=1, mode="reflect") for channel in np.moveaxis(image, -1, 0)]
        return np.stack(channels, -1).reshape(image.shape)

    return move


def blended_from(other):
    return lambda image, level: other(image) + (1 + 0.9 * level) * (image - other(image))


def grey(image):
    return (image @ [0.299, 0.587, 0.114])[..., None]


def stretched(image, level):
    low, high = image.min((0, 1)), image.max((0, 1))
    return (image - low) / (high - low) * 255


def turned(level):
    angle = np.radians(30 * level)
    return [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]


ORACLES = {
    "identity": lambda image, level: image,
    "auto_contrast": stretched,
    "brightness": blended_from(np.zeros_like),
    "color": blended_from(grey),
    "contrast": blended_from(lambda image: grey(image).mean()),
    "posterize": lambda image, level: image // 2 ** round(4 * abs(level)) * 2 ** round(4 * abs(level)),
    "solarize": lambda image, level: np.where(image < 256 * (1 - abs(level)), image, 255 - image),
    "rotate": moved_as(turned),
    "shear_x": moved_as(lambda level: [[1, 0], [0.3 * level, 1]]),
    "shear_y": moved_as(lambda level: [[1, 0.3 * level], [0, 1]]),
    "translate_x": moved_as(lambda level: np.eye(2), (0.0, 0.3)),
    "translate_y": moved_as(lambda level: np.eye(2), (0.3, 0.0)),
}


def test_each_operation_of_rand_augment_is_what_it_says():
    assert ORACLES.keys() == OPERATIONS.keys()
    for number, (name, oracle) in enumerate(ORACLES.items()):
        done = rand_augment(tf.constant(PHOTOGRAPHS), tf.constant([number, number]), tf.constant(LEVELS)).numpy()
        expected = [oracle(image, level) for image, level in zip(PHOTOGRAPHS.astype(float), LEVELS, strict=True)]
        np.testing.assert_allclose(done, np.clip(expected, 0, 255), atol=0.01, err_msg=name)


def test_each_image_gets_its_own_operation_whoever_else_is_in_the_batch():
    kinds = tf.constant([7, 2])
    both = rand_augment(tf.constant(PHOTOGRAPHS), kinds, tf.constant(LEVELS)).numpy()
    for place in (0, 1):
        own = slice(place, place + 1)
        np.testing.assert_array_equal(both[own], rand_augment(tf.constant(PHOTOGRAPHS[own]), kinds[own], LEVELS[own]))


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_stretch_of_a_batch_is_augmented_as_within_the_whole(channels):
    images = tf.constant(np.random.default_rng(2).integers(0, 256, (8, 6, 6, channels)).astype(np.uint8))
    augmentation = Augmentation(translate=1, operations=2, magnitude=0.9)
    whole = augment(images, augmentation, KEY).numpy()
    np.testing.assert_array_equal(augment(images[3:5], augmentation, KEY, first=3, batch=8), whole[3:5])
    assert whole.shape == images.shape
    assert (whole != augment(images, augmentation, KEY + 1).numpy()).any()
    assert ((whole >= 0) & (whole <= 255)).all()
    constant = tf.fill([2, 6, 6, channels], tf.constant(7, tf.uint8))
    assert np.isfinite(augment(constant, Augmentation(operations=9, magnitude=1.0), KEY)).all()
