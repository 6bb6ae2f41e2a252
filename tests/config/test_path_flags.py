"""Every flag and argument that names a file or folder takes ~, which bash leaves as it is in --flag=~/x."""

import argparse
import dataclasses
import importlib
import re
from pathlib import Path

import pytest
from absl import flags
from conftest import ROOT

from r2d2_tf.config import path_flags
from r2d2_tf.config.command_line import from_command_line
from r2d2_tf.config.config import Config
from r2d2_tf.system.files import with_home
from tools.shared.arguments import parse_with_names

COMMANDS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for room in ("tools", "export")
    for path in (ROOT / room).rglob("*.py")
    if "def main(arguments: Sequence[str]) -> " in path.read_text()
)
NAMES_A_PLACE = re.compile(r"\b(files?|folders?|flagfile|where|picture|models?|exports?|config|images?)\b")
NO_PLACE = {
    ("tools.benchmark.__main__", "batch_sizes"),
    ("tools.benchmark.__main__", "parts"),
    ("tools.check_data.__main__", "dataset"),
    ("export.serve", "name"),
    ("export.serve", "host"),
    ("export.client", "--model"),
    ("tools.evaluate.__main__", "split"),
    ("tools.load_test.__main__", "name"),
    ("tools.tune.__main__", "validation_dataset"),
    ("tools.check_data.proposal_trial", "seeds"),
    ("tools.check_data.proposal_trial", "dataset"),
}
"""Flags whose help speaks of one, and that take something else."""


def options_of(command, monkeypatch):
    """Name, help and a function that reads a text, of each flag and argument of a command but those of r2d2_tf.train."""
    found: dict = {}
    of_run = {field.name: field.metadata["help"] for field in dataclasses.fields(Config)}
    define, add = flags.FlagValues.__setitem__, argparse.ArgumentParser.add_argument

    def defined(values, name, flag):
        is_text = isinstance(flag.parser, path_flags.PathParser | flags.ListParser) or type(flag.parser) is flags.ArgumentParser
        if is_text and flag.help != of_run.get(name):
            found[name] = (flag.help, flag.parser.parse)
        define(values, name, flag)

    def added(parser, *names, **options):
        if names[0] != "-h" and options.get("type") not in (int, float) and "choices" not in options:
            found[names[0]] = (options["help"], options.get("type", str))
        return add(parser, *names, **options)

    monkeypatch.setattr(flags.FlagValues, "__setitem__", defined)
    monkeypatch.setattr(argparse.ArgumentParser, "add_argument", added)
    main = importlib.import_module(command).main
    try:
        main(["--help"])
    except SystemExit:
        assert found
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_a_flag_whose_help_names_a_file_or_folder_takes_a_home(command, monkeypatch, capsys):
    monkeypatch.setenv("HOME", "/home/of/test")
    for name, (about, parse) in options_of(command, monkeypatch).items():
        if NAMES_A_PLACE.search(about) and (command, name) not in NO_PLACE:
            value = parse("~/x,~/y")
            assert "~" not in str(value) or str(value) == "/home/of/test/x,~/y", f"{command} {name}: use define_path"


def test_flags_of_a_run_that_name_a_file_or_folder_are_held_as_they_were_given(monkeypatch):
    monkeypatch.setenv("HOME", "/home/of/test")
    config = from_command_line(["--dataset=folder", "--data_dir=~/photos", "--labels=~/l.csv", "--run_dir=~/run"])
    assert config.data_dir == "~/photos"
    assert config.data_path == Path("/home/of/test/photos")
    assert config.resolved_run_dir == Path("/home/of/test/run")


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("~", "/home/of/test"),
        ("~/x", "/home/of/test/x"),
        ("x/~", "x/~"),
        ("~nobody-of-this-name/x", "~nobody-of-this-name/x"),
        ("x~", "x~"),
        ("", ""),
        ("-", "-"),
    ],
)
def test_a_leading_home_is_written_out(name, place, monkeypatch):
    monkeypatch.setenv("HOME", "/home/of/test")
    assert with_home(name) == place


def test_no_home_is_told(monkeypatch):
    monkeypatch.setattr("os.path.expanduser", lambda name: name)
    with pytest.raises(ValueError, match="there is no home folder here"):
        with_home("~/x")


def test_names_beside_flags_take_a_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/of/test")
    assert parse_with_names(flags.FlagValues(), ["~/a.jpg", "--", "~/b.jpg"]) == ["/home/of/test/a.jpg", "/home/of/test/b.jpg"]


def test_a_list_takes_a_home_in_each_of_its_names(monkeypatch):
    monkeypatch.setenv("HOME", "/home/of/test")
    values = flags.FlagValues()
    path_flags.define_paths("model", "", "models", flag_values=values)
    values(["program", "--model=~/a.tflite,b.onnx,~/c"])
    assert values["model"].value == ["/home/of/test/a.tflite", "b.onnx", "/home/of/test/c"]
