"""One command from a folder: which recipes are tried, what is told, and what is trained in the end."""

import dataclasses
import json

import numpy as np
import pytest
from own_photographs import colored_folder

from r2d2_tf import train
from r2d2_tf.config.command_line import from_command_line, named_flags
from r2d2_tf.config.config import Config
from r2d2_tf.recipes import choosing, fold_runs
from r2d2_tf.recipes.choosing import Choosing
from r2d2_tf.recipes.chosen import chosen_before, folder_of
from r2d2_tf.recipes.fold_runs import Fold
from r2d2_tf.recipes.inputs import data_of, is_open
from r2d2_tf.recipes.proposed import Choice
from r2d2_tf.recipes.recipe import Recipe
from r2d2_tf.runs import run_directory
from r2d2_tf.runs.outcome import result
from r2d2_tf.system.interrupts import RunInterrupted, StopSignals

FLAGS = {
    "backbone": "small_network:strided",
    "image_size": "16",
    "translate": "0",
    "supervised_epochs": "2",
    "supervised_batch_size": "8",
    "supervised_cosine_epochs": "0",
    "rounds": "1:0.01",
    "batch_size": "8",
    "finetune_epochs": "1",
    "finetune_batch_size": "8",
    "finetune_cosine_epochs": "0",
}


def recipe(name, seconds=1.0, stage_1_seconds=None, **flags):
    choices = tuple(Choice(flag, value, "", "tried") for flag, value in (FLAGS | flags).items())
    return Recipe(name, f"the {name} way", choices, seconds, seconds, stage_1_seconds or seconds)


@pytest.fixture
def photos(tmp_path):
    return colored_folder(tmp_path / "photos", kinds=("png",))


def folds_of(wrong, of=4, seconds=1.0):
    """Stands for runs of `seconds`: `wrong` is a function of (recipe, part) that gives how many are wrong after each stage."""

    def fold(self, recipe, part, parts, *, stage_1_alone=False):
        counts = wrong(recipe.name, part)
        labels = np.zeros(of, np.int64)
        stages = list(enumerate(counts, start=1))[: 1 if stage_1_alone else None]
        return Fold(part, labels, {stage: (np.arange(of) < count).astype(np.int64) for stage, count in stages}, seconds)

    return fold


def choosing_of(photos, tmp_path, recipes, monkeypatch, wrong=None, **flags):
    monkeypatch.setattr(choosing, "recipes_for", lambda facts: recipes)
    if wrong is not None:
        monkeypatch.setattr(choosing.FoldRuns, "fold", folds_of(wrong))
    config = Config(dataset="folder", data_dir=str(photos), translate=0, run_dir=str(tmp_path / "run"), **flags)
    said = []
    return Choosing(*data_of(config), StopSignals(), choosing.time.perf_counter(), say=said.append), said


def test_only_a_command_that_leaves_open_how_to_train_is_chosen_for():
    for arguments, expected in (
        (["--dataset=folder", "--data_dir=x"], True),
        (["--dataset=npz", "--data_dir=x.npz", "--seed=3", "--minutes=5", "--run_dir=y"], True),
        (["--dataset=tfds:x", "--data_dir=x", "--num_labels=40"], True),
        (["--dataset=folder", "--data_dir=x", "--weights=none"], True),
        (["--dataset=folder", "--data_dir=x", "--backbone=lenet"], False),
        (["--dataset=folder", "--data_dir=x", "--held_out=0.2"], False),
        (["--dataset=mnist5k"], False),
        ([], False),
    ):
        assert is_open(named_flags(arguments), from_command_line(arguments)) is expected, arguments


def test_a_dry_run_removes_no_trial_of_before(photos, tmp_path, monkeypatch):
    trial = tmp_path / "run-choice" / "trial"
    trial.mkdir(parents=True)
    choosing_of(photos, tmp_path, [recipe("first")], monkeypatch, new_run=True, dry_run=True)
    assert trial.is_dir()
    choosing_of(photos, tmp_path, [recipe("first")], monkeypatch, new_run=True)
    assert not trial.exists()


def test_the_recipe_and_the_stage_with_the_fewest_held_out_errors_are_chosen(photos, tmp_path, monkeypatch):
    wrong = {"first": (3, 2, 2), "second": (3, 0, 1)}
    choice, said = choosing_of(photos, tmp_path, [recipe("first"), recipe("second")], monkeypatch, lambda name, _: wrong[name])
    chosen = choice.chosen()
    assert chosen.words[0] == "Chosen: the second way"
    assert "second: the network of stage 2: 0 of 20 held-out labels wrong, against 15 after stage 1" in chosen.words[1]
    assert "second against first: 0 and 15 wrong of the 20 labels that both held out (p < 0.001)" in chosen.words[-1]
    assert (chosen.config.rounds, chosen.config.finetune_epochs) == ("1:0.01", 0), "stage 2 is the last"
    assert chosen.config.held_out == "none", "all labels are trained on"
    assert "first, part 1 of 5 held out: 3 -> 2 -> 2 of 4 wrong" in said[0]
    assert named_flags([f"--flagfile={choice.folder / 'recipe.cfg'}"])["backbone"] == FLAGS["backbone"]


