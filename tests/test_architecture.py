"""Which package may import which, read from the imports; and other promises about the source as a whole."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest
from conftest import ROOT

ORDER = (
    {"system"},
    {"data", "backbones"},
    {"distributed"},
    {"method"},
    {"config"},
    {"runs"},
    {"training"},
    {"recipes"},
    {"train", "classifier"},
    {"__main__"},
)
"""The rooms of r2d2_tf: each imports only what stands in a line above its own."""
PACKAGES = ("r2d2_tf", "export", "tools")
SOURCES = sorted(path for folder in PACKAGES for path in (ROOT / folder).rglob("*.py"))


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {dotted(path): path for path in SOURCES}


def imported(path: Path, *, lazily: bool = True) -> set[str]:
    """Dotted names that a file imports, anywhere or only where it is imported itself."""
    tree = ast.parse(path.read_text())
    names = set()
    for node in ast.walk(tree) if lazily else tree.body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            # A package is named on the way to a module in it; it is imported only for what its own file holds.
            names |= members if members <= MODULES.keys() else members | {node.module}
    return names


def modules_imported(path: Path, *, lazily: bool = True) -> set[str]:
    return {name for name in imported(path, lazily=lazily) if name in MODULES}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_rooms_import_only_rooms_below_their_own():
    floor = {name: number for number, names in enumerate(ORDER) for name in names}
    upward = [
        f"{module} imports {other}"
        for module, path in MODULES.items()
        if module.startswith("r2d2_tf.")
        for other in modules_imported(path)
        if other.startswith("r2d2_tf.") and room(other) != room(module) and floor[room(other)] >= floor[room(module)]
    ]
    assert not upward


def test_no_module_imports_itself_by_others():
    imports = {module: modules_imported(path) - {module} for module, path in MODULES.items()}
    while free := [module for module, others in imports.items() if not others & imports.keys()]:
        for module in free:
            del imports[module]
    assert not imports, "these import each other, or who does"


def test_the_package_knows_nothing_of_export_and_tools():
    assert not [m for m, path in MODULES.items() if room(m) and m.startswith("r2d2_tf") and
                {name.split(".")[0] for name in imported(path)} & {"export", "tools"}]  # fmt: skip


def command(module: str) -> str:
    """Of tools: the command that a module belongs to; "shared" belongs to all."""
    return room(module) if module.startswith("tools.") else ""


def test_no_command_imports_another():
    across = [
        f"{module} imports {other}"
        for module, path in MODULES.items()
        for other in modules_imported(path)
        if command(other) not in ("", "shared", command(module)) or other.endswith("__main__")
    ]
    assert not across


def test_folders_stay_small():
    doors = ("__init__.py", "__main__.py", "train.py", "__pycache__")
    assert len([p for p in (ROOT / "r2d2_tf").iterdir() if p.name not in doors]) <= 10
    count = Counter(path.parent for path in SOURCES if path.name != "__init__.py")
    assert not {str(folder.relative_to(ROOT)): n for folder, n in count.items() if n > 12}


def test_no_two_modules_have_one_name():
    # A command, and a part of the benchmark, is named as a person types it.
    typed = (ROOT / "tools", ROOT / "tools" / "benchmark" / "arms")
    count = Counter(path.stem for path in SOURCES if path.parent not in typed and not path.stem.startswith("__"))
    assert not [name for name, number in count.items() if number > 1]


def test_inference_stands_alone():
    files = (ROOT / "export" / name for name in ("inference.py", "picture_files.py"))
    roots = {name.split(".")[0] for path in files for name in imported(path) if "picture_files" not in name}
    standard = {"argparse", "json", "os", "sys", "collections", "pathlib", "typing"}
    assert roots <= standard | {"numpy", "ai_edge_litert", "onnxruntime", "tensorflow", "PIL"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_source_is_ascii_and_short(path):
    text = path.read_text()
    assert text.isascii()
    assert len(text.splitlines()) <= 300


def test_contributing_names_files_that_are_there():
    named = set(re.findall(r"`((?:r2d2_tf|export|tests)/[\w/.]*)`", (ROOT / "CONTRIBUTING.md").read_text()))
    assert len(named) > 10
    assert not [name for name in named if not (ROOT / name).exists()]


CHECKED_AT_ONCE = (
    "r2d2_tf.train",
    "export.__main__",
    "export.serve",
    "tools.check_data.__main__",
    "tools.check_data.proposal_trial",
    "tools.compare.__main__",
    "tools.evaluate.__main__",
    "tools.label_queue.__main__",
    "tools.label_queue.queue_experiment",
    "tools.load_test.__main__",
    "tools.predict.__main__",
    "tools.pseudo_labels",
    "tools.report.__main__",
    "tools.suspects",
    "tools.tune.__main__",
)


@pytest.mark.parametrize("name", CHECKED_AT_ONCE)
def test_a_command_line_is_checked_without_tensorflow(name):
    seen, todo = set(), [name]
    while todo:
        module = todo.pop()
        if module in seen or module not in MODULES:
            continue
        seen.add(module)
        names = imported(MODULES[module], lazily=False)
        assert not {n.split(".")[0] for n in names} & {"tensorflow", "keras", "tensorflow_datasets"}, module
        # Importing a module imports the packages that it is in.
        todo += [*names, *(module.rsplit(".", n)[0] for n in range(1, module.count(".") + 1))]
    assert len(seen) > 2
