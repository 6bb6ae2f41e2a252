import pytest

from r2d2_tf.method.schedules import Round, cosine_learning_rates, parse_rounds, round_learning_rates, round_starts


def test_rounds_are_read_in_order():
    assert parse_rounds("300:0.12,75:0.12") == (Round(300, 0.12), Round(75, 0.12))


@pytest.mark.parametrize(
    "text", ["", ",", "3", "3:", ":0.1", "3:0.1,", "x:0.1", "3:y", "0:0.1", "-1:0.1", "3:0", "3:-1", "3:nan", "3:inf", "3:1:2"]
)
def test_a_malformed_round_is_named_with_an_example(text):
    with pytest.raises(ValueError, match=r"is not a round; write epochs:learning_rate.*--rounds="):
        parse_rounds(text)


def test_each_epoch_has_its_rounds_learning_rate():
    rounds = parse_rounds("2:0.5,1:0.1")
    assert round_learning_rates(rounds) == (0.5, 0.5, 0.1)
    assert round_starts(rounds) == (0, 2)


def test_the_authors_rounds_repredict_after_300_375_450_and_525():
    rounds = parse_rounds("300:0.12,75:0.12,75:0.08,75:0.04,75:0.004")
    assert round_starts(rounds) == (0, 300, 375, 450, 525)
    rates = round_learning_rates(rounds)
    firsts_and_lasts = [(rates[first], rates[last]) for first, last in ((0, 374), (375, 449), (450, 524), (525, 599))]
    assert firsts_and_lasts == [(0.12, 0.12), (0.08, 0.08), (0.04, 0.04), (0.004, 0.004)]


def test_a_cosine_may_be_cut_before_it_reaches_zero():
    rates = cosine_learning_rates(0.05, 300, 350)
    assert len(rates) == 300
    assert rates[0] == 0.05
    assert rates[175] == pytest.approx(0.025)
    assert rates[299] > 0.002


def test_length_zero_keeps_the_rate():
    assert cosine_learning_rates(0.05, 3, 0) == (0.05,) * 3
