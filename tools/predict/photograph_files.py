"""Which files are to be classified: the photographs that are named, and those in the folders that are named."""

import os
from collections.abc import Iterator, Sequence

from export.picture_files import IMAGE_ENDINGS


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
    """The photographs one after another, folders in sorted order; hidden files and links to folders are left out.

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
    # No recursion: folders may lie deeper in each other than Python's calls may.
    waiting = [(top, True)]
    while waiting:
        path, is_folder = waiting.pop()
        if not is_folder:
            yield path, path.lower().endswith(IMAGE_ENDINGS)
            continue
        try:
            with os.scandir(path) as found:
                entries = sorted((e.name, e.is_dir(follow_symlinks=False)) for e in found if not e.name.startswith("."))
        except OSError:
            yield path, True
            continue
        waiting += [(os.path.join(path, name), is_dir) for name, is_dir in reversed(entries)]
