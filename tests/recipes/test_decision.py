"""Which recipe and which stage held-out labels choose."""

import numpy as np

from r2d2_tf.recipes.decision import best_of, learning_curve_words, recipe_words, stage_words, tried
from r2d2_tf.recipes.fold_runs import Fold


def fold(*wrong, of=20, part=1):
    """A fold in whose stages so many of the labels are wrong, the first ones of them."""
    labels = np.zeros(of, np.int64)
    predictions = {stage: (np.arange(of) < count).astype(np.int64) for stage, count in enumerate(wrong, start=1)}
    return Fold(part, labels, predictions, seconds=1.0)


def test_the_stage_with_the_fewest_errors_over_all_folds_is_the_result():
    assert tried([fold(5, 3, 4)]).stage == 2
    assert tried([fold(5, 3, 4), fold(5, 5, 2, part=2)]).stage == 3
    assert tried([fold(3, 5, 4)]).stage == 1


def test_of_equal_stages_the_latest_is_the_result():
    assert tried([fold(4, 4, 4)]).stage == 3


def test_where_most_of_stage_1_is_wrong_a_later_stage_must_be_surely_better():
    assert tried([fold(13, 11, 11)]).stage == 1, "two of twenty may be chance"
    assert tried([fold(13, 5, 6)]).stage == 2, "eight for, none against: p = 0.008"


def test_the_best_recipe_is_told_by_the_parts_that_all_were_tried_on():
    head, scratch = [fold(5, 4, 4), fold(1, 0, 0, part=2)], [fold(4, 3, 3)]
    assert best_of({"head": head, "from scratch": scratch}) == "from scratch"
    assert best_of({"head": head, "from scratch": [fold(4, 4, 4)]}) == "head", "equal: the first"


def test_words_say_counts_and_chance():
    words = stage_words(tried([fold(9, 2, 3)]))
    assert words.startswith("the network of stage 2: 2 of 20 held-out labels wrong, against 9 after stage 1")
    assert "p = 0.016: hardly chance" in words
    assert "no sign that it is better" in stage_words(tried([fold(4, 4, 4)]))
    assert "unlabeled images did not help" in stage_words(tried([fold(3, 4, 5)]))
    assert "must be better by more than chance" in stage_words(tried([fold(13, 11, 11)]))
    assert "against" not in stage_words(tried([fold(3)]))


def test_how_sure_a_recipe_is_better_is_told_by_the_labels_that_both_held_out():
    folds = {"head": [fold(9, 2, 2), fold(9, 9, 9, part=2)], "from scratch": [fold(9, 9, 9)]}
    words = recipe_words("head", "from scratch", folds)
    assert words == "head against from scratch: 2 and 9 wrong of the 20 labels that both held out (p = 0.016)"


def test_the_learning_curve_is_a_power_law_of_the_number_of_labels():
    # 0.4 at a half and 0.4 / 1.6 ** 0.5 at four fifths: the error falls with the square root of the labels.
    words = learning_curve_words(400, 1000, round(400 / 1.6**0.5), 1000, num_labels=1000)
    assert "about 20 %" in words, "at two and a half times four fifths: 31.6 / 2.5 ** 0.5"
    assert "too few to say" in learning_curve_words(10, 50, 12, 50, num_labels=50)
