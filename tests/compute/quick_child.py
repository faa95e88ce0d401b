"""The child process of a worker that does what it is told and loads nothing, so that it is there in a moment."""

import os
import signal
import subprocess
import sys
import time

from autocompress.compute.child import answer_calls
from autocompress.errors import UsageError
from autocompress.supervisor import Supervisor


class Obeys:
    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor

    def prepare(self, seconds: float) -> "tuple[Obeys, str]":
        with self.supervisor.during("open", f"open for {seconds} s"):
            time.sleep(seconds)
        return self, "prepared"

    def pid(self) -> int:
        return os.getpid()

    def sleep(self, seconds: float) -> None:
        with self.supervisor.during("open", "sleep"):
            time.sleep(seconds)

    def ignore_and_sleep(self, seconds: float) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(seconds)

    def kill_itself(self, number: int) -> None:
        os.kill(os.getpid(), number)

    def leave(self, code: int) -> None:
        os._exit(code)

    def start_another(self) -> int:
        return subprocess.Popen(["sleep", "6000"]).pid

    def say(self, text: str) -> None:
        print(text, flush=True)
        self.supervisor.note(text)

    def refuse(self, cause: str) -> None:
        raise UsageError(cause)


if __name__ == "__main__":
    answer_calls(int(sys.argv[1]), serve=lambda config, supervisor: Obeys(supervisor), threads_of=lambda config: None)
