"""The real command, on real digits, from flags to files."""

import contextlib
import csv
import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import LIGHT, ROOT, SHORT

from r2d2_tf import train
from r2d2_tf.config.command_line import from_command_line
from r2d2_tf.config.config import Config
from r2d2_tf.method.losses import CLASS_LOSSES
from r2d2_tf.method.model import R2D2Model
from r2d2_tf.runs import run_directory
from r2d2_tf.runs.dataset import spec_of
from r2d2_tf.training.callbacks.collapse import RunStopped
from r2d2_tf.training.experiment import Experiment
from r2d2_tf.training.pipeline import epoch_rows
from r2d2_tf.training.run import run
from tools.torture.exactness import differences


def command(*arguments, module="r2d2_tf.train", cwd=ROOT, env=None):
    line = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(line, capture_output=True, text=True, cwd=cwd, env=env, check=False)
    return done.returncode, done.stdout, done.stderr


def table_of(folder):
    with np.load(folder / "pseudo_labels.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def weights_of(folder, name="backbone.keras"):
    return keras.saving.load_model(folder / name, compile=False).get_weights()


def relative_difference(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(a)


def test_a_run_leaves_every_file_it_promises(untouched_run):
    summary = json.loads((untouched_run / "summary.json").read_text())
    for name in summary["files"]:
        assert (untouched_run / name).exists(), name
    seen = {path.name for path in untouched_run.iterdir() if not path.name.startswith(".")}
    assert seen == {name.rstrip("/") for name in summary["files"]}
    assert list((untouched_run / "tensorboard").iterdir())


def test_the_summary_tells_errors_times_versions_commit_seed_and_devices(finished_run):
    summary = json.loads((finished_run / "summary.json").read_text())
    assert list(summary["test_error_percent"]) == ["stage_1", "stage_2", "stage_3"]
    assert all(0 <= error <= 100 for error in summary["test_error_percent"].values())
    assert {"start", "stage_1", "stage_2", "stage_3", "total"} <= set(summary["seconds"])
    assert (summary["seed"], summary["devices"], summary["parameters"]) == (0, "1 replica on CPU", 431_080)
    assert "keras" in summary["versions"]
    assert "git_commit" in summary


def test_metrics_have_a_row_an_epoch_and_what_each_stage_can_measure(finished_run):
    with (finished_run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["run_epoch"], row["stage"], row["epoch"]) for row in rows] == [
        ("1", "1", "1"), ("2", "1", "2"), ("3", "1", "3"), ("4", "1", "4"), ("5", "2", "1"), ("6", "2", "2"), ("7", "3", "1")
    ]  # fmt: skip
    assert [(row["predicted"], bool(row["argmax_changes"])) for row in rows[3:]] == [
        ("0", False), ("1", False), ("1", True), ("0", False)
    ]  # fmt: skip
    assert [bool(row["pseudo_label_error"]) for row in rows] == [False] * 4 + [True] * 3
    for row in rows:
        assert sum(int(count) for count in row["predicted_classes"].split()) == {"1": 100, "2": 3888, "3": 3900}[row["stage"]]
        assert float(row["learning_rate"]) > 0
    for row in rows[4:6]:
        assert float(row["loss"]) == pytest.approx(0.1 * float(row["class_loss"]) + 0.03 * float(row["entropy"]), rel=1e-4)
        assert float(row["row_sum_drift"]) < 1e-4


def test_the_saved_table_holds_ids_labels_and_clamped_rows(finished_run):
    table = table_of(finished_run)
    labeled = table["given_labels"] >= 0
    assert table["pseudo_logits"].shape == (4000, 10)
    assert len(set(table["ids"])) == 4000
    assert np.bincount(table["given_labels"][labeled]).tolist() == [10] * 10
    np.testing.assert_array_equal(table["pseudo_logits"][labeled], 10 * np.eye(10)[table["given_labels"][labeled]])
    assert (table["pseudo_logits"][~labeled] != 0).all()


def test_the_saved_network_makes_the_summarys_test_error(finished_run):
    data = Experiment(from_command_line(SHORT)).data
    network = keras.saving.load_model(finished_run / "backbone.keras", compile=False)
    error = 100 * np.mean(np.asarray(network(data.test_images)).argmax(1) != data.test_labels)
    summary = json.loads((finished_run / "summary.json").read_text())
    assert error == pytest.approx(summary["test_error_percent"]["stage_3"])


def test_the_same_command_shows_the_result_and_does_not_train_again(finished_run, capsys):
    before = (finished_run / "summary.json").stat().st_mtime_ns
    assert train.main([*SHORT, f"--run_dir={finished_run}"]) == 0
    assert "finished already" in capsys.readouterr().out
    assert (finished_run / "summary.json").stat().st_mtime_ns == before


def test_the_written_config_is_the_same_run(finished_run, capsys):
    assert train.main([f"--flagfile={finished_run / 'config.cfg'}", f"--run_dir={finished_run}"]) == 0
    assert "finished already" in capsys.readouterr().out


FEW_STEPS = (LIGHT[-1], "--batch_size=400", "--finetune_batch_size=666")


@pytest.mark.parametrize(
    ("seed", "shape"),
    [(0, FEW_STEPS), *(pytest.param(seed, ["--backbone=lenet"], marks=pytest.mark.slow) for seed in range(3))],
    ids=["0_light", "0_lenet", "1_lenet", "2_lenet"],
)
def test_one_and_two_replicas_make_the_same_table_and_weights(seed, shape, tmp_path):
    # 100 labeled images in batches of 33 and 4,000 in batches of 96 (666) end in short batches: of 1 image (one replica gets
    # none) and of 64 (4). Small rates: in a network with max pooling, rounding soon grows at large ones (docs/training.md).
    flags = ["--supervised_epochs=1", "--rounds=1:0.001", "--finetune_epochs=1", "--supervised_batch_size=33"]
    rates = ["--supervised_learning_rate=0.005", "--finetune_learning_rate=0.0005", *shape, f"--seed={seed}"]
    for name, strategy in (("one", ["--strategy=none"]), ("two", ["--strategy=mirrored", "--num_logical_cpus=2"])):
        run(from_command_line([*SHORT, *flags, *rates, *strategy, f"--run_dir={tmp_path / name}"]))
    one, two = (np.concatenate([w.ravel() for w in weights_of(tmp_path / name)]) for name in ("one", "two"))
    assert relative_difference(one, two) < 1e-5
    assert relative_difference(*(table_of(tmp_path / name)["pseudo_logits"] for name in ("one", "two"))) < 1e-5
    start = Experiment(from_command_line([*SHORT, *shape, f"--seed={seed}"])).model.backbone.get_weights()
    for before, after in zip(start, weights_of(tmp_path / "one"), strict=True):
        assert relative_difference(after, before) > 1e-2, "it did not train"
    assert "2 replicas on CPU:0, CPU:1" in (tmp_path / "two" / "summary.json").read_text()


def results_of(tmp_path, flags=(), change=lambda data, table: None):
    """Table and weights of a short run whose data may be changed after the split was drawn."""
    experiment = Experiment(from_command_line([*LIGHT, "--deterministic", *flags, f"--run_dir={tmp_path / 'run'}"]))
    experiment.data = experiment.learners.data = change(experiment.data, experiment.table) or experiment.data
    with contextlib.redirect_stdout(io.StringIO()), run_directory.claimed(experiment.config) as folder:
        experiment.run(folder, 0.0)
    return np.concatenate([logits for _, logits in experiment.table.walk()]), experiment.model.backbone.get_weights()


def test_hidden_and_test_labels_change_nothing_that_is_learned(light_run, tmp_path):
    def scramble(data, table):
        data.train_labels[table.unlabeled_rows] = (data.train_labels[table.unlabeled_rows] + 3) % 10
        data.test_labels[:] = (data.test_labels + 3) % 10

    scrambled_table, scrambled_weights = results_of(tmp_path, change=scramble)
    np.testing.assert_array_equal(table_of(light_run)["pseudo_logits"], scrambled_table)
    for one, two in zip(weights_of(light_run), scrambled_weights, strict=True):
        np.testing.assert_array_equal(one, two)


def test_stage_1_never_reads_an_unlabeled_image(light_run, tmp_path):
    def paint_over(data, table):
        images = np.array(data.train_images)
        images[table.unlabeled_rows] = 255 - images[table.unlabeled_rows]
        return dataclasses.replace(data, train_images=images)

    painted_table, _ = results_of(tmp_path, ["--finetune_epochs=0"], change=paint_over)
    after_stage_1 = (weights_of(folder, "stage_1.keras") for folder in (light_run, tmp_path / "run"))
    for one, two in zip(*after_stage_1, strict=True):
        np.testing.assert_array_equal(one, two)
    assert (painted_table != table_of(light_run)["pseudo_logits"]).any(), "stage 2 does read them"


def test_flags_reach_what_they_name():
    flags = ["--alpha=0.2", "--beta=0.05", "--pseudo_label_lr=123", "--weight_decay=0.5", "--class_loss=forward_kl"]
    experiment = Experiment(from_command_line([*flags, "--label_logit=7", "--num_labels=50", "--translate=3"]))
    model = experiment.model
    assert (model.alpha, model.beta, model.pseudo_label_lr) == (0.2, 0.05, 123.0)
    assert [stage.weight_decay for stage in experiment.stages] == [0.5, 0.5, 0.5]
    assert model.class_loss is CLASS_LOSSES["forward_kl"]
    assert len(experiment.table.labeled_rows) == 50
    assert np.concatenate([logits for _, logits in experiment.table.walk()]).max() == 7
    assert [stage.images.augmentation.translate for stage in experiment.stages] == [3, 3, 3]
    other = Experiment(from_command_line([*flags, "--num_labels=50", "--seed=1"]))
    assert set(experiment.table.labeled_rows) != set(other.table.labeled_rows)


def test_each_stage_has_a_fresh_nesterov_optimizer_and_the_seed_of_the_run(tmp_path, monkeypatch):
    seen = []
    fit = R2D2Model.fit

    def watch(self, batches, **arguments):
        seen.append((self.optimizer, [np.abs(v.numpy()).max() for v in self.optimizer.variables if "momentum" in v.path]))
        return fit(self, batches, **arguments)

    monkeypatch.setattr(R2D2Model, "fit", watch)
    orders = []
    monkeypatch.setattr(
        "r2d2_tf.training.pipeline.epoch_rows", lambda *a, **k: orders.append((a[0].number, k["seed"])) or epoch_rows(*a, **k)
    )
    results_of(tmp_path, ["--momentum=0.8", "--seed=5", "--rounds=1:0.01,1:0.01"])
    optimizers = [optimizer for optimizer, _ in seen]
    assert len({id(optimizer) for optimizer in optimizers}) == 3, "one through both rounds of stage 2"
    assert all((optimizer.momentum, optimizer.nesterov) == (0.8, True) for optimizer in optimizers)
    assert [max(momenta) for _, momenta in seen] == [0, 0, 0]
    assert set(orders) == {(1, 5), (2, 5), (3, 5)}


def commanded_in(folder, *flags):
    """What a run by a process of its own printed."""
    code, out, err = command(*flags, f"--run_dir={folder}", env=os.environ | {"PYTHONPATH": str(ROOT / "tests")})
    assert code == 0, out + err
    return out, err


@pytest.fixture(scope="module")
def commanded(tmp_path_factory):
    """The folder of `light_run`'s run in a process of its own, and what it printed."""
    folder = tmp_path_factory.mktemp("commanded") / "run"
    return folder, *commanded_in(folder, *LIGHT, "--deterministic")


def test_the_same_command_twice_is_bit_identical_with_deterministic(commanded, light_run):
    # Once in a fresh process and once in one of tests, which has run others.
    assert differences(commanded[0], light_run) == []


@pytest.mark.slow
def test_so_it_is_with_a_network_of_several_layers(tmp_path):
    flags = (*SHORT, "--deterministic", "--supervised_epochs=1", "--max_steps=5")
    commanded_in(tmp_path / "fresh", *flags)
    assert train.main([*flags, f"--run_dir={tmp_path / 'here'}"]) == 0
    assert differences(tmp_path / "fresh", tmp_path / "here") == []


def test_the_command_prints_plan_epochs_and_result_and_no_warning(commanded):
    *_, out, err = commanded
    assert err == ""
    for part in ("100 labeled", "Stage 2 of 3: D2 and R2", "1/2", "Errors of", " -m export --run_dir="):
        assert part in out


def test_stage_3_leaves_the_table_alone_and_a_last_prediction_replaces_it(light_run, tmp_path):
    table = table_of(light_run)["pseudo_logits"]
    assert from_command_line(LIGHT).finetune_from == "table"
    same_stage_1 = f"--stage_1_from={light_run}"
    two_stages, _ = results_of(tmp_path / "two_stages", [same_stage_1, "--finetune_epochs=0"])
    prediction, _ = results_of(tmp_path / "prediction", [same_stage_1, "--finetune_from=prediction"])
    np.testing.assert_array_equal(two_stages, table)
    assert (prediction != table).any()


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--supervised_learning_rate=1e30"], ["stage 1 (supervised), epoch ", " of 4, step ", "--supervised_learning_rate"]),
        (["--rounds=1:1e30"], ["stage 2 (D2), epoch 1 of 1, step ", "--rounds"]),
        (
            # In one step, so that the evaluation after it finds it.
            [
                *("--supervised_epochs=1", "--supervised_weight_decay=0", "--rounds=", "--finetune_from=prediction"),
                *("--finetune_batch_size=4000", "--finetune_learning_rate=1e20", "--weight_decay=1e20"),
            ],
            ["stage 3 (fine-tuning), epoch 1 of 1, step 1", "--finetune_learning_rate"],
        ),
    ],
)
def test_numbers_that_are_not_finite_stop_the_run_naming_stage_epoch_step_and_flag(flags, parts, tmp_path, capsys):
    folder = tmp_path / "run"
    assert train.main([*LIGHT, *flags, f"--run_dir={folder}"]) == train.STOPPED
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    for part in ("is not finite (NaN or infinite) at learning rate", *parts):
        assert part in error
    assert not (folder / "summary.json").exists()


