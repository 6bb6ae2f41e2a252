"""The page of error messages quotes what the programs say."""

import ast
import re

import markdown_pages
import pytest
from conftest import ROOT
from markdown_pages import DOCS

PAGE = DOCS / "troubleshooting.md"
_OF_OTHERS = ("error: no Python", "No module named", "absl::InitializeLog", "Killed")
"""Said by make, Python, TensorFlow and the shell."""


def texts_of(tree: ast.AST) -> list[str]:
    """All texts of a source, what is filled in as an ellipsis."""
    return [
        "".join(str(part.value) if isinstance(part, ast.Constant) else "..." for part in node.values)
        if isinstance(node, ast.JoinedStr)
        else node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))
    ]


@pytest.fixture(scope="module")
def said():
    paths = [path for package in ("r2d2_tf", "export", "tools") for path in (ROOT / package).rglob("*.py")]
    return "\n".join(" ".join(text.split()) for path in paths for text in texts_of(ast.parse(path.read_text())))


def quoted() -> list[str]:
    prose, _ = markdown_pages.parts(PAGE)
    rows = [line for line in prose if line.startswith("| `")]
    return [text for row in rows for text in re.findall(r"`([^`]+)`", row.split(" | ")[0])]


def test_each_message_that_is_quoted_is_said(said):
    assert len(quoted()) > 80
    unsaid = []
    for text in quoted():
        pattern = r"[^\n]*?".join(re.escape(part.strip()) for part in text.split("...") if part.strip())
        if not text.startswith(_OF_OTHERS) and not re.search(pattern, said):
            unsaid.append(text)
    assert not unsaid
