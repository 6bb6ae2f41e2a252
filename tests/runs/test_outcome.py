"""What a run came to: its predictions image by image, its result, and the words about it."""

import dataclasses
import json

import numpy as np
import pytest
import small_network
from scipy.stats import binomtest

from export import __main__ as export_command
from r2d2_tf import backbones, train
from r2d2_tf.config.config import Config
from r2d2_tf.data.image_data import UNLABELED, ImageData
from r2d2_tf.data.splits import held_out_rows, parse_part
from r2d2_tf.runs import finished, run_directory, run_labels
from r2d2_tf.runs.outcome import stage_predictions, verdict
from r2d2_tf.runs.outcome.result import chosen_before, decided
from r2d2_tf.runs.outcome.summary import next_text, result_text, words_of_summary
from r2d2_tf.runs.outcome.verdict import Kind
from r2d2_tf.runs.run_state import HELD_OUT, TEST
from tools.evaluate import __main__ as evaluate
from tools.shared import models


def test_a_run_leaves_what_each_stages_network_predicts_of_each_test_image(finished_run):
    summary = json.loads((finished_run / "summary.json").read_text())
    with np.load(finished_run / "test_predictions.npz") as arrays:
        assert sorted(arrays.files) == ["labels", "stage_1", "stage_2", "stage_3"]
        assert {arrays[name].dtype for name in arrays.files} == {np.dtype(np.int32)}
        wrong = {name: 100 * np.mean(arrays[name] != arrays["labels"]) for name in ("stage_1", "stage_2", "stage_3")}
    assert summary["test_error_percent"] == pytest.approx(wrong)
    assert "test_predictions.npz" in summary["files"]
    assert summary["result"]["stage"] == 3
    assert "no labels are held out" in summary["result"]["why"]


def test_predictions_are_read_where_they_are_of_the_same_images(tmp_path):
    labels, predicted = np.array([0, 1, 2]), np.array([0, 2, 2], np.int32)
    stage_predictions.write(tmp_path, "test", {"stage_1": predicted}, labels)
    np.testing.assert_array_equal(stage_predictions.read(tmp_path, "test", "stage_1", labels), predicted)
    assert stage_predictions.read(tmp_path, "test", "stage_2", labels) is None
    assert stage_predictions.read(tmp_path, "test", "stage_1", labels[::-1]) is None
    assert stage_predictions.read(tmp_path / "elsewhere", "test", "stage_1", labels) is None


@pytest.mark.parametrize(("fewer", "more"), [(0, 0), (0, 5), (6, 0), (13, 26), (40, 40), (900, 1100)])
def test_chance_is_the_exact_sign_test(fewer, more):
    expected = binomtest(fewer, fewer + more).pvalue if fewer + more else 1.0
    assert verdict.sign_test(fewer, more) == pytest.approx(expected, rel=1e-9)
    assert verdict.sign_test(fewer, more) == verdict.sign_test(more, fewer)


def test_two_networks_are_compared_image_by_image():
    labels = np.zeros(10, int)
    first, second = np.array([1, 1, 1, 1, 1, 1, 1, 0, 0, 0]), np.array([0, 0, 0, 0, 0, 0, 1, 1, 0, 0])
    assert verdict.compared(first, second, labels) == verdict.Comparison(7, 2, 10, verdict.sign_test(1, 6))


def words(first, second, of, p_value):
    return verdict.words_of(verdict.Comparison(first, second, of, p_value), first=1)


def test_the_verdict_tells_gain_chance_and_harm_apart():
    assert words(302, 215, 1000, 1e-5) == "Gain: 302 -> 215 wrong of 1,000 test images (29 % fewer; p < 0.001)"
    assert words(302, 290, 1000, 0.31) == "Slight gain: 302 -> 290 wrong of 1,000 test images, within chance (p = 0.31)"
    assert words(302, 315, 1000, 0.31).startswith(
        "No gain: 302 -> 315 wrong of 1,000 test images, within chance (p = 0.31); stage 1 is as good; what would help: more"
    )
    assert words(302, 350, 1000, 0.002).startswith(
        "Worse: 302 -> 350 wrong of 1,000 test images, more than chance (p = 0.002): use stage 1 (export --stage=1)"
    )
    assert words(7, 5, 20, 0.5).startswith("20 test images cannot tell: 7 -> 5 wrong of 20")
    assert words(302, 350, 1000, None).startswith("No gain: 302 -> 350 wrong of 1,000 test images (no predictions")


