import numpy as np

from r2d2_tf.config.config import Config
from r2d2_tf.method.pseudo_labels import PseudoLabelTable
from r2d2_tf.runs.dataset import spec_of
from r2d2_tf.runs.outcome.summary import next_text, result_text
from r2d2_tf.training.plan_text import plan_text
from r2d2_tf.training.stages import plan

CONFIG = Config(supervised_epochs=2, rounds="2:0.1,1:0.1", batch_size=64, finetune_epochs=1)
SPEC = spec_of(CONFIG)
STAGES = plan(CONFIG, SPEC)


def test_the_plan_tells_images_labels_steps_table_parameters_and_devices():
    given = np.full(4000, -1)
    given[:100] = np.arange(100) % 10
    table = PseudoLabelTable(given, 10, probabilities=np.full((4000, 10), 0.1, np.float32))
    network, devices = "lenet, 431,080 parameters", "1 replica on CPU"
    text = plan_text(
        STAGES, SPEC, table, title="title", num_test=1000, network=network, features="", devices=devices, beyond="more"
    )
    for part in (
        "100 labeled (soft, 10 in each of 10 classes) + 3,900 unlabeled, 1,000 to test on; 28x28x1 pixels",
        "431,080 parameters",
        "4,000 x 10 pseudo-logits, 0.15 MiB",
        "1 replica on CPU",
        "beyond    the paper: more\n",
        "2 epochs of 3 steps, 40 images a batch",
        "3 epochs of 81 steps, 64 images a batch (16 labeled + 48 unlabeled)",
        "1 epoch of 8 steps, 512 images a batch of all images",
        f"in all    {2 * 3 + 3 * 81 + 8:,} steps",
    ):
        assert part in text


SUMMARY = {
    "name": "x",
    "seed": 0,
    "test_error_percent": {"stage_1": 10.0, "stage_2": 5.0, "stage_3": 4.0},
    "pseudo_label_error_percent": {"stage_2": 5.5, "stage_3": 5.5},
    "seconds": {"stage_1": 1.0, "stage_2": 2.0, "stage_3": 3.0},
    "files": {"summary.json": "this"},
}


def test_the_result_of_stage_1_alone_offers_no_report():
    assert "tools.report" not in next_text(SUMMARY | {"test_error_percent": {"stage_1": 10.0}}, "runs/x")


def test_a_run_on_a_folder_offers_images_to_label():
    assert "tools.label_queue" in next_text(SUMMARY | {"dataset": "folder"}, "runs/x")
    assert "tools.label_queue" not in next_text(SUMMARY, "runs/x")


def test_the_result_tells_errors_change_files_and_what_to_type_next():
    text = result_text(SUMMARY, "runs/my run") + next_text(SUMMARY, "runs/my run")
    for part in (
        "10.00 %",
        "5.50 %",
        "10.00 % -> 4.00 % wrong of the test images (60 % fewer errors)",
        "summary.json",
        "-m tools.report --run_dir='runs/my run'\n",
        "-m export --run_dir='runs/my run' --format",
    ):
        assert part in text
