"""The examples in docstrings do what they say."""

import doctest
import importlib

import pytest
from conftest import ROOT

MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for package in ("r2d2_tf", "export", "tools")
    for path in (ROOT / package).rglob("*.py")
    if ">>> " in path.read_text()
)


def test_there_are_examples():
    assert len(MODULES) >= 4


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_stands_below_them(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted > 0
    assert found.failed == 0
