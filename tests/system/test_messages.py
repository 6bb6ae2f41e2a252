from r2d2_tf.system import spreadsheets
from r2d2_tf.system.messages import columns, markdown


def test_a_table_is_markdown_and_in_line_in_a_terminal():
    assert markdown([["name", ""], ["a", 12.5], ["longest", "x"]]) == [
        "| name    |      |",
        "|---------|------|",
        "| a       | 12.5 |",
        "| longest | x    |",
    ]


def test_a_cell_stays_in_its_column_and_its_line():
    assert markdown([["class"], ["a|b\nc"]])[2] == "| a\\|b c |"
    assert columns([["class"], ["a|b\nc"]])[1] == "  a|b c"


def test_numbers_are_in_line_on_the_right():
    assert columns([["class", "images"], ["a", 7], ["bee", "1,000"]]) == [
        "  class  images",
        "  a           7",
        "  bee     1,000",
    ]


def test_lines_of_a_csv_appear_whole_with_empty_cells_for_what_is_not_known(tmp_path):
    spreadsheets.write(tmp_path / "lines.csv", [["file", "error"], ["a,b", None], ["\u00e9", 1.5]])
    assert (tmp_path / "lines.csv").read_bytes() == 'file,error\n"a,b",\n\u00e9,1.5\n'.encode()
    assert [path.name for path in tmp_path.iterdir()] == ["lines.csv"]
