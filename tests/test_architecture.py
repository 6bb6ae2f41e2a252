"""The layers of BUILD.md, read from the imports; and other promises about the source as a whole."""

import ast
from pathlib import Path

import pytest
from conftest import ROOT

LAYERS = (
    {"tfrecord", "messages", "files", "cluster", "image_size"},
    {"findings", "label_formats", "photograph_folder"},
    {"label_files"},
    {"photographs", "photograph_index", "own_images"},
    {"tfds_reader", "parts", "npz_reader", "image_data"},
    {"workers"},
    {
        "losses",
        "precision",
        "measures",
        "resources",
        "pseudo_labels",
        "schedules",
        "augment",
        "backbones",
        "datasets",
        "splits",
        "history",
        "startup",
        "devices",
        "interrupts",
        "flag_values",
        "flag_checks",
        "provenance",
        "run_state",
        "result",
    },
    {"config", "judging_images"},
    {"specs"},
    {"stages", "command_line"},
    {"run_directory"},
    {"collapse", "finite", "run_data", "other_runs", "run_network"},
    {"pipeline", "data_health", "model", "callbacks", "metrics_log", "progress", "checkpoints"},
    {"run_batches", "finished_run"},
    {"training"},
    {"experiment"},
    {"preview"},
    {"train"},
)
SOURCES = sorted(path for folder in ("r2d2_tf", "export", "tools") for path in (ROOT / folder).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Dotted names that a file imports anywhere, lazily too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room(dotted: str) -> str | None:
    parts = dotted.split(".")
    return parts[1] if parts[0] == "r2d2_tf" and len(parts) > 1 else None


def layer_of(name: str) -> int:
    return next(i for i, layer in enumerate(LAYERS) if name in layer)


PACKAGE = ROOT / "r2d2_tf"
ROOMS = {p: p.relative_to(PACKAGE).parts[0].removesuffix(".py") for p in SOURCES if p.is_relative_to(PACKAGE)}
ALL_ROOMS = set().union(*LAYERS)


@pytest.mark.parametrize("path", [p for p in ROOMS if p != PACKAGE / "__init__.py"], ids=lambda p: p.stem)
def test_a_module_imports_only_layers_below_its_own(path):
    own = ROOMS[path]
    for name in imported(path):
        other = room(name)
        if other in ALL_ROOMS and other != own:
            assert layer_of(other) < layer_of(own), f"{own} imports {other}"


def test_every_module_has_a_layer():
    rooms = {name for name in ROOMS.values() if name != "__init__"}
    assert rooms == ALL_ROOMS


@pytest.mark.parametrize("path", ROOMS, ids=lambda p: p.stem)
def test_the_package_knows_nothing_of_export_and_tools(path):
    assert not {name.split(".")[0] for name in imported(path)} & {"export", "tools"}


def test_inference_stands_alone():
    roots = {name.split(".")[0] for name in imported(ROOT / "export" / "inference.py")}
    standard = {"argparse", "json", "sys", "collections", "pathlib", "typing"}
    assert roots <= standard | {"numpy", "ai_edge_litert", "onnxruntime", "tensorflow", "PIL"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_source_is_ascii_and_short(path):
    text = path.read_text()
    assert text.isascii()
    assert len(text.splitlines()) <= 300


CHECKED_AT_ONCE = (
    "r2d2_tf/config.py",
    "r2d2_tf/train.py",
    "r2d2_tf/run_directory.py",
    "export/__main__.py",
    "export/serve.py",
    "tools/check_data.py",
    "tools/compare.py",
    "tools/evaluate.py",
    "tools/label_queue.py",
    "tools/load_test/__main__.py",
    "tools/predict.py",
    "tools/proposal_trial.py",
    "tools/pseudo_labels.py",
    "tools/queue_experiment.py",
    "tools/report/__main__.py",
    "tools/suspects.py",
    "tools/tune/__main__.py",
)


@pytest.mark.parametrize("name", CHECKED_AT_ONCE)
def test_a_command_line_is_checked_without_tensorflow(name):
    seen, todo = set(), [name.removesuffix(".py").replace("/", ".")]
    while todo:
        module = todo.pop()
        path = ROOT / (module.replace(".", "/") + ".py")
        path = path if path.is_file() else ROOT / module.replace(".", "/") / "__init__.py"
        if module in seen or not path.is_file():
            continue
        seen.add(module)
        top_level = [n for n in ast.parse(path.read_text()).body if isinstance(n, ast.Import | ast.ImportFrom)]
        for node in top_level:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
            names += [f"{node.module}.{a.name}" for a in node.names] if isinstance(node, ast.ImportFrom) else []
            assert not {n.split(".")[0] for n in names} & {"tensorflow", "keras", "tensorflow_datasets"}, module
            todo += [n for n in names if n.split(".")[0] in ("r2d2_tf", "export", "tools")]
    assert len(seen) > 2
