import importlib.util
import json
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from conftest import make_strategy, table_values, unpadded

from r2d2_tf.data.datasets import DATASETS
from r2d2_tf.method.pseudo_labels import PseudoLabelTable
from tools.benchmark import __main__ as benchmark
from tools.benchmark import networks
from tools.benchmark.arms import (
    checkpoints,
    export,
    input,
    photographs,
    prediction,
    replicas,
    serving,
    startup,
    steps,
    tables,
)
from tools.benchmark.measuring import PartFailed, Row, alternate, in_fresh_process, spread, table
from tools.benchmark.settings import CASES, PARTS, Settings, define_flags, parse
from tools.reproduce import fake_data

TINY = Settings(backbones=("lenet",), batch_sizes=(8,), rounds=2, seconds=0.0, rows=2_000, classes=10, threads=2, quick=True)
LENET = TINY.cases[0]


def settings_of(*arguments):
    flag_values = flags.FlagValues()
    define_flags(flag_values)
    return parse(flag_values, arguments)


def test_arms_take_turns_and_change_their_order_each_round():
    done = []
    arms = {"a": lambda steps: done.append(("a", steps)), "b": lambda steps: done.append(("b", steps))}
    measured, _ = alternate(arms, replace(TINY, rounds=3), steps=5)
    assert done == [("a", 10), ("b", 10), *((name, 5) for name in "abbaab")], "after a warm-up"
    assert [len(values) for values in measured.values()] == [3, 3]


