"""What a table costs, and how fast its input is."""

import json
import re

import pytest
from conftest import unpadded

from r2d2_tf.config.command_line import from_command_line
from r2d2_tf.config.config import Config
from r2d2_tf.data.readers.tfds import FAKE
from r2d2_tf.recipes.image_cost import Cost
from tools.reproduce import __main__ as reproduce
from tools.reproduce import cost, fake_data, paper_tables, results, run_plan, trainer

IMAGENET = {"dataset": "imagenet2012", "num_labels": 128_000, "backbone": "resnet18"}


@pytest.mark.parametrize(
    ("flags", "billions"),
    [
        ({"dataset": "cifar10", "backbone": "shake_shake_26_2x96d"}, 3.78),
        ({"dataset": "cifar10", "backbone": "shake_shake_26_2x32d"}, 0.43),
        ({"dataset": "cifar10", "backbone": "conv_large"}, 0.73),
        ({"dataset": "cifar10", "backbone": "conv_large_weight_norm"}, 0.73),
        ({"dataset": "cifar10", "backbone": "wrn_28_2"}, 0.2145),
        ({"dataset": "cifar10", "backbone": "conv_small"}, 0.0025),
        (IMAGENET, 1.8),
    ],
)
def test_multiply_adds_are_those_known_of_the_networks(flags, billions):
    assert cost.multiply_adds(Config(**{"num_labels": 4000, **flags})) / 1e9 == pytest.approx(billions, rel=0.02)


def test_the_cost_is_that_of_the_plan():
    config = Config(dataset="cifar10", num_labels=4000, rounds="300:0.12,75:0.12,75:0.08,75:0.04,75:0.004")
    # FACTS of the recipe: 119 steps an epoch in stage 2, predictions before it and at four later rounds.
    whole = cost.cost_of(config, 50_000)
    assert whole.trained == 300 * 4000 + 600 * 119 * 512 + 50 * 98 * 512
    assert whole.predicted == 6 * 46_000
    alone = cost.cost_of(Config(dataset="cifar10", num_labels=4000, rounds="", finetune_epochs=0), 50_000)
    assert whole.without(alone).trained == whole.trained - 300 * 4000
    assert cost.cost_of(config, 10_000).predicted == 6 * 6000
    assert Cost(10**6, 3 * 10**6).seconds(10**9, 1e13) == pytest.approx(6e6 * 2e9 / 1e13)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.01, "< 1 s"), (59.4, "59 s"), (60, "1 min"), (3599, "60 min"), (90 * 60, "1.5 h"), (1e7, "120 days")],
)
def test_an_estimated_time_has_two_digits_and_the_unit_that_suits_it(seconds, text):
    assert run_plan.time_text(seconds) == text


@pytest.fixture
def places(tmp_path):
    return [f"--output_dir={tmp_path}/o", f"--runs={tmp_path}/r"]


def plan_lines(capsys, *arguments):
    assert reproduce.main([*arguments, "--dry_run"]) == 0
    out = capsys.readouterr().out
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines() if line.startswith("| ")]
    return out, {(label, int(seed)): tuple(rest) for label, seed, *rest in cells[1:]}


def test_a_dry_run_prints_what_is_left_and_writes_nothing(tmp_path, places, capsys):
    out, lines = plan_lines(capsys, "--table=7", "--scale=full", "--seeds=0,1", *places)
    assert "50,000 training images, those of the published cifar10 (there is no copy in --data_dir)" in out
    assert "3,800 million multiply-adds an image" in out
    assert lines["R2-D2", 1] == ("not run", "39,000,000", "25 h", "260 days")
    assert len(lines) == 8, "stage 1 is a row of its own"
    assert out.rstrip().endswith("on such a core. Nothing was run.")
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_counts_the_stage_1_and_the_first_round_that_rows_share(places, capsys):
    out, lines = plan_lines(capsys, "--table=1", "--seeds=0,1", *places)
    assert lines["stage 1, shared by 5 rows", 0] == ("not run", "240,000", "< 1 s", "1.5 min")
    assert lines["first round, shared by 5 rows", 1][:2] == ("not run", "490,000")
    assert lines["a: first round alone", 0][:2] == ("not run", "150,000")
    assert len(lines) == 14
    assert "Still to run: 11 s on such a GPU, or 44 min on such a core." in out


