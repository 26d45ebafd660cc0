"""A browser to look through: headless Chromium by the WebDriver protocol, which is JSON over HTTP."""

import base64
import json
import re
import shutil
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--no-proxy-server",
)  # fmt: skip
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
_DEEP = """
const found = [];
const walk = (root) => {
  for (const node of root.querySelectorAll('*')) {
    if (node.matches(arguments[0])) found.push(node);
    if (node.shadowRoot) walk(node.shadowRoot);
  }
};
walk(document);
"""


def missing_browser() -> str | None:
    """Why no browser can be started here, or None."""
    absent = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"no {' and no '.join(absent)} (Debian: apt-get install chromium chromium-driver)" if absent else None


class Browser:
    """One session of a running chromedriver.

    Args:
        address: where the driver listens.
        arguments: command line of Chromium.
    """

    def __init__(self, address: str, arguments: list[str]) -> None:
        self._address = address
        options = {"goog:chromeOptions": {"args": arguments, "binary": shutil.which("chromium")}}
        session = self._call("POST", "/session", {"capabilities": {"alwaysMatch": options}})["sessionId"]
        self._address = f"{address}/session/{session}"

    def open(self, url: str) -> None:
        self._call("POST", "/url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript in the page (or in the frame that was entered) and give what it returns."""
        return self._call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def deep(self, selector: str, expression: str = "node.textContent") -> list[Any]:
        """An expression of every element that matches, shadow roots included (TensorBoard's own tabs use them)."""
        return self.run(_DEEP + f"return found.map((node) => {expression});", selector)

    def wait(self, what: str, script: str, seconds: float = 60.0) -> Any:
        """Wait until the script returns something true, and give it."""
        return self._until(what, lambda: self.run(script), seconds)

    def wait_deep(self, what: str, selector: str, expression: str, seconds: float = 60.0) -> list[Any]:
        """Wait until the expression is true of some element that matches, and give the values that are."""
        return self._until(what, lambda: [value for value in self.deep(selector, expression) if value], seconds)

    def find(self, selector: str) -> dict[str, str]:
        return self._call("POST", "/element", {"using": "css selector", "value": selector})

    def click(self, selector: str) -> None:
        """Click where a person would: the driver refuses when something lies over the element."""
        self._call("POST", f"/element/{self.find(selector)[_ELEMENT]}/click", {})

    def press(self, *keys: str) -> None:
        """Press keys one after the other, wherever the focus is."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._call("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def enter_frame(self, selector: str = "iframe") -> None:
        self._call("POST", "/frame", {"id": self.find(selector)})

    def leave_frame(self) -> None:
        self._call("POST", "/frame", {"id": None})

    def resize(self, width: int, height: int) -> None:
        self._call("POST", "/window/rect", {"width": width, "height": height})

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._call("GET", "/screenshot")))

    def close(self) -> None:
        self._call("DELETE", "")

    @staticmethod
    def _until(what: str, probe: Any, seconds: float) -> Any:
        end = time.monotonic() + seconds
        while True:
            found = probe()
            if found:
                return found
            if time.monotonic() > end:
                raise AssertionError(f"not seen within {seconds:.0f} s: {what}")
            time.sleep(0.1)

    def _call(self, method: str, path: str, content: Any = None) -> Any:
        data = None if content is None else json.dumps(content).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._address + path, data, headers, method=method)  # noqa: S310 - this machine
        try:
            with _DIRECT.open(request, timeout=180) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(json.load(error)["value"]["message"]) from None


@contextmanager
def browser(dark: bool = False, size: tuple[int, int] = (1400, 900)) -> Iterator[Browser]:
    """A fresh Chromium with a profile of its own; both end with the block."""
    with (
        tempfile.TemporaryDirectory() as profile,
        _started("chromedriver", "--port=0") as driver,
    ):
        try:
            port = _announced(driver, rb"successfully on port (\d+)")
            colours = [f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
            window = f"--window-size={size[0]},{size[1]}"
            chromium = Browser(f"http://127.0.0.1:{port}", [*_FLAGS, *colours, window, f"--user-data-dir={profile}"])
            try:
                yield chromium
            finally:
                chromium.close()
        finally:
            driver.terminate()


@contextmanager
def tensorboard(python: str, folder: Path, *options: str) -> Iterator[str]:
    """A real TensorBoard server of the folder on a free port; gives its address."""
    flags = ("--logdir", str(folder), "--host", "127.0.0.1", "--port", "0")
    with _started(python, "-m", "tensorboard.main", *flags, *options) as server:
        try:
            port = _announced(server, rb"http://127.0.0.1:(\d+)")
            yield f"http://127.0.0.1:{port}/"
        finally:
            server.terminate()


def _started(*command: str) -> subprocess.Popen:
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # noqa: S603 - our own words


def _announced(process: subprocess.Popen, pattern: bytes, seconds: float = 120.0) -> int:
    """Port that a starting process names in its output; a process that names none in time is ended."""
    seen = b""
    patience = threading.Timer(seconds, process.kill)
    patience.start()
    try:
        for line in process.stdout:
            seen += line
            found = re.search(pattern, line)
            if found:
                return int(found[1])
    finally:
        patience.cancel()
    raise AssertionError(f"the process named no port: {seen.decode(errors='replace')[-500:]}")