def test_what_a_run_came_to_is_known_apart_from_its_words():
    labels = np.zeros(40, int)
    predictions = {f"stage_{stage}": (np.arange(40) < wrong).astype(int) for stage, wrong in ((1, 20), (2, 8), (3, 10))}
    errors = {1: 50.0, 2: 20.0, 3: 25.0}
    found = verdict.outcome_of(errors, predictions, labels, 40, 2)
    assert (found.first, found.other, found.result, found.found.first, found.found.second) == (1, 2, 2, 20, 8)
    assert found.found.kind is Kind.GAIN
    assert verdict.outcome_of(errors, predictions, labels, 40, 1).other == 3, "the last is what it is held against"
    unknown = verdict.outcome_of(errors, {}, None, 40, 3)
    assert unknown.found == verdict.Comparison(20, 10, 40, None)
    assert unknown.found.kind is Kind.FEWER
    alone = verdict.outcome_of({3: 25.0}, predictions, labels, 40, 3)
    assert (alone.first, alone.other) == (3, 3)


def test_parts_of_the_labels_are_stratified_and_make_all_of_them():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 3, UNLABELED], [20, 11, 3, 1, 50]))
    parts = [held_out_rows(labels, parse_part(f"{number}/5"), seed=0) for number in range(1, 6)]
    together = np.concatenate(parts)
    assert sorted(together) == np.flatnonzero((labels >= 0) & (labels != 3)).tolist(), "the only one of its class stays"
    counts = np.array([np.bincount(labels[part], minlength=3) for part in parts])
    assert (counts[:, 0] == 4).all()
    assert set(counts[:, 1]) == {2, 3}
    assert set(counts[:, 2]) == {0, 1}
    assert {len(part) for part in parts} == {6, 7}
    np.testing.assert_array_equal(parts[4], held_out_rows(labels, parse_part("0.2"), seed=0))
    assert (held_out_rows(labels, parse_part("0.2"), seed=1) != parts[4]).any()
    most = held_out_rows(labels, parse_part("0.99"), seed=0)
    assert set(labels[np.setdiff1d(np.arange(len(labels)), most)]) == {0, 1, 2, 3, UNLABELED}


@pytest.mark.parametrize("wrong", ["0", "1", "1.5", "0/5", "6/5", "1/1", "half", "-0.2", "0.0"])
def test_what_is_no_part_is_told_in_a_line(wrong):
    with pytest.raises(ValueError, match=r"held_out \(.*\) must be auto, none, a share"):
        Config(held_out=wrong)


@pytest.mark.parametrize(("stage", "flags"), [(1, {"warm_start": "run"}), (2, {"rounds": "", "finetune_from": "prediction"})])
def test_the_result_must_be_a_stage_of_the_run(stage, flags):
    with pytest.raises(ValueError, match=rf"result_stage \({stage}\) is no stage of this run"):
        Config(result_stage=stage, **flags)


def test_parts_have_runs_of_their_own_and_what_auto_means_does_not():
    assert Config(held_out="none").digest == Config().digest != Config(held_out="1/5").digest != Config(held_out="2/5").digest
    assert not Config(held_out="none").differences(Config())
    own = Config(dataset="npz", num_labels=0, data_dir="x.npz")
    assert dataclasses.replace(own, held_out="none").differences(own) == ["--held_out: auto -> none"]


def own_data(labels_of_a_class):
    labels = np.array([0, 1, 2] * labels_of_a_class + [UNLABELED] * 10)
    images = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1)
    ids = [f"{row}.png" for row in range(len(labels))]
    return ImageData(images, labels, ids, images[:3], labels[:3], ("a", "b", "c"), given_labels=labels)


def test_of_your_own_labels_a_fifth_is_held_out_where_it_is_enough_to_choose_by():
    config = Config(dataset="npz", num_labels=0, data_dir="x.npz")
    data = own_data(100)
    left, labels = run_labels.with_held_out(data, data.given_labels, config)
    assert (len(left.train_ids), len(labels), len(left.held_out.labels)) == (250, 250, 60)
    assert not set(left.train_ids) & set(left.held_out.data.train_ids), "they are not trained on as unlabeled ones either"
    np.testing.assert_array_equal(left.held_out.data.train_labels, left.held_out.labels)
    few = own_data(99)
    assert run_labels.with_held_out(few, few.given_labels, config)[0] is few
    drawn = dataclasses.replace(data, given_labels=None)
    assert run_labels.with_held_out(drawn, data.given_labels, Config())[0] is drawn
    with pytest.raises(ValueError, match=r"held_out \(0.1\) takes none of 3 labels"):
        run_labels.with_held_out(own_data(1), own_data(1).given_labels, dataclasses.replace(config, held_out="0.1"))


