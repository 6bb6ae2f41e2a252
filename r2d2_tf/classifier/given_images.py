"""What `fit` and `predict` are given, checked: arrays of images, lists of files, a folder. Needs no TensorFlow."""

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from r2d2_tf.data.readers.file_search import IMAGE_ENDINGS
from r2d2_tf.system.messages import mistake

_CHANNELS = (1, 3)
_TO_255, _AS_IS = 255.0, 1.0
_SLACK = 1e-3
"""By which floats may lie outside of their range, as those that were resized do by rounding."""
_FEWEST = 2
"""Largest value of floats of 0..255, below which they are taken for 0..1 that left their range."""


_DARK = 63
"""Largest pixel below which a user is asked whether 255 is meant to be white."""
_STACK = 5
"""Frames from a warning here to the line that called fit."""


@dataclass(frozen=True)
class Pixels:
    """What the arrays of images look like that a classifier was fitted to.

    Attributes:
        shape: (height, width, channels).
        of_floats: what makes 0..255 of a value of floats: 255 where they were 0..1, or 1; None: there were no floats.
    """

    shape: tuple[int, int, int]
    of_floats: float | None


def folder_in(images: Any, name: str = "X") -> Path | None:
    """The folder that `images` is; None if it is something else.

    Raises:
        ValueError: if it is a path that leads to no folder.
    """
    if not isinstance(images, str | os.PathLike):
        return None
    path = Path(images).expanduser()
    if path.is_dir():
        return path.resolve()
    what = "is a file" if path.exists() else "does not exist"
    raise mistake(f"{name} ({str(path)!r}) {what}: give a folder of images, a list of files, or an array of images")


def files_in(images: Any, name: str = "X") -> list[Path] | None:
    """The files that `images` lists; None if it is something else.

    Raises:
        ValueError: for the first that is no file of images.
    """
    if isinstance(images, np.ndarray) and images.dtype.kind not in "OU":
        return None
    try:
        listed = list(images)
    except TypeError:
        return None
    if not listed or not any(isinstance(item, str | os.PathLike) for item in listed):
        return None
    files = []
    for place, item in enumerate(listed):
        if not isinstance(item, str | os.PathLike):
            raise mistake(f"{name}[{place}] is {type(item).__name__}, and no path, as others are: give a list of files")
        path = Path(item).expanduser()
        if path.suffix.lower() not in IMAGE_ENDINGS:
            raise mistake(f"{name}[{place}] ({str(path)!r}) is none of the files that are read ({', '.join(IMAGE_ENDINGS)})")
        if not path.is_file():
            raise mistake(f"{name}[{place}] ({str(path)!r}) is no file: give paths of images that are there")
        files.append(path.resolve())
    return files


def pixels_in(images: Any, fitted: Pixels | None = None, name: str = "X") -> tuple[np.ndarray, Pixels]:
    """An array of images as uint8, and what it looks like.

    Whole numbers are pixels of 0..255. Floats are 0..1 or 0..255, by their largest value as `fit` sees it: of a dark image
    alone nobody could say.

    Args:
        images: `[images, height, width]` or `[images, height, width, 1 or 3]`.
        fitted: what other images must look like; None: `images` are the first.
        name: of the argument, for messages.

    Returns:
        `[images, height, width, channels]` uint8, and what they look like.

    Raises:
        ValueError: if it is no such array.
    """
    try:
        array = np.asarray(images)
    except ValueError as error:
        raise mistake(f"{name} has images of several shapes: resize them to one, or give a list of files ({error})") from error
    if array.dtype.kind not in "biuf":
        raise mistake(f"{name} is an array of {array.dtype}: give images as numbers, a list of files, or a folder")
    if fitted is not None and array.shape in (fitted.shape, fitted.shape[:2]):
        raise mistake(f"{name} has shape {array.shape} and is one image: give several, as {name}[None] is")
    array = _shaped(array, name)
    if fitted is not None and array.shape[1:] != fitted.shape:
        raise mistake(f"{name} has images of shape {array.shape[1:]}, and fit had {fitted.shape}: give images of that shape")
    if array.dtype.kind == "f":
        factor = _factor(array, fitted, name)
        if fitted is None and factor == _AS_IS:
            _warn_of_darkness(array, name)
        return np.rint(array * factor).clip(0, 255).astype(np.uint8), Pixels(array.shape[1:], factor)
    known = Pixels(array.shape[1:], None)
    if array.dtype.kind == "b":
        return array.astype(np.uint8) * np.uint8(255), known
    if array.size and not 0 <= array.min() <= array.max() <= 255:
        raise mistake(f"{name} holds {array.min()} to {array.max()}: give pixels of 0..255, or floats of 0..1")
    if fitted is None:
        _warn_of_darkness(array, name)
    return array.astype(np.uint8, copy=False), known


