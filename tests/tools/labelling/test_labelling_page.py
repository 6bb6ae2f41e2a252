"""The page on which a person labels, with real keys and clicks."""

import csv
import json
from pathlib import Path

import browser
import numpy as np
import pytest

from r2d2_tf.data.labels.matching import read_labels
from r2d2_tf.system import spreadsheets
from tools.shared import html
from tools.shared.labelling import labelling_page

COLUMNS = ("file", "label", "split", "why")
PICTURE = html.data_uri(np.full((8, 8, 1), 200, np.uint8))
EVIL = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    'say "hi", she said',
    "=1+'1'",
    "{{ 7*7 }}",
    "&amp; &lt;",
    "back\\slash",
    "cat \U0001f408",
    "\u00e9t\u00e9",
    "z" * 60,
)


def write_page(path, names, count=12, *, given=(), extras=(labelling_page.UNSURE, labelling_page.NONE_OF_THESE)):
    asked = [
        labelling_page.Asked(
            PICTURE,
            [(i + k) % len(names) for k in range(min(10, len(names)))],
            f"unsure: {names[i % len(names)]} or {names[(i + 1) % len(names)]}",
            [f"{path.stem}-{i}.jpg", given[i] if given else "", "train", "asked"],
        )
        for i in range(count)
    ]
    words = labelling_page.Words("To be <labeled>", "Which class is this?", f"{path.stem}.csv", "python -m r2d2_tf.train")
    rest = [["old.jpg", names[0], "train", "given already"]]
    path.write_text(labelling_page.labelling_page(words, names, COLUMNS, asked, rest, extras))
    return path


@pytest.fixture(scope="module")
def downloads(tmp_path_factory):
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def shared_browser(tmp_path_factory, downloads):
    with browser.opened(tmp_path_factory.mktemp("profile"), downloads=downloads) as one:
        yield one


@pytest.fixture
def seen(shared_browser):
    """A browser whose pages ask for nothing and complain of nothing."""
    browser.show_as(shared_browser)
    browser.requests_of(shared_browser), shared_browser.get_log("browser")
    yield shared_browser
    assert {Path(address).suffix for address in browser.requests_of(shared_browser)} <= {".html"}
    assert shared_browser.get_log("browser") == []


def status(page):
    return page.find_element("id", "status").text


def place(page):
    return page.find_element("id", "place").text


