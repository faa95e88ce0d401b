"""What is computed in a copy of the process: its answer, its errors, and what becomes of one that ends or is left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from autocompress.errors import CandidateFailed, UsageError
from autocompress.measure.forked import forked


def test_the_answer_comes_from_another_process() -> None:
    mine = [os.getpid()]
    found = forked(lambda: (os.getpid(), mine))
    assert found == (found[0], mine)
    assert found[0] != os.getpid()


def test_nothing_is_changed_here() -> None:
    seen: list[int] = []
    assert forked(lambda: seen.append(1)) is None
    assert not seen


def raises(error: Exception) -> None:
    raise error


def test_errors_come_through_in_words() -> None:
    with pytest.raises(CandidateFailed, match="it does not open") as failed:
        forked(lambda: raises(CandidateFailed("it does not open", "squeeze")))
    assert failed.value.strategy == "squeeze"
    with pytest.raises(UsageError, match="bad input"):
        forked(lambda: raises(UsageError("bad input")))
    with pytest.raises(CandidateFailed, match="ValueError: two lines"):
        forked(lambda: raises(ValueError("two\nlines")))


@pytest.mark.parametrize(("how", "said"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGKILL, "SIGKILL")])
def test_a_process_that_a_signal_ends_is_named(how: signal.Signals, said: str) -> None:
    with pytest.raises(CandidateFailed, match=f"ended without an answer .{said}."):
        forked(lambda: os.kill(os.getpid(), how))


def test_no_process_is_left_behind() -> None:
    before = [forked(os.getpid) for _ in range(3)]
    forked(os.getpid)
    for pid in before:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_it_ends_with_the_process_that_waits_for_it(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys, time\n"
        "from autocompress.measure.forked import forked\n"
        "forked(lambda: (pathlib.Path(sys.argv[1]).write_text(str(os.getpid())), time.sleep(60)))\n"
    )
    file = tmp_path / "pid"
    parent = subprocess.Popen([sys.executable, "-c", code, str(file)])
    try:
        for _ in range(600):
            if file.exists() and file.read_text():
                break
            time.sleep(0.1)
        pid = int(file.read_text())
    finally:
        parent.kill()
        parent.wait()
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return  # ended, and nobody has asked how
        time.sleep(0.1)
    pytest.fail("it goes on")
