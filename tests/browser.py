"""A browser in which pages are clicked and typed in: the Chromium that is installed, driven by Selenium, without a network."""

import contextlib
import json
import shutil
import time

import chromium
import pytest

PHONE = 390
"""Pixels across."""


@contextlib.contextmanager
def opened(profile, *, width=1280, dark=False, downloads=None):
    """A browser that keeps what pages store in the folder `profile`; skips the test where there is none."""
    programs = chromium.program(), shutil.which("chromedriver")
    if None in programs:
        pytest.skip("NO CHROMIUM with chromedriver is installed, so no page was clicked; `make chromium` may install them")
    webdriver = pytest.importorskip("selenium.webdriver", reason="NO SELENIUM: make .venv/installed-dev")
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads or profile)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(programs[1]))
    try:
        show_as(browser, width=width, dark=dark)
        yield browser
    finally:
        browser.quit()


def requests_of(browser):
    """Addresses that pages asked for: neither data nor what the browser shows before the first page."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return [address for address in asked if not address.startswith(("data:", "chrome:"))]


def show_as(browser, *, width=1280, dark=False):
    """Sets the width of the window, a telephone's with a finger in place of a mouse, and its colors."""
    is_phone = width == PHONE
    metrics = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": is_phone}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": is_phone})
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def press(browser, *keys):
    """Types characters, or the keys of these names, wherever the focus is."""
    from selenium.webdriver import ActionChains, Keys

    named = {"left": Keys.ARROW_LEFT, "enter": Keys.ENTER, "escape": Keys.ESCAPE, "tab": Keys.TAB}
    chain = ActionChains(browser, duration=0)
    for key in keys:
        chain.send_keys(named.get(key, key))
    chain.perform()


def saved(browser, path):
    """The file that the page saves into the folder of downloads, once it is there whole."""
    path.unlink(missing_ok=True)
    browser.find_element("id", "save").click()
    until = time.monotonic() + 60
    while not path.is_file():
        assert time.monotonic() < until, "nothing was saved"
        time.sleep(0.02)
    return path
