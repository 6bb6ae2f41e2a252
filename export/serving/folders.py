"""What a model is on disk: the folders of its versions, MODEL/1/, MODEL/2/, ..., and its names. Imports no TensorFlow."""

from pathlib import Path

from export.inference import SAVED_MODEL_FILE, is_saved_model

DEFAULT_SIGNATURE = "serving_default"
LARGEST_VERSION = 2**63 - 1
Fingerprint = frozenset[tuple[str, int, int]]


def version_folders(folder: Path) -> list[tuple[int, Path]]:
    """The versions in a model's folder, the highest first. `02` is none: there may be a `2` beside it."""
    names = {path.name: path for path in folder.iterdir() if path.name.isascii() and path.name.isdigit()}
    numbered = [(int(name), path) for name, path in names.items() if str(int(name)) == name and int(name) <= LARGEST_VERSION]
    return sorted((version for version in numbered if version[1].is_dir()), reverse=True)


def fingerprint(folder: Path) -> Fingerprint:
    """What changes when a file in `folder` does: each one's name, size and time."""
    found = set()
    for path in folder.rglob("*"):
        try:
            facts = path.stat()
        except FileNotFoundError:
            continue  # Removed meanwhile: the next look shows it.
        found.add((str(path.relative_to(folder)), facts.st_size, facts.st_mtime_ns))
    return frozenset(found)


def check_model_folder(folder: Path) -> None:
    """Raises ValueError unless `folder` holds at least one version of a SavedModel."""
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}: give --model=MODEL, a folder that holds 1/{SAVED_MODEL_FILE}")
    if any(is_saved_model(path) for _, path in version_folders(folder)):
        return
    hint = f"; {folder.parent} looks like the one meant" if is_saved_model(folder) and folder.name.isdigit() else ""
    raise ValueError(f"{folder} holds no version of a SavedModel, such as {folder / '1' / SAVED_MODEL_FILE}{hint}")
