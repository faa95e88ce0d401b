"""One session on a device that a program of the user's reaches, such as a board over ssh or adb.

The program is called as ``PROGRAM CANDIDATE REFERENCE INPUTS SECONDS THREADS``: two ONNX files, an .npz file of inputs
(``number/name``, the number counted from 0), the seconds that the session may take and the profile's threads. Its last
line is JSON,
``{"reference": [ms, ...], "candidate": [[ms, ...], ...]}``: the median milliseconds of each block of calls of the
reference, one more than the candidate's, and every call of each of the candidate's blocks, which alternate.
"""

import json
import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from autocompress.data import Feed
from autocompress.errors import CandidateFailed, one_line
from autocompress.machine.blocks import BlockLimits, Blocks
from autocompress.machine.conditions import Conditions
from autocompress.measure.recorded import SHOWN_OF_IT, blocks_in, packed

STARTING_S, TIMES_SECONDS = 120.0, 4  # beside the session: to copy both files, and times the seconds that it may take
GRACE_S = 2.0  # between asking it to end and ending it
MOST_BYTES = 16 << 20  # of what a program prints


def command_limit_s(seconds: float) -> float:
    """That a session of so many seconds may take in all."""
    return STARTING_S + TIMES_SECONDS * seconds


@dataclass(frozen=True)
class CommandDevice:
    """command: the program with its arguments. threads: to run the files with. feeds: inputs of both files, taken in
    turn.
    """

    command: str
    threads: int
    reference: Path
    feeds: Sequence[Feed]

    def blocks(self, candidate: Path, limits: BlockLimits, known_ms: float | None) -> tuple[Blocks, Conditions]:
        """How long a session is, is for the program. Raises CandidateFailed when the program fails, takes too long or
        prints anything else.
        """
        with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
            inputs = Path(folder) / "inputs.npz"
            inputs.write_bytes(packed(self.feeds))
            files = [str(path.resolve()) for path in (candidate, self.reference, inputs)]
            asked = [*files, f"{limits.seconds:g}", str(self.threads)]
            printed = self._printed(asked, command_limit_s(limits.seconds), Path(folder))
        return blocks_in(_answered(printed), "the device's command"), Conditions()

    def _printed(self, arguments: Sequence[str], limit_s: float, folder: Path) -> str:
        """The last line that the program prints."""
        out, err = folder / "stdout", folder / "stderr"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            code = self._ended([*shlex.split(self.command), *arguments], stdout, stderr, limit_s)
        if code:
            said = err.read_bytes()[-MOST_BYTES:].decode(errors="replace").strip().splitlines()
            why = f": {one_line(said[-1], SHOWN_OF_IT)}" if said else ""
            raise CandidateFailed(f"the device's command ended with exit code {code}{why}: {self._shown}")
        if out.stat().st_size > MOST_BYTES:
            raise CandidateFailed(f"the device's command printed more than {MOST_BYTES >> 20} MiB: {self._shown}")
        lines = out.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def _ended(self, command: Sequence[str], stdout: IO[bytes], stderr: IO[bytes], limit_s: float) -> int:
        """Its exit code. At the limit it is ended, with all that it started."""
        try:
            running = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True
            )
        except OSError as error:
            raise CandidateFailed(f"the device's command cannot be run: {error.strerror}: {self._shown}") from error
        try:
            return running.wait(limit_s)
        except subprocess.TimeoutExpired as error:
            raise CandidateFailed(
                f"the device's command took longer than {limit_s:.0f} s and was ended: {self._shown}"
            ) from error
        finally:
            for how in (signal.SIGTERM, signal.SIGKILL):
                with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                    os.killpg(running.pid, how)
                    running.wait(GRACE_S)

    @property
    def _shown(self) -> str:
        return one_line(self.command, 80)


def _answered(printed: str) -> object:
    """What a line says; itself where that is no JSON."""
    try:
        return json.loads(printed)
    except ValueError:
        return printed
