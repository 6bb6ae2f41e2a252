"""Reads a data set out of one .npz file of NumPy's: `images` and `labels`, and what else there is. Needs no TensorFlow."""

import itertools
from pathlib import Path

import numpy as np

from r2d2_tf.data.image_data import ImageData
from r2d2_tf.data.labels.matching import check_class_names
from r2d2_tf.data.readers.folder import NoTestImages, held_out
from r2d2_tf.system.messages import mistake

_NAMES = ("images", "labels", "unlabeled_images", "test_images", "test_labels", "class_names")
_CHANNELS = (1, 3)


def read_npz(path: Path, test_fraction: float, *, needs_test: bool = True) -> ImageData:
    """Reads the file whole: all labels are given, and ids are made of the file's rows.

    Where the file has no `test_images`, a `test_fraction` (0..1) of the labeled images are test images.
    `needs_test`: a file without either is refused.

    Raises:
        ValueError: if it cannot be read, or its arrays do not fit together.
    """
    arrays = _arrays(path)
    images, labels = _pair(path, arrays, "images", "labels")
    if labels.min(initial=0) < -1:
        raise ValueError(f"data_dir ({path}): labels has {labels.min()}; labels run from 0, and -1 is none")
    test_images, test_labels = _test_part(path, arrays, images)
    class_names = _class_names(path, arrays, labels, test_labels)
    ids = [f"{path.stem}_{row:06d}" for row in range(len(labels))]
    if len(unlabeled := _unlabeled_part(path, arrays, images)):
        ids += [f"{path.stem}_unlabeled_{row:06d}" for row in range(len(unlabeled))]
        images, labels = np.concatenate([images, unlabeled]), np.append(labels, np.full(len(unlabeled), -1))
    if ("test_images" in arrays) == (test_fraction > 0):
        if test_fraction:
            raise ValueError(f"data_dir ({path}) has test_images: leave --test_fraction out")
        if needs_test:
            raise NoTestImages(f"data_dir ({path}) has no test_images: give --test_fraction=0.2")
    if test_fraction:
        is_test = held_out(ids, labels, test_fraction)
        ids = list(itertools.compress(ids, ~is_test))
        test_images, test_labels, images, labels = images[is_test], labels[is_test], images[~is_test], labels[~is_test]
    return ImageData(images, labels, ids, test_images, test_labels, class_names, given_labels=labels)


def row_of(identifier: str) -> int:
    """The row of `images`, or of `unlabeled_images`, that an id was made of."""
    return int(identifier.rpartition("_")[2])


def arrays_not_read(path: Path) -> list[str]:
    """Names of the arrays in a file that `read_npz` passes over."""
    with np.load(path, allow_pickle=False) as archive:
        return [name for name in archive.files if name not in _NAMES]


