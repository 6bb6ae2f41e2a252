"""What fit and predict are given: images in any usual form, classes with and without gaps, and clear words for the rest."""

import numpy as np
import pytest
from small_images import write_images

from r2d2_tf.classifier.given_classes import given_classes, names_of, numbers_of
from r2d2_tf.classifier.given_images import Pixels, files_in, folder_in, pixels_in

GREY = 10 * np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (GREY, GREY),
        (GREY.astype(np.int64), GREY),
        (GREY.astype(np.float32), GREY),
        (GREY / 255.0, GREY),
        (GREY > 7, np.where(GREY > 7, 255, 0)),
        (GREY[..., None], GREY),
        (GREY.tolist(), GREY),
    ],
    ids=["uint8", "int64", "floats_to_255", "floats_to_1", "bool", "channel", "lists"],
)
def test_images_become_bytes(images, expected):
    pixels, looks = pixels_in(images)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels[..., 0], expected)
    assert looks.shape == (3, 4, 1)


def test_floats_that_rounding_took_out_of_their_range_stay_what_they_are():
    floats = GREY / 230.0 * (1 + 1e-6) - 1e-6
    pixels, looks = pixels_in(floats)
    assert (pixels.min(), pixels.max(), looks.of_floats) == (0, 255, 255.0)
    np.testing.assert_array_equal(pixels_in(floats, looks)[0], pixels)


@pytest.mark.parametrize("images", [GREY // 15, GREY / 15.0])
def test_images_that_are_all_dark_are_told_with_what_makes_them_bright(images):
    with pytest.warns(UserWarning, match=r"X holds 15.* at most, where white is 255: .* give X \* \(255 / 15"):
        pixels_in(images)


def test_a_word_that_is_taken_for_no_label_is_told():
    with pytest.warns(UserWarning, match="y has labels that say NA, which is taken for no label: rename a class"):
        given = given_classes(["DE", "NA", "AT", ""], 4)
    assert given.numbers.tolist() == [1, -1, 0, -1]


def test_other_images_are_read_as_those_of_fit():
    _, looks = pixels_in(GREY / 255.0)
    dark = np.full((1, 3, 4), 0.01)
    np.testing.assert_array_equal(pixels_in(dark, looks)[0], 3)
    np.testing.assert_array_equal(pixels_in(np.full((1, 3, 4), 1.6), Pixels((3, 4, 1), 1.0))[0], 2)


@pytest.mark.parametrize(
    ("images", "fitted", "words"),
    [
        (np.zeros((5, 784)), None, r"X.reshape\(-1, 28, 28\)"),
        (np.zeros(5), None, "images have"),
        (np.zeros((2, 3, 8, 8)), None, "channels come last"),
        (np.zeros((2, 8, 8, 4)), None, "images have"),
        (np.zeros((0, 8, 8)), None, "no image"),
        (np.full((1, 8, 8), -0.5), None, "before any normalising"),
        (np.full((1, 8, 8), np.nan), None, "NaN"),
        (np.full((1, 8, 8), 1.3), None, "neither 0..1 nor 0..255"),
        ([GREY[0], GREY[0, :2]], None, "several shapes"),
        (GREY[0], Pixels((3, 4, 1), None), r"is one image: give several, as X\[None\]"),
        (np.full((1, 8, 8), 300), None, "300"),
        (np.zeros((1, 8, 8), complex), None, "complex"),
        (np.zeros((1, 9, 8)), Pixels((8, 8, 1), None), "fit had"),
        (np.full((1, 8, 8), 9.0), Pixels((8, 8, 1), 255.0), "fit had 0..1"),
        (np.full((1, 8, 8), 0.5), Pixels((8, 8, 1), None), "fit had whole numbers of 0..255"),
        (np.full((1, 8, 8), 0.5), Pixels((8, 8, 1), 1.0), "fit had floats of 0..255"),
    ],
)
def test_what_is_no_image_is_refused_in_a_line(images, fitted, words):
    with pytest.raises(ValueError, match=words) as refused:
        pixels_in(images, fitted)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("y", "classes", "numbers"),
    [
        ([3, 1, -1, 3], [1, 3], [1, 0, -1, 1]),
        ([3.0, 1.0, np.nan, -1.0], [1.0, 3.0], [1, 0, -1, -1]),
        (["cat", "ant", "", "cat"], ["ant", "cat"], [1, 0, -1, 1]),
        (np.array(["cat", None, np.nan, "ant", -1], object), ["ant", "cat"], [1, -1, -1, 0, -1]),
        (np.array(["cat", "ant", "-1", "nan"]), ["ant", "cat"], [1, 0, -1, -1]),
        ([True, False, True], [False, True], [1, 0, 1]),
        (np.array([2, None, 5], object), [2, 5], [0, -1, 1]),
    ],
)
def test_classes_are_numbers_or_names_with_gaps(y, classes, numbers):
    given = given_classes(y, len(y))
    assert given.classes.tolist() == classes
    assert given.numbers.tolist() == numbers


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (None, "requires y to be passed"),
        ([1, 2], "2 labels for 3 images"),
        ([-1, -1, -1], "no label"),
        ([1, 1, -1], "one class alone"),
        (np.array(["a", 2, None], object), "mixes"),
        ([0.5, 1.5, 2.5], "continuous"),
    ],
)
def test_what_is_no_class_is_refused(y, words):
    with pytest.raises(ValueError, match=words):
        given_classes(y, 3)


def test_names_are_those_that_a_file_of_labels_gives_back():
    assert names_of(np.array([1.0, 2.0])) == ["1", "2"]
    assert names_of(np.array(["1.5", "b "])) == ["1.5", "b"]


def test_test_images_have_classes_that_are_learned():
    classes = np.array(["ant", "cat"])
    assert numbers_of(["cat", "ant"], classes, 2, "y_test").tolist() == [1, 0]
    with pytest.raises(ValueError, match="'dog'"):
        numbers_of(["cat", "dog"], classes, 2, "y_test")
    with pytest.raises(ValueError, match="without a label"):
        numbers_of(["cat", ""], classes, 2, "y_test")


def test_files_and_folders_are_told_from_arrays(tmp_path):
    paths = write_images(tmp_path, GREY)
    assert files_in(GREY) is None
    assert files_in(GREY.tolist()) is None
    assert folder_in(paths) is None
    assert folder_in(str(tmp_path)) == tmp_path
    assert files_in([str(path) for path in paths]) == paths
    assert files_in(np.array([str(path) for path in paths])) == paths


def test_what_is_no_file_of_images_is_refused(tmp_path):
    paths = write_images(tmp_path, GREY)
    for listed, words in (
        ([*paths, tmp_path / "gone.png"], "no file"),
        ([tmp_path / "a.txt"], "none of the files"),
        ([*paths, 3], "no path"),
    ):
        with pytest.raises(ValueError, match=words):
            files_in(listed)
    for path, words in ((paths[0], "is a file"), (tmp_path / "gone", "does not exist")):
        with pytest.raises(ValueError, match=words):
            folder_in(path)
