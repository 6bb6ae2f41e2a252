import csv
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, SUMMARY
from scipy import stats

from r2d2_tf.config.config import Config
from tools.compare import __main__ as compare
from tools.compare import comparison, comparison_picture, comparison_text
from tools.evaluate import __main__ as evaluate
from tools.shared import run_records

EPOCHS = {"supervised_epochs": 2, "rounds": "1:0.1,1:0.01", "finetune_epochs": 1}


def make_run(folder, errors=(30.0, 20.0, 10.0), *, seconds=60.0, finished=True, summary=(), **flags):
    """The folder of a run of five epochs whose test errors after the stages are `errors`."""
    folder.mkdir(parents=True)
    config = Config(**EPOCHS | flags)
    (folder / "config.cfg").write_text(config.to_flagfile())
    first, second, third = errors
    lines = [(1, 1, first + 20), (2, 1, first), (3, 2, second + 5), (4, 2, second), (5, 3, third)]
    lines = lines if finished else lines[:3]
    text = "".join(f"{n},{stage},{error}\n" for n, stage, error in lines)
    (folder / "metrics.csv").write_text("run_epoch,stage,test_error\n" + text)
    errors = {"stage_1": first, "stage_2": second, "stage_3": third}
    content = SUMMARY | {"seed": config.seed, "test_error_percent": errors, "seconds": {"total": seconds}}
    if finished:
        (folder / "summary.json").write_text(json.dumps(content | dict(summary)))
    return folder


def make_group(folder, last_errors, **flags):
    """One run a seed, with the given last errors."""
    return [
        make_run(folder / f"{'_'.join(map(str, flags.values())) or 'plain'}_s{seed}", (30.0, 20.0, error), seed=seed, **flags)
        for seed, error in last_errors.items()
    ]


def groups_of(folders):
    return comparison.grouped([run_records.read(folder) for folder in folders])


def test_runs_that_differ_by_the_seed_and_by_what_changes_no_result_are_a_group(tmp_path):
    folders = [
        make_run(tmp_path / "a"),
        make_run(tmp_path / "b", alpha=0.2, data_dir="elsewhere"),
        make_run(tmp_path / "c", seed=1, deterministic=True, name="other"),
        make_run(tmp_path / "d", seed=4, alpha=0.2, checkpoint_minutes=3.0),
    ]
    groups = groups_of(folders)
    assert [[run.name for run in group.runs] for group in groups] == [["a", "c"], ["b", "d"]]
    assert [group.letter for group in groups] == ["A", "B"]
    assert [group.flags for group in groups] == [{"alpha": 0.1}, {"alpha": 0.2}]
    assert groups_of(folders[:1])[0].flags == {}