def channel_statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, in 0..1, of `[rows, height, width, channels]` uint8.

    A channel that is everywhere the same has the deviation of one level: it is divided by.
    """
    means, deviations = [], []
    levels = np.arange(256) / 255.0
    for channel in range(images.shape[-1]):
        # Counts of levels: no copy of all images in floats.
        shares = np.bincount(images[..., channel].reshape(-1), minlength=256) / max(1, images[..., channel].size)
        mean = float(shares @ levels)
        means.append(mean)
        deviations.append(max(float(np.sqrt(shares @ (levels - mean) ** 2)), 1 / 255))
    return tuple(means), tuple(deviations)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        if not path.is_file():
            raise OSError("it does not exist, or is no file")
        # Objects could be code.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in _NAMES if name in archive.files}
            found = ", ".join(archive.files) or "nothing"
    # Whatever a zip archive and NumPy make of bytes that are not theirs.
    except Exception as error:
        raise mistake(f"data_dir ({path}) cannot be read as an .npz file: {error}; change --data_dir") from error
    missing = [name for name in ("images", "labels") if name not in arrays]
    if missing:
        raise mistake(f"data_dir ({path}) holds {found}, and no {missing[0]}: save {', '.join(_NAMES)} in it")
    return arrays


def _pair(path: Path, arrays: dict[str, np.ndarray], images_name: str, labels_name: str) -> tuple[np.ndarray, np.ndarray]:
    if labels_name not in arrays:
        raise ValueError(f"data_dir ({path}) holds {images_name}, and no {labels_name}: save both")
    images, labels = _images(path, arrays, images_name), arrays[labels_name]
    if labels.dtype.kind not in "iu" or labels.shape != (len(images),):
        raise ValueError(
            f"data_dir ({path}): {labels_name} is {labels.dtype} of shape {labels.shape}, and must be whole numbers of shape "
            f"({len(images)},), one an image"
        )
    return images, labels.astype(np.int64)


def _images(path: Path, arrays: dict[str, np.ndarray], images_name: str) -> np.ndarray:
    images = arrays[images_name]
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in _CHANNELS or 0 in images.shape[1:]:
        raise ValueError(
            f"data_dir ({path}): {images_name} is {images.dtype} of shape {arrays[images_name].shape}, and must be uint8 of "
            "shape (images, height, width) or (images, height, width, 1 or 3)"
        )
    return images


def _unlabeled_part(path: Path, arrays: dict[str, np.ndarray], images: np.ndarray) -> np.ndarray:
    """More images to train on, none of which has a label; none where the file holds none."""
    if "unlabeled_images" not in arrays:
        return images[:0]
    unlabeled = _images(path, arrays, "unlabeled_images")
    if unlabeled.shape[1:] != images.shape[1:]:
        raise ValueError(
            f"data_dir ({path}): images are of shape {images.shape[1:]}, unlabeled_images of {unlabeled.shape[1:]}: make them "
            "one"
        )
    return unlabeled


def _test_part(path: Path, arrays: dict[str, np.ndarray], images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Test images and their labels; none where the file holds none."""
    if "test_images" not in arrays:
        return images[:0], np.empty(0, np.int64)
    test_images, test_labels = _pair(path, arrays, "test_images", "test_labels")
    if test_images.shape[1:] != images.shape[1:]:
        raise ValueError(
            f"data_dir ({path}): images are of shape {images.shape[1:]}, test_images of {test_images.shape[1:]}: make them one"
        )
    if not len(test_labels) or test_labels.min() < 0:
        what = f"a label {test_labels.min()}" if len(test_labels) else "no image"
        raise ValueError(f"data_dir ({path}): test_images has {what}, and each test image needs its class, from 0: label it")
    return test_images, test_labels


def _class_names(path: Path, arrays: dict[str, np.ndarray], labels: np.ndarray, test_labels: np.ndarray) -> tuple[str, ...]:
    used = 1 + int(max(labels.max(initial=-1), test_labels.max(initial=-1)))
    num_labeled = int((labels >= 0).sum())
    if "class_names" not in arrays:
        # 255 often stands for none, where labels are bytes; and a name for each of a billion classes would fill the memory.
        if used > max(2, num_labeled):
            raise ValueError(
                f"data_dir ({path}): a label is {used - 1}, but {num_labeled} training images are labeled, and each class "
                "needs one: number classes from 0, and write -1 for none"
            )
        names = tuple(str(number) for number in range(used))
    elif arrays["class_names"].ndim != 1 or arrays["class_names"].dtype.kind != "U":
        raise ValueError(f"data_dir ({path}): class_names must be a list of texts")
    else:
        names = tuple(arrays["class_names"].tolist())
        if len(set(names)) < len(names) or len(names) < used:
            raise ValueError(
                f"data_dir ({path}): class_names holds {len(set(names))} different names for {max(used, len(names))} classes"
            )
    check_class_names(f"data_dir ({path})", names)
    if len(names) < 2:
        raise ValueError(f"data_dir ({path}) has {len(names)} classes, and a classifier needs two")
    return names
