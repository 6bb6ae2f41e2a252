"""What a file is, by its first bytes, whatever its name ends in. Needs no TensorFlow."""

from collections.abc import Sequence
from typing import NamedTuple


class Kind(NamedTuple):
    """A kind of file that is not read: its name, and the letters that stand at a place in each such file."""

    name: str
    place: int
    letters: bytes

    @property
    def reason(self) -> str:
        """Why it is not read."""
        how = "and no image" if self.name.startswith(_NO_IMAGES) else "which is not read: convert it to JPEG"
        return f"it is {self.name}, {how}"


_NO_IMAGES = ("a web page", "a video")

_BRANDS = {
    "AVIF": (b"avif", b"avis"),
    "HEIC": (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"),
    "a video": (b"isom", b"iso2", b"mp41", b"mp42", b"M4V ", b"qt  "),
}
NOT_READ = (
    *(Kind(name, 4, b"ftyp" + brand) for name, brands in _BRANDS.items() for brand in brands),
    Kind("TIFF", 0, b"II*\0"),
    Kind("TIFF", 0, b"MM\0*"),
    Kind("JPEG 2000", 0, b"\0\0\0\x0cjP  "),
    Kind("JPEG 2000", 0, b"\xff\x4f\xff\x51"),
    Kind("JPEG XL", 0, b"\0\0\0\x0cJXL "),
    Kind("JPEG XL", 0, b"\xff\x0a"),
    Kind("Photoshop's PSD", 0, b"8BPS"),
    Kind("an icon (ICO)", 0, b"\0\0\1\0"),
    Kind("DICOM", 128, b"DICM"),
    Kind("PDF", 0, b"%PDF"),
    Kind("SVG or XML", 0, b"<?xml"),
    Kind("SVG", 0, b"<svg"),
    Kind("a web page (HTML)", 0, b"<!DOCTYPE"),
    Kind("a web page (HTML)", 0, b"<!doctype"),
    Kind("a web page (HTML)", 0, b"<html"),
)


def not_read(encoded: bytes) -> str | None:
    """Why bytes of a known kind are not read; None if they may be."""
    for kind in NOT_READ:
        if encoded.startswith(kind.letters, kind.place):
            return kind.reason
    return None


_MOST_OF_16_BITS = 65_535
_DARK = _MOST_OF_16_BITS // 4


def is_dark(peak: int) -> bool:
    """Whether an image of 16 bits whose largest value this is gets nearly black once the upper 8 are kept."""
    return peak < _DARK


def about_16_bits(peaks: Sequence[int]) -> str:
    """What is to be said of images of 16 bits, of which these are the largest values; empty where there is none."""
    if not peaks:
        return ""
    dark = [peak for peak in peaks if is_dark(peak)]
    text, most = f"{len(peaks):,} images have 16 bits a channel, of which only the upper 8 are kept", f"{_MOST_OF_16_BITS:,}"
    if not dark:
        return text
    whose = "theirs" if len(dark) == len(peaks) else f"those of {len(dark):,}"
    return (
        f"{text}, and {whose} reach only {max(dark):,} of {most}, so that they become (nearly) black: convert them "
        "to 8 bits first, all by one scale"
    )
