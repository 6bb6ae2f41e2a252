"""Pictures on a page are those of the files, at a size that the page can carry."""

import base64
import io

import numpy as np
from PIL import Image

from r2d2_tf.data.photographs import Photographs
from tools.shared.labelling import file_pictures


def opened(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def photographs(folder, sizes):
    paths = []
    for number, (width, height) in enumerate(sizes):
        path = folder / f"{number}.jpg"
        noise = np.random.default_rng(number).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
        Image.fromarray(noise).resize((width, height)).save(path)
        paths.append(path)
    lengths = np.array([path.stat().st_size for path in paths])
    return Photographs(paths, np.arange(len(paths)), np.zeros(len(paths), np.int64), lengths, size=24, resize=28)


def test_photographs_are_whole_and_large(tmp_path):
    found = file_pictures.data_uris(photographs(tmp_path, [(1600, 400), (90, 60)]), np.array([1, 0]), 2**20)
    assert [opened(uri).size for uri in found] == [(90, 60), (640, 160)]
    assert [uri[:15] for uri in found] == ["data:image/png;", "data:image/jpeg"]


def test_many_pictures_are_smaller_ones(tmp_path):
    images, rows = photographs(tmp_path, [(800, 600)]), np.zeros(4, np.int64)
    found = file_pictures.data_uris(images, rows, 2**17)
    assert sum(map(len, found)) <= 2**17
    assert 112 <= max(opened(found[0]).size) < 640


def test_small_images_keep_each_pixel():
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), np.uint8)
    found = file_pictures.data_uris(images, np.array([2, 0]), 2**20)
    assert np.array_equal(np.asarray(opened(found[0])), images[2, ..., 0])
