"""An agent as a process of its own, at a port of its own."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import urllib3

from autocompress.profile import HardwareProfile

REPOSITORY = Path(__file__).parents[2]
STARTS_WITHIN_S = 60.0
TOKEN = "a-token-of-the-tests"


class Served:
    """An agent that runs. port: at loopback. token_file: holds its token."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.token_file, self._options = folder / "token", options
        self.token_file.write_text(f"{TOKEN}\n")
        self.token_file.chmod(0o600)
        self.port = free_port()
        self._log = folder / "agent.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def profile(self) -> HardwareProfile:
        return HardwareProfile(name="board", device=self.address, token_file=str(self.token_file))

    def start(self) -> None:
        """Returns once it answers."""
        command = [sys.executable, "-m", "autocompress_agent", "--port", str(self.port)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--token-file", str(self.token_file), *self._options],
                env={**os.environ, "PYTHONPATH": str(REPOSITORY / "agent")},
                cwd=self.token_file.parent,
                stdout=log,
                stderr=log,
            )
        ends = time.monotonic() + STARTS_WITHIN_S
        while time.monotonic() < ends and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.05)
        raise AssertionError(self._log.read_text())

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def processes(self) -> list[int]:
        """It and all that it started, by their numbers."""
        assert self._process is not None
        found, parents = [self._process.pid], {}
        for status in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = status.read_text().rpartition(")")[2].split()
                parents[int(status.parent.name)] = int(fields[1])
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> urllib3.BaseHTTPResponse:
        given = {
            "Authorization": f"Bearer {TOKEN}",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        return urllib3.request(method, self.address + path, body=body, headers=given, retries=False)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One for all tests of a file, which takes files of 1 MB and jobs of 20 s."""
    served = Served(tmp_path_factory.mktemp("agent"), "--max-file", "1", "--max-seconds", "20")
    yield served
    served.kill()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """``serve("--option", ...)``: one of this test alone."""
    started: list[Served] = []

    def start(*options: str) -> Served:
        started.append(Served(tmp_path, *options))
        return started[-1]

    yield start
    for each in started:
        each.kill()