def test_a_dry_run_knows_what_is_done_stopped_and_left_behind(tmp_path, places, capsys):
    arguments = ["--table=7", "--base=configs/mnist5k.cfg", "--seeds=0", *places]
    experiment = results.TableExperiment(["--flagfile=configs/mnist5k.cfg"])
    rows = paper_tables.rows_of("7", from_command_line(experiment.arguments))
    runs = {row.label: results.Run.of(row, experiment, 0) for row in rows}
    output = results.Results(tmp_path / "o", "table7_mnist5k", rows, experiment, "a title", "a command")
    for label, outcome in (("supervised, the given labels only", "finished"), ("hard pseudo-labels", "stopped")):
        line = {"row": label, "seed": "0", "outcome": outcome, "final": "1", "config_digest": runs[label].config.digest}
        output.add(runs[label], line)
    states = {label: state for (label, _), (state, *_) in plan_lines(capsys, *arguments)[1].items()}
    assert states == {
        "supervised, all labels": "not run",
        "supervised, the given labels only": "done",
        "stage 1, shared by 2 rows": "not run",  # Its line is there, its network is not.
        "hard pseudo-labels": "stopped",
        "R2-D2": "not run",
    }
    config = runs["R2-D2"].stage_1_alone().config
    folder = tmp_path / "r" / f"{config.name}-{config.digest}"
    folder.mkdir(parents=True)
    (folder / "summary.json").touch()
    assert ("stage 1, shared by 2 rows", 0) not in plan_lines(capsys, *arguments)[1]


@pytest.fixture(scope="module")
def part_of_cifar100(fake_set):
    """A copy of 140 training images that does not call itself fake."""
    folder = fake_set("cifar100")
    info = next(folder.rglob("dataset_info.json"))
    info.write_text(info.read_text().replace(FAKE, "A part"))
    return folder


@pytest.mark.parametrize(
    ("flags", "row", "message"),
    [
        ([], "supervised, the given labels only", r"num_labels \(10000\) must be .* number of training images \(140\)"),
        (["--num_labels=100"], "R2-D2", "batch_size .* unlabeled images a batch: lower --batch_size"),
        (
            ["--num_labels=100", "--split_file=SPLIT"],
            "supervised, the given labels only",
            "line 1: 'train_99999' names no image",
        ),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry_run"]])
def test_rows_that_a_partial_copy_cannot_carry_are_told_before_any_is_run(
    flags, row, message, dry, part_of_cifar100, tmp_path, places, capsys, monkeypatch
):
    monkeypatch.setattr(trainer.Trainer, "make", lambda *a, **k: pytest.fail("a row is run"))
    (tmp_path / "split").write_text("train_99999\n")
    flags = [flag.replace("SPLIT", str(tmp_path / "split")) for flag in flags]
    assert reproduce.main(["--table=6", "--scale=full", f"--data_dir={part_of_cifar100}", *places, *flags, *dry]) == 2
    error = capsys.readouterr().err
    assert re.match(f"error: row '{row}' cannot be run on the 140 training images .* so nothing was run: .*{message}", error)
    assert error.count("\n") == 1


def test_a_split_that_comes_with_the_project_is_read_from_any_folder(part_of_cifar100, tmp_path, places, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = ["--num_labels=100", "--split_file=configs/splits/cifar10_4000_labels_split00.txt", "--dry_run"]
    assert reproduce.main(["--table=6", "--scale=full", f"--data_dir={part_of_cifar100}", *places, *flags]) == 2
    assert "names no image" in capsys.readouterr().err


def test_a_dry_run_counts_the_images_of_a_partial_copy(part_of_cifar100, places, capsys):
    small = ["--num_labels=100", "--batch_size=8"]
    arguments = ["--table=6", "--scale=full", "--seeds=0", f"--data_dir={part_of_cifar100}", *places, *small]
    out, lines = plan_lines(capsys, *arguments)
    assert f"140 training images, those of the copy of cifar100 in {part_of_cifar100}." in out
    epochs = 300 + 4 * 75 + 50
    assert lines["supervised, all labels", 0][1] == f"{round(epochs * 144, -3):,}", "18 batches of 8 an epoch"


def test_fake_data_is_for_trials_alone(fake_set, places, capsys):
    assert reproduce.main(["--table=6", f"--data_dir={fake_set('cifar100')}", *places, "--dry_run"]) == 2
    assert "holds fake data: use --trial" in capsys.readouterr().err
    out, _ = plan_lines(capsys, "--table=6", "--trial", *places)
    assert "140 training images, FAKE DATA." in out


@pytest.mark.slow
@pytest.mark.parametrize("table", [6, 8])
def test_a_trial_of_a_table_at_full_size_steps_every_row_and_calls_its_data_fake(table, tmp_path, capfd):
    arguments = [f"--table={table}", "--scale=full", "--seeds=0", "--trial", f"--runs={tmp_path}"]
    assert reproduce.main(arguments) == 0
    text = next(tmp_path.glob("*_trial.md")).read_text()
    assert text.startswith("FAKE DATA, one step of each stage: the errors mean nothing.")
    assert unpadded(text).count("| 1 |") == 4, "each row has its seed"
    summaries = [json.loads(path.read_text()) for path in tmp_path.glob("*/summary.json")]
    assert len(summaries) == 4
    assert all(summary["fake_data"] for summary in summaries)
    assert "(FAKE DATA)" in capfd.readouterr().out


def test_a_set_that_needs_no_data_folder_has_no_fake(tmp_path):
    fake_data.make("mnist5k", tmp_path)
    assert list(tmp_path.iterdir()) == []
