"""Each page's commands, one after the other, in a folder that holds what a reader has; and what pages leave to others."""

import subprocess
import sys

import markdown_pages
import pytest
import walking
from conftest import ROOT, SHORT, made_once
from things import Things
from walking import Walk

from r2d2_tf import train
from r2d2_tf.system import commands

README = "README.md"
WALKED = [command for command in markdown_pages.commands() if walking.is_walked(command)]
PAGES = sorted({command.page for command in WALKED} - {README})


@pytest.fixture(scope="session")
def other_run(tmp_path_factory):
    """A short, finished run of a network of two features, whose labeled rows were learned, too."""

    def make(folder):
        flags = ("--seed=1", "--backbone=lenet_2d", "--learn_labeled_rows", "--max_steps=4")
        assert train.main([*SHORT, *flags, f"--run_dir={folder}"]) == 0

    return made_once(tmp_path_factory, "of_two_features", make)


@pytest.fixture(scope="session")
def done():
    """The commands that were run and are the same wherever they stand."""
    return set()


@pytest.fixture
def walk(request, done, tmp_path, monkeypatch):
    # Networks of a reader's own lie in the working directory.
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    walking.train_in_this_process(monkeypatch)
    yield Walk(Things(request), done)
    sys.modules.pop("my_networks", None)


# scikit-learn's methods warn of what becomes of so few images.
@pytest.mark.filterwarnings("default:::sklearn")
@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_work(page, walk):
    walk.walk([command for command in WALKED if command.page == page])
    if walk.left_out:
        pytest.skip("NOT RUN: " + "; ".join(walk.left_out))


@pytest.mark.slow
def test_the_readmes_commands_work_word_for_word(request, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # As a reader has it, who begins.
    monkeypatch.setenv("R2D2_TF_CACHE", str(tmp_path / "cache"))
    Walk(Things(request), set(), in_processes=True).walk([command for command in WALKED if command.page == README])
    assert "wrong of 18 test images" in capsys.readouterr().out
    assert (tmp_path / "runs" / "photos" / "report.html").is_file()
    assert (tmp_path / "runs" / "photos" / "export" / "saved_model" / "1" / "saved_model.pb").is_file()


@pytest.mark.slow
def test_the_quickstart_of_the_makefile_works(walk):
    printed = subprocess.run(["make", "--dry-run", "quickstart"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = [c for line in printed.splitlines() for c in markdown_pages.commands_in(line, page="Makefile", is_marked=False)]
    own = [command for command in found if command.module in commands.MODULES]
    assert [command.module for command in own] == ["r2d2_tf.train", "export", "export.inference"]
    walk.walk(own)
