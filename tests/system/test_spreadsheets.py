import csv
import random
import re

import pytest

from r2d2_tf.system import spreadsheets
from r2d2_tf.system.spreadsheets import cell, value

SIGNS = "=+-@';\\x5c1bu202e, \t\r\n\x1b\x9b\u202e\uff1d\u00e9"


def test_what_is_written_is_read_back_and_is_neither_a_formula_nor_moves_a_cursor():
    generator = random.Random(0)
    for text in ("".join(generator.choices(SIGNS, k=generator.randint(0, 9))) for _ in range(10_000)):
        written = cell(text)
        assert value(written) == text, ascii(text)
        assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e]", written), ascii(text)
        is_number = re.fullmatch(r"(?i)[+-]?([0-9.]+(e[+-]?[0-9]+)?|inf|nan)", written)
        assert is_number or not re.search(r"(^|;) *[=+\-@\uff1d].", written), ascii(text)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ('=HYPERLINK("http://x")', '\'=HYPERLINK("http://x")'),
        ("@SUM(1)", "'@SUM(1)"),
        ("-cmd|' /C calc'!A0.png", "'-cmd|' /C calc'!A0.png"),
        ("cat;=1+1", "cat;'=1+1"),
        ("\t=1", "\\x09=1"),
        ("\r=1", "\\x0d=1"),
        ("'=1", "''=1"),
        ("\x1b]0;owned\x07", "\\x1b]0;owned\\x07"),
        ("a\u202egpj.exe", "a\\u202egpj.exe"),
        (os_name := b"\xff.jpg".decode("utf-8", "surrogateescape"), "\\xff.jpg"),
        ("train\\x10.png", "train\\x5cx10.png"),
        ("it's", "it's"),
        ("-0.5", "-0.5"),
        ("+3", "+3"),
        ("-1.5e-07", "-1.5e-07"),
        ("-", "-"),
        (-0.5, -0.5),
        (None, None),
    ],
)
def test_a_cell(text, written):
    assert cell(text) == written
    if isinstance(text, str) and text != os_name:
        assert value(written) == text


def test_cells_of_others_are_what_they_say():
    for text in ("'tis", "train\\x41.png", "a'=b"):
        assert value(text) == text


def test_a_file_comes_back_with_its_titles(tmp_path):
    lines = [["file", "=label"], ["line\nbreak.png", "-x"], ['"quoted".png', "caf\u00e9"]]
    spreadsheets.write(tmp_path / "x.csv", lines)
    assert spreadsheets.read(tmp_path / "x.csv") == lines
    assert spreadsheets.read_columns(tmp_path / "x.csv")[0] == {"file": "line\nbreak.png", "=label": "-x"}
    with (tmp_path / "x.csv").open(newline="") as file:
        assert list(csv.reader(file))[1] == ["line\\x0abreak.png", "'-x"], "any other program reads it, too"
    assert b"\n" in (tmp_path / "x.csv").read_bytes()


def test_a_file_that_is_none_of_these_is_one_line(tmp_path):
    for content, message in ((b"\xff\xfe", "no CSV file"), (b"x" * 2**18, "no CSV file"), (b"a,b\n1,2\n", "column file")):
        (tmp_path / "x.csv").write_bytes(content)
        with pytest.raises(ValueError, match=message) as caught:
            spreadsheets.read_columns(tmp_path / "x.csv", "file")
        assert "\n" not in str(caught.value)
