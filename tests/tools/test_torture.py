"""What a killed, damaged or doubled run leaves, with the real command; tools.torture does the same many times over."""

import pytest

from tools.torture import __main__ as torture


@pytest.mark.slow
def test_every_promise_is_kept_under_a_few_kills(capsys):
    assert torture.main(["--kills=3"]) == 0
    printed = capsys.readouterr().out
    assert "   3 kills\n" in printed
    for promise in ("stops by a signal", "damaged or removed checkpoints", "second commands refused", "full disks"):
        assert promise in printed


def test_a_broken_promise_fails(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(torture, "FLAGS", ["--alpha=nonsense"])
    assert torture.main(["--kills=1"]) == 1
    assert "FAILED" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--kills=0"], ["--kill=1"], ["x"]])
def test_bad_input_is_one_line(arguments, capsys):
    assert torture.main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