def _warn_of_darkness(array: np.ndarray, name: str) -> None:
    """Tells of pixels that are all dark: scikit-learn's digits are 0..16."""
    if 0 < (most := array.max()) <= _DARK:
        text = f"{name} holds {most:g} at most, where white is 255: if {most:g} is white, give {name} * (255 / {most:g})"
        warnings.warn(text, UserWarning, stacklevel=_STACK)


def _shaped(array: np.ndarray, name: str) -> np.ndarray:
    """With the channels as its last axis."""
    wanted = "[images, height, width] or [images, height, width, 1 or 3]"
    if array.ndim < 3:
        hint = ""
        if array.ndim == 2 and (side := round(array.shape[1] ** 0.5)) ** 2 == array.shape[1] and side > 1:
            hint = f"; if they are images of {side} x {side} pixels, {name}.reshape(-1, {side}, {side})"
        raise mistake(f"{name} has shape {array.shape}, and images have {wanted}: tables are not learned from{hint}")
    array = array[..., None] if array.ndim == 3 else array
    if array.ndim != 4 or array.shape[-1] not in _CHANNELS:
        first = array.ndim == 4 and array.shape[1] in _CHANNELS
        hint = f": channels come last, as {name}.transpose(0, 2, 3, 1) has them" if first else ""
        raise mistake(f"{name} has shape {array.shape}, and images have {wanted}{hint}")
    if 0 in array.shape:
        raise mistake(f"{name} has shape {array.shape}, and so holds no image: give some")
    return array


def _factor(array: np.ndarray, fitted: Pixels | None, name: str) -> float:
    """What makes 0..255 of the floats."""
    least, most = float(array.min()), float(array.max())
    # NaN and infinity are found by the same comparison.
    if not (np.isfinite(least) and np.isfinite(most)):
        raise mistake(f"{name} holds NaN or infinity: give pixels of 0..255, or floats of 0..1")
    if not -_SLACK <= least <= most <= 255 + _SLACK:
        raise mistake(f"{name} holds {least:g} to {most:g}: give pixels of 0..255, or floats of 0..1, before any normalising")
    if fitted is None:
        if 1 + _SLACK < most < _FEWEST and (array != np.rint(array)).any():
            raise mistake(f"{name} holds {least:g} to {most:g}, neither 0..1 nor 0..255: clip them, or multiply by 255")
        return _TO_255 if most <= 1 + _SLACK else _AS_IS
    factor = _AS_IS if fitted.of_floats is None else fitted.of_floats
    if factor == _TO_255 and most > 1 + _SLACK:
        raise mistake(f"{name} holds floats up to {most:g}, and fit had 0..1: give the same range, or uint8")
    if factor == _AS_IS and 0 < most <= 1 and (array != np.rint(array)).any():
        kind = "whole numbers" if fitted.of_floats is None else "floats"
        raise mistake(f"{name} holds floats of 0..1, and fit had {kind} of 0..255: give the same range")
    return factor