def test_all_arms_do_as_many_steps_as_the_slowest_does_in_the_time_given(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    done = {"slow": [], "fast": []}

    def arm(name, seconds):
        def work(steps):
            done[name].append(steps)
            clock[0] += seconds * steps

        return work

    measured, count = alternate({"slow": arm("slow", 0.5), "fast": arm("fast", 0.1)}, replace(TINY, seconds=2.0))
    assert count == done["fast"][-1] == done["slow"][-1] == 4
    assert measured["fast"] == pytest.approx([0.1, 0.1])


def test_a_table_gives_the_ratio_of_the_medians_first_and_the_range_of_the_rounds_ratios():
    row = Row("lenet", {"a, s": [2.0, 3.0, 8.0], "b, s": [1.0, 2.0, 1.0]}, {"a / b": ("a, s", "b, s")}, note="As a note.")
    heads, _, *lines = [unpadded(line) for line in table([row])[1:]]
    assert heads == "| | a / b | a, s | b, s |"
    assert lines == [
        "| lenet | **3.000** (1.500 to 8.000) | 3.00 (2.00 to 8.00) | 1.00 (1.00 to 2.00) |",
        "",
        "As a note.",
    ]


def test_rows_of_other_columns_get_a_table_of_their_own():
    rows = [Row("x", {"a": [1.0]}), Row("y", {"a": [2.0]}), Row("z", {"b": [3.0]})]
    assert sum(line.startswith("|---") for line in table(rows)) == 2


def test_a_row_is_written_as_json_with_its_ratios():
    row = Row("x", {"a": [1.0, 3.0], "b": [4.0, 4.0]}, {"a / b": ("a", "b")})
    written = json.loads(json.dumps([row], default=Row.to_json))
    assert written[0].pop("ratios") == {"a / b": 0.5}
    assert table([Row(**written[0])]) == table([row])


@pytest.mark.parametrize(("values", "text"), [([0.5, 0.25, 1.0], "0.5000 (0.2500 to 1.0000)"), ([12_345.6], "12,346")])
def test_numbers_have_few_digits(values, text):
    assert spread(values) == text


def test_quick_changes_only_what_was_not_given():
    settings = settings_of("--quick", "--rows=3000")
    assert settings.rows == 3000
    assert settings.rounds < Settings.rounds
    assert settings_of("--quick", "--rounds=7").rounds == 7
    assert settings_of().backbones == tuple(CASES)


def test_each_network_has_its_batch_size():
    settings = settings_of("--backbones=conv_small,lenet", "--batch_sizes=16,8")
    assert [(config.backbone, config.batch_size) for config in settings.cases] == [("conv_small", 16), ("lenet", 8)]


def test_every_part_is_a_module():
    for name in PARTS:
        assert importlib.util.find_spec(f"tools.benchmark.arms.{name}") is not None
    modules = (checkpoints, export, input, photographs, prediction, replicas, serving, startup, steps, tables)
    assert all(hasattr(module, "part") for module in modules)


def test_photographs_are_measured_where_there_is_a_folder_of_them(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"imagenette.* needs --data_dir"):
        settings_of("--parts=photographs")
    with pytest.raises(ValueError, match=r"imagenette.* is not in --data_dir"):
        settings_of(f"--data_dir={tmp_path}")
    monkeypatch.setattr("tools.benchmark.settings.check_tfds", lambda name, data_dir: data_dir)
    assert "photographs" not in settings_of().parts
    assert settings_of(f"--data_dir={tmp_path}").parts == tuple(PARTS)
    assert settings_of(f"--data_dir={tmp_path}", "--parts=steps").parts == ("steps",)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--rows=0"],
        ["--rounds=0"],
        ["--rounds=x"],
        ["x"],
        ["--row=5"],
        ["--folder=/dev/null/x"],
        ["--json=/dev/null/x"],
        ["--parts=steps,sleep"],
        ["--parts="],
        ["--parts=steps,steps"],
        ["--backbones=resnet18"],
        ["--batch_sizes=64"],
        ["--backbones=lenet", "--batch_sizes=0"],
        ["--backbones=lenet", "--batch_sizes=-8"],
        ["--backbones=lenet", "--batch_sizes=\u00b2"],
        ["--seconds=nan"],
        ["--threads=-1"],
    ],
)
def test_bad_input_is_one_line(arguments, capsys):
    assert benchmark.main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_part_that_fails_is_told_and_the_others_are_measured(monkeypatch, capsys, tmp_path):
    def measured(function, settings):
        if function == "steps:part":
            raise PartFailed("killed")
        return [Row("lenet", {"a": [1.0]})]

    monkeypatch.setattr(benchmark, "in_fresh_process", measured)
    file = tmp_path / "numbers.json"
    assert benchmark.main(["--parts=steps,input", f"--json={file}"]) == 1
    out, err = capsys.readouterr()
    assert err == "error: steps was not measured: killed\n"
    assert "| lenet | 1.00 |" in unpadded(out)
    assert f"    $ python -m tools.benchmark --parts=steps,input --json={file}" in out
    written = json.loads(file.read_text())
    assert list(written["parts"]) == ["input"]
    assert {"machine", "commit", "threads", "versions", "command"} < set(written)


def test_steps_of_d2_and_of_supervised_keras_are_measured(monkeypatch):
    monkeypatch.setattr(steps.importlib.util, "find_spec", lambda name: None)
    row = steps.measure(LENET, TINY)
    assert list(row.numbers) == [steps.D2, steps.SUPERVISED]
    assert all(min(values) > 0 and len(values) == 2 for values in row.numbers.values())
    assert "PyTorch is not installed" in row.note


def test_the_supervised_arm_descends_with_coupled_l2():
    weight = keras.Variable([2.0])
    optimizer = steps.CoupledSGD(0.1, momentum=0.0, weight_decay=0.5)
    optimizer.build([weight])
    optimizer.apply([tf.constant([1.0])], [weight])
    assert weight.numpy() == pytest.approx(2.0 - 0.1 * (1.0 + 0.5 * 2.0))


def test_a_batch_of_the_benchmark_is_one_of_stage_2():
    labels = networks.some_labels(5_000, 10, num_labeled=LENET.num_labels)
    rows = steps.mixed_rows(labels, LENET)
    assert len(set(rows)) == LENET.batch_size
    assert (labels[rows] >= 0).sum() == LENET.labeled_per_batch


