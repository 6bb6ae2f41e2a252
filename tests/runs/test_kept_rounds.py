"""From which round of another run a run may start, as its flags tell."""

import dataclasses
import json

import pytest
from conftest import SUMMARY

from r2d2_tf.config.beginnings import first_round_alone
from r2d2_tf.config.config import Config
from r2d2_tf.runs.kept_rounds import round_to_start_from
from r2d2_tf.runs.other_runs import stage_1_network

ROUNDS = "3:0.1,2:0.1,2:0.05"
BASE = Config(rounds=ROUNDS, keep_rounds=True)


def made(folder, config, kept=(1, 2, 3)):
    """A finished run, as far as flags and names of files go."""
    (folder / "rounds").mkdir(parents=True)
    (folder / "config.cfg").write_text(config.to_flagfile())
    (folder / "summary.json").write_text(json.dumps(SUMMARY))
    for number in kept:
        (folder / "rounds" / f"{number:06d}-0123456789abcdef.npz").touch()
    return folder


@pytest.mark.parametrize(
    ("changes", "number"),
    [
        ({}, 3),
        ({"finetune_epochs": 1, "finetune_from": "prediction", "finetune_cosine_epochs": 0, "result_stage": 1}, 3),
        ({"rounds": "3:0.1,2:0.1"}, 2),
        ({"rounds": "3:0.1,2:0.1,2:0.01,9:0.001"}, 2),
        ({"rounds": "3:0.1,3:0.1"}, 1),
        # Without reprediction the second round begins otherwise, the first does not.
        ({"repredict": False}, 1),
        ({"deterministic": True, "name": "another"}, 3),
    ],
)
def test_it_is_the_last_that_both_have_with_all_before_it(changes, number, tmp_path):
    folder = made(tmp_path / "run", BASE)
    assert round_to_start_from(folder, dataclasses.replace(BASE, keep_rounds=False, **changes))[1] == number


def test_a_round_that_was_not_kept_is_trained_again(tmp_path):
    assert round_to_start_from(made(tmp_path / "run", BASE, kept=[1]), BASE)[1] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alpha": 0.2}, r"stage_2_from \(.*\) had another stage 1 or 2 \(--alpha: 0.1 -> 0.2\): give those flags the same"),
        ({"supervised_epochs": 5}, r"another stage 1 or 2 \(--supervised_epochs: 300 -> 5\)"),
        ({"seed": 1}, r"another stage 1 or 2 \(--seed: 0 -> 1\)"),
        ({"rounds": "4:0.1"}, r"another first round \(--rounds: 3:0.1,2:0.1,2:0.05 -> 4:0.1\): begin with the same one"),
    ],
)
def test_a_run_that_began_otherwise_is_one_line(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        round_to_start_from(made(tmp_path / "run", BASE), dataclasses.replace(BASE, **changes))


def test_a_run_that_kept_nothing_is_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"kept no round that this run shares: train it with --keep_rounds"):
        round_to_start_from(made(tmp_path / "run", BASE, kept=[]), BASE)


def test_the_first_round_alone_is_the_same_for_all_that_share_it_and_others_start_from_it(tmp_path):
    alone = first_round_alone(BASE)
    assert (alone.rounds, alone.finetune_epochs, alone.keep_rounds) == ("3:0.1", 0, True)
    others = [
        dataclasses.replace(BASE, rounds="3:0.10"),
        dataclasses.replace(BASE, repredict=False, stage_1_from="x", finetune_from="prediction", result_stage=2),
    ]
    assert [first_round_alone(other).digest for other in others] == [alone.digest] * 2
    assert first_round_alone(dataclasses.replace(BASE, alpha=0.2)).digest != alone.digest
    folder = made(tmp_path / "run", alone, kept=[1])
    assert [round_to_start_from(folder, other)[1] for other in (BASE, others[1])] == [1, 1]


def test_the_network_after_stage_1_is_found_where_it_was_trained(tmp_path):
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    made(first, BASE)
    made(second, dataclasses.replace(BASE, stage_1_from=str(first)))
    own = dataclasses.replace(BASE, stage_2_from=str(second))
    assert stage_1_network(third, own) == first / "stage_1.keras"
    third.mkdir()
    (third / "stage_1.keras").touch()
    assert stage_1_network(third, own) == third / "stage_1.keras"
