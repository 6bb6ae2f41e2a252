import pytest

from tools import benchmark

LARGE = {
    "rows": 1_281_167,
    "classes": 1000,
    "bytes": 5 * 2**30,
    "save_seconds": [20.0, 18.0, 30.0],
    "restore_seconds": [9.0],
    "save_memory_bytes": 2**29,
    "restore_memory_bytes": 0,
    "minutes": 15.0,
    "share": 20 / 900,
}
RUN = {"seconds": 50.0, "checkpoints": 37, "checkpoint_seconds": 0.75, "share": 0.015}


def test_the_report_gives_shares_of_the_time_first():
    lines = benchmark.report({"large": LARGE, "run": RUN}).splitlines()
    assert "| mnist5k, a whole run | 1.5 % | 37 checkpoints in 0.75 of 50 s |" in lines
    assert "every 15 minutes | 2.2 % | 5.00 GiB written in 20.0 (18.0 to 30.0) s |" in lines[5]


@pytest.mark.slow
def test_a_checkpoint_is_written_and_restored_and_takes_little_memory(tmp_path):
    rows, classes = 200_000, 100
    measured = benchmark.large_checkpoint(tmp_path / "large", rows, classes, 1)
    assert measured["bytes"] > 4 * rows * classes
    assert 0 < measured["share"] < 1
    assert measured["restore_memory_bytes"] < 4 * rows * classes, "not a second table"
    assert list((tmp_path / "large").iterdir()) == []


@pytest.mark.parametrize("arguments", [["--rows=0"], ["--folder=/dev/null/x"], ["--row=5"]])
def test_bad_input_is_one_line(arguments, capsys):
    assert benchmark.main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
