"""Which files are to be classified: the photographs that are named, and those in the folders that are named."""

import os
from collections.abc import Iterator, Sequence

from export.picture_files import IMAGE_ENDINGS
from r2d2_tf.data.readers.file_search import is_of_system


def check(names: Sequence[str]) -> None:
    """Raises ValueError unless there are names, and something at each."""
    if not names:
        raise ValueError("say which photographs to classify: files, or folders of them")
    for name in names:
        if not os.path.lexists(name):
            raise ValueError(f"there is no {shown(name)}: give files, or folders of them")


def count(names: Sequence[str]) -> tuple[int, int]:
    """How many photographs `walk` will give, and how many other files lie beside them, in the folders.

    Raises:
        ValueError: if there is no photograph.
    """
    photographs = others = 0
    for _, is_photograph in _files(names):
        photographs += is_photograph
        others += not is_photograph
    if not photographs:
        places = ", ".join(map(shown, names))
        raise ValueError(f"there is no photograph in {places} (looked for {', '.join(IMAGE_ENDINGS)}): name another folder")
    return photographs, others


def walk(names: Sequence[str]) -> Iterator[str]:
    """The photographs one after another, folders in sorted order.

    Hidden ones and folders of systems are left out, and links followed, as training does.

    A folder that cannot be listed is given itself, so that whoever reads it finds out why. Held are the names in the folders
    on the way down to one photograph, not those of all.
    """
    return (path for path, is_photograph in _files(names) if is_photograph)


def shown(name: str) -> str:
    """A name as text that can be printed and is valid UTF-8: a byte that is none as a backslash, an x and two digits."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _files(names: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Each file, and whether it is one to be classified: by its ending, but for those that were named."""
    for name in names:
        if os.path.isdir(name):
            yield from _in_folder(name)
        else:
            yield name, True


def _in_folder(top: str) -> Iterator[tuple[str, bool]]:
    # No recursion: folders may lie deeper in each other than Python's calls may. Each with those above it, which a link in it
    # may lead back to.
    waiting: list[tuple[str, frozenset[tuple[int, int]] | None]] = [(top, frozenset())]
    while waiting:
        path, above = waiting.pop()
        if above is None:
            yield path, path.lower().endswith(IMAGE_ENDINGS)
            continue
        try:
            about = os.stat(path)
            if (itself := (about.st_dev, about.st_ino)) in above:
                continue
            with os.scandir(path) as found:
                seen = ((e.name, _is_folder(e)) for e in found if not e.name.startswith("."))
                entries = sorted((name, is_dir) for name, is_dir in seen if not (is_dir and is_of_system(name)))
        except OSError:
            yield path, True
            continue
        waiting += [(os.path.join(path, name), above | {itself} if is_dir else None) for name, is_dir in reversed(entries)]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link to itself.
        return False
