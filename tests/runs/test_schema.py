"""summary.json and choice.json of a run that somebody handed over."""

import json
import re
from typing import get_type_hints

import pytest
from conftest import SUMMARY

from r2d2_tf.runs.outcome import schema


def written(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_what_a_run_writes_is_read_as_it_is(finished_run):
    text = (finished_run / "summary.json").read_text()
    assert schema.summary_in(finished_run / "summary.json") == json.loads(text)
    assert set(json.loads(text)) <= set(get_type_hints(schema.Summary))


def test_a_summary_of_the_first_runs_is_read(tmp_path):
    lacks = {name: value for name, value in SUMMARY.items() if name not in ("fake_data", "machine")}
    found = schema.summary_in(written(tmp_path / "x", json.dumps(lacks)))
    assert found == SUMMARY | {"machine": "unknown"}


def damaged(**changes):
    return json.dumps(SUMMARY | changes)


HELD_OUT = {"stage": 1, "why": "", "held_out": {}, "p_value": None}
TAMPERED = {
    "brackets": ("[" * 100_000, "Expected `object`, got `array`"),
    "brackets in a place": ('{"versions": {"a": ' + "[" * 100_000, "Expected `str`, got `array`"),
    "objects in a place": ('{"rollbacks": [' + '{"x": ' * 100_000, "recursion"),
    "no summary": ("{}", "missing required field"),
    "a part": (json.dumps({"test_error_percent": {"stage_1": 1.0}}), "missing required field"),
    "no errors": (damaged(test_error_percent={}), "test_error_percent"),
    "a list of errors": (damaged(test_error_percent=[1, 2]), "test_error_percent"),
    "a text as an error": (damaged(test_error_percent={"stage_1": "x"}), "test_error_percent"),
    "no number": (damaged(test_error_percent={"stage_1": float("nan")}), "malformed"),
    "more than all": (damaged(test_error_percent={"stage_1": 100.1}), "100.0"),
    "a stage that none is": (damaged(test_error_percent={"stage_1\x1b[2J": 1.0}), r"stage_1\\x1b\[2J"),
    "a number of digits": (damaged().replace('"seed": 0', f'"seed": {"9" * 5000}'), "out of range"),
    "more than there can be": (damaged(num_test=10**17), "num_test"),
    "none": (damaged(num_test=0), "num_test"),
    "a list as a number": (damaged(num_labels=[]), "num_labels"),
    "a list of versions": (damaged(versions=["1"]), "versions"),
    "a text as a time": (damaged(seconds={"total": "x"}), "seconds"),
    "a list as a result": (damaged(result=[1]), "result"),
    "a text as a stage": (damaged(result=HELD_OUT | {"stage": "1"}), "result.stage"),
    "half a surrogate": (damaged().replace('"x"', r'"\ud800"'), "malformed"),
    "bytes": (b"\xff\xfe", "malformed"),
    "nothing": (b"", "truncated"),
}


@pytest.mark.parametrize(("content", "message"), TAMPERED.values(), ids=TAMPERED)
def test_a_tampered_summary_is_one_line_that_says_where(content, message, tmp_path):
    path = written(tmp_path / "summary.json", content)
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))} is damaged \(.*{message}.*\): remove the folder") as caught:
        schema.summary_in(path)
    assert str(caught.value).isprintable()


def test_a_summary_that_would_fill_the_memory_is_not_read(tmp_path):
    with (tmp_path / "x").open("wb") as file:
        file.truncate(2**33)
    with pytest.raises(ValueError, match="is larger than"):
        schema.summary_in(tmp_path / "x")


def test_texts_move_no_cursor_and_what_no_run_writes_is_not_handed_on(tmp_path):
    evil = {"git_commit": "\x1b]0;owned\x07", "files": {"x\x9b1m": "\u202e"}, "class_names": ["a\x1b", "b"], "evil": "\x1b"}
    found = schema.summary_in(written(tmp_path / "x", json.dumps(SUMMARY | evil)))
    assert "evil" not in found
    assert found["git_commit"] == "\\x1b]0;owned\\x07"
    assert found["files"] == {"x\\x9b1m": "\\u202e"}
    assert found["class_names"] == ["a\x1b", "b"], "by these a run knows its data"


def test_a_tampered_choice_is_one_line(tmp_path):
    for content in ("[]", '{"words": 1}', '{"held_out": {"stage_1": {"wrong": 1}}}', '{"tried": ' + "[" * 100_000):
        with pytest.raises(ValueError, match="is damaged"):
            schema.choice_in(written(tmp_path / "choice.json", content))
    assert schema.choice_in(written(tmp_path / "choice.json", '{"tried": {"head": {}}, "words": ["\\u001b"]}')) == {
        "words": ["\\x1b"]
    }
