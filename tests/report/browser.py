"""A headless browser that is told what a person does: keys and print, by the DevTools protocol over a pipe."""

import base64
import fcntl
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = next((path for name in NAMES if (path := shutil.which(name))), None)
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu")
KEYS = {"Tab": (9, ""), "Enter": (13, "\r"), " ": (32, " "), "ArrowDown": (40, ""), "ArrowUp": (38, "")}
PATIENCE_S = 60.0
FREE = 10  # a descriptor, and those above it, that are not the browser's own two


class Browser:
    """One page, opened. Used as a context manager."""

    def __init__(self, page: Path, *options: str) -> None:
        assert BROWSER is not None
        (asked, self._out), (self._in, answered) = os.pipe(), os.pipe()
        theirs_in, theirs_out = (fcntl.fcntl(end, fcntl.F_DUPFD, FREE) for end in (asked, answered))
        command = [BROWSER, *OPTIONS, f"--user-data-dir={page.parent / 'profile'}", *options, "--remote-debugging-pipe"]
        redirected = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        self._process = subprocess.Popen(
            ["bash", "-c", redirected, "bash", *command],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (asked, answered, theirs_in, theirs_out):
            os.close(end)
        self._asked, self._read, self._session = 0, b"", ""
        try:
            self._open(page)
        except BaseException:
            self.close()
            raise

    def _open(self, page: Path) -> None:
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.ask("Page.enable")
        self.ask("Page.navigate", url=page.as_uri())
        self.wait('"drawn" in (document.documentElement?.dataset ?? {})')

    def __enter__(self) -> "Browser":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def ask(self, method: str, **parameters: Any) -> Any:
        """What the browser answers; raises AssertionError where it refuses."""
        self._asked += 1
        session = {"sessionId": self._session} if self._session else {}
        asked = {"id": self._asked, "method": method, "params": parameters, **session}
        os.write(self._out, json.dumps(asked).encode() + b"\0")
        while True:
            while b"\0" not in self._read:
                piece = os.read(self._in, 1 << 20)
                assert piece, "the browser ended"
                self._read += piece
            told, _, self._read = self._read.partition(b"\0")
            answer = json.loads(told)
            if answer.get("id") == self._asked:
                assert "result" in answer, answer
                return answer["result"]

    def value(self, expression: str) -> Any:
        """Of an expression in the page."""
        found = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, expression: str) -> None:
        """Until it is true."""
        ends = time.monotonic() + PATIENCE_S
        while not self.value(expression):
            assert time.monotonic() < ends, expression
            time.sleep(0.02)

    def press(self, key: str, times: int = 1) -> None:
        code, text = KEYS[key]
        of = {"key": key, "windowsVirtualKeyCode": code}
        for _ in range(times):
            self.ask("Input.dispatchKeyEvent", type="keyDown", **of, **({"text": text} if text else {}))
            self.ask("Input.dispatchKeyEvent", type="keyUp", **of)

    def type(self, text: str) -> None:
        self.ask("Input.insertText", text=text)

    def tab_to(self, condition: str) -> None:
        """Press tab until what has the focus, ``one``, is what is meant; raises AssertionError where nothing is."""
        for _ in range(400):
            self.press("Tab")
            if self.value(f"(one => {condition})(document.activeElement)"):
                return
        raise AssertionError(f"no element with the focus: {condition}")

    def printed(self) -> bytes:
        """As PDF."""
        return base64.b64decode(self.ask("Page.printToPDF")["data"])