def test_the_input_is_measured_beside_training(monkeypatch):
    monkeypatch.setattr(input, "NUM_IMAGES", 2_000)
    row = input.measure(LENET, TINY)
    assert min(row.numbers[input.INPUT] + row.numbers[input.TRAINING]) > 0
    assert row.ratio("input / training") > 0


@pytest.mark.slow
def test_reprediction_and_the_forward_loop_are_measured():
    row = prediction.measure(replace(LENET, eval_batch_size=16, batch_size=64), TINY)
    assert min(row.numbers[prediction.REPREDICTION] + row.numbers[prediction.FORWARD]) > 0


@pytest.mark.slow
def test_step_times_of_tables_are_those_of_the_larger_beside_the_smallest(monkeypatch):
    monkeypatch.setitem(CASES, "conv_small", replace(CASES["conv_small"], batch_size=8))
    rows = tables.times([1_000, 2_000], TINY)
    assert [row.what for row in rows] == ["conv_small, batch 8, table of 2,000 x 10"]


def test_peaks_of_memory_are_those_beyond_the_smallest_table():
    gib = 2**30
    small = dict.fromkeys(tables.PHASES, gib)
    # 2 GiB, nearly: the smallest table has its own rows.
    large = dict.fromkeys(tables.PHASES, 3 * gib) | {"save": 4 * gib}
    row = tables.memory({1_000: small, 268_435_456: large}, 268_435_456, 2)
    assert row.ratio("step / table, memory") == pytest.approx(1.0, rel=1e-2)
    assert row.ratio("save / table, memory") == pytest.approx(1.5, rel=1e-2)


@pytest.mark.slow
def test_a_checkpoint_is_written_and_restored(tmp_path):
    row = checkpoints.large(tmp_path / "large", replace(TINY, rows=20_000, classes=100))
    assert row.numbers["written, GiB"][0] > 4 * 20_000 * 100 / 2**30
    assert 0 < row.ratio(checkpoints.SHARE) < 1
    assert list((tmp_path / "large").iterdir()) == []


@pytest.mark.slow
def test_restoring_takes_no_second_table():
    peaks = in_fresh_process("tables:peaks", replace(TINY, rows=200_000, classes=500), 200_000)
    assert peaks["restore"] - peaks["create"] < 0.8 * 4 * 200_000 * 500


@pytest.mark.slow
def test_every_part_is_measured_end_to_end(tmp_path, capfd):
    file = tmp_path / "numbers.json"
    fake_data.make("imagenette", tmp_path)
    capfd.readouterr()
    arguments = ["--quick", "--rows=2000", "--classes=10", "--backbones=lenet", f"--json={file}", f"--folder={tmp_path}"]
    assert benchmark.main([*arguments, f"--data_dir={tmp_path}"]) == 0
    measured = json.loads(file.read_text())["parts"]
    assert list(measured) == list(PARTS)
    assert all(rows and all(row["ratios"] for row in rows) for rows in measured.values())
    assert capfd.readouterr().err == ""


def torch_arm():
    if importlib.util.find_spec("torch") is None:
        pytest.skip("NO TORCH: the PyTorch networks are not compared with ours; docs/results/cost.md says how to install it")
    from tools.benchmark import torch_arm

    return torch_arm


