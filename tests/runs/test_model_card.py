import json

import pytest
from conftest import ROOT

from r2d2_tf.config.config import Config
from r2d2_tf.runs import run_directory
from r2d2_tf.runs.outcome.model_card import model_card

METADATA = {
    "class_names": ["cat", "dog"],
    "image_shape": (32, 48, 3),
    "input": "uint8 pixels",
    "preprocessing": "RGB, 48x32 pixels, values 0..255 as they are",
    "image_view": "shown",
    "output": "probabilities, in the order of class_names",
}
SUMMARY = {
    "name": "pets",
    "dataset": "folder",
    "seed": 3,
    "num_labels": 40,
    "num_unlabeled": 1200,
    "num_held_out": 10,
    "num_test": 200,
    "verdict": "Gain: 40 -> 20 wrong of 200 test images",
    "result": {"stage": 3, "why": "2 of 10 held-out labels wrong", "held_out": {"stage_3": {"wrong": 2, "of": 10}}},
    "test_error_percent": {"stage_1": 20.0, "stage_2": 12.0, "stage_3": 10.0},
    "pseudo_label_error_percent": {"stage_2": 11.0, "stage_3": 9.5},
    "seconds": {"total": 61.2},
    "parameters": 1234,
    "devices": "1 replica on CPU",
    "machine": "Linux x86_64, 2 CPUs",
    "git_commit": "0123456789ab",
    "versions": {"keras": "3.15.1"},
}
OWN = {"dataset": "folder", "data_dir": "/home/me/secret", "num_labels": 0}
CONFIG = Config(**OWN, backbone="resnet18", flip=True)


def cells(card):
    """The card's tables, first cell of a row -> the others."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in card.splitlines() if line.startswith("|")]
    return {first: others for first, *others in rows}


def test_a_card_tells_task_data_error_choice_training_and_use():
    card = model_card(SUMMARY, CONFIG, METADATA, [("model.onnx", "the same classes")])
    rows = cells(card)
    assert rows["after stage 3, this model"] == ["10.00 %", "6.57 to 14.94 %"]
    assert rows["after stage 1"] == ["20.00 %", "15.05 to 26.09 %"]
    assert "Measured on the 200 test images" in card
    assert "The run's result is stage 3: 2 of 10 held-out labels wrong." in card
    assert rows["labels given"] == ["40"]
    assert rows["unlabeled images"] == ["1,200"]
    assert rows["labels held out, by which the stage was chosen"] == ["10"]
    assert rows["pseudo-labels that were wrong at the end"] == ["9.50 %"]
    assert rows["network"] == ["resnet18, 1,234 parameters"]
    assert rows["source"] == ["commit 0123456789ab"]
    assert rows["preprocessing"] == [METADATA["preprocessing"]]
    assert rows["input"] == ["uint8 pixels, height x width x channels: 32 x 48 x 3"]
    assert rows["model.onnx"] == ["the same classes"]
    assert "Classes, in the order of the output: cat, dog." in card
    assert "    --backbone=resnet18\n    --flip=true\n" in card
    assert "secret" not in card
    assert "200 test images are few" in card


def test_its_head_is_that_of_a_model_hub():
    head = model_card(SUMMARY, CONFIG, METADATA, []).split("---")[1]
    assert "pipeline_tag: image-classification\n" in head
    assert '{type: accuracy, value: 90.00, name: "percent of 200 test images"}' in head
    assert "# license: left to you\n" in head


def test_another_stage_is_told_apart_from_the_result():
    card = model_card(SUMMARY, CONFIG, METADATA, [], 1)
    assert "after stage 1, this model" in card
    assert "Exported here is stage 1, as `--stage=1` asked for." in card
    assert "trained on the given labels alone" in card
    assert "value: 80.00" in card


def test_what_no_file_says_is_unknown_and_not_made_up():
    bare = {name: SUMMARY[name] for name in ("name", "dataset", "seed", "test_error_percent")}
    card = model_card(bare | {"pseudo_label_error_percent": {}}, Config(), {"class_names": ["cat", "dog"]}, [])
    rows = cells(card)
    assert rows["after stage 3, this model"] == ["10.00 %", "unknown"]
    names = ("labels given", "unlabeled images", "labels held out, by which the stage was chosen", "test images", "time")
    assert all(rows[name] == ["unknown"] for name in (*names, "versions", "preprocessing", "output", "an image is read"))
    assert rows["source"] == ["commit unknown"]
    assert "model-index" not in card
    assert "None" not in card


@pytest.mark.parametrize(
    ("changed", "config", "words"),
    [
        ({"evaluate_on": "val.txt"}, {}, "`val.txt`, kept out of training: the test images were not looked at"),
        (
            {},
            OWN | {"test_fraction": 0.25},
            "200 images: 0.25 of the labeled ones, drawn and kept out of training",
        ),
        ({"fake_data": True}, {}, "FAKE DATA: every figure below means nothing"),
        ({}, {"weights": "imagenet", "backbone": "efficientnet_lite0"}, "and so may the weights that it began from"),
        ({}, {"label_noise": 0.1}, "10 %"),
    ],
)
def test_what_changes_a_figures_meaning_is_told(changed, config, words):
    card = model_card(SUMMARY | changed, Config(**config), METADATA, [])
    assert words in card
    assert ("model-index" in card) != bool(changed.get("fake_data"))


def test_a_run_of_before_has_a_card():
    folder = ROOT / "tests" / "before" / "finished"
    summary = json.loads((folder / "summary.json").read_text())
    card = model_card(summary, run_directory.load_config(folder), METADATA, [])
    assert "16.67 % -> 8.33 % wrong of the test images" in card
    assert "whether labels were held out to choose it is unknown" in card
