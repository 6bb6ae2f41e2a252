"""What is known of a run's data before it is read: `spec_of(config)`. Sets of your own are looked through."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from r2d2_tf.config import flag_checks
from r2d2_tf.config.config import SHOWN, Config
from r2d2_tf.data.cache import FileCache
from r2d2_tf.data.datasets import DATASETS, PHOTOGRAPH_SIZE, RESIZE, TFDS_PREFIX, crop_side_for, resize_for, tfds_spec
from r2d2_tf.data.image_data import NO_COPY, DatasetSpec, ImageData
from r2d2_tf.data.labels.cells import of_classes
from r2d2_tf.data.labels.label_file import LabelFile, LabelsFile
from r2d2_tf.data.labels.label_formats import FILES_OF_LABELS
from r2d2_tf.data.labels.matching import labels_in, probabilities_in, read_labels
from r2d2_tf.data.readers.file_search import FilesBelow, FoundFiles
from r2d2_tf.data.readers.folder import OwnImages, own_images
from r2d2_tf.data.readers.npz import arrays_not_read, channel_statistics, read_npz
from r2d2_tf.data.splits import check_num_labels
from r2d2_tf.runs.other_runs import known_classes
from r2d2_tf.system.messages import one_line

_IMAGENET = DATASETS["imagenet2012"]


def spec_of(config: Config, *, needs_test: bool = True, found: FoundFiles | None = None) -> DatasetSpec:
    """What is known of the config's data set; its `load` gives the labels that `--labels` names, too.

    A folder is looked through for it, and an .npz file read: a command makes it once and hands it on.

    Args:
        config: of a run.
        needs_test: refuse a set of somebody's own that has no test images.
        found: what is in a folder of somebody's own, if that is known.

    Raises:
        ValueError: if the data cannot be used, or the config's flags do not go with it.
    """
    read = functools.partial(read_labels, soft=config.soft_labels)
    labels = LabelsFile(Path(config.labels).expanduser(), read) if config.labels else None
    if config.dataset == "folder":
        table = None if labels is None else _table(labels, config)
        images = own_images(_data_path(config), table, config.test_fraction, needs_test=needs_test, found=found)
        spec = _folder_spec(images)
    elif config.dataset == "npz":
        flag_checks.check_image_size(config.dataset, config.image_size == PHOTOGRAPH_SIZE)
        spec = _npz_spec(_data_path(config), config.test_fraction, needs_test)
    elif config.dataset.startswith(TFDS_PREFIX):
        known = tfds_spec(config.dataset.removeprefix(TFDS_PREFIX), config.data_path)
        flag_checks.check_image_size(config.dataset, known.photographs or config.image_size == PHOTOGRAPH_SIZE)
        if config.num_labels and not config.labels:
            check_num_labels(config.num_labels, known.num_classes, known.num_train)
        spec = known
    else:
        spec = DATASETS[config.dataset]
    if spec.photographs:
        spec = _seen(spec, config)
    if labels is not None and config.dataset != "folder":
        content = f"{spec.content}{_stamp(labels.path)}"
        spec = dataclasses.replace(spec, load=_with_labels(spec.load, labels), labels=labels, content=content)
    evaluated = Path(config.evaluate_on).expanduser()
    if config.evaluate_on not in DATASETS and evaluated.suffix.lower() in FILES_OF_LABELS:
        spec = dataclasses.replace(spec, evaluated=LabelsFile(evaluated, read_labels))
    flag_checks.check_augmentation(translate=config.translate, cutout=config.cutout, image_shape=spec.image_shape)
    return spec


def _table(labels: LabelsFile, config: Config) -> LabelFile:
    table, classes = labels.take(), known_classes(config)
    return of_classes(table, classes, config.warm_start) if classes else table


def has_photographs(config: Config) -> bool:
    """Whether the images of the config's data set are photographs; looks at no image of it."""
    if config.dataset.startswith(TFDS_PREFIX):
        return tfds_spec(config.dataset.removeprefix(TFDS_PREFIX), config.data_path).photographs
    return config.dataset == "folder" or (config.dataset in DATASETS and DATASETS[config.dataset].photographs)


def _stamp(path: Path) -> str:
    """Size and time of change of a file."""
    try:
        about = path.stat()
    except OSError:
        # Whoever reads it says so.
        return "0-0"
    return f"{about.st_size}-{about.st_mtime_ns}"