def test_groups_beyond_the_alphabet_have_letters_of_their_own(tmp_path):
    groups = groups_of([make_run(tmp_path / str(n), pseudo_label_lr=float(n + 1)) for n in range(54)])
    letters = [group.letter for group in groups]
    assert [letters[place] for place in (0, 25, 26, 51, 52)] == ["A", "Z", "AA", "AZ", "BA"]
    comparison_picture.draw(groups, "many", tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 10_000


def test_with_the_same_seeds_the_interval_is_that_of_the_differences_seed_by_seed(tmp_path):
    # Differences 1, 2, 3: mean 2, standard deviation 1, t of 2 degrees of freedom 4.3027: 2 +- 4.3027 / sqrt(3).
    # The seeds themselves are far apart: a comparison of the means would see nothing.
    a = make_group(tmp_path, {0: 10.0, 1: 20.0, 2: 40.0})
    b = make_group(tmp_path, {2: 43.0, 0: 11.0, 1: 22.0}, alpha=0.2)
    found = comparison.difference(*groups_of([*a, *b]))
    assert found.points == pytest.approx(2.0)
    assert found.interval == pytest.approx((2 - 2.4841, 2 + 2.4841), abs=1e-4)
    assert found.verdict == "may be noise"
    assert "paired t, 3 seeds" in found.method


def test_with_other_seeds_the_interval_is_welchs(tmp_path):
    a = make_group(tmp_path, {0: 1.0, 1: 2.0, 2: 3.0})
    b = make_group(tmp_path, {0: 12.0, 1: 14.0, 2: 16.0, 3: 18.0}, alpha=0.2)
    found = comparison.difference(*groups_of([*a, *b]))
    # Variances of the means 1/3 and 5/3; Welch and Satterthwaite's degrees of freedom.
    freedom = 2**2 / ((1 / 3) ** 2 / 2 + (5 / 3) ** 2 / 3)
    half = stats.t.ppf(0.975, freedom) * np.sqrt(2)
    assert found.points == pytest.approx(13.0)
    assert found.interval == pytest.approx((13 - half, 13 + half))
    assert found.verdict == "higher"
    assert comparison.difference(*reversed(groups_of([*a, *b]))).verdict == "lower"


@pytest.mark.parametrize(
    ("first", "other", "method"),
    [
        ({0: 10.0}, {0: 5.0}, "one run of A and B says nothing"),
        ({0: 10.0, 1: 11.0}, {0: 5.0}, "one run of B says nothing"),
        ({0: 10.0, 1: 11.0}, {0: 9.0, 1: 10.0}, "the same in all 2 seeds"),
        ({0: 10.0, 1: 10.0}, {2: 9.0, 3: 9.0}, "no spread over seeds"),
    ],
)
def test_where_seeds_say_nothing_of_noise_there_is_no_interval(first, other, method, tmp_path):
    found = comparison.difference(*groups_of([*make_group(tmp_path, first), *make_group(tmp_path, other, alpha=0.2)]))
    assert found.interval is None
    assert found.verdict == "not known"
    assert method in found.method


def test_a_run_that_is_there_twice_is_counted_once(tmp_path):
    folders = make_group(tmp_path, {0: 10.0, 1: 12.0})
    shutil.copytree(folders[0], tmp_path / "again")
    text = comparison_text.report(groups_of([*folders, tmp_path / "again"]))
    assert "| A     | 2 of 3   |" in text
    assert "11.00 +- 1.41" in text
    assert "note: again of A has a seed that is there before: it is shown, and not counted" in text


def test_the_table_has_errors_after_each_stage_state_and_only_columns_that_differ(tmp_path):
    folders = [
        make_run(tmp_path / "a", summary={"test_top5_error_percent": {"stage_1": 9.0, "stage_3": 2.5}}),
        make_run(tmp_path / "b", finished=False, alpha=0.2, stage_1_from=str(tmp_path / "a")),
        make_run(tmp_path / "c", finished=False, alpha=0.3),
    ]
    (folders[2] / "metrics.csv").unlink()
    table = comparison_text.run_table(groups_of(folders))
    assert table == [
        ["group", "run", "seed", "stage 1 %", "stage 2 %", "stage 3 %", "top 5 %", "seconds", "state"],
        ["A", "a", "0", "30.00", "20.00", "10.00", "2.50", "60", "finished"],
        ["B", "b", "0", "-", "-", "-", "-", "-", "epoch 5 of 5, 25.00 %"],
        ["C", "c", "0", "-", "-", "-", "-", "-", "unfinished"],
    ]
    text = comparison_text.report(groups_of(folders))
    assert "in all of them: mnist5k, 100 labeled, 3,900 unlabeled, 1,000 to test on, commit abc" in text
    assert "    B: alpha=0.2\n" in text


def test_epochs_of_a_run_that_took_over_stage_1_begin_after_it(tmp_path):
    alone, took = (run_records.read(make_run(tmp_path / n, stage_1_from=s)) for n, s in (("a", ""), ("b", str(tmp_path / "a"))))
    assert alone.epochs[0].number == 1
    assert took.epochs[0].number == 3


@pytest.mark.parametrize(
    ("change", "flags", "note"),
    [
        ({}, {"dataset": "mnist5k_dev"}, "different data sets (mnist5k, mnist5k_dev): do not compare"),
        ({"num_test": 900}, {}, "different copies of the data set: do not compare"),
        ({"git_commit": "def"}, {}, "of different commits"),
        ({"versions": {"keras": "4"}}, {}, "different versions of their packages"),
        ({"fake_data": True}, {}, "FAKE DATA are among these"),
        ({"test_error_percent": {"stage_1": 30.0}}, {}, "end with different stages"),
    ],
)
def test_what_makes_a_comparison_unsound_is_told(change, flags, note, tmp_path, capsys):
    a = make_group(tmp_path, {0: 10.0, 1: 20.0})
    b = [make_run(tmp_path / f"b{seed}", seed=seed, alpha=0.2, summary=change, **flags) for seed in (0, 1)]
    assert compare.main([*map(str, a), *map(str, b)]) == 0
    out = capsys.readouterr().out
    assert re.search(rf"^note: .*{re.escape(note)}", out, re.M)
    other_images = "num_test" in change or "fake_data" in change or "dataset" in flags
    assert ("| B - A |" in out) != other_images, "errors on other images are not subtracted"


def with_predictions(folder, labels, predicted):
    place = folder / "evaluation" / "backbone.keras"
    place.mkdir(parents=True)
    np.savez(place / "predictions.npz", labels=labels, predicted=predicted)
    return folder


def test_two_single_runs_are_held_against_each_other_image_by_image(tmp_path, capsys):
    labels = np.zeros(100, int)
    ours, theirs = labels.copy(), labels.copy()
    ours[:18], theirs[10:22] = 1, 1
    # Both are wrong in 8, ours alone in 10, theirs alone in 4: p = 2 * (1 + 14 + 91 + 364 + 1001) / 2 ** 14.
    a = with_predictions(make_run(tmp_path / "a", (30, 20, 18.0)), labels, ours)
    b = with_predictions(make_run(tmp_path / "b", (30, 20, 12.0), alpha=0.2), labels, theirs)
    found = comparison.image_by_image(run_records.read(a), run_records.read(b))
    assert (found.images, found.first_alone, found.other_alone) == (100, 10, 4)
    assert found.p == pytest.approx(2 * 1471 / 2**14)
    assert compare.main([str(a), str(b)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "of 100 images 10 are wrong in A alone and 4 in B alone (McNemar's exact p 0.18)" in out
    assert "not of what other seeds would give" in out


def test_predictions_that_do_not_belong_to_the_runs_are_told(tmp_path, capsys):
    labels = np.zeros(100, int)
    a = with_predictions(make_run(tmp_path / "a", (30, 20, 0.0)), labels, labels)
    b = with_predictions(make_run(tmp_path / "b", (30, 20, 12.0), alpha=0.2), labels, labels)
    c = with_predictions(make_run(tmp_path / "c", (30, 20, 0.0), alpha=0.3), labels + 1, labels + 1)
    d = make_run(tmp_path / "d", (30, 20, 0.0), alpha=0.4)
    for other, message in ((b, "is not of its network: evaluate it again"), (c, "were evaluated on other images")):
        assert compare.main([str(a), str(other)]) == 0
        assert message in capsys.readouterr().out
    assert compare.main([str(a), str(d)]) == 0
    assert f"`python -m tools.evaluate --run_dir={d}`, and this again" in capsys.readouterr().out


def test_what_evaluate_writes_is_what_compare_reads(light_run, tmp_path):
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        shutil.copytree(light_run, folder, ignore=shutil.ignore_patterns("tensorboard", "export", "evaluation"))
        assert evaluate.main([f"--run_dir={folder}"]) == 0
    found = comparison.image_by_image(*map(run_records.read, folders))
    assert (found.images, found.first_alone, found.other_alone, found.p) == (1000, 0, 0, 1.0)


def test_files_are_a_report_a_table_and_a_picture(finished_run, tmp_path, capsys):
    others = make_group(tmp_path / "made", {0: 10.0, 1: 20.0})
    unfinished = make_run(tmp_path / "made" / "unfinished", finished=False, alpha=0.2)
    out = tmp_path / "new" / "out"
    assert compare.main([*map(str, others), str(finished_run), str(unfinished), f"--out={out}"]) == 0
    said = capsys.readouterr().out
    assert f"written to {out}: comparison.md, runs.csv, comparison.png" in said
    assert (out / "comparison.md").read_text().split("\n![")[0].strip() in said
    with (out / "runs.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["run"] for line in lines] == ["plain_s0", "plain_s1", finished_run.name, "unfinished"]
    assert [line["stage_3"] for line in lines][::3] == ["10.0", ""]
    assert lines[3]["flag_alpha"] == "0.2"
    assert lines[3]["state"] == "epoch 3 of 5, 25.00 %"
    assert (out / "comparison.png").stat().st_size > 10_000


def test_a_warm_start_has_no_epochs_of_stage_1(tmp_path):
    cold, warm = (run_records.read(make_run(tmp_path / f"run{name}", warm_start=name, finished=False)) for name in ("", "warm"))
    assert (cold.stage_ends, warm.stage_ends) == ((2, 4, 5), (0, 2, 3))
    assert warm.state.startswith("epoch 3 of 3")


@pytest.mark.parametrize("errors", [(0.0, 0.0, 0.0), (30.0, 20.0, 10.0)])
@pytest.mark.parametrize("finished", [True, False])
def test_a_picture_is_drawn_of_one_run_whatever_its_errors(errors, finished, tmp_path):
    folder = make_run(tmp_path / "a", errors, finished=finished)
    comparison_picture.draw(groups_of([folder]), "one", tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 5_000


DAMAGE = {
    "no number": ("metrics.csv", "run_epoch,stage,test_error\n1,1,abc\n"),
    "not finite": ("metrics.csv", "run_epoch,stage,test_error\n1,1,nan\n"),
    "more than all": ("metrics.csv", "run_epoch,stage,test_error\n1,1,1e300\n"),
    "cut short": ("metrics.csv", "run_epoch,stage,test_error\n1,1,30\n2,1\n"),
    "other columns": ("metrics.csv", "a,b\n1,2\n"),
    "bytes": ("metrics.csv", b"\xff\xfe\x00\x01run"),
    "summary": ("summary.json", "{"),
    "errors in it": ("summary.json", json.dumps(SUMMARY | {"test_error_percent": {}})),
    "numbers in it": ("summary.json", json.dumps(SUMMARY | {"num_labels": []})),
    "brackets": ("summary.json", '{"versions": ' + "[" * 100_000),
    "config": ("config.cfg", "--alpha=many\n"),
}


@pytest.mark.parametrize(("name", "content"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_told_and_the_other_runs_are_compared(name, content, tmp_path, capsys):
    folders = make_group(tmp_path, {0: 10.0, 1: 20.0})
    damaged = make_run(tmp_path / "damaged", alpha=0.2)
    (damaged / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    out_folder = tmp_path / "out"
    assert compare.main([*map(str, folders), str(damaged), f"--out={out_folder}"]) == 1
    out, error = capsys.readouterr()
    assert f"{damaged / name} is damaged" in error
    assert error.count("\n") == 1
    assert "15.00 +- 7.07" in out
    assert ("| damaged " in out) == (name == "metrics.csv"), "what is known of it is shown"
    assert (out_folder / "comparison.png").is_file()


def test_what_else_a_pattern_names_is_left_out_with_a_word_and_a_run_named_twice_is_one(tmp_path, capsys):
    (run,) = make_group(tmp_path, {0: 10.0})
    (tmp_path / "notes.txt").touch()
    (tmp_path / "empty").mkdir()
    names = [str(tmp_path / "notes.txt"), str(run), str(tmp_path / "empty"), f"{run}/"]
    assert compare.main(names) == 0
    out, error = capsys.readouterr()
    assert out.startswith("1 run in 1 group ")
    assert f"left out, as they are not the folders of runs: {tmp_path / 'notes.txt'}, {tmp_path / 'empty'}" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say which runs to compare"),
        (["nowhere"], "there is no nowhere"),
        (["."], "there is no run in ."),
        (["RUN", "--out=RUN/config.cfg"], "cannot be a folder"),
        (["RUN", "--ouput=x"], "did you mean --out?"),
        (["DAMAGED"], "is damaged"),
    ],
)
def test_bad_input_is_one_line(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run, damaged = make_run(tmp_path / "run"), make_run(tmp_path / "damaged")
    (damaged / "config.cfg").write_text("--nothing=1\n")
    arguments = [argument.replace("RUN", str(run)).replace("DAMAGED", str(damaged)) for argument in arguments]
    assert compare.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


def test_runs_are_compared_without_tensorflow(tmp_path):
    folders = make_group(tmp_path, {0: 10.0, 1: 20.0})
    command = [sys.executable, "-X", "importtime", "-m", "tools.compare", *map(str, folders), f"--out={tmp_path / 'out'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    imported = set(re.findall(r"\| +(\w+)\n", done.stderr))
    assert "scipy" in imported
    assert "tensorflow" not in imported
