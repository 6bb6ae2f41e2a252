import numpy as np
import pytest

from r2d2_tf.data.splits import labeled_split, read_split, with_wrong_labels, write_split

TRUE = np.repeat(np.arange(4), 50)


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


IDS = [f"train_{row:05d}" for row in range(6)]
LABELS = np.array([0, 1, 0, 1, 0, 1])
NAMES = ["cat", "dog"]


def read(tmp_path, text):
    path = tmp_path / "split.txt"
    path.write_text(text)
    return read_split(path, IDS, LABELS, NAMES).tolist()


def test_a_split_file_is_one_id_a_line_with_or_without_its_class(tmp_path):
    assert read(tmp_path, "# mine\ntrain_00004\n\ntrain_00001 dog\n") == [1, 4]


def test_the_authors_format_is_read(tmp_path):
    assert read(tmp_path, "2_cat.png cat\n3_dog.png NO_LABEL\n5_dog.png dog\n") == [2, 5]


def test_a_written_split_reads_back(tmp_path):
    path = tmp_path / "labeled.txt"
    write_split(path, IDS, np.array([0, 3]), LABELS, NAMES)
    assert path.read_text() == "train_00000 cat\ntrain_00003 dog\n"
    assert read_split(path, IDS, LABELS, NAMES).tolist() == [0, 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train_00009\n", r"line 1: 'train_00009' names no image of this data set: write one id a line, such as train_00000"),
        ("9_cat.png cat\n", "names no image"),
        ("train_00000 cat extra\n", "names no image"),
        ("train_00001\n\ntrain_00001\n", "line 3: 'train_00001' names an image that line 1 names already"),
        ("train_00000 dog\n", "gives a wrong class: the image is a cat"),
    ],
)
def test_a_bad_line_is_named_with_its_number(text, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for path in (tmp_path / "absent", tmp_path, tmp_path / "binary"):
        with pytest.raises(ValueError, match=r"cannot be read.*change --split_file"):
            read_split(path, IDS, LABELS, NAMES)


def test_wrong_labels_are_as_many_as_asked_for_all_wrong_and_a_function_of_the_seed():
    wrong = with_wrong_labels(TRUE, 0.2, 4, seed=0)
    changed = wrong != TRUE
    assert changed.sum() == 40
    assert set(wrong) == {0, 1, 2, 3}
    # Each of the three other classes comes.
    assert {(old - new) % 4 for old, new in zip(TRUE[changed], wrong[changed], strict=True)} == {1, 2, 3}
    np.testing.assert_array_equal(wrong, with_wrong_labels(TRUE, 0.2, 4, seed=0))
    assert not np.array_equal(wrong, with_wrong_labels(TRUE, 0.2, 4, seed=1))
    np.testing.assert_array_equal(with_wrong_labels(TRUE, 0.0, 4, seed=0), TRUE)
