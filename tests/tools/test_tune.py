import contextlib
import csv
import dataclasses
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import keras_tuner
import numpy as np
import pytest
from conftest import LIGHT, ROOT, SHORT, SUMMARY, unpadded
from own_photographs import COLORS, colored_folder, write_csv
from test_evaluate_on import broken_test_set

from r2d2_tf import train
from r2d2_tf.config.command_line import from_command_line
from r2d2_tf.config.config import Config
from r2d2_tf.data.datasets import DATASETS
from r2d2_tf.data.image_data import UNLABELED
from r2d2_tf.method.schedules import Round, parse_rounds
from r2d2_tf.runs import run_labels
from r2d2_tf.runs.dataset import spec_of
from r2d2_tf.runs.run_directory import load_config
from tools.tune import __main__ as tune
from tools.tune import options, search, search_report, trials, tuner
from tools.tune.records import Record, Records, best_of
from tools.tune.search_picture import draw
from tools.tune.search_report import Reporter, best_config
from tools.tune.space import BETA_TO_ALPHA, configured, parse_dimension, searchable, shortened, space_of, total_epochs
from tools.tune.validation import check_apart, hold_out, make_folds

RANGES = ("--alpha=0.05:0.5", "--beta=0.005:0.1")
OWN = {"alpha": 0.1, "beta": 0.03}


@pytest.fixture(autouse=True)
def undrawn_trials(monkeypatch):
    """The picture of a search's trials stays empty, but where it is looked at: to draw it takes longer than the search."""
    monkeypatch.setattr(search_report, "draw", lambda *_, path, **options: path.touch())


def space(*texts, config=None):
    texts = texts or ("alpha=0.05:0.5", "beta=0.005:0.1")
    return space_of(config or Config(), [parse_dimension(*text.split("=")) for text in texts])


# What can be proposed.


def test_every_position_is_a_setting_within_its_ranges_with_beta_below_alpha():
    generator, tried = np.random.default_rng(0), 0
    for _ in range(600):
        a, b, c, d = (float(f"{end:.3g}") for end in 10 ** generator.uniform(-3, 0, 4))
        (a, b), (c, d) = sorted((a, b)), sorted((c, d))
        if a == b or c == d or c > BETA_TO_ALPHA * b:
            continue
        scales = generator.choice(["", ":log", ":linear"], 2)
        drawn = space(f"alpha={a}:{b}{scales[0]}", f"beta={c}:{d}{scales[1]}")
        for corner in (None, 0.0, 1.0):
            positions = generator.random(2) if corner is None else (corner, generator.choice([0.0, 1.0]))
            setting = drawn.setting(dict(zip(("alpha", "beta"), positions, strict=True)))
            assert c <= setting["beta"] <= d
            assert a <= setting["alpha"] <= b
            assert setting["beta"] < setting["alpha"]
            assert configured(Config(), setting).alpha == setting["alpha"]
        assert all(point["beta"] < point["alpha"] for point in drawn.grid(4))
        tried += 1
    assert tried > 200


def test_the_configs_own_setting_is_at_its_position_exactly():
    own = Config(alpha=0.123456789, beta=0.0123456789)
    tried = space("alpha=0.05:0.5", "beta=0.005:0.1", "momentum=0.5:0.95", config=own)
    assert tried.setting(tried.own_positions()) == {"alpha": 0.123456789, "beta": 0.0123456789, "momentum": 0.9}
    assert not space("alpha=0.2:0.5").holds_own


def test_ranges_are_cut_to_where_a_pair_is_valid():
    assert [d.low for d in space("alpha=0.001:0.5", "beta=0.01:0.1").dimensions] == pytest.approx([0.0101, 0.01], rel=1e-3)
    assert space("beta=0.01:0.5").dimensions[0].high == pytest.approx(0.099)
    assert space("alpha=0.01:0.5").dimensions[0].low == pytest.approx(0.0303, rel=1e-3)
    assert space("alpha=0.02,0.05,0.1", "beta=0.03,0.04").grid(2) == [
        {"alpha": 0.1, "beta": 0.03},
        {"alpha": 0.05, "beta": 0.03},
        {"alpha": 0.05, "beta": 0.04},
        {"alpha": 0.1, "beta": 0.04},
    ]


def test_scales_are_logarithmic_over_a_factor_of_ten_unless_said():
    assert [parse_dimension("alpha", text).is_log for text in ("0.05:0.5", "0.1:0.5", "0.05:0.5:linear", "0.1:0.5:log")] == [
        True,
        False,
        False,
        True,
    ]
    assert parse_dimension("weight_decay", "1e-5:1e-3").value(0.5) == 1e-4
    assert parse_dimension("finetune_epochs", "1:9").value(0.5) == 5