def test_collapsed_predictions_stop_the_run_naming_stage_epoch_step_and_flag(tmp_path):
    # A network that learned next to nothing puts most images into one class.
    flags = [*SHORT, "--supervised_epochs=1", "--stop_on_collapse", f"--run_dir={tmp_path / 'run'}"]
    with pytest.raises(
        RunStopped, match=r"stage 2 \(D2 and R2\), epoch 1 of 2, step 0: the predictions collapsed.*fall into class"
    ):
        run(from_command_line([*flags, "--supervised_learning_rate=1e-6"]))


BAD = {
    "unknown flag": ["--alhpa=0.1"],
    "flagfile line without dashes": ["--flagfile=bad.cfg"],
    "missing flagfile": ["--flagfile=nowhere.cfg"],
    "beta at alpha": ["--beta=0.1"],
    "too many labels": ["--num_labels=5000"],
    "too few labels": ["--num_labels=5"],
    "unknown dataset": ["--dataset=mnist"],
    "unknown backbone": ["--backbone=lenett"],
    "unknown loss": ["--class_loss=kl"],
    "empty rounds": ["--rounds="],
    "malformed rounds": ["--rounds=8"],
    "batch smaller than replicas": ["--finetune_batch_size=1", "--strategy=mirrored", "--num_logical_cpus=2"],
    "run_dir of another run": ["--run_dir=other", "--alpha=0.2"],
    "run_dir that is no run": ["--run_dir=mine"],
    "missing data": ["--dataset=mnist5k_dev"],
    "split file with an unknown id": ["--split_file=unknown.txt"],
    "split file with a doubled id": ["--split_file=doubled.txt"],
    "more unlabeled images a batch than there are": ["--num_labels=3990"],
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_writes_nothing(name, tmp_path, finished_run, monkeypatch, capfd):
    arguments = BAD[name]
    (tmp_path / "bad.cfg").write_text("--beta=0.01\nalpha=0.1\n")
    (tmp_path / "unknown.txt").write_text("mlxtend_9999\n")
    (tmp_path / "doubled.txt").write_text("mlxtend_0000\nmlxtend_0000\n")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("x")
    (tmp_path / "other").mkdir()
    shutil.copy(finished_run / "config.cfg", tmp_path / "other")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    if name == "unknown flag":
        # As a person would: a process that never imports TensorFlow.
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        code, out, error = command(*arguments, cwd=tmp_path)
    else:
        capfd.readouterr()
        code = train.main(arguments)
        out, error = capfd.readouterr()
    assert (code, out) == (2, "")
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_help_lists_the_flags():
    code, out, _ = command("--help")
    assert code == 0
    assert "--pseudo_label_lr=4000.0" in out
    assert "lambda (eq. 7)" in out


def test_a_folder_without_a_set_is_not_passed_over_for_the_default(tmp_path, capsys):
    assert train.main([f"--data_dir={tmp_path}", f"--run_dir={tmp_path / 'run'}"]) == 2
    assert f"data_dir ({tmp_path}) without a dataset: --dataset=folder is a folder of own images" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("where", ["a_file/run", "/proc/run"])
def test_a_place_that_cannot_be_written_is_one_line(where, tmp_path, capfd):
    (tmp_path / "a_file").write_text("x")
    assert train.main([f"--run_dir={tmp_path / where}"]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)


@pytest.mark.slow
def test_the_quickstart_config_keeps_its_promise(tmp_path):
    """One seed, well apart from the mean of five in docs/results/mnist5k.md: stage 1 and the halving of its errors."""
    summary = run(from_command_line([f"--flagfile={ROOT / 'configs' / 'mnist5k.cfg'}", f"--run_dir={tmp_path / 'run'}"]))
    errors = summary["test_error_percent"]
    assert errors["stage_1"] < 16
    assert errors["stage_3"] < 6
    assert errors["stage_3"] < 0.6 * errors["stage_1"]


def test_a_run_may_take_over_another_runs_stage_1(light_run, tmp_path):
    """Stages 2 and 3 then end as they do after a stage 1 of their own."""
    summary = run(from_command_line([*LIGHT, f"--stage_1_from={light_run}", f"--run_dir={tmp_path / 'run'}"]))
    whole = json.loads((light_run / "summary.json").read_text())
    assert summary["test_error_percent"] == whole["test_error_percent"]
    np.testing.assert_array_equal(table_of(tmp_path / "run")["pseudo_logits"], table_of(light_run)["pseudo_logits"])
    assert not (tmp_path / "run" / "stage_1.keras").exists()


def test_another_stage_1_is_not_taken_over(finished_run, tmp_path):
    for flags, named in (["--seed=1"], "--seed: 0 -> 1"), (["--weight_decay=0"], "--weight_decay"):
        arguments = [*SHORT, *flags, f"--stage_1_from={finished_run}", f"--run_dir={tmp_path / 'run'}"]
        with pytest.raises(ValueError, match=f"had another stage 1 .*{named}"):
            run(from_command_line(arguments))
    run_flags = ["--alpha=0.2", "--rounds=1:0.01", "--finetune_epochs=0"]
    Experiment(from_command_line([*SHORT, *run_flags, f"--stage_1_from={finished_run}", f"--run_dir={tmp_path / 'run'}"]))


def test_a_stage_1_that_saw_other_labels_in_the_same_file_is_not_taken_over(finished_run, tmp_path):
    labels, other = tmp_path / "labels.csv", shutil.copytree(finished_run, tmp_path / "other")
    names = spec_of(Config()).load(None).train_ids
    flags = [*SHORT, f"--labels={labels}", "--num_labels=0", f"--run_dir={tmp_path / 'run'}"]

    def experiment(shift, *more):
        labels.write_text("file,label\n" + "".join(f"{name},{(i + shift) % 10}\n" for i, name in enumerate(names[:40])))
        return Experiment(from_command_line([*flags, *more]))

    state = experiment(0).state
    (other / "config.cfg").write_text(from_command_line(flags).to_flagfile())
    summary = json.loads((other / "summary.json").read_text())
    assert (summary["data_fingerprint"], len(summary["split_fingerprint"])) == (state.data_fingerprint, 16)
    (other / "summary.json").write_text(json.dumps(summary | {"split_fingerprint": state.split_fingerprint}))
    experiment(0, f"--stage_1_from={other}")
    with pytest.raises(ValueError, match=r"stage_1_from .* was trained on other labels than there are now: leave it out"):
        experiment(1, f"--stage_1_from={other}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, "is not the folder of a run"),
        ("summary.json", "is not finished"),
        ("stage_1.keras", "has no stage_1.keras: give the run that trained its stage 1 itself"),
        ("--seed=7", "had another stage 1 (--seed: 0 -> 7)"),
    ],
)
def test_a_stage_1_that_cannot_be_taken_over_is_told_before_tensorflow_is_imported(
    change, message, finished_run, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(train, "import_tensorflow_quietly", lambda: pytest.fail("TensorFlow would be imported"))
    other, flags = tmp_path / "other", [change] if change == "--seed=7" else []
    if change is not None:
        shutil.copytree(finished_run, other)
        (other / change).unlink(missing_ok=True)
    assert train.main([*SHORT, *flags, f"--stage_1_from={other}", f"--run_dir={tmp_path / 'run'}"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