def _data_path(config: Config) -> Path:
    if config.data_path is None:
        what = "a folder of images" if config.dataset == "folder" else "an .npz file"
        raise ValueError(f"dataset ({config.dataset}) needs --data_dir, {what}")
    return config.data_path


def _seen(spec: DatasetSpec, config: Config) -> DatasetSpec:
    """The spec of photographs that a network sees as the config says."""
    size = config.image_size

    def load(data_dir: Path | None) -> ImageData:
        data = spec.load(data_dir)
        side = crop_side_for(size, config.crop_scale) if config.image_copy != NO_COPY else 0
        seen = {
            "as_shown": config.image_view == SHOWN,
            "size": size,
            "resize": resize_for(size, whole=config.whole_images),
            "crop_side": side,
        }
        parts: dict[str, Any] = {"train_images": data.train_images, "test_images": data.test_images}
        return dataclasses.replace(data, **{name: dataclasses.replace(part, **seen) for name, part in parts.items()})

    return dataclasses.replace(spec, image_shape=(size, size, 3), load=load)


def _with_labels(load: Callable[[Path | None], ImageData], labels: LabelsFile) -> Callable[[Path | None], ImageData]:
    def load_both(data_dir: Path | None) -> ImageData:
        data, table = load(data_dir), labels.take()
        return dataclasses.replace(
            data,
            given_labels=labels_in(table, data.train_ids, data.class_names),
            given_probabilities=probabilities_in(table, data.train_ids, data.class_names),
        )

    return load_both


def _folder_spec(images: OwnImages) -> DatasetSpec:
    found = images.found
    return DatasetSpec(
        description=f"photographs in {found.root}, normalized with ImageNet's statistics{_not_read(found)}",
        image_shape=(PHOTOGRAPH_SIZE, PHOTOGRAPH_SIZE, 3),
        num_classes=len(images.class_names),
        mean=_IMAGENET.mean,
        std=_IMAGENET.std,
        num_train=int((~images.is_test).sum()),
        load=lambda data_dir: _folder_data(images),
        read_ids=lambda data_dir: images.names(test=False),
        photographs=True,
        brings_labels=True,
        content=images.digest,
        remarks=images.remarks,
        lost_classes=images.lost,
    )


def _not_read(found: FoundFiles) -> str:
    """Somebody may take all files for images."""
    others = f"{sum(found.others.values()):,} other files ({', '.join(sorted(found.others))})" if found.others else ""
    folders = f"folders {', '.join(sorted(found.passed_over))}" if found.passed_over else ""
    return f"; not read: {others}{', ' * bool(others and folders)}{folders}" if others or folders else ""


def _folder_data(images: OwnImages) -> ImageData:
    from r2d2_tf.data.photographs import Photographs

    parts = []
    for test in (False, True):
        files = FilesBelow(images.found.root, images.names(test=test))
        lengths = images.found.sizes[images.is_test == test]
        places = (np.arange(len(files)), np.zeros(len(files), np.int64), lengths)
        cache = FileCache(files, root=images.found.root)
        parts.append(Photographs(files, *places, size=PHOTOGRAPH_SIZE, resize=RESIZE, cache=cache))
    train_labels = images.labels[~images.is_test]
    return ImageData(
        parts[0],
        train_labels,
        images.names(test=False),
        parts[1],
        images.labels[images.is_test],
        images.class_names,
        given_labels=train_labels,
        given_probabilities=None if images.probabilities is None else images.probabilities[~images.is_test],
        test_ids=images.names(test=True),
    )


def _npz_spec(path: Path, test_fraction: float, needs_test: bool) -> DatasetSpec:
    stamp, data = _stamp(path), read_npz(path, test_fraction, needs_test=needs_test)
    images, ids = np.asarray(data.train_images), data.train_ids
    mean, std = channel_statistics(images)
    height, width, channels = images.shape[1:]
    others = f"; not read: {one_line(', '.join(left))}" if (left := arrays_not_read(path)) else ""
    return DatasetSpec(
        description=f"images in {path}, normalized with the statistics of its training images{others}",
        image_shape=(height, width, channels),
        num_classes=len(data.class_names),
        mean=mean,
        std=std,
        num_train=len(ids),
        # Read again: kept, the images would be in memory twice.
        load=lambda data_dir: read_npz(path, test_fraction, needs_test=needs_test),
        read_ids=lambda data_dir: ids,
        brings_labels=True,
        content=stamp,
    )