def saved(page, path):
    with browser.saved(page, path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_clicks_undo_and_going_back(seen, tmp_path, downloads):
    seen.get(write_page(tmp_path / "clicks.html", ("cat", "dog"), 3).as_uri())
    cat, dog = (seen.find_element("css selector", f"#classes [data-value='{value}']") for value in (0, 1))
    dog.click()
    cat.click()
    assert (place(seen), status(seen)) == ("Image 3 of 3", "2 of 3 answered. Last: cat.")
    seen.find_element("id", "undo").click()
    assert (place(seen), status(seen)) == ("Image 2 of 3", "1 of 3 answered. Undone.")
    seen.find_element("css selector", "#extras [data-value=extra1]").click()
    assert status(seen) == "2 of 3 answered (1 none of these). Last: None of these."
    cat.click()
    assert (place(seen), status(seen)) == ("The end", "3 of 3 answered (1 none of these). Last: cat. Save the CSV now.")
    # At the end a key too many answers nothing; an answer that is corrected leads on to the next image.
    browser.press(seen, "1", "left", "left", "left", "1")
    assert place(seen) == "Image 2 of 3"
    lines = saved(seen, downloads / "clicks.csv")
    assert [(line["label"], line["why"]) for line in lines] == [
        ("cat", "asked"),
        ("", "none of these"),
        ("cat", "asked"),
        ("cat", "given already"),
    ]


def test_names_are_text_and_come_back_as_they_are(seen, tmp_path, downloads):
    seen.get(write_page(tmp_path / "names.html", EVIL, 10).as_uri())
    assert [own.text.split("\n")[-1] for own in seen.find_elements("css selector", "#classes button")] == list(EVIL)
    browser.press(seen, *"1234567890")
    lines = saved(seen, downloads / "names.csv")
    assert [line["label"] for line in lines] == [spreadsheets.cell(name) for name in (*EVIL, EVIL[0])]
    assert read_labels(downloads / "names.csv").labels == [*EVIL, EVIL[0]]
    assert "<script>alert" not in (tmp_path / "names.html").read_text()


def test_a_class_of_one_letter_or_digit_has_that_key(seen, tmp_path, downloads):
    names = ("seven", "A", "0", "b", "1")
    seen.get(write_page(tmp_path / "letters.html", names, 6).as_uri())
    browser.press(seen, *"0a1b2")
    assert [line["label"] for line in saved(seen, downloads / "letters.csv")][:5] == ["0", "A", "1", "b", "seven"]
    assert status(seen) == "5 of 6 answered. Saved as letters.csv, where this browser puts downloads."
    assert place(seen) == "Image 6 of 6"


THINGS = ("th\u00edng", "animal")


@pytest.mark.parametrize("count", [100, 1000])
def test_many_classes_are_found_by_a_part_of_their_name(count, seen, tmp_path, downloads):
    names = [f"{THINGS[i % 2]} {i}" for i in range(count)]
    seen.get(write_page(tmp_path / f"many{count}.html", names, 5).as_uri())
    browser.press(seen, "2", *"thing 98", "enter")
    assert status(seen) == "2 of 5 answered. Last: th\u00edng 98."
    browser.press(seen, "/", *"ani", "escape", ".", ",", "0")
    assert [(line["label"], line["why"]) for line in saved(seen, downloads / f"many{count}.csv")][:5] == [
        ("animal 1", "asked"),
        ("th\u00edng 98", "asked"),
        ("", "unsure"),
        ("", "none of these"),
        (names[13], "asked"),
    ]


def test_suspects_are_kept_changed_or_dropped(seen, tmp_path, downloads):
    path = tmp_path / "doubts.html"
    extras = (labelling_page.KEEP, labelling_page.DROP)
    seen.get(write_page(path, ("cat", "dog"), 5, given=["cat"] * 5, extras=extras).as_uri())
    browser.press(seen, ".", "2", ",", "1")
    assert status(seen) == "4 of 5 answered (1 keep, 1 drop the label). Last: cat."
    assert [(line["label"], line["why"]) for line in saved(seen, downloads / "doubts.csv")][:5] == [
        ("cat", "kept"),
        ("dog", "was cat"),
        ("", "dropped"),
        ("cat", "kept"),
        ("cat", "asked"),
    ]


SMALL = """return [...document.querySelectorAll("button, summary, input, label")].map(one => [one, one.getBoundingClientRect()])
    .filter(([one, box]) => box.width && one.control?.id !== "search" && (box.width < 44 || box.height < 44))
    .filter(([one]) => one.type !== "checkbox").map(([one]) => one.outerHTML)"""
WIDE = """const right = document.documentElement.clientWidth + 0.5;
    return [...document.querySelectorAll("main *, header *")].filter(one => one.getBoundingClientRect().right > right)
    .map(one => one.outerHTML.slice(0, 99)).concat(document.documentElement.scrollWidth > right ? ["it scrolls"] : [])"""


@pytest.mark.parametrize("names", [EVIL, [f"class number {i}" for i in range(100)]], ids=["10 classes", "100 classes"])
def test_a_telephone_shows_all_of_it_at_a_size_for_fingers(names, seen, tmp_path):
    browser.show_as(seen, width=browser.PHONE)
    seen.get(write_page(tmp_path / f"phone{len(names)}.html", names).as_uri())
    for summary in seen.find_elements("css selector", "summary"):
        summary.click()
    assert seen.execute_script(SMALL) == []
    assert seen.execute_script(WIDE) == []
    assert not seen.find_element("css selector", "kbd").is_displayed()
    unsure = seen.find_element("css selector", "#extras button")
    seen.execute_script("arguments[0].scrollIntoView({block: 'center'})", unsure)
    unsure.click()
    assert status(seen) == "1 of 12 answered (1 unsure). Last: Unsure."


CONTRAST = """const parts = text => text.match(/[\\d.]+/g).map(Number);
    const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const light = text => parts(text).slice(0, 3).map(v => linear(v / 255))
      .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = one => one ? (parts(getComputedStyle(one).backgroundColor)[3] === 0 ? ground(one.parentElement)
      : getComputedStyle(one).backgroundColor) : "rgb(255, 255, 255)";
    const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
    const all = [...document.querySelectorAll("main *")].filter(one => one.offsetParent && !one.closest("[disabled]"));
    const texts = all.filter(one => [...one.childNodes].some(node => node.nodeType === 3 && node.data.trim()));
    const edges = all.filter(one => one.matches("button, input[type=search]"));
    return [Math.min(...texts.map(one => ratio(getComputedStyle(one).color, ground(one)))),
      Math.min(...edges.map(one => ratio(getComputedStyle(one).borderTopColor, ground(one.parentElement))))]"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_texts_edges_and_focus_stand_out(dark, seen, tmp_path):
    browser.show_as(seen, dark=dark)
    seen.get(write_page(tmp_path / f"contrast{dark}.html", [f"class {i}" for i in range(40)]).as_uri())
    browser.press(seen, "1", "left")
    texts, edges = seen.execute_script(CONTRAST)
    assert texts >= 4.5
    assert edges >= 3
    browser.press(seen, "tab")
    style = "const style = getComputedStyle(document.activeElement); return [style.outlineStyle, style.outlineWidth]"
    assert seen.execute_script(style) == ["solid", "3px"]
    running = "return document.getAnimations().length"
    assert seen.execute_script(running) == 0


def test_letters_can_be_switched_off(seen, tmp_path):
    seen.get(write_page(tmp_path / "off.html", ("cat", "dog")).as_uri())
    seen.find_element("id", "keys").click()
    browser.press(seen, "1", ".")
    assert status(seen) == "0 of 12 answered."


def test_a_browser_that_keeps_nothing_is_told(seen, tmp_path):
    source = "Storage.prototype.setItem = () => { throw new Error('full') }"
    script = seen.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": source})
    try:
        seen.get(write_page(tmp_path / "unkept.html", ("cat", "dog")).as_uri())
        browser.press(seen, "1")
        assert "save the CSV before you close" in seen.find_element("id", "unkept").text
        assert status(seen) == "1 of 12 answered. Last: cat."
    finally:
        seen.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)
        # Or the browser asks whether to leave.
        seen.execute_script("localStorage.clear(); document.getElementById('save').click()")


def test_pages_that_ask_other_things_keep_their_answers_apart(tmp_path):
    keys = set()
    for name, names in (("one", ("a", "b")), ("two", ("a", "b")), ("one", ("a", "c"))):
        text = write_page(tmp_path / f"{name}.html", names).read_text()
        keys.add(json.loads(text.split('id="data">')[1].split("</script>")[0])["key"])
    assert len(keys) == 3