def copy_weights(network, arm):
    """Gives the PyTorch network the weights of the Keras one."""
    import torch
    from torch import nn

    turned = arm.config.backbone in torch_arm().TURNED
    inner = network.layers[-1].layers
    layers = [layer for layer in inner if layer.weights]
    modules = [module for module in arm.network if list(module.parameters())]
    height_and_width = next((layer.input.shape[1:] for layer in inner if isinstance(layer, keras.layers.Flatten)), None)
    with torch.no_grad():
        for layer, module in zip(layers, modules, strict=True):
            values = [weight.numpy() for weight in layer.weights]
            if isinstance(module, nn.Conv2d):
                values[0] = np.transpose(values[0][::-1, ::-1] if turned else values[0], (3, 2, 0, 1))
            elif isinstance(module, nn.Linear):
                if height_and_width is not None:
                    # The first dense layer reads flattened features, here channels first, in Keras channels last.
                    values[0] = np.moveaxis(values[0].reshape(*height_and_width, -1), 2, 0).reshape(values[0].shape)
                    height_and_width = None
                values[0] = values[0].T
            for target, value in zip(tensors_of(module), values, strict=True):
                target.copy_(torch.from_numpy(np.ascontiguousarray(value)))


def tensors_of(module):
    """A module's parameters, and what batch normalisation keeps, in Keras' order."""
    kept = [module.running_mean, module.running_var] if hasattr(module, "running_mean") else []
    return [*module.parameters(), *kept]


def both(name, num_rows=64):
    """The PyTorch arm of a network with the weights of the Keras one, and the Keras one in a model with the same table."""
    module = torch_arm()
    config = replace(CASES[name], num_labels=10, batch_size=8)
    spec = DATASETS[config.dataset]
    labels = networks.some_labels(num_rows, spec.num_classes, num_labeled=10)
    model = networks.build_model(config, PseudoLabelTable(labels, spec.num_classes))
    model.optimizer.learning_rate = 0.05
    arm = module.TorchD2(config, labels, 0.05)
    copy_weights(model.backbone, arm)
    return model, arm, networks.noise(spec.image_shape, 8), np.arange(6, 14)


@pytest.mark.parametrize("name", CASES)
def test_the_pytorch_network_is_the_same(name):
    model, arm, images, _ = both(name)
    assert sum(p.numel() for p in arm.network.parameters()) == sum(w.numpy().size for w in model.trainable_variables)
    arm.network.eval()
    ours = model.backbone(images, training=False).numpy()
    np.testing.assert_allclose(arm.logits(arm.batch(images)).detach().numpy(), ours, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_a_step_in_pytorch_does_the_same_to_loss_network_and_table(name):
    model, arm, images, rows = both(name)
    import torch

    for layer in model.backbone.layers[-1].layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    for module in arm.network:
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    batches = networks.repeated(images, rows)
    for _ in range(2):
        history = model.fit(batches, steps_per_epoch=1, shuffle=False, verbose=0).history
        loss = arm.step(arm.batch(images), torch.from_numpy(rows))
        assert float(loss) == pytest.approx(history["loss"][0], rel=1e-3)
    np.testing.assert_allclose(arm.table.numpy(), table_values(model.table), rtol=1e-3, atol=1e-3)
    arm.network.eval()
    ours = model.backbone(images, training=False).numpy()
    np.testing.assert_allclose(arm.logits(arm.batch(images)).detach().numpy(), ours, rtol=1e-2, atol=1e-2)


@pytest.mark.slow
def test_replicas_train_on_the_same_global_batch():
    row = replicas.measure(LENET, TINY, make_strategy(1), make_strategy(2))
    assert row.ratio("2 replicas / 1, images/s") > 0


@pytest.mark.slow
def test_the_server_is_measured_beside_a_plain_handler():
    rows = serving.measure(LENET, TINY)
    assert [row.what for row in rows] == ["lenet, 1 at a time", "lenet, 32 at a time"]
    assert all(min(row.numbers[serving.OURS]) > 0 and row.ratio("export.serve / plain") > 0 for row in rows)


def test_servers_that_do_not_answer_alike_are_not_compared():
    one, other = ({"predictions": [{"probabilities": [first, 1 - first]}]} for first in (0.5, 0.6))
    serving._check_alike(one, one)
    with pytest.raises(ValueError, match="do not answer alike"):
        serving._check_alike(one, other)
