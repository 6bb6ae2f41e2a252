"""Photographs that are seen to the edges of their shorter side: --whole_images."""

import dataclasses

import numpy as np
from PIL import Image

from export.picture_files import read_image
from r2d2_tf.config.config import Config
from r2d2_tf.data.photographs import Photographs
from r2d2_tf.runs.dataset import spec_of


def test_small_images_keep_their_own_pixels_and_inference_sees_the_same(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
    for number, (part, name) in enumerate((("train", "a"), ("train", "b"), ("test", "a"), ("test", "b"))):
        folder = tmp_path / part / name
        folder.mkdir(parents=True)
        Image.fromarray(pixels[number]).save(folder / "0.png")
    config = Config(dataset="folder", data_dir=str(tmp_path), image_size=16, translate=0, whole_images=True)
    images = spec_of(config).load(config.data_path).train_images
    assert isinstance(images, Photographs)
    np.testing.assert_array_equal(np.asarray(images.central(np.arange(2))), pixels[:2])
    seen = read_image(tmp_path / "train" / "a" / "0.png", (16, 16, 3), images.resize)
    np.testing.assert_array_equal(seen, pixels[0])
    cut = spec_of(dataclasses.replace(config, whole_images=False)).load(config.data_path).train_images
    assert (np.asarray(cut.central(np.arange(2))) != pixels[:2]).any(), "an eighth is cut off at the margins"