def test_the_labels_that_a_run_leaves_are_all_that_were_given(tmp_path):
    data = own_data(2)
    left, labels = run_labels.with_held_out(data, data.given_labels, Config(held_out="1/2"))
    run_labels.save_split(tmp_path, left, labels)
    lines = (tmp_path / "labeled.csv").read_text().splitlines()[1:]
    assert sorted(lines) == sorted(f"{row}.png,{'abc'[row % 3]},train" for row in range(6))


def test_the_fewest_held_out_errors_choose_the_stage_and_of_equal_ones_the_later():
    labels = np.zeros(60, int)

    def predictions(**wrong):
        return {stage: (np.arange(60) < count).astype(int) for stage, count in wrong.items()}

    result = decided(0, [1, 2, 3], predictions(stage_1=12, stage_2=8, stage_3=9), labels, "")
    assert (result.stage, result.held_out["stage_2"], result.p_value) == (2, {"wrong": 8, "of": 60}, pytest.approx(0.125))
    assert result.why.startswith("the network of stage 2: 8 of 60 held-out labels wrong, against 12 after stage 1 and 9 after")
    assert decided(0, [1, 2, 3], predictions(stage_1=8, stage_2=9, stage_3=8), labels, "").stage == 3
    assert decided(0, [1, 3], predictions(stage_1=7, stage_3=8), labels, "").stage == 1
    assert decided(1, [1, 3], predictions(stage_1=9, stage_3=8), labels, "").stage == 1
    assert (decided(0, [2, 3], {}, None, "").stage, decided(2, [2, 3], {}, None, "").stage) == (3, 2)


@pytest.fixture(scope="module")
def chosen(tmp_path_factory):
    """A run of few labels whose later stages do harm, so that held-out labels choose stage 1."""
    folder = tmp_path_factory.mktemp("runs") / "chosen"
    flags = ["--supervised_epochs=6", "--rounds=1:0.01", "--batch_size=512", "--finetune_epochs=1", "--translate=0"]
    flags += ["--finetune_learning_rate=3", "--nostop_on_collapse", "--held_out=2/5", f"--run_dir={folder}"]
    assert train.main([f"--backbone={small_network.__name__}:strided", *flags]) == 0
    return folder


def test_held_out_labels_choose_the_result_and_every_stage_keeps_its_network(chosen):
    summary = run_directory.read_summary(chosen)
    assert (summary["num_labels"], summary["num_held_out"], summary["num_unlabeled"]) == (80, 20, 3900)
    held_out = summary["result"]["held_out"]
    with np.load(chosen / "held_out_predictions.npz") as arrays:
        assert {name: int((arrays[name] != arrays["labels"]).sum()) for name in held_out} == {
            name: own["wrong"] for name, own in held_out.items()
        }
        assert not set(arrays["ids"].tolist()) & set(np.load(chosen / "pseudo_labels.npz")["ids"].tolist())
    assert len((chosen / "labeled.txt").read_text().splitlines()) == 100
    assert summary["result"]["stage"] < 3
    config = run_directory.load_config(chosen)
    networks = {stage: finished.network_of(chosen, config, summary, stage) for stage in (0, 1, 2, 3)}
    assert networks[0] == networks[summary["result"]["stage"]] == chosen / "backbone.keras"
    assert networks[3] == chosen / "stage_3.keras"
    ours, theirs = (backbones.load(chosen / name) for name in ("backbone.keras", f"stage_{summary['result']['stage']}.keras"))
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_any_stages_network_is_evaluated_and_exported(chosen, capsys):
    summary = run_directory.read_summary(chosen)
    assert evaluate.main([f"--run_dir={chosen}", "--stage=3"]) == 0
    assert (chosen / "evaluation" / "stage_3.keras" / "evaluation.json").is_file()
    said = capsys.readouterr()
    assert said.err == "", "it is as wrong as the run found it"
    assert summary["verdict"] in said.out
    assert evaluate.main([f"--run_dir={chosen}", "--split=held_out"]) == 0
    assert "20 labeled images held out" in capsys.readouterr().out
    assert export_command.main([f"--run_dir={chosen}", "--format=tflite", "--stage=3", "--latency_rounds=0"]) == 0
    assert (chosen / "export_stage_3" / "model.tflite").is_file()
    assert not (chosen / "export").exists()


