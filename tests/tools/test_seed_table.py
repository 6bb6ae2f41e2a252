from conftest import unpadded

from tools.shared.seed_table import Column, seed_table


def test_a_table_has_a_line_a_seed_and_then_mean_and_standard_deviation():
    columns = [Column("error %", [1.0, 2.0, 3.0]), Column("seconds", [7.4, 8.0, 9.0], decimals=0, summarized=False)]
    assert unpadded(seed_table([0, 1, 5], columns)).splitlines() == [
        "| seed | error % | seconds |",
        "|---|---|---|",
        "| 0 | 1.00 | 7 |",
        "| 1 | 2.00 | 8 |",
        "| 5 | 3.00 | 9 |",
        "| mean | 2.00 | |",
        "| standard deviation | 1.00 | |",
    ]


def test_what_some_seeds_alone_have_is_blank_in_the_others_and_has_no_mean():
    table = unpadded(seed_table([0, 1], [Column("stage 1", [1.0, 3.0]), Column("stage 2", [None, 4.0])]))
    assert "| 0 | 1.00 | |" in table
    assert "| mean | 2.00 | |" in table


def test_one_seed_has_no_deviation():
    assert unpadded(seed_table([3], [Column("error %", [1.5])])).endswith("| 3 | 1.50 |\n| mean | 1.50 |")