def test_where_unlabeled_images_do_harm_the_labels_alone_decide(photos, tmp_path, monkeypatch):
    choice, _ = choosing_of(photos, tmp_path, [recipe("first")], monkeypatch, lambda name, part: (1, 2, 2))
    chosen = choice.chosen()
    assert (chosen.config.rounds, chosen.config.finetune_epochs) == ("", 0)
    assert "unlabeled images did not help" in chosen.words[1]


def test_a_recipe_that_is_far_behind_is_given_up_after_one_look(photos, tmp_path, monkeypatch):
    looked_at = []

    def wrong(name, part):
        looked_at.append((name, part))
        return (0, 0, 0) if name == "first" else (4, 0, 0)

    choice, said = choosing_of(photos, tmp_path, [recipe("first"), recipe("second")], monkeypatch, wrong)
    assert choice.chosen().words[0] == "Chosen: the first way"
    assert [part for name, part in looked_at if name == "second"] == [1]
    assert "second is given up: it is far behind first" in said[-1]


def test_what_the_minutes_do_not_allow_is_not_tried_and_that_is_said(photos, tmp_path, monkeypatch):
    recipes = [recipe("first"), recipe("second", seconds=3600)]
    choice, said = choosing_of(photos, tmp_path, recipes, monkeypatch, lambda name, part: (0, 0, 0), minutes=5.0)
    assert choice.chosen().words[0] == "Chosen: the first way"
    assert "second is not tried: a look and a run take about 2 h, more than are left (--minutes)" in said[-1]
    alone = [recipe("only", seconds=3600)]
    choice, said = choosing_of(photos, tmp_path, alone, monkeypatch, lambda name, part: (0, 0, 0), minutes=5.0)
    chosen = choice.chosen()
    assert chosen.config.held_out == "0.2", "a fifth of the labels judges"
    assert "too few labels or minutes" in chosen.words[0]


def test_where_minutes_are_too_few_for_whole_runs_stage_1_alone_compares_and_a_fifth_judges_the_rest(
    photos, tmp_path, monkeypatch
):
    # Of 600 seconds one run of 400 is left, and stage 1 of it on all parts; the machine is as fast as was reckoned.
    recipes = [recipe("first"), recipe("second", seconds=400, stage_1_seconds=10)]
    seconds = 10 + choosing._START
    for errors, expected in (((0, 0, 0), "second"), ((1, 0, 0), "first")):
        wrong = {"first": (2, 1, 1), "second": errors}
        choice, said = choosing_of(photos, tmp_path, recipes, monkeypatch, minutes=10.0)
        monkeypatch.setattr(choosing.FoldRuns, "fold", folds_of(lambda name, _, wrong=wrong: wrong[name], seconds=seconds))
        chosen = choice.chosen()
        assert chosen.words[0] == f"Chosen: the {expected} way"
        assert [line for line in said if "second" in line and "stage 1 alone" not in line] == []
        if expected == "second":
            assert (chosen.config.held_out, chosen.config.rounds, chosen.config.finetune_epochs) == ("0.2", "1:0.01", 1)
            assert any("its stage 1 alone was tried" in line for line in chosen.words)
            folder = folder_of(chosen.config)
            assert result.chosen_before(folder, 3) is None, "the labels that are held out of the run choose its stage"
            assert any("second against first: 0 and 5 wrong" in line for line in chosen.words)


@pytest.mark.parametrize("flags", [{"rounds": "", "finetune_epochs": "0"}, pytest.param({}, marks=pytest.mark.slow)])
def test_one_command_tries_trains_and_goes_on_where_it_was_stopped(photos, tmp_path, monkeypatch, capsys, flags):
    monkeypatch.setattr(choosing, "recipes_for", lambda facts: [recipe("first", **flags)])
    monkeypatch.setattr(choosing, "_PARTS", 2)
    whole = choosing.FoldRuns.fold

    def stopped(self, recipe, part, parts, *, stage_1_alone=False):
        if part == 2:
            raise RunInterrupted(2)
        return whole(self, recipe, part, parts, stage_1_alone=stage_1_alone)

    monkeypatch.setattr(choosing.FoldRuns, "fold", stopped)
    command = ["--dataset=folder", f"--data_dir={photos}", f"--run_dir={tmp_path / 'run'}"]
    assert train.main(command) == 130
    out, error = capsys.readouterr()
    assert "Your images: 12 labeled + 12 unlabeled, 9 to test on; 3 classes" in out
    assert "Labels: blue 4, green 4, red 4" in out
    assert "the same command goes on with what is not tried yet" in error
    [first] = (tmp_path / "run-choice").glob("first-1-of-2-*")
    assert {path.name for path in first.iterdir()} <= fold_runs._KEPT, "networks of trials are not kept"
    made = (first / "summary.json").stat().st_mtime_ns
    monkeypatch.setattr(choosing.FoldRuns, "fold", whole)
    assert train.main(command) == 0
    out = capsys.readouterr().out
    assert (first / "summary.json").stat().st_mtime_ns == made, "what was tried is not tried again"
    assert "Chosen: the first way" in out
    summary = run_directory.read_summary(tmp_path / "run")
    assert summary["num_labels"] == 12, "all labels are trained on"
    assert summary["result"]["why"].startswith("the network of stage ")
    record = json.loads((tmp_path / "run" / "choice.json").read_text())
    assert record["words"][:2] == ["Chosen: the first way", f"  first: {summary['result']['why']}"]
    assert record["tried"]["first"]["stage_1"]["of"] == 12, "each label was held out once"
    assert train.main(command) == 0
    assert "finished already" in capsys.readouterr().out
    assert train.main([*command, "--seed=1"]) == 2
    assert "--seed: 0 -> 1" in capsys.readouterr().err