def test_a_stage_that_is_not_there_is_told_in_a_line(chosen, tmp_path, capsys):
    summary = run_directory.read_summary(chosen)
    summary |= {"test_error_percent": {"stage_1": 1.0, "stage_3": 1.0}, "result": {"stage": 3}}
    with pytest.raises(ValueError, match=r"stage \(2\) is none of the run in .*, which has 1, 3: change --stage"):
        finished.network_of(chosen, Config(), summary, 2)
    with pytest.raises(ValueError, match=r"the network after stage 1 is gone, .*leave --stage out"):
        finished.network_of(tmp_path, Config(), summary, 1)
    with pytest.raises(ValueError, match=r"stage \(1\) is one of a run.*leave --stage out"):
        models.check(tmp_path, 1)


def test_the_end_of_a_run_begins_with_its_verdict_and_does_not_export_a_worse_network_in_silence(chosen):
    summary = run_directory.read_summary(chosen)
    lines = [line for line in result_text(summary, "runs/x").splitlines() if line]
    assert lines[0] == summary["verdict"]
    assert lines[1] == f"Result: {summary['result']['why']}"
    row = next(line for line in lines if line.endswith("<- result"))
    assert "of " in row, "with the labels that were held out"
    assert len(row) <= 80, "a terminal may have no more columns"
    errors = {"stage_1": 10.0, "stage_2": 9.0, "stage_3": 12.0}
    result = {"stage": 3, "held_out": {}}
    worse = summary | {"test_error_percent": errors, "result": result, "verdict": "Worse: 100 -> 120 wrong, more than chance"}
    assert "has more test errors than stage 1's" in next_text(worse, "runs/x")
    assert "--format=tflite --stage=1" in next_text(worse, "runs/x")
    by_chance = worse | {"verdict": "No gain: 100 -> 120 wrong, within chance"}
    assert "--stage=" not in next_text(by_chance, "runs/x"), "test images would have chosen"


def test_where_more_labels_are_held_out_than_images_are_tested_on_they_say_how_wrong_the_result_is():
    summary = {"verdict": "24 test images cannot tell: 2 -> 3 wrong", "num_test": 24, "test_error_percent": {"stage_3": 12.5}}
    summary |= {"result": {"stage": 3, "why": "because", "held_out": {"stage_3": {"wrong": 31, "of": 96}}}}
    assert words_of_summary(summary) == [
        summary["verdict"],
        "How wrong is it? About 32 % (95 %: 24 to 42) of the 96 held-out labels, which are more than the 24 test images; these "
        "say 12 % (95 %: 4 to 31)",
        "Result: because",
    ]
    assert len(words_of_summary(summary | {"num_test": 96})) == 2


def test_a_choice_is_read_whether_it_says_why_or_has_the_lines_of_before(tmp_path):
    counts = {"stage_1": {"wrong": 3, "of": 20}, "stage_2": {"wrong": 1, "of": 20}}
    for own in ({"why": "the head; stage 2"}, {"words": ["the head;", "stage 2"]}):
        (tmp_path / "choice.json").write_text(json.dumps({**own, "held_out": counts, "p_value": 0.5}))
        found = chosen_before(tmp_path, 2)
        assert (found.stage, found.why, found.held_out, found.p_value) == (2, "the head; stage 2", counts, 0.5)


def test_predictions_of_classes_that_there_are_not_are_refused(tmp_path):
    ours = {"stage_1": np.array([0, 1, 2**30])}
    stage_predictions.write(tmp_path, TEST, ours, np.array([0, 1, 1]))
    stage_predictions.write(tmp_path, HELD_OUT, {}, np.array([0, -1]), ["a", "b"])
    assert stage_predictions.by_stage(tmp_path, TEST, [1])[0][1].tolist() == ours["stage_1"].tolist()
    with pytest.raises(ValueError, match="names classes that the run has not"):
        stage_predictions.by_stage(tmp_path, TEST, [1], num_classes=2)
    with pytest.raises(ValueError, match="names classes that the run has not"):
        stage_predictions.held_out_of(tmp_path, 2)
