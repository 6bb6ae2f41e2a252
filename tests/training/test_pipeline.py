import dataclasses
import sys

import numpy as np
import pytest

from r2d2_tf.config.config import Config
from r2d2_tf.data.augment import Augmentation
from r2d2_tf.data.datasets import ImageData
from r2d2_tf.data.photographs import Photographs
from r2d2_tf.runs.dataset import spec_of
from r2d2_tf.training import pipeline
from r2d2_tf.training.stages import plan

LABELED, UNLABELED = np.arange(0, 30, 3), np.setdiff1d(np.arange(100), np.arange(0, 30, 3))
CONFIG = Config(
    supervised_epochs=2, supervised_batch_size=4, rounds="2:0.1,1:0.1", batch_size=8, finetune_epochs=2, finetune_batch_size=16
)
STAGES = {stage.number: stage for stage in plan(CONFIG, spec_of(CONFIG))}


def rows_of(number, epoch, seed=0):
    return pipeline.epoch_rows(STAGES[number], LABELED, UNLABELED, seed=seed, epoch=epoch)


def test_stage_1_never_reads_an_unlabeled_image_and_keeps_its_short_batch():
    rows = rows_of(1, 0)
    assert rows.shape == (3, 4)
    assert sorted(rows[rows >= 0]) == LABELED.tolist()
    assert rows.ravel()[-2:].tolist() == [-1, -1]


def test_stage_2_sees_each_unlabeled_image_once_an_epoch_but_for_the_dropped_ones():
    rows = rows_of(2, 0)
    unlabeled = rows[np.isin(rows, UNLABELED)]
    assert rows.shape == (15, 8)
    assert len(unlabeled) == len(set(unlabeled)) == 90 == len(UNLABELED)


def test_each_batch_of_stage_2_is_one_part_labeled_and_three_unlabeled():
    assert (np.isin(rows_of(2, 0), LABELED).sum(1) == 2).all()


def test_both_halves_of_a_batch_hold_labeled_images():
    assert np.isin(rows_of(2, 0)[:, :4], LABELED).sum(1).tolist() == [1] * 15


def test_the_labeled_stream_runs_on_over_epochs_and_reshuffles_each_pass():
    stream = np.concatenate([rows_of(2, epoch).ravel() for epoch in range(3)])
    passes = stream[np.isin(stream, LABELED)].reshape(-1, len(LABELED))
    assert len(passes) == 9
    assert all(sorted(one) == LABELED.tolist() for one in passes)
    assert len({tuple(one) for one in passes}) == 9


def test_stage_3_sees_all_images_once():
    rows = rows_of(3, 0)
    assert rows.shape == (7, 16)
    assert sorted(rows[rows >= 0]) == list(range(100))


@pytest.mark.parametrize("number", STAGES)
def test_order_is_a_function_of_seed_and_epoch(number):
    np.testing.assert_array_equal(rows_of(number, 1), rows_of(number, 1))
    assert not np.array_equal(rows_of(number, 0), rows_of(number, 1))
    assert not np.array_equal(rows_of(number, 0), rows_of(number, 0, seed=1))


IMAGES = np.random.default_rng(0).integers(0, 255, (100, 5, 5, 1)).astype(np.uint8)


def batches_of(stage, seed=0):
    return list(pipeline.training_batches(IMAGES, LABELED, UNLABELED, stage, seed=seed).as_numpy_iterator())


def replaced(stage, augmentation):
    return dataclasses.replace(stage, images=dataclasses.replace(stage.images, augmentation=augmentation))


@pytest.mark.parametrize("number", STAGES)
def test_batches_hold_the_images_of_their_rows_epoch_after_epoch(number):
    stage = replaced(STAGES[number], Augmentation())
    batches = batches_of(stage)
    assert len(batches) == stage.epochs * stage.images.steps_per_epoch(len(LABELED), len(UNLABELED))
    for images, rows in batches:
        np.testing.assert_array_equal(images, IMAGES[rows])
    expected = np.concatenate([rows_of(number, epoch).ravel() for epoch in range(stage.epochs)])
    np.testing.assert_array_equal(np.concatenate([rows for _, rows in batches]), expected[expected >= 0])


def test_augmentation_is_a_function_of_seed_and_step():
    stage = replaced(STAGES[3], Augmentation(translate=2))
    first, again, other = batches_of(stage), batches_of(stage), batches_of(stage, seed=1)
    for (a, _), (b, _) in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for (a, _), (b, _) in zip(first, other, strict=True))
    by_row = [{int(row): image for image, row in zip(*batch, strict=True)} for batch in first]
    merged_first, merged_second = {}, {}
    for batch in by_row[:7]:
        merged_first.update(batch)
    for batch in by_row[7:]:
        merged_second.update(batch)
    assert any((merged_first[row] != merged_second[row]).any() for row in range(100)), "an epoch repeats the one before"


def test_prediction_reads_the_given_rows_unaugmented():
    batches = list(pipeline.prediction_batches(IMAGES, UNLABELED, 40).as_numpy_iterator())
    assert [len(rows) for _, rows in batches] == [40, 40, 10]
    np.testing.assert_array_equal(np.concatenate([rows for _, rows in batches]), UNLABELED)
    np.testing.assert_array_equal(np.concatenate([images for images, _ in batches]), IMAGES[UNLABELED])


def resident_bytes():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_all_pipelines_of_a_data_set_share_one_copy_of_its_images():
    images = np.ones((100, 1000, 1000, 1), np.uint8)
    data = pipeline.sharing_images(ImageData(images, LABELED, [], images[:10], LABELED, ()))
    before = resident_bytes()
    made = [pipeline.prediction_batches(data.train_images, UNLABELED, 1) for _ in range(3)]
    made += [pipeline.training_batches(data.train_images, LABELED, UNLABELED, stage, seed=0) for stage in STAGES.values()]
    iterators = [iter(dataset) for dataset in made]
    next(iterators[0])
    assert resident_bytes() - before < images.nbytes, "six pipelines"


def test_photographs_are_not_made_tensors_of():
    photographs = Photographs((), *np.zeros((3, 2), np.int64), size=2, resize=2)
    data = pipeline.sharing_images(ImageData(photographs, LABELED, [], photographs, LABELED, ()))
    assert data.train_images is photographs
    assert data.test_images is photographs
