"""Folders of photographs for tests: small ones that are made, and the JPEG files of Imagenette."""

import csv
from pathlib import Path

import numpy as np
from conftest import real_data_dir
from PIL import Image
from test_photographs import smooth

from r2d2_tf.data.datasets import DATASETS

KINDS = ("jpg", "JPEG", "png", "gif", "bmp", "WebP")
COLORS = {"blue": (40, 60, 200), "green": (30, 180, 60), "red": (200, 50, 40)}


def photograph(path: Path, color, number):
    """Writes a picture of about one color, of its own size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = smooth(30 + number % 7, 34 + number % 5, number).astype(int) - 128
    Image.fromarray(np.clip(np.array(color) + noise // 3, 0, 255).astype(np.uint8)).save(path)


def colored_folder(root: Path, *, labeled=4, unlabeled=12, test=3, kinds=KINDS):
    """`train`, `test` and `unlabeled`, three classes of colors, files of all kinds; returns the folder."""
    for c, (name, color) in enumerate(COLORS.items()):
        for i in range(labeled):
            photograph(root / "train" / name / f"{name}_{i}.{kinds[(i + c) % len(kinds)]}", color, 10 * c + i)
        for i in range(test):
            photograph(root / "test" / name / "more" / f"{name}_test_{i}.{kinds[i % len(kinds)]}", color, 100 + 10 * c + i)
    for i in range(unlabeled):
        photograph(root / "unlabeled" / f"{i:02d}.{kinds[i % len(kinds)]}", list(COLORS.values())[i % 3], 200 + i)
    return root


def write_csv(path: Path, rows, header=("file", "label"), **options):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, **options).writerows([header, *rows])
    return path


def imagenette_folder(root: Path, *, labeled_share=0.1, tests_a_class=5) -> Path:
    """The photographs of Imagenette as JPEG files: a tenth of the training part in folders of classes, the rest unlabeled.

    Skips where the data are absent.
    """
    data = DATASETS["imagenette"].load(real_data_dir())
    count = round(labeled_share * len(data.train_labels) / len(data.class_names))
    for part, images, labels, most in (
        ("train", data.train_images, data.train_labels, count),
        ("test", data.test_images, data.test_labels, tests_a_class),
    ):
        seen = dict.fromkeys(range(len(data.class_names)), 0)
        for row, label in enumerate(labels.tolist()):
            seen[label] += 1
            folder = root / part / data.class_names[label] if seen[label] <= most else root / "unlabeled"
            if part == "test" and seen[label] > most:
                continue
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{part}_{row:05d}.jpg").write_bytes(images.read(row))
    return root
