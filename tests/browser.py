"""A real browser for tests: headless Chromium, driven over a pipe by its DevTools protocol."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Chromium reads the protocol from descriptor 3 and writes it to 4. Ours are moved there by a process of our own, since
# both numbers may be taken in this one.
_START = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execvp(sys.argv[3], sys.argv[3:])"
)
_FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run",
    # Nothing of its own over the network.
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic",
    "--remote-debugging-pipe",
]  # fmt: skip

KEYS = {
    "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Escape": 27, "Enter": 13, "Home": 36, "End": 35,
    " ": 32, "?": 191, "+": 187, "-": 189, "0": 48,
}  # fmt: skip


class Page:
    """One tab. `requests` are the addresses it asked for, `complaints` what it wrote to the console or threw,
    `opened` the files that other tabs show."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers, self._buffer, self._last = commands, answers, b"", 0
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.opened: list[str] = []
        self._loaded = False
        self._session = self._target = ""
        self.call("Target.setDiscoverTargets", discover=True)
        self._target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=self._target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        if self._session and not method.startswith("Target."):
            message["sessionId"] = self._session
        text = json.dumps(message).encode() + b"\0"
        while text:
            text = text[os.write(self._commands, text) :]
        while True:
            answer = self._receive()
            if answer.get("id") == self._last:
                assert "error" not in answer, answer
                return answer["result"]

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            assert select.select([self._answers], [], [], 60)[0], "nothing happens in the browser"
            piece = os.read(self._answers, 1 << 20)
            assert piece, "the browser is gone"
            self._buffer += piece
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, event: str, told: dict[str, Any]) -> None:
        if event == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif event == "Runtime.consoleAPICalled":
            self.complaints.append(" ".join(str(each.get("value", each.get("description"))) for each in told["args"]))
        elif event == "Runtime.exceptionThrown":
            self.complaints.append(told["exceptionDetails"]["text"])
        elif event == "Log.entryAdded":
            self.complaints.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")
        elif event == "Page.loadEventFired":
            self._loaded = True
        elif event in ("Target.targetCreated", "Target.targetInfoChanged"):
            info = told["targetInfo"]
            if info["targetId"] != self._target and info["url"].startswith("file:") and info["url"] not in self.opened:
                self.opened.append(info["url"])

    def open(self, place: Path | str) -> None:
        """Show a file, or what is at an address."""
        self._loaded = False
        self.call("Page.navigate", url=place if isinstance(place, str) else place.as_uri())
        self._wait_loaded()

    def follow(self, step: Callable[[], None]) -> None:
        """Take a step that leads to another page, and wait until it is there."""
        self._loaded = False
        step()
        self._wait_loaded()

    def _wait_loaded(self) -> None:
        while not self._loaded:
            self._receive()

    def size(self, width: int, height: int, *, dark: bool = False) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", media="", features=scheme)

    def run(self, script: str) -> Any:
        """What the expression `script` comes to in the page, as JSON has it."""
        done = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def press(self, *keys: str) -> None:
        for key in keys:
            code = {"windowsVirtualKeyCode": KEYS[key], "key": key, "code": "Space" if key == " " else key}
            text = "\r" if key == "Enter" else key if len(key) == 1 else None
            down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
            self.call("Input.dispatchKeyEvent", **down, **code)
            self.call("Input.dispatchKeyEvent", type="keyUp", **code)

    def click(self, selector: str) -> None:
        """Press and release the mouse in the middle of the first element that `selector` finds."""
        self.run(f"{_found(selector)}.scrollIntoView({{block: 'nearest'}})")
        box = self.run(f"(b => [b.x + b.width / 2, b.y + b.height / 2])({_found(selector)}.getBoundingClientRect())")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def wait(self, condition: Callable[[], Any], *, seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "what was waited for did not come"
            time.sleep(0.05)

    def screenshot(self, path: Path | None = None) -> bytes:
        data = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        if path is not None:
            path.write_bytes(data)
        return data


def _found(selector: str) -> str:
    return f"document.querySelector({json.dumps(selector)})"


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """Chromium with an empty profile in the folder `profile`, and a blank page in it."""
    program = next(
        (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
    )
    assert program, "tests marked `browser` need Chromium: apt-get install chromium"
    (command_end, commands), (answers, answer_end) = _pipe(), _pipe()
    start = [sys.executable, "-S", "-c", _START, str(command_end), str(answer_end)]
    process = subprocess.Popen(
        [*start, program, *_FLAGS, f"--user-data-dir={profile}"],
        pass_fds=(command_end, answer_end),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(command_end)
    os.close(answer_end)
    try:
        page = Page(commands, answers)
        yield page
        page.call("Target.setDiscoverTargets", discover=False)
    finally:
        os.close(commands)
        os.close(answers)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _pipe() -> tuple[int, int]:
    """A pipe whose ends are neither 3 nor 4."""
    low = os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in low]
    for end in low:
        os.close(end)
    return high[0], high[1]
