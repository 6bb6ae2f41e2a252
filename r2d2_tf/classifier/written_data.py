"""What was given to `fit`, as files that a run reads: an .npz of arrays, or links to files and a CSV of their classes."""

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from r2d2_tf.classifier.fitted import ARRAYS_FILE, LABELS_FILE, LINKS, RUN
from r2d2_tf.classifier.given_classes import GivenClasses, given_classes, numbers_of
from r2d2_tf.classifier.given_images import Pixels, files_in, folder_in, pixels_in
from r2d2_tf.system import files, spreadsheets
from r2d2_tf.system.messages import mistake

_LONGEST_NAME = 100
"""Characters of a file's own name in that of a link."""


@dataclass(frozen=True)
class Written:
    """What was written of the images and classes that `fit` was given.

    Attributes:
        flags: that name it.
        given: classes; None: those of a folder, which says itself.
        pixels: what arrays look like; None: the images are files.
        count: of the images of X; None: of a folder.
    """

    flags: dict[str, Any]
    given: GivenClasses | None
    pixels: Pixels | None
    count: int | None


def write(X: Any, y: Any, X_test: Any, y_test: Any, folder: Path, *, afresh: bool) -> Written:
    """Writes what `fit` was given into a folder; of somebody's own folder nothing need be written.

    Args:
        X: an array, a list of files, or a folder.
        y: classes; of a folder None, or a file of labels.
        X_test: test images as X; None: there are none.
        y_test: their classes.
        folder: of the classifier.
        afresh: whether what is in it may be replaced.

    Raises:
        ValueError: in one line, for what does not fit together.
    """
    if (X_test is None) != (y_test is None):
        raise mistake("X_test and y_test belong together: give both, or neither")
    if (own := folder_in(X)) is not None:
        flags = _flags_of_folder(own, y, X_test)
        if afresh:
            # Links to the files of an earlier fit would be taken for its images.
            shutil.rmtree(folder / LINKS, ignore_errors=True)
        return Written(flags, None, None, None)
    if isinstance(y, str | os.PathLike):
        raise mistake(f"y ({str(y)!r}) is a file, which goes with a folder: give the classes of the {len(X)} images of X")
    if (paths := files_in(X)) is not None:
        given = given_classes(y, len(paths))
        tests = None
        if X_test is not None:
            if (of_test := files_in(X_test, "X_test")) is None:
                raise mistake("X_test is no list of files, and X is one: give files")
            tests = of_test, numbers_of(y_test, given.classes, len(of_test), "y_test")
        return Written(_write_links(folder, paths, given, tests, afresh=afresh), given, None, len(paths))
    images, pixels = pixels_in(X)
    given, test = given_classes(y, len(images)), None
    if X_test is not None:
        tested, _ = pixels_in(X_test, pixels, "X_test")
        test = tested, numbers_of(y_test, given.classes, len(tested), "y_test")
    return Written(_write_arrays(folder, images, given, test, afresh=afresh), given, pixels, len(images))


def _flags_of_folder(folder: Path, y: Any, X_test: Any) -> dict[str, Any]:
    if X_test is not None:
        raise mistake("X is a folder, and X_test goes with arrays and lists of files: put test images into a folder test in it")
    flags = {"dataset": "folder", "data_dir": str(folder)}
    if y is None:
        return flags
    if not isinstance(y, str | os.PathLike):
        raise mistake("X is a folder, whose order y cannot know: leave y out, give a file of labels, or list the files in X")
    path = Path(y).expanduser()
    if not path.is_file():
        raise mistake(f"y ({str(path)!r}) is no file: give a file of labels, as CSV with the columns file and label")
    return flags | {"labels": str(path.resolve())}


def _write_arrays(
    folder: Path, images: np.ndarray, y: GivenClasses, test: tuple[np.ndarray, np.ndarray] | None, *, afresh: bool
) -> dict[str, Any]:
    """Writes arrays of images, `[images, height, width, channels]` uint8; returns the flags that name them.

    What is there already stays as it is if it is the same: a run goes on that knows it by its time of change.
    """
    arrays = {"images": images, "labels": y.numbers, "class_names": np.array(y.names)}
    if test is not None:
        arrays |= {"test_images": test[0], "test_labels": test[1]}
    path = folder / ARRAYS_FILE
    if not _holds(path, arrays):
        _check_free(folder, afresh=afresh)
        with files.written_whole(path) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
    return {"dataset": "npz", "data_dir": str(path)}


def _write_links(
    folder: Path, paths: Sequence[Path], y: GivenClasses, test: tuple[Sequence[Path], np.ndarray] | None, *, afresh: bool
) -> dict[str, Any]:
    """Makes a link to each file, and a CSV of their classes; returns the flags that name them."""
    tests = test or ([], np.zeros(0, np.int64))
    everything = [*paths, *tests[0]]
    width = len(str(len(everything)))
    names = [f"{place:0{width}}_{_plain(path.name)}" for place, path in enumerate(everything)]
    parts = ["train"] * len(paths) + ["test"] * len(tests[0])
    lines = [
        [name, y.names[number], part if test is not None else ""]
        for name, number, part in zip(names, [*y.numbers.tolist(), *tests[1].tolist()], parts, strict=True)
        if number >= 0
    ]
    lines.insert(0, ["file", "label", "split"])
    links, labels = folder / LINKS, folder / LABELS_FILE
    targets = dict(zip(names, everything, strict=True))
    if not (_links_to(links, targets) and _says(labels, lines)):
        _check_free(folder, afresh=afresh)
        shutil.rmtree(links, ignore_errors=True)
        links.mkdir(parents=True)
        for name, path in targets.items():
            (links / name).symlink_to(path)
        spreadsheets.write(labels, lines)
    return {"dataset": "folder", "data_dir": str(links), "labels": str(folder / LABELS_FILE)}


def _check_free(folder: Path, *, afresh: bool) -> None:
    """Raises ValueError if other images were fitted in the folder, unless that run is to be moved aside."""
    if (folder / RUN).exists() and not afresh:
        raise mistake(
            f"run_dir ({folder}) holds a classifier of other images or labels: choose another, or leave run_dir out; "
            "flags={'new_run': True} moves its run aside"
        )


def _plain(name: str) -> str:
    stem, ending = os.path.splitext(name)
    return re.sub(r"[^A-Za-z0-9.-]+", "_", stem)[:_LONGEST_NAME] + ending.lower()


def _holds(path: Path, arrays: dict[str, np.ndarray]) -> bool:
    if not path.is_file():
        return False
    with np.load(path, allow_pickle=False) as archive:
        return set(archive.files) == set(arrays) and all(np.array_equal(archive[name], own) for name, own in arrays.items())


def _links_to(folder: Path, targets: dict[str, Path]) -> bool:
    if not folder.is_dir():
        return False
    return {path.name: os.readlink(path) for path in folder.iterdir()} == {name: str(path) for name, path in targets.items()}


def _says(path: Path, lines: list[list[str]]) -> bool:
    if not path.is_file():
        return False
    return spreadsheets.read(path) == lines