def test_a_choice_is_taken_up_with_the_flags_of_today(tmp_path):
    config = Config(dataset="folder", data_dir="x", translate=0, run_dir=str(tmp_path / "run"), test_fraction=0.01)
    assert chosen_before(config, ["dataset"]) is None
    (tmp_path / "run-choice").mkdir()
    chosen = dataclasses.replace(config, supervised_epochs=7, test_fraction=0.2)
    (tmp_path / "run-choice" / "config.cfg").write_text(chosen.to_flagfile())
    before = chosen_before(config, ["dataset", "test_fraction"])
    assert (before.supervised_epochs, before.test_fraction, before.run_dir) == (7, 0.2, config.run_dir), "not begun yet"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.cfg").write_text(dataclasses.replace(chosen, supervised_epochs=8).to_flagfile())
    assert chosen_before(config, []).supervised_epochs == 8
    assert chosen_before(dataclasses.replace(config, checkpoint_minutes=1.0), ["checkpoint_minutes"]).checkpoint_minutes == 1
    assert chosen_before(dataclasses.replace(config, new_run=True), ["new_run"]) is None


def test_a_run_without_a_folder_of_its_own_is_found_again(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(choosing, "recipes_for", lambda facts: [recipe("first")])
    monkeypatch.setattr(choosing.FoldRuns, "fold", folds_of(lambda name, part: (0, 1, 1)))
    command = ["--dataset=folder", f"--data_dir={photos}"]
    began = []
    monkeypatch.setattr(train, "_run", lambda config, *_, **__: began.append(config.resolved_run_dir) or 0)
    assert [train.main(command), train.main(command)] == [0, 0]
    assert began[0] == began[1]
    assert capsys.readouterr().out.count("Chosen: ") == 1


def test_labels_that_are_too_few_to_be_held_out_are_all_trained_on(photos, tmp_path, monkeypatch):
    for folder in ("green", "red"):
        for path in sorted((photos / "train" / folder).iterdir())[1:]:
            path.unlink()
    choice, said = choosing_of(photos, tmp_path, [recipe("first")], monkeypatch)
    chosen = choice.chosen()
    assert (chosen.config.held_out, said) == ("none", [])
    assert "too few labels" in chosen.words[0]


def test_a_recipe_that_fails_is_left_out_unless_it_is_the_last(photos, tmp_path, monkeypatch):
    def wrong(name, part):
        if name == "first":
            raise ValueError("no memory")
        return (1, 0, 0)

    choice, said = choosing_of(photos, tmp_path, [recipe("first"), recipe("second")], monkeypatch, wrong)
    assert choice.chosen().words[0] == "Chosen: the second way"
    assert said[0] == "  first is left out: no memory"
    choice, _ = choosing_of(photos, tmp_path, [recipe("first")], monkeypatch, wrong)
    with pytest.raises(ValueError, match="no memory"):
        choice.chosen()


def test_a_folder_that_is_taken_is_told_before_anything_is_tried(photos, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    assert train.main(["--dataset=folder", f"--data_dir={photos}", f"--run_dir={tmp_path / 'mine'}"]) == 2
    assert "is not the folder of a run" in capsys.readouterr().err
    assert train.main(["--dataset=folder", f"--data_dir={photos}", "--strategy=multi_worker"]) == 2
    assert "choose in one process" in capsys.readouterr().err


def test_a_dry_run_tells_the_plan_and_writes_nothing(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(choosing, "recipes_for", lambda facts: [recipe("first", seconds=600)])
    assert train.main(["--dataset=folder", f"--data_dir={photos}", f"--run_dir={tmp_path / 'run'}", "--dry_run"]) == 0
    assert "the first way; a run takes about 10 min, reckoned and not tried" in capsys.readouterr().out
    assert not list(tmp_path.glob("run*"))
