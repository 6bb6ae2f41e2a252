"""The pages of the project: short lines, links that lead somewhere, a site that builds."""

import importlib.util
import inspect
import shutil
import subprocess
import sys

import markdown_pages
import pytest
from conftest import ROOT
from markdown_pages import DOCS, PAGES, name_of

import r2d2_tf

_LONGEST = 120
EACH = pytest.mark.parametrize("page", PAGES, ids=name_of)


@EACH
def test_lines_are_short_but_in_tables_and_output(page):
    prose, blocks = markdown_pages.parts(page)
    shown = [line for block in blocks if block.kind in ("indented", "sh", "python") for line in block.lines]
    assert not [line for line in [*prose, *shown] if len(line) > _LONGEST and not line.startswith("|")]


@EACH
def test_links_lead_to_files_and_headings(page):
    broken = []
    for link in markdown_pages.links(page):
        if link.startswith(("https://", "http://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        # The site has the pages in docs/ alone.
        is_there = target.is_file() and (DOCS in target.parents or DOCS not in page.parents)
        if not is_there or (anchor and anchor not in markdown_pages.anchors(target)):
            broken.append(link)
    assert not broken


def test_the_manual_is_an_index():
    assert len((ROOT / "BUILD.md").read_text().splitlines()) <= 250


def test_each_page_is_in_the_sites_menu():
    menu = (ROOT / "mkdocs.yml").read_text()
    assert not [
        str(page.relative_to(DOCS)) for page in PAGES if DOCS in page.parents and f" {page.relative_to(DOCS)}\n" not in menu
    ]


def test_each_page_is_named_where_one_starts():
    named = set(markdown_pages.links(DOCS / "index.md"))
    assert not {page.name for page in DOCS.glob("*.md")} - named - {"index.md"}


@EACH
def test_a_page_of_docs_begins_with_an_example(page):
    if DOCS not in page.parents or "_seed" in page.name or page.name.startswith("table"):
        pytest.skip("no page of docs/ that is written by hand")
    _, blocks = markdown_pages.parts(page)
    assert blocks


def test_public_names_are_on_the_page_of_the_api():
    text = (DOCS / "api.md").read_text()
    names = {f"r2d2_tf.{home}.{name}" for name, home in r2d2_tf._HOMES.items() if importlib.util.find_spec(f"r2d2_tf.{home}")}
    assert not [name for name in names if f"::: {name}\n" not in text]


@pytest.mark.parametrize("name", r2d2_tf.__all__)
def test_public_names_say_what_they_are(name):
    value = getattr(r2d2_tf, name)
    parts = vars(value).items() if inspect.isclass(value) else ()
    public = [part for part, made in parts if inspect.isfunction(made) and not part.startswith("_")]
    assert inspect.getdoc(value)
    assert not [part for part in public if not inspect.getdoc(getattr(value, part))]


def test_the_site_builds_strictly(tmp_path):
    pytest.importorskip("zensical", reason="builds the site: make .venv/installed-dev")
    # A copy, as the pages and the menu are looked for beside the settings, and kept pages written there.
    shutil.copytree(DOCS, tmp_path / "docs")
    text = (ROOT / "mkdocs.yml").read_text()
    (tmp_path / "mkdocs.yml").write_text(text.replace("paths: [.]", f"paths: [{ROOT}]"))
    program = [sys.executable, "-m", "zensical", "build", "--strict"]
    built = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    assert "learn_pseudo_labels" in (tmp_path / ".site" / "api" / "index.html").read_text()
