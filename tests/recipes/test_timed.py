"""How long a recipe takes by what is tried of it, and what a first model in five minutes gives up."""

import dataclasses

import pytest
from own_photographs import colored_folder
from test_from_scratch import FACTS

from r2d2_tf.config.config import Config
from r2d2_tf.recipes import timed
from r2d2_tf.recipes.proposed import Choice
from r2d2_tf.recipes.recipe import Recipe, recipes_for

FLAGS = {
    "backbone": "small_network:strided",
    "image_size": "16",
    "translate": "0",
    "supervised_epochs": "2",
    "rounds": "1:0.01",
}
SIZES = {"supervised_batch_size": "4", "batch_size": "8", "finetune_batch_size": "8", "finetune_epochs": "0"}
RECIPE = Recipe(
    "one", "the one way", tuple(Choice(flag, value, "", "tried") for flag, value in (FLAGS | SIZES).items()), 600.0, 500.0, 50.0
)


def test_what_was_tried_takes_the_place_of_what_was_reckoned(monkeypatch):
    assert "reckoned and not tried" in timed.duration_text(RECIPE)
    monkeypatch.setattr(timed, "_tried", lambda config: ((40.0, 90.0), 20.0, 7.0))
    found = timed.timed(RECIPE, Config(dataset="folder", data_dir="x", translate=0))
    assert (found.seconds, found.trial_seconds, found.stage_1_seconds) == pytest.approx((60.0, 40.0, 7.0))
    assert timed.duration_text(found) == "0.7-1.5 min"


def test_what_cannot_be_tried_stays_reckoned():
    assert timed.timed(RECIPE, Config(dataset="folder", data_dir="x", translate=0)) is RECIPE


@pytest.mark.slow
def test_a_recipe_is_tried_on_the_images_themselves(tmp_path, monkeypatch):
    monkeypatch.undo()
    photos = colored_folder(tmp_path / "photos", kinds=("png",))
    found = timed.timed(RECIPE, Config(dataset="folder", data_dir=str(photos), translate=0))
    assert 0 < found.tried[0] < found.tried[1] < 3600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos"]


def test_a_first_model_is_offered_where_there_are_minutes_for_more():
    facts = dataclasses.replace(FACTS, minutes=600.0)
    quick = timed.quick_words(facts, [dataclasses.replace(recipe, seconds=60.0) for recipe in recipes_for(facts)])
    assert "images at 64 pixels in place of 224" in quick
    assert timed.quick_words(dataclasses.replace(FACTS, minutes=9.0), [RECIPE]) is None


def test_no_first_model_is_offered_that_takes_longer():
    facts = dataclasses.replace(FACTS, minutes=600.0, num_unlabeled=1_000_000)
    assert timed.quick_words(facts, recipes_for(facts)) is None
