import pytest

from r2d2_tf.config.config import Config
from r2d2_tf.data.datasets import DATASETS
from r2d2_tf.training.stages import beyond_the_paper, plan


def test_two_switches_tell_the_three_stages_apart():
    assert [(s.images.use_unlabeled, s.learn_pseudo_labels) for s in plan(Config(), DATASETS["mnist5k"])] == [
        (False, False),
        (True, True),
        (True, False),
    ]


def test_the_defaults_are_the_authors_recipe():
    supervised, decipher, finetune = plan(Config(cutout=16), DATASETS["mnist5k"])
    assert (supervised.epochs, decipher.epochs, finetune.epochs) == (300, 600, 50)
    assert (supervised.images.batch_size, decipher.images.batch_size, finetune.images.batch_size) == (40, 512, 512)
    assert decipher.images.labeled_per_batch == 128
    assert decipher.prediction_epochs == (0, 300, 375, 450, 525)
    assert decipher.images.steps_per_epoch(4000, 46_000) == 119
    assert finetune.images.steps_per_epoch(4000, 46_000) == 98
    assert [stage.images.augmentation.cutout for stage in (supervised, decipher, finetune)] == [16, 0, 16]


def test_the_papers_ablation_is_flags_alone():
    repeated = "300:0.12,75:0.12,75:0.12,75:0.12,75:0.12"
    a = plan(Config(rounds="300:0.12"), DATASETS["mnist5k"])[1]
    b = plan(Config(rounds=repeated, repredict=False), DATASETS["mnist5k"])[1]
    c = plan(Config(rounds=repeated), DATASETS["mnist5k"])[1]
    assert (a.epochs, a.prediction_epochs) == (300, (0,))
    assert (b.epochs, b.prediction_epochs) == (600, (0,))
    assert c.prediction_epochs == (0, 300, 375, 450, 525)
    assert set(b.learning_rates) == set(c.learning_rates) == {0.12}


def test_stage_3_predicts_only_where_it_is_told_to_fine_tune_from_a_prediction():
    assert plan(Config(), DATASETS["mnist5k"])[2].prediction_epochs == ()
    assert plan(Config(finetune_from="prediction"), DATASETS["mnist5k"])[2].prediction_epochs == (0,)


def test_what_is_beyond_the_paper_is_off_unless_asked_for_and_told_of_in_words():
    assert beyond_the_paper(Config()) == ""
    config = Config(ema=0.99, class_balance="labels", finetune_weights="confidence", rand_augment="2:9")
    assert "--ema=0.99" in beyond_the_paper(config)
    assert "the labels' shares" in beyond_the_paper(config)
    assert "doubtful" in beyond_the_paper(config)
    assert [stage.weighs_certainty for stage in plan(config, DATASETS["mnist5k"])] == [False, False, True]
    assert [stage.balances_classes for stage in plan(Config(), DATASETS["mnist5k"])] == [False, False, False]
    assert [stage.balances_classes for stage in plan(config, DATASETS["mnist5k"])] == [False, True, True]


@pytest.mark.parametrize(("flag", "operations"), [("", [0, 0, 0]), ("2:9", [2, 0, 2]), ("1:10:all", [1, 1, 1])])
def test_strong_augmentation_is_for_stages_that_do_not_learn_the_rows_unless_all_are_asked_for(flag, operations):
    stages = plan(Config(rand_augment=flag), DATASETS["mnist5k"])
    assert [stage.images.augmentation.operations for stage in stages] == operations


def test_no_fine_tuning_epochs_means_no_stage_3():
    assert [stage.number for stage in plan(Config(finetune_epochs=0), DATASETS["mnist5k"])] == [1, 2]


def test_a_labeled_row_that_is_learned_moves_as_far_in_an_epoch_as_an_unlabeled_one():
    _, decipher, finetune = plan(Config(learn_labeled_rows=True), DATASETS["mnist5k"])
    seen = decipher.images.steps_per_epoch(4000, 46_000) * 128 / 4000
    assert decipher.labeled_step(4000, 46_000) == pytest.approx(1 / seen)
    assert finetune.labeled_step(4000, 46_000) == 0
    assert plan(Config(), DATASETS["mnist5k"])[1].labeled_step(4000, 46_000) == 0
    # Seen less than once an epoch, it moves no farther than an unlabeled one.
    assert decipher.labeled_step(40_000, 400) == 1


def test_a_labeled_row_takes_no_step_that_jumps_over_where_it_is_drawn_to():
    [_, decipher, _] = plan(
        Config(learn_labeled_rows=True, pseudo_label_lr=64_000, alpha=0.1, compatibility=0.06), DATASETS["mnist5k"]
    )
    # Its loss is curved by (0.1 + 0.06) / 2 at most, and a step is 64000 / 512.
    assert decipher.labeled_step(4000, 46_000) == pytest.approx(1 / (125 * 0.08))
