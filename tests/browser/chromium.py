"""A headless Chromium that a test drives: open a page, press keys, point at things, ask what is true, hear complaints.

Knows nothing of traces. It speaks the DevTools protocol over two pipes, so no port is opened and nothing is waited for
but answers.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import tempfile
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 20.0  # seconds for one answer
KEYS = {
    "ArrowRight": 39,
    "ArrowLeft": 37,
    "ArrowUp": 38,
    "ArrowDown": 40,
    "Home": 36,
    "End": 35,
    "Escape": 27,
    "Tab": 9,
}


def executable() -> str:
    """Where Chromium is."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.fail("chromium is missing; mend: apt-get install --no-install-recommends chromium")
    return found


class Chromium:
    """A context manager; `open` gives a page."""

    def __init__(self) -> None:
        self._profile = tempfile.TemporaryDirectory(prefix="sealmq-chromium-", ignore_cleanup_errors=True)
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        # --remote-debugging-pipe reads from descriptor 3 and writes to 4
        wiring = f'exec "$@" 3<&{commands} 4>&{answers}'
        options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")
        quiet = ("--no-first-run", "--disable-background-networking", "--force-prefers-reduced-motion")
        args = (executable(), *options, *quiet, "--remote-debugging-pipe", f"--user-data-dir={self._profile.name}")
        self._process = subprocess.Popen(
            ["bash", "-c", wiring, "chromium", *args],
            pass_fds=(commands, answers),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self._changed = threading.Condition()
        self._results: dict[int, dict[str, Any]] = {}
        self._pages: dict[str, Page] = {}
        self._numbers = itertools.count(1)
        self._is_over = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Chromium:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._commands)  # the end of its commands is the end of the browser
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(PATIENCE)
        os.close(self._answers)
        self._profile.cleanup()

    def open(self, path: Path, *, width: int = 1400, height: int = 900, fragment: str = "") -> Page:
        """The page in a file, once it is loaded, in a window of that many CSS pixels."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self._pages[session] = Page(self, session)
        for domain in ("Page", "Runtime", "Log"):
            page.call(f"{domain}.enable")
        page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        page.call("Page.navigate", url=f"{path.as_uri()}{fragment}")
        self._wait(lambda: page.is_loaded)
        page.settle()
        return page

    def call(self, method: str, *, session: str = "", **params: Any) -> dict[str, Any]:
        """The result of a command of the protocol."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        self._wait(lambda: number in self._results)
        answer = self._results.pop(number)
        assert "error" not in answer, (method, answer)
        return answer["result"]

    def _wait(self, come) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: come() or self._is_over, PATIENCE), "chromium does not answer"
            assert not self._is_over, "chromium ended"

    def _read(self) -> None:
        rest = b""
        while part := os.read(self._answers, 1 << 16):
            *whole, rest = (rest + part).split(b"\0")
            with self._changed:
                for message in map(json.loads, whole):
                    if "id" in message:
                        self._results[message["id"]] = message
                    elif message.get("sessionId") in self._pages:
                        self._pages[message["sessionId"]].hear(message["method"], message["params"])
                self._changed.notify_all()
        with self._changed:
            self._is_over = True
            self._changed.notify_all()


@dataclass
class Page:
    """`complaints` are errors, warnings, violations of the page's own policy, and dialogs."""

    browser: Chromium
    session: str
    complaints: list[str] = field(default_factory=list)
    is_loaded: bool = False

    def hear(self, method: str, params: dict[str, Any]) -> None:
        match method:
            case "Page.loadEventFired":
                self.is_loaded = True
            case "Page.javascriptDialogOpening":
                self.complaints.append(f"dialog {params['message']}")
            case "Runtime.exceptionThrown":
                self.complaints.append(str(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled":
                self.complaints.append(str(params["args"]))
            case "Log.entryAdded":
                self.complaints.append(params["entry"]["text"])

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self.browser.call(method, session=self.session, **params)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, (expression, found)
        return found["result"].get("value")

    def settle(self) -> None:
        """Until what was begun has been drawn."""
        self.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())))")

    def press(self, key: str) -> None:
        """A key, by the name of KeyboardEvent.key."""
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=KEYS[key])

    def point(self, selector: str) -> tuple[float, float]:
        """Move the mouse to the middle of the first element that fits."""
        box = self.evaluate(
            f"(() => {{ const element = document.querySelector({json.dumps(selector)});"
            " element.scrollIntoView({block: 'center'}); const box = element.getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=box[0], y=box[1])
        return box[0], box[1]

    def click(self, selector: str) -> None:
        """Click the first element that fits."""
        x, y = self.point(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        self.settle()
