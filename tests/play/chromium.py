"""A headless Chromium that tests drive: the DevTools protocol over two pipes."""

from __future__ import annotations

import base64
import json
import os
import selectors
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING = f"no Chromium to look at the page with: none of {', '.join(NAMES)} (apt install chromium)"
TIMEOUT_S = 60.0
FLAGS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",  # containers have little of it
    "--disable-gpu",
    "--no-default-browser-check",
    "--no-first-run",
    "--no-sandbox",  # root has none
)
# Chromium reads from descriptor 3 and writes to 4.
LAUNCH = """
import os, sys
read, write = int(sys.argv[1]), int(sys.argv[2])
for number, end in ((60, read), (61, write)):
    os.dup2(end, number)
os.dup2(60, 3)
os.dup2(61, 4)
os.closerange(5, 100)
os.execv(sys.argv[3], sys.argv[3:])
"""


def find() -> str | None:
    """Return the browser's path, if there is one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One page, and what happened in it.

    Args:
        profile: Folder for the browser to write to.
        size: Of the window, width and height.
        dark: Whether the page is asked to be dark.
    """

    def __init__(
        self, profile: Path, size: tuple[int, int] = (1280, 900), *, dark: bool = False
    ) -> None:
        self.requests: list[str] = []  # addresses asked for, `data:` ones left out
        self.faults: list[str] = []  # errors and warnings of its console
        self._start(profile)
        target = self._browser("Target.createTarget", url="about:blank")["targetId"]
        attached = {"targetId": target, "flatten": True}
        self._session = self._browser("Target.attachToTarget", **attached)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")
        self.resize(*size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._browser("Browser.close")  # its children end too, and write no more
            self._process.wait(TIMEOUT_S)
        finally:
            self._process.kill()
        os.close(self._in)
        os.close(self._out)

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol for this page and return its result."""
        return self._call({"method": method, "params": params, "sessionId": self._session})

    def open(self, url: str) -> None:
        """Go to an address."""
        self.send("Page.navigate", url=url)

    def resize(self, width: int, height: int) -> None:
        """Give the window a size."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **metrics)

    def run(self, script: str) -> Any:
        """Return what a JavaScript expression is, a promise's value too."""
        told = self.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in told:
            raise AssertionError(told["exceptionDetails"]["exception"]["description"])
        return told["result"].get("value")

    def wait_for(self, script: str, timeout_s: float = TIMEOUT_S) -> Any:
        """Return what an expression is once that is true."""
        end = time.monotonic() + timeout_s
        while not (found := self.run(script)):
            if time.monotonic() > end:
                raise AssertionError(f"after {timeout_s:g} s not yet: {script}; {self.faults}")
            time.sleep(0.05)
        return found

    def key(self, code: str, key: str, *, hold_s: float = 0.0) -> None:
        """Press a key, hold it and let it go."""
        self.send("Input.dispatchKeyEvent", type="rawKeyDown", code=code, key=key)
        time.sleep(hold_s)
        self.send("Input.dispatchKeyEvent", type="keyUp", code=code, key=key)

    def drag(self, selector: str, *places: tuple[float, float]) -> None:
        """Press the mouse in an element, move it, and let it go; shares of its width and height."""
        box = self.run(
            f"(() => {{ const e = document.querySelector('{selector}');"
            "e.scrollIntoView({ behavior: 'instant', block: 'nearest' });"
            "const b = e.getBoundingClientRect(); return [b.left, b.top, b.width, b.height]; })()"
        )
        at = [(box[0] + x * box[2], box[1] + y * box[3]) for x, y in places]
        kinds = ["mousePressed", *["mouseMoved"] * (len(at) - 1), "mouseReleased"]
        for kind, (x, y) in zip(kinds, [*at, at[-1]], strict=True):
            button = {"button": "left", "buttons": 1, "clickCount": 1}
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, **button)

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Write what is shown as a PNG file."""
        told = self.send("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(told["data"]))

    def _start(self, profile: Path) -> None:
        browser = find()
        assert browser is not None, MISSING
        read, self._in = os.pipe()
        self._out, write = os.pipe()
        flags = (*FLAGS, f"--user-data-dir={profile}")
        self._process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(read), str(write), browser, *flags],
            pass_fds=(read, write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read)
        os.close(write)
        self._buffer, self._num_calls, self._session = b"", 0, ""

    def _browser(self, method: str, **params: Any) -> dict[str, Any]:
        return self._call({"method": method, "params": params})

    def _call(self, message: dict[str, Any]) -> dict[str, Any]:
        self._num_calls += 1
        number = self._num_calls
        os.write(self._in, json.dumps({"id": number, **message}).encode() + b"\0")
        while True:
            told = self._read()
            if told.get("id") == number:
                if "error" in told:
                    raise AssertionError(f"{message['method']}: {told['error']}")
                return told["result"]
            self._note(told.get("method", ""), told.get("params", {}))

    def _read(self) -> dict[str, Any]:
        """Return the next message."""
        with selectors.DefaultSelector() as ready:
            ready.register(self._out, selectors.EVENT_READ)
            while b"\0" not in self._buffer:
                if not ready.select(TIMEOUT_S):
                    raise AssertionError(f"Chromium has said nothing for {TIMEOUT_S:g} s")
                if not (more := os.read(self._out, 2**16)):
                    raise AssertionError("Chromium has ended")
                self._buffer += more
        message, _, self._buffer = self._buffer.partition(b"\0")
        told: dict[str, Any] = json.loads(message)
        return told

    def _note(self, event: str, params: dict[str, Any]) -> None:
        """Keep what tests ask about."""
        notes: dict[str, Callable[[], str]] = {
            "Runtime.exceptionThrown": lambda: str(params["exceptionDetails"]),
            "Runtime.consoleAPICalled": lambda: str(params["args"]),
            "Log.entryAdded": lambda: str(params["entry"]),
        }
        if event == "Network.requestWillBeSent":
            url = params["request"]["url"]
            self.requests += [] if url.startswith("data:") else [url]
        elif event in notes:
            self.faults.append(notes[event]())
