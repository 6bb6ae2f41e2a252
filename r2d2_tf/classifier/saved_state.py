"""What a fitted classifier knows that is not in its run, and how it is kept in a file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from r2d2_tf.classifier.given_images import Pixels
from r2d2_tf.system import files
from r2d2_tf.system.messages import mistake

FILE = "classifier.json"


@dataclass(frozen=True)
class SavedState:
    """What it knows.

    Attributes:
        parameters: of its constructor; a network among them is None.
        classes: sorted, as they came, `[classes]`.
        pixels: what the arrays of images look like; None: the images are files.
        count: of the images that were given; None: they are a folder.
    """

    parameters: dict[str, Any]
    classes: np.ndarray
    pixels: Pixels | None
    count: int | None

    def write(self, folder: Path) -> None:
        """Writes the file of a classifier's folder."""
        pixels = self.pixels and {"shape": list(self.pixels.shape), "of_floats": self.pixels.of_floats}
        classes = {"values": self.classes.tolist(), "dtype": self.classes.dtype.str}
        about = {"parameters": self.parameters, "classes": classes, "pixels": pixels, "count": self.count}
        files.write_text(folder / FILE, json.dumps(about, indent=2, default=_plain) + "\n")

    @classmethod
    def read(cls, folder: Path) -> "SavedState":
        """What `write` wrote.

        Raises:
            ValueError: in one line, if it is not there, or damaged.
        """
        path = folder / FILE
        if not path.is_file():
            raise mistake(f"{folder} holds no classifier, as there is no {FILE}: give a folder that save wrote")
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            pixels = about["pixels"] and Pixels(tuple(about["pixels"]["shape"]), about["pixels"]["of_floats"])
            classes = np.array(about["classes"]["values"], about["classes"]["dtype"])
            return cls(about["parameters"], classes, pixels, about["count"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise mistake(f"{path} is damaged: save the classifier again ({error})") from error


def _plain(value: object) -> object:
    """A number of NumPy's, as a parameter may be, as Python's."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be written")
