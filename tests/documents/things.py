"""What a reader of the pages has, by the names that pages give it: runs, photographs, labels, data sets."""

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import markdown_pages
import numpy as np
import pytest
from conftest import real_data_dir
from markdown_pages import DOCS, Command
from own_photographs import COLORS, colored_folder, write_csv
from PIL import Image

from r2d2_tf.data.datasets import DATASETS

_OUTPUTS = ("--out=", "--config_out=", "--output_dir=")


class Things:
    """Makes what commands name, in the working directory, before they are run."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self.fixture: Callable[[str], Path] = request.getfixturevalue
        self.of_names: dict[str, tuple[str, Callable[[Path], object]]] = {
            "RUN": ("RUN", lambda path: shutil.copytree(self.fixture("untouched_run"), path)),
            "RUN/export": ("RUN/export", lambda path: shutil.copytree(self.fixture("exported"), path)),
            "OTHER_RUN": ("OTHER_RUN", lambda path: shutil.copytree(self.fixture("other_run"), path)),
            "runs/photos/run": ("runs/photos/run", lambda path: shutil.copytree(self.fixture("untouched_run"), path)),
            "EXPORT": ("EXPORT", lambda path: shutil.copytree(self.fixture("exported") / "saved_model", path)),
            "PHOTOS": ("PHOTOS", lambda path: colored_folder(path, labeled=6, unlabeled=60, test=6)),
            "SORTED": ("SORTED", _sorted),
            "MORE_PHOTOS": ("MORE_PHOTOS", _unlabeled),
            "MORE_PHOTOGRAPHS": ("MORE_PHOTOGRAPHS", _unlabeled),
            "ALL_LABELED": ("ALL_LABELED", _all_labeled),
            "CELLS": ("CELLS", _all_labeled),
            "PHOTOGRAPHS": ("PHOTOGRAPHS", _digits),
            "FILE_OR_FOLDER": ("FILE_OR_FOLDER", _digits),
            "IMAGE": ("IMAGE", lambda path: _write_digit(path, 0)),
            "CONFIG": ("CONFIG", lambda path: path.write_text("--flagfile=configs/mnist5k.cfg\n")),
            "DIR": ("DIR", _data_sets),
            "my.cfg": ("my.cfg", lambda path: path.write_text("--num_labels=10\n--batch_size=8\n--finetune_batch_size=8\n")),
            "my.npz": ("my.npz", _arrays),
            "my_networks": ("my_networks.py", _own_networks),
            "labels.csv": ("labels.csv", _labels),
            "label_studio_export.json": ("RUN/label_studio_export.json", _label_studio_export),
        }
        """Name in a command -> where it is, and what makes it there."""
        self.of_pages: dict[tuple[str, str], Callable[[Path], object]] = {
            ("docs/results/wrong_labels.md", "RUN"): self.of_names["OTHER_RUN"][1],
            # Nothing shortens the commands there.
            ("README.md", "PHOTOS"): lambda path: colored_folder(path, labeled=3, unlabeled=20, test=6),
        }
        """What makes it where a page speaks of another one."""

    def lay_out(self, command: Command) -> str:
        """Makes what a command names and is not there; returns why it cannot, or ""."""
        makes_run = command.module == "r2d2_tf.train"
        words = [text for text in command.arguments if not text.startswith(_OUTPUTS)]
        words = [text for text in words if not (makes_run and text.startswith("--run_dir="))]
        for name, (place, make) in self.of_names.items():
            path = Path(place)
            if path.exists() or not any(re.search(rf"(?<![\w.]){re.escape(name)}\b", text) for text in words):
                continue
            if name == "RUN/export" and command.module == "export":
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self.of_pages.get((command.page, name), make)(path)
            except pytest.skip.Exception as absent:
                return str(absent)
        return ""


def _unlabeled(path: Path) -> None:
    (colored_folder(path.with_name(f"{path.name}.made"), unlabeled=8) / "unlabeled").rename(path)


def _sorted(path: Path) -> None:
    (colored_folder(path.with_name(f"{path.name}.made"), unlabeled=0, test=4) / "test").rename(path)


def _all_labeled(path: Path) -> None:
    (colored_folder(path.with_name(f"{path.name}.made"), labeled=70, unlabeled=0, test=0) / "train").rename(path)


def _write_digit(path: Path, number: int) -> None:
    Image.fromarray(DATASETS["mnist5k"].load(None).test_images[number, ..., 0]).save(path, format="png")


def _digits(path: Path) -> None:
    path.mkdir()
    for number in range(3):
        _write_digit(path / f"{number}.png", number)


def _data_sets(path: Path) -> None:
    """Prepared TFDS sets, and one more that the project does not name, of noise."""
    real = real_data_dir()
    path.mkdir()
    for folder in real.iterdir():
        (path / folder.name).symlink_to(folder)
    from tools.reproduce import fake_data

    name = "fashion_mnist"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DATASETS, name, dataclasses.replace(DATASETS["mnist"], tfds_name=name))
        fake_data.make(name, path)


def _arrays(path: Path) -> None:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (120, 12, 12, 3), np.uint8)
    labels = np.where(np.arange(120) < 60, np.arange(120) % 3, -1)
    np.savez(path, images=images, labels=labels, test_images=images[:30], test_labels=np.arange(30) % 3)


def _own_networks(path: Path) -> None:
    [block] = [block for block in markdown_pages.parts(DOCS / "own_network.md")[1] if block.kind == "python"]
    path.write_text("\n".join(block.lines) + "\n")


def _labels(path: Path) -> None:
    """Labels for the photographs, of some unlabeled ones too."""
    photos = Path("PHOTOS")
    rows = []
    for name in (file.relative_to(photos) for file in sorted(photos.rglob("*.*"))):
        part = name.parts[0]
        also = "blue" if part == "unlabeled" and int(name.stem) % 9 == 0 else ""
        label = next((color for color in COLORS if color in name.parts), also)
        rows.append((name.as_posix(), label, "test" if part == "test" else "train"))
    write_csv(path, rows, header=("file", "label", "split"))


def _label_studio_export(path: Path) -> None:
    """The tasks once a person has said of each image what was predicted."""
    tasks = json.loads(path.with_name("label_studio.json").read_text())
    for number, task in enumerate(tasks):
        answer = {"id": number, "result": task.get("predictions", [{}])[0].get("result", []), "was_cancelled": False}
        task.setdefault("annotations", [answer])
    path.write_text(json.dumps(tasks))
