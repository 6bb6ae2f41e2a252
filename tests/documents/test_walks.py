"""The README's way for photographs of one's own, typed word for word in a folder that holds them."""

import os
import shlex
import subprocess
import sys

import markdown_pages
import pytest
from conftest import ROOT
from own_photographs import colored_folder

_LONGEST = 1800
"""Seconds that a command may take where others run beside it; a minute or less on an idle machine."""


@pytest.fixture(scope="module")
def commands():
    _, blocks = markdown_pages.parts(ROOT / "README.md")
    [block] = [block for block in blocks if any("tools.check_data" in line for line in block.lines)]
    return [line.strip() for line in block.lines]


@pytest.mark.slow
def test_the_readmes_way_for_photographs_works_word_for_word(commands, tmp_path):
    colored_folder(tmp_path / "PHOTOS", labeled=3, unlabeled=20, test=6)
    (colored_folder(tmp_path / "others") / "unlabeled").rename(tmp_path / "MORE_PHOTOGRAPHS")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "R2D2_TF_CACHE": str(tmp_path / "cache")}
    said = ""
    for command in commands:
        python, *arguments = shlex.split(command)
        assert python == ".venv/bin/python"
        # A server runs until it is stopped: tests of it are elsewhere.
        if "export.serve" not in arguments:
            done = subprocess.run(
                [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=_LONGEST
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
            said += done.stdout
    assert "wrong of 18 test images" in said
    assert (tmp_path / "runs" / "photos" / "report.html").is_file()
    assert (tmp_path / "runs" / "photos" / "export" / "saved_model" / "1" / "saved_model.pb").is_file()
