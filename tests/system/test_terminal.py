import io

from r2d2_tf.system import messages, terminal

PLAN = "  images    100 labeled (10 in each of 10 classes) + 3,900 unlabeled, 1,000 to test on; 28x28x1 pixels"


def test_further_lines_of_a_text_begin_where_its_first_does():
    first, second = terminal.fitted(PLAN, 80).split("\n")
    assert len(first) <= 80
    assert second == "            test on; 28x28x1 pixels"


def test_a_line_without_a_label_is_moved_in_by_two():
    assert terminal.fitted("a line that is parted at its words", 20).split("\n")[1].startswith("  ")


def test_what_may_be_pasted_stays_in_one_piece():
    path = "/a/long-path/" + "x" * 60
    assert path in terminal.fitted(f"moved the earlier run to {path}", 40)


def test_a_file_gets_lines_as_they_are():
    assert terminal.columns(io.StringIO()) is None
    assert terminal.fitted(PLAN, None) == PLAN


def test_times_are_told_as_they_are_said():
    assert [messages.time_text(seconds) for seconds in (0.2, 25.4, 100, 754, 7200, 400_000)] == [
        *("0 s", "25 s", "1.7 min", "13 min", "2 h", "4.6 days"),
    ]


def test_a_range_is_one_number_once_its_ends_are_near():
    assert messages.time_text(20, 31) == "20-31 s"
    assert messages.time_text(700, 1150) == "12-19 min"
    assert messages.time_text(5000, 10_000) == "1.4-2.8 h"
    assert messages.time_text(100, 110) == "1.8 min"


def test_what_is_printed_moves_no_cursor_and_colors_nothing(capsys):
    with terminal.plain_output():
        print("cat\x1b[2J\x1b]0;owned\x07\r, \u202e\x9b1m, \udcff and caf\u00e9\u200d", "a\tb", sep="\n")
    assert capsys.readouterr().out == "cat\\x1b[2J\\x1b]0;owned\\x07\\x0d, \\u202e\\x9b1m, \\xff and caf\u00e9\u200d\na\tb\n"
    messages.warn("dog\x1b[2J")
    assert capsys.readouterr().err == "warning: dog\\x1b[2J\n"
