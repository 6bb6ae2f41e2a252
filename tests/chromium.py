"""Opens pages in headless Chromium and says what happened, over the DevTools protocol."""

import asyncio
import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

_PATIENCE = 120.0
_NAMES = ("chromium", "chromium-browser", "google-chrome")


@dataclass
class Visit:
    """What was seen of a page."""

    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    answers: list = field(default_factory=list)
    screenshot: bytes = b""


def program() -> str | None:
    """The Chromium that is installed."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


def visit(path: Path, *questions: str, width: int = 1280, dark: bool = False, prints: bool = False) -> Visit:
    """Opens a file and evaluates `questions`, JavaScript, in it; skips the test where there is no Chromium."""
    found = program()
    if found is None:
        pytest.skip(
            f"NO CHROMIUM: none of {', '.join(_NAMES)} is installed, so no page was opened; `make chromium` may install it"
        )
    # Processes that are being killed may still write into it.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, _running(found, profile) as address:
        return asyncio.run(asyncio.wait_for(_visit(address, path, questions, width, dark, prints), _PATIENCE))


@contextlib.contextmanager
def _running(found, profile):
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    command = [found, *options, "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"]
    # A session of its own: Chromium is several processes, which end together.
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True)
    try:
        said = []
        for line in process.stderr:
            said.append(line)
            if "DevTools listening on " in line:
                yield line.split("DevTools listening on ")[1].strip()
                return
        raise AssertionError(f"Chromium did not start: {''.join(said)}")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stderr.close()


async def _visit(address, path, questions, width, dark, prints):
    async with aiohttp.ClientSession() as session, session.ws_connect(address, max_msg_size=0) as socket:
        page = _Page(socket)
        target = await page.call("Target.createTarget", url="about:blank")
        page.session = (await page.call("Target.attachToTarget", targetId=target["targetId"], flatten=True))["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            await page.call(f"{domain}.enable")
        await page.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await page.call("Emulation.setEmulatedMedia", media="print" if prints else "", features=[scheme])
        await page.call("Page.navigate", url=path.resolve().as_uri())
        await page.until("Page.loadEventFired")
        for question in questions:
            answer = await page.call("Runtime.evaluate", expression=question, returnByValue=True, awaitPromise=True)
            page.visit.answers.append(answer["result"].get("value"))
        shot = await page.call("Page.captureScreenshot", captureBeyondViewport=True)
        page.visit.screenshot = base64.b64decode(shot["data"])
        return page.visit


class _Page:
    """Sends commands and collects events on the way to their answers."""

    def __init__(self, socket):
        self.socket = socket
        self.session = None
        self.visit = Visit()
        self._number = 0
        self._seen = set()

    async def call(self, method, **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        await self.socket.send_json(message | ({"sessionId": self.session} if self.session else {}))
        while True:
            answer = await self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    async def until(self, event):
        while event not in self._seen:
            await self._receive()

    async def _receive(self):
        message = json.loads((await self.socket.receive()).data)
        method, details = message.get("method", ""), message.get("params", {})
        self._seen.add(method)
        if method == "Runtime.exceptionThrown":
            self.visit.complaints.append(details["exceptionDetails"]["text"])
        elif method == "Runtime.consoleAPICalled" and details["type"] in ("error", "warning"):
            self.visit.complaints.append(str(details["args"]))
        elif method == "Log.entryAdded" and details["entry"]["level"] in ("error", "warning"):
            self.visit.complaints.append(details["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.visit.requests.append(details["request"]["url"])
        return message