def test_any_number_of_a_run_can_be_searched_and_a_factor_on_the_rates_of_the_rounds():
    config = configured(Config(rounds="2:0.1,1:0.05"), {"rounds_rate_factor": 0.5, "pseudo_label_lr": 16000.0})
    assert (config.rounds, config.pseudo_label_lr) == ("2:0.05,1:0.025", 16000.0)
    assert {"weight_decay", "finetune_epochs", "rounds_rate_factor"} <= set(searchable())
    assert not {"seed", "num_labels", "repredict", "eval_batch_size"} & set(searchable())


BAD = {
    "nothing searched": ([], "say what to search: --alpha=0.05:0.5"),
    "no valid pair": (["--alpha=0.01:0.05", "--beta=0.06:0.1"], "no beta from 0.06 on is below an alpha of at most 0.05"),
    "no number": (["--alpha=a:b"], "alpha (a:b): a, b are no numbers; write --search=alpha=low:high"),
    "falling": (["--alpha=0.5:0.1"], "alpha (0.5:0.1) is no range of rising values"),
    "one value is the run's own": (["--alpha=0.2"], "say what to search"),
    "log from 0": (["--search=momentum=0:0.9:log"], "begins at 0, which has no logarithm"),
    "unknown scale": (["--alpha=0.1:0.5:cubic"], "is no range of rising values"),
    "unknown flag to search": (["--search=alhpa=0.1:0.5"], "alhpa cannot be searched: among "),
    "search without range": (["--search=alpha"], "write --search=FLAG=low:high"),
    "searched twice": (["--alpha=0.05:0.5", "--search=alpha=0.1:0.2"], "alpha is searched twice"),
    "out of range": (["--search=momentum=0.5:2"], "momentum (2.0) must be below 1.0"),
    "multiples only": (["--search=batch_size=16:64"], "batch_size (16:64) is searched among choices alone"),
    "unknown flag": ([*RANGES, "--alhpa=1"], "did you mean --alpha?"),
    "unknown tuner": ([*RANGES, "--tuner=annealing"], "tuner"),
    "no trials": ([*RANGES, "--trials=0"], "trials"),
    "run's folder": ([*RANGES, "--run_dir=x"], "--run_dir does not go with a search: a search has many runs"),
    "another run's network": ([*RANGES, "--warm_start=x"], "--warm_start does not go with a search: its network was"),
    "no stage 2": ([*RANGES, "--rounds=", "--finetune_epochs=0"], "rounds is empty"),
    "its own test set": ([*RANGES, "--validation_dataset=mnist5k"], "nothing is chosen by its test images"),
    "other images": ([*RANGES, "--validation_dataset=cifar10"], "must have the image size and the number of classes"),
    "no data set": ([*RANGES, "--validation_dataset=mnits"], "validation_dataset (mnits) must be one of mnist5k, "),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line(arguments, message, capsys):
    assert tune.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_mistake_is_told_without_tensorflow():
    program = (
        "import sys; from tools.tune.__main__ import main; code = main(['--alpha=2:1']); "
        "assert 'keras' not in sys.modules; sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr


def test_half_of_keras_tuners_variables_are_refused():
    with pytest.raises(ValueError, match="KERASTUNER_TUNER_ID, KERASTUNER_ORACLE_IP is set, but KERASTUNER_ORACLE_PORT is not"):
        options.read(RANGES, {"KERASTUNER_TUNER_ID": "chief", "KERASTUNER_ORACLE_IP": "127.0.0.1"})


# The oracles.


def error_of(setting):
    """A made-up error; half of the settings fail."""
    return None if setting["alpha"] > 0.15 else 100 * abs(setting["alpha"] - 0.08) + 100 * abs(setting["beta"] - 0.02)


def asked(name, tried, count=None, seed=0):
    values = {"tuner": name, "space": tried, "trials": count, "search_seed": seed, "config": Config(rounds="9:0.1")}
    return dataclasses.replace(options.read(RANGES), **values)


def make(name, tried, count=None, seed=0):
    return tuner.make_oracle(asked(name, tried, count, seed))


def propose(oracle, folder, count, tuner_id="one"):
    """Ends up to `count` trials with made-up errors; returns their settings."""
    oracle._set_project_dir(str(folder), "search")
    found = []
    for _ in range(count):
        trial = oracle.create_trial(tuner_id)
        if trial.status == "STOPPED":
            break
        setting = oracle.setting_of(trial.hyperparameters.values)
        found.append(setting)
        error = error_of(setting)
        oracle.update_trial(trial.trial_id, {"error": 90.0 if error is None else error})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    return found


COUNTS = {"random": 12, "bayesian": 7, "hyperband": 40, "grid": 40}
"""The seventh is the first that the Gaussian process proposes; the eighth would take it seconds."""


@pytest.mark.parametrize("name", options.TUNERS)
def test_no_oracle_proposes_an_invalid_pair_and_the_configs_own_setting_comes_first(name, tmp_path):
    found = propose(make(name, space(), COUNTS[name]), tmp_path, COUNTS[name])
    assert found[0] == OWN
    assert all(setting["beta"] < setting["alpha"] for setting in found)
    assert len({json.dumps(setting) for setting in found}) > 5
    if name == "grid":
        assert found == space().grid(4)


def test_neighboring_seeds_try_other_settings(tmp_path):
    tried = [propose(make("random", space(), 8, seed), tmp_path / str(seed), 8)[1:] for seed in range(4)]
    assert len({json.dumps(setting) for settings in tried for setting in settings}) == 28


@pytest.mark.parametrize("name", options.TUNERS)
def test_a_search_that_is_reloaded_at_any_time_goes_on_as_it_would_have(name, tmp_path):
    undisturbed = propose(make(name, space(), COUNTS[name]), tmp_path / "undisturbed", COUNTS[name])
    found, killed = [], min(7, COUNTS[name] - 1)
    while len(found) < len(undisturbed):
        oracle = make(name, space(), COUNTS[name])
        oracle._set_project_dir(str(tmp_path), "killed")
        if found:
            oracle.reload()
            assert not oracle.ongoing_trials
        oracle._set_project_dir = lambda *_: None
        found += propose(oracle, tmp_path, killed)
        # In flight when it is killed; it comes first afterwards.
        oracle.create_trial("one")
    assert found == undisturbed


def test_a_finished_trial_is_not_begun_again_and_one_that_was_not_noted_never_was(tmp_path):
    oracle = make("random", space(), 12)
    propose(oracle, tmp_path, 3)
    in_flight = oracle.create_trial("one").trial_id
    again = make("random", space(), 12)
    again._set_project_dir(str(tmp_path), "search")
    again.reload()
    assert again._retry_queue == [in_flight]
    assert [path.name for path in (tmp_path / "search").iterdir()] == ["oracle.json"]


def test_hyperband_promotes_though_most_trials_fail(tmp_path):
    tried = space("alpha=0.1:0.5", "beta=0.005:0.02")
    oracle = make("hyperband", tried)
    planned = tuner.planned_epochs(oracle, asked("hyperband", tried))
    propose(oracle, tmp_path, 100)
    lengths = [trial.hyperparameters.values["tuner/epochs"] for trial in oracle.trials.values()]
    assert sorted(lengths) == sorted(planned)
    assert max(lengths) == 9


def test_keras_tuner_still_has_the_private_names_that_are_used():
    base, hyperband = keras_tuner.Oracle, keras_tuner.oracles.HyperbandOracle
    for name in ("_compute_values_hash", "_save_trial", "_get_oracle_fname"):
        assert callable(getattr(base, name)), name
    for name in ("_get_num_brackets", "_get_size", "_get_epochs"):
        assert callable(getattr(hyperband, name)), name
    assert {"_retry_queue", "ongoing_trials"} <= set(vars(base(objective=tuner._OBJECTIVE)))
    assert "_random_state" in vars(keras_tuner.oracles.BayesianOptimizationOracle(objective=tuner._OBJECTIVE))


# Budgets.


@pytest.mark.parametrize(
    ("rounds", "epochs", "lengths"),
    [
        ("8:0.1,8:0.1,8:0.1,8:0.1", 12, [3, 3, 3, 3]),
        ("8:0.1,8:0.1,8:0.1,8:0.1", 6, [2, 2, 1, 1]),
        ("300:0.12,75:0.12,75:0.08,75:0.04,75:0.004", 8, [4, 1, 1, 1, 1]),
        ("300:0.12,75:0.12,75:0.08,75:0.04,75:0.004", 5, [1, 1, 1, 1, 1]),
        ("300:0.12,75:0.12,75:0.08,75:0.04,75:0.004", 2, [1, 1]),
        ("1:0.1", 1, [1]),
    ],
)
def test_a_budget_is_shared_among_the_rounds_in_proportion(rounds, epochs, lengths):
    parsed = parse_rounds(rounds)
    assert shortened(parsed, epochs) == tuple(Round(n, r.learning_rate) for n, r in zip(lengths, parsed, strict=False))


def test_every_budget_is_used_up_and_the_full_one_changes_nothing():
    rounds = parse_rounds("7:0.1,3:0.2,5:0.3")
    assert all(total_epochs(shortened(rounds, epochs)) == epochs for epochs in range(1, 16))
    assert shortened(rounds, 15) == rounds


def test_stage_3_is_shortened_in_the_same_proportion():
    config = Config(rounds="8:0.1,8:0.1", finetune_epochs=10, finetune_cosine_epochs=12)
    half = configured(config, {}, stage_2_epochs=8)
    assert (half.rounds, half.finetune_epochs, half.finetune_cosine_epochs) == ("4:0.1,4:0.1", 5, 6)
    assert configured(config, {}, stage_2_epochs=16) == configured(config, {}) == config


# What judges.


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_every_labeled_image_is_held_out_exactly_once_and_folds_are_stratified(folds):
    labels = np.repeat(np.arange(10), [10, 10, 10, 12, 10, 10, 8, 10, 10, 10])
    held_out = hold_out(labels, folds, seed=0)
    np.testing.assert_array_equal(np.sort(np.concatenate(held_out)), np.arange(100))
    counts = np.array([np.bincount(labels[part], minlength=10) for part in held_out])
    assert (np.ptp(counts, axis=0) <= 1).all()
    again, other = hold_out(labels, folds, seed=0), hold_out(labels, folds, seed=1)
    assert all(np.array_equal(*pair) for pair in zip(held_out, again, strict=True))
    assert not all(np.array_equal(*pair) for pair in zip(held_out, other, strict=True))


def test_the_number_of_folds_follows_from_the_number_of_labels():
    assert [len(part) for part in hold_out(np.arange(100) % 10, 0, seed=0)] == [50, 50]
    (part,) = hold_out(np.arange(1000) % 10, 0, seed=0)
    assert np.bincount(part % 10).tolist() == [20] * 10


def test_too_few_labels_to_part_are_told():
    with pytest.raises(ValueError, match=r"folds \(5\) need .* but one class has 4: give fewer --folds"):
        hold_out(np.arange(40) % 10, 5, seed=0)
    with pytest.raises(ValueError, match="but one class has 1"):
        hold_out(np.arange(10), 0, seed=0)


def test_a_held_out_image_is_an_unlabeled_one_in_training_and_judges(tmp_path):
    config, data = Config(), DATASETS["mnist5k"].load(None)
    own = run_labels.training_labels(data, config, 10)
    folds = make_folds(config, spec_of(config), tmp_path / "folds")
    hidden = []
    for fold in folds:
        given = run_labels.training_labels(data, fold.config, 10)
        changed = np.flatnonzero(given != own)
        assert (given[changed] == UNLABELED).all()
        assert len(changed) == fold.num_validation == 50
        loaded = run_labels.loaded(fold.config, DATASETS["mnist5k"])
        np.testing.assert_array_equal(loaded.test_images, data.train_images[changed])
        hidden += changed.tolist()
    assert sorted(hidden) == np.flatnonzero(own != UNLABELED).tolist()


def own_sets(path):
    """Flags of sets that bring their labels: all kinds, some labels each."""
    photos = colored_folder(path / "photos", labeled=4, unlabeled=3)
    colored_folder(path / "all", labeled=5, unlabeled=3, test=0, kinds=("jpg", "png"))
    known = DATASETS["mnist5k"].load(None)
    labels = np.where(np.arange(200) % 5, known.train_labels[::20], -1)
    np.savez(path / "own.npz", images=known.train_images[::20], labels=labels)
    drawn = np.flatnonzero(run_labels.training_labels(known, Config(), 10) != UNLABELED)
    wrong = (known.train_labels + 1) % 10
    labels = write_csv(path / "labels.csv", [(known.train_ids[row], wrong[row]) for row in drawn])
    names = [file.relative_to(path / "photos").as_posix() for file in sorted((path / "photos").rglob("*.*"))]
    soft = [
        [name, own, "test" if "_test_" in name else "train", *(0.8 if own == other else 0.1 for other in COLORS)]
        for name, own in ((name, next((c for c in COLORS if f"/{c}/" in name), "")) for name in names)
    ]
    header = ("file", "label", "split", *(f"probability_of_{name}" for name in COLORS))
    return {
        "a folder": {"dataset": "folder", "data_dir": str(photos)},
        "a fraction of a folder": {"dataset": "folder", "data_dir": str(path / "all"), "test_fraction": 0.2},
        "an .npz": {"dataset": "npz", "data_dir": str(path / "own.npz"), "test_fraction": 0.2},
        "a named set": {"labels": str(labels)},
        "soft labels": {
            "dataset": "folder",
            "data_dir": str(photos),
            "labels": str(write_csv(path / "soft.csv", soft, header=header)),
            "soft_labels": True,
        },
    }


@pytest.mark.parametrize("kind", ["a folder", "a fraction of a folder", "an .npz", "a named set", "soft labels"])
def test_labels_that_somebody_gave_are_held_out_as_drawn_ones_are_and_judge_as_they_were_given(kind, tmp_path):
    config = Config(num_labels=0, translate=0, **own_sets(tmp_path)[kind])
    data = spec_of(config).load(config.data_path)
    hidden = []
    for fold in make_folds(config, spec_of(config), tmp_path / "folds"):
        options.check_data(fold.config)
        spec = spec_of(fold.config)
        loaded = run_labels.loaded(fold.config, spec)
        assert (loaded.train_ids, loaded.class_names) == (data.train_ids, data.class_names)
        given = run_labels.training_labels(loaded, fold.config, spec.num_classes)
        changed = np.flatnonzero(given != data.given_labels)
        assert (given[changed] == UNLABELED).all()
        assert len(loaded.test_images) == len(changed) == fold.num_validation > 0
        assert fold.num_labels == (given != UNLABELED).sum()
        np.testing.assert_array_equal(loaded.test_labels, data.given_labels[changed])
        if isinstance(data.train_images, np.ndarray):
            np.testing.assert_array_equal(loaded.test_images, data.train_images[changed])
        else:
            lengths = [images.length for images in (loaded.test_images, data.train_images[changed])]
            np.testing.assert_array_equal(*lengths)
        if kind == "soft labels":
            still = given != UNLABELED
            np.testing.assert_array_equal(loaded.given_probabilities[still], data.given_probabilities[still])
        # The test images themselves are those that they were, wherever they are needed again.
        without = dataclasses.replace(fold.config, evaluate_on="")
        np.testing.assert_array_equal(spec_of(without).load(config.data_path).test_labels, data.test_labels)
        hidden += changed.tolist()
    assert sorted(hidden) == np.flatnonzero(data.given_labels != UNLABELED).tolist()


def test_a_search_does_not_go_on_with_other_labels_or_images(tmp_path):
    config = Config(num_labels=0, translate=0, **own_sets(tmp_path)["a folder"])
    make_folds(config, spec_of(config), tmp_path / "folds")
    make_folds(config, spec_of(config), tmp_path / "folds")
    photos = tmp_path / "photos"
    (photos / "unlabeled" / "00.jpg").rename(photos / "train" / "blue" / "new.jpg")
    with pytest.raises(ValueError, match=r"the images or the labels changed since the search in .* began: choose another"):
        make_folds(config, spec_of(config), tmp_path / "folds")


def test_a_trial_on_a_folder_trains_and_its_error_is_that_on_held_out_images(tmp_path):
    config = Config(
        num_labels=0, translate=0, **own_sets(tmp_path)["a fraction of a folder"], image_size=16,
        backbone="small_network:strided", supervised_epochs=1, rounds="1:0.01", batch_size=8, finetune_epochs=0,
        stop_on_collapse=False, image_copy="memory",
    )  # fmt: skip
    fold = make_folds(config, spec_of(config), tmp_path / "folds")[0]
    flagfile = tmp_path / "trial.cfg"
    flagfile.write_text(fold.config.to_flagfile())
    assert train.main([f"--flagfile={flagfile}", f"--run_dir={tmp_path / 'run'}"]) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["num_test"], summary["evaluate_on"]) == (fold.num_validation, fold.config.evaluate_on)
    assert summary["num_labels"] + fold.num_validation == 12


def test_another_set_does_not_judge_somebodys_own(tmp_path, capsys):
    flags = [f"--{name}={value}" for name, value in own_sets(tmp_path)["a folder"].items()]
    assert tune.main([*flags, "--translate=0", *RANGES, "--validation_dataset=cifar10"]) == 2
    assert "goes with named data sets, not with folder: leave it out" in capsys.readouterr().err


def test_a_set_that_holds_test_images_cannot_judge():
    data = DATASETS["mnist5k"].load(None)
    leaking = dataclasses.replace(data, test_images=np.concatenate([data.train_images[:9], data.test_images[:3]]))
    with pytest.raises(
        ValueError, match=r"validation_dataset \(mnist5k_dev\): 3 of its test images are test images of mnist5k"
    ):
        check_apart(data, leaking, "mnist5k", "mnist5k_dev")
    check_apart(data, dataclasses.replace(data, test_images=data.train_images[:9]), "mnist5k", "mnist5k_dev")


# The whole, with a pretended training.


@pytest.fixture
def pretend(tmp_path, monkeypatch):
    """Stands in for the processes; returns the jobs. The error is error_of; where there is none, the run stops."""
    monkeypatch.chdir(tmp_path)
    done = []

    def run(given, at_once, **_):
        codes = []
        for job in given:
            done.append(job)
            job.command()
            job.folder.mkdir(parents=True, exist_ok=True)
            (job.folder / "config.cfg").write_text(job.config.to_flagfile())
            (job.folder / "backbone.keras").write_text("a network")
            error = error_of({"alpha": job.config.alpha, "beta": job.config.beta})
            if job.config.rounds and error is None:
                job.log.write_text("\nerror: stage 2, epoch 3: the predictions collapsed; lower a rate\n")
                return [*codes, train.STOPPED, *[None] * (len(given) - len(codes) - 1)]
            errors = {"stage_1": 20.0, "stage_3": (error or 0.0) + ("fold_1" in job.folder.name)}
            summary = SUMMARY | {"test_error_percent": errors}
            (job.folder / "summary.json").write_text(json.dumps(summary))
            codes.append(0)
        return codes

    monkeypatch.setattr(trials, "run_jobs", run)
    return done


def trials_of(jobs_done):
    return [job.config for job in jobs_done if job.config.rounds]


def test_a_search_prints_a_line_a_trial_and_leaves_table_picture_and_a_flagfile_of_the_best(
    pretend, capsys, tmp_path, monkeypatch
):
    monkeypatch.setattr(search_report, "draw", draw)
    arguments = ["--flagfile=configs/mnist5k.cfg", *RANGES, "--trials=6", "--output_dir=out"]
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    assert tune.main(arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.split("time left\n")[1].splitlines()
    assert [int(line[:5]) for line in lines[:6]] == list(range(6))
    assert "3.50 +- 0.71 %" in lines[0]
    assert any("failed" in line and "fold 0: stage 2, epoch 3: the predictions collapsed" in line for line in lines[:6])
    with Path("out/trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    best = min((row for row in rows if row["error"]), key=lambda row: float(row["error"]))
    found = from_command_line(["--flagfile=out/best.cfg"])
    base = from_command_line(["--flagfile=configs/mnist5k.cfg"])
    expected = dataclasses.replace(base, alpha=float(best["alpha"]), beta=float(best["beta"]), name="mnist5k_tuned")
    assert found == expected
    assert "# Trial " in Path("out/best.cfg").read_text()
    assert Path("out/trials.png").stat().st_size > 10_000
    assert "| - | - |" in unpadded(Path("out/trials.md").read_text())
    assert "-m r2d2_tf.train --flagfile=out/best.cfg" in out
    assert not list(Path("out/trials").rglob("backbone.keras"))


def test_finished_trials_are_not_made_again_and_more_may_be_asked_for(pretend):
    arguments = [*SHORT, *RANGES, "--output_dir=out"]
    tune.main([*arguments, "--trials=3"])
    first = len(trials_of(pretend))
    tune.main([*arguments, "--trials=3"])
    assert len(trials_of(pretend)) == first
    tune.main([*arguments, "--trials=4"])
    assert [record.number for record in Records(Path("out/trials")).all()] == [0, 1, 2, 3]
    assert len({job.folder for job in pretend}) == len(pretend)


def test_a_folder_made_by_other_flags_is_refused_with_those_named(pretend, capsys):
    tune.main([*SHORT, *RANGES, "--trials=2", "--output_dir=out"])
    capsys.readouterr()
    others = ["--trials=2", "--output_dir=out", "--momentum=0.8", "--search_seed=1", "--alpha=0.05:0.4", RANGES[1]]
    assert tune.main([*SHORT, *others]) == 2
    error = capsys.readouterr().err
    assert "--momentum: 0.9 -> 0.8; " in error
    assert "--search_seed: 0 -> 1; --search: ['alpha from 0.05 to 0.5 (log)'" in error
    (Path("mine") / "photos").mkdir(parents=True)
    assert tune.main([*SHORT, *RANGES, "--output_dir=mine"]) == 2
    assert "is not the folder of a search" in capsys.readouterr().err


def test_stage_1_is_made_once_a_fold_unless_what_is_searched_changes_it(pretend):
    tune.main([*SHORT, *RANGES, "--trials=3", "--output_dir=shared"])
    assert sum(not job.config.rounds for job in pretend) == 2
    assert {config.stage_1_from.rsplit("/", 1)[-1][:6] for config in trials_of(pretend)} == {"fold_0", "fold_1"}
    pretend.clear()
    tune.main([*SHORT, "--search=weight_decay=1e-5:1e-3", "--trials=3", "--output_dir=own"])
    assert sum(not job.config.rounds for job in pretend) == 6


def test_a_validation_set_judges_runs_that_are_trained_with_all_labels(pretend, monkeypatch):
    data = DATASETS["mnist5k"].load(None)
    apart = dataclasses.replace(data, test_images=data.train_images[-20:], test_labels=data.train_labels[-20:])
    monkeypatch.setitem(DATASETS, "mnist5k_dev", dataclasses.replace(DATASETS["mnist5k"], load=lambda data_dir: apart))
    assert tune.main([*SHORT, *RANGES, "--trials=2", "--validation_dataset=mnist5k_dev", "--output_dir=out"]) == 0
    assert {(c.num_labels, c.evaluate_on, c.split_file) for c in trials_of(pretend)} == {(100, "mnist5k_dev", "")}


def test_hyperband_shortens_runs_and_the_best_is_of_the_longest(pretend, capsys):
    flags = [*SHORT, "--rounds=6:0.01,3:0.01", "--finetune_epochs=3", "--alpha=0.05:0.2", RANGES[1], "--tuner=hyperband"]
    assert tune.main([*flags, "--output_dir=out"]) == 0
    assert {config.rounds for config in trials_of(pretend)} == {"1:0.01", "2:0.01,1:0.01", "6:0.01,3:0.01"}
    records = Records(Path("out/trials")).all()
    assert best_of(records).epochs == 9
    assert from_command_line(["--flagfile=out/best.cfg"]).rounds == "6:0.01,3:0.01"
    assert "trials of 1 to 9 epochs" in capsys.readouterr().out


def test_where_all_trials_fail_that_is_said(pretend, capsys):
    assert tune.main([*SHORT, "--alpha=0.3:0.5", "--trials=5", "--output_dir=out"]) == 1
    out, err = capsys.readouterr()
    assert "all trials failed: lower" in err
    assert out.count("| failed: ") == 5
    assert not Path("out/best.cfg").exists()


def test_a_run_that_fails_otherwise_ends_the_search_and_names_its_log(pretend, monkeypatch, capsys):
    monkeypatch.setattr(trials, "run_jobs", lambda given, at_once, **_: [1, None])
    assert tune.main([*SHORT, *RANGES, "--output_dir=out"]) == 1
    error = capsys.readouterr().err
    assert "ended with exit code 1: it said nothing (all it said: out/stage_1/fold_0-" in error
    assert error.count("\n") == 1


def test_a_second_search_in_the_same_folder_is_refused(pretend, capsys):
    arguments = [*SHORT, *RANGES, "--trials=1", "--output_dir=out"]
    with search._locked(options.read(arguments)):
        assert tune.main(arguments) == 2
    assert "is in use by a living process" in capsys.readouterr().err


# Pictures and flagfiles.


def record(number, setting, error):
    failed = "collapsed" if error is None else ""
    return Record(number, setting, 9, () if failed else (error, error + 1), (5, 5), failed, 1.0, "alone")


@pytest.mark.parametrize(
    "texts", [("alpha=0.05:0.5", "beta=0.005:0.1"), ("alpha=0.1:0.5",), ("momentum=0.5,0.9", "beta=0:0.05")]
)
@pytest.mark.parametrize("errors", [[5.0, 60.0, None], [None, None, None], []])
def test_a_picture_is_drawn_of_whatever_is_known(texts, errors, tmp_path):
    tried = space(*texts)
    known = [record(n, s, e) for n, (s, e) in enumerate(zip(tried.grid(3), errors, strict=False))]
    draw(tried, known, best_of(known), title="a title", path=tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 5000


def test_the_flagfile_has_the_rates_that_were_best_and_reads_back_as_they_were_tried(tmp_path):
    given = options.read(["--search=rounds_rate_factor=0.25:4", "--alpha=0.05:0.5", "--name=mine"])
    given = dataclasses.replace(given, command="a command\nof two lines")
    best = record(1, {"rounds_rate_factor": 0.5, "alpha": 0.2}, 3.0)
    reporter = Reporter(given, Records(tmp_path), [525], "images")
    (tmp_path / "best.cfg").write_text(reporter.flagfile([record(0, given.space.own, None), best], best))
    found = from_command_line([f"--flagfile={tmp_path / 'best.cfg'}"])
    assert found == best_config(given.config, best)
    assert (found.rounds.split(",")[0], found.alpha) == ("300:0.06", 0.2)


# Processes.


@pytest.fixture
def sleeping(monkeypatch):
    """Jobs that sleep as long as their names say, and end with the code that it says."""

    def command(job):
        seconds, code = job.folder.name.split("_")
        return [sys.executable, "-c", f"import sys, time; time.sleep({seconds}); sys.exit({code})"]

    monkeypatch.setattr(trials.Job, "command", command)
    return command


def test_when_a_run_fails_the_others_are_ended_early(sleeping, tmp_path):
    began = time.monotonic()
    codes = trials.run_jobs([trials.Job(Config(), tmp_path / name) for name in ("60_0", "0_3", "0_0")], 2)
    assert codes == [None, 3, None]
    assert time.monotonic() - began < 30


def test_as_many_runs_as_allowed_go_at_the_same_time(sleeping, tmp_path):
    looks = []
    made = [trials.Job(Config(), tmp_path / name) for name in ("0.5_0", "0.4_0", "0.3_0")]
    assert trials.run_jobs(made, 2, watch=lambda: looks.append(sum(job.log.exists() for job in made))) == [0, 0, 0]
    assert looks[0] == 2


# Real training.


@pytest.fixture
def in_process(monkeypatch):
    """Runs jobs in this process, one after another."""

    def run(given, at_once, **_):
        codes = []
        for job in given:
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                codes.append(train.main(job.command()[3:]))
            job.log.write_text(output.getvalue())
        return codes

    monkeypatch.setattr(trials, "run_jobs", run)


TINY = (*SHORT, "--rounds=1:0.01", "--max_steps=3", "--deterministic", "--folds=1", *RANGES)


def test_no_test_image_or_label_reaches_a_search(in_process, tmp_path, monkeypatch, capsys):
    found = []
    data = DATASETS["mnist5k"].load(None)
    for name in ("as_it_is", "broken"):
        if name == "broken":
            broken = dataclasses.replace(DATASETS["mnist5k"], load=lambda data_dir: broken_test_set(data))
            monkeypatch.setitem(DATASETS, "mnist5k", broken)
        folder = tmp_path / name
        assert tune.main([*TINY, LIGHT[-1], "--finetune_epochs=0", "--trials=1", f"--output_dir={folder}"]) == 0
        (only,) = Records(folder / "trials").all()
        assert only.sizes == (20,)
        metrics = (folder / "trials" / "0000" / "fold_0" / "metrics.csv").read_text().splitlines()
        found.append((only.errors, [line.rpartition(",")[0] for line in metrics]))
    assert found[0] == found[1]
    assert "epoch" not in capsys.readouterr().out


def command_of(folder, *more):
    return [sys.executable, "-m", "tools.tune", *TINY, "--trials=4", f"--output_dir={folder}", *more]


def wait_until(condition, seconds=300):
    for _ in range(10 * seconds):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it did not happen")


@pytest.mark.slow
@pytest.mark.parametrize("with_its_run", [False, True], ids=["the_search", "the_search_and_its_run"])
def test_a_search_that_is_killed_goes_on_and_ends_as_an_undisturbed_one(with_its_run, tmp_path):
    undisturbed = subprocess.run(command_of(tmp_path / "undisturbed"), cwd=ROOT, capture_output=True, text=True, check=True)
    folder = tmp_path / "killed"
    process = subprocess.Popen(command_of(folder), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until((folder / "trials" / "0001" / "fold_0" / "config.cfg").is_file)
    if with_its_run:
        run = (folder / "trials" / "0001" / "fold_0" / ".lock").read_text()
        os.kill(int(run.split()[-1]), signal.SIGKILL)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = (folder / "trials" / "0000.json").stat().st_mtime_ns
    resumed = subprocess.run(command_of(folder), cwd=ROOT, capture_output=True, text=True, check=True)
    assert (folder / "trials" / "0000.json").stat().st_mtime_ns == before
    assert "Going on: 1 of the trials done" in resumed.stdout
    assert undisturbed.stderr == resumed.stderr == ""
    outcomes = [
        [(one.number, one.setting, one.errors, one.failed) for one in Records(tmp_path / name / "trials").all()]
        for name in ("undisturbed", "killed")
    ]
    assert len(outcomes[0]) == 4
    assert outcomes[0] == outcomes[1]


@pytest.mark.slow
def test_a_chief_and_two_workers_share_a_search_and_its_stage_1(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    names = ("chief", "tuner0", "tuner1")
    environment = {"KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": str(port)}
    processes = [
        subprocess.Popen(
            command_of(tmp_path / "search"),
            cwd=ROOT,
            env=os.environ | environment | {"KERASTUNER_TUNER_ID": name},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in names
    ]
    outputs = [process.communicate(timeout=600) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    records = Records(tmp_path / "search" / "trials").all()
    assert [one.number for one in records] == [0, 1, 2, 3]
    assert {one.worker for one in records} == {"tuner0", "tuner1"}
    assert "| 0 | 0.1 | 0.03 |" in unpadded(outputs[0][0])
    assert all("no trial is left" in out.lower() for out, _ in outputs[1:])
    stage_1 = load_config(next((tmp_path / "search" / "stage_1").glob("fold_0-*/")))
    assert not stage_1.rounds
    (summary,) = (tmp_path / "search" / "stage_1").glob("*/summary.json")
    assert json.loads(summary.read_text())["resumes"] == 0
