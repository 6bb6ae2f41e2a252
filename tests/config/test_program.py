"""What every program does around its own work."""

import os
import subprocess
import sys

import pytest
from absl import flags
from conftest import ROOT

from r2d2_tf.config.command_line import run_program, run_with_flags

NOBODY_READS = "from r2d2_tf.config.command_line import run_program; import sys; sys.exit(run_program([{}], 'x' * {}, {}))"


def own_flags():
    values = flags.FlagValues()
    flags.DEFINE_integer("count", 3, "how many", lower_bound=1, flag_values=values)
    return values


def test_the_exit_code_is_that_of_the_work_which_gets_its_flags_parsed():
    assert run_with_flags(["--count=7"], "About.", own_flags(), lambda values: values["count"].value) == 7


def test_help_is_printed_and_nothing_done(capsys):
    assert run_with_flags(["--count=7", "--help"], "About.", own_flags(), lambda values: pytest.fail("it was run")) == 0
    out = capsys.readouterr().out
    assert out.startswith("About.\n")
    assert "  --count=" in out
    assert "\n      how many" in out
    assert run_with_flags(["--helpfull"], "About.", own_flags(), lambda values: pytest.fail("it was run")) == 0
    full = capsys.readouterr().out
    assert full.startswith(out.rstrip("\n"))
    assert "--undefok" in full.removeprefix(out)


def test_the_help_of_a_tool_is_as_wide_as_the_terminal_and_told_in_the_manner_of_a_run(capsys, monkeypatch):
    own = flags.FlagValues()
    flags.DEFINE_enum("way", "fast", ["fast", "slow"], "how it is done " + "and more " * 20, flag_values=own)
    flags.DEFINE_list("names", ["a", "b"], "whose", flag_values=own)
    flags.DEFINE_bool("plain", True, "nothing else", flag_values=own)
    monkeypatch.setenv("COLUMNS", "60")
    about = "About it,\nand more.\n\n    python -m tools.example --way=fast"
    assert run_with_flags(["--help"], about, own, lambda values: 0) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["About it, and more.", "", "    python -m tools.example --way=fast"]
    assert [line for line in lines if line.startswith("  --")] == ["  --way=fast", "  --names=a,b", "  --plain=true"]
    assert any(line.endswith("(fast | slow)") for line in lines)
    assert max(map(len, lines[3:])) <= 60


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--counts=7"], "there is no flag --counts: did you mean --count?"),
        (["--count=0"], "cannot read the flags"),
        (["7"], "'7' is not a flag"),
    ],
)
def test_a_wrong_flag_is_one_line(arguments, message, capsys):
    assert run_with_flags(arguments, "About.", own_flags(), lambda values: pytest.fail("it was run")) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("raised", "code", "told"),
    [(ValueError("a\nb"), 2, "error: a b\n"), (OSError("no disk"), 2, "error: no disk\n"), (KeyboardInterrupt(), 130, "")],
)
def test_what_a_person_can_mend_is_one_line(raised, code, told, capsys):
    def work():
        raise raised

    assert run_program([], "", work) == code
    assert capsys.readouterr().err == told


def test_a_mistake_of_the_program_itself_is_no_exit_code():
    with pytest.raises(ZeroDivisionError):
        run_program([], "", lambda: 1 // 0)


@pytest.mark.parametrize("lines", [1, 100_000], ids=["left in the buffer", "more than the buffer holds"])
@pytest.mark.parametrize("asks_for_help", [True, False])
def test_output_that_nobody_reads_ends_the_program_in_silence(lines, asks_for_help):
    work = f"lambda: print('x' * {lines}) or 0"
    program = NOBODY_READS.format("'--help'" if asks_for_help else "", lines, work)
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")
