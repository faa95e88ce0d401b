"""Files timed on a device that a program of the user's reaches: what it prints, and what it may not."""

import json
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from autocompress.candidate.export import export
from autocompress.errors import CandidateFailed, UsageError
from autocompress.measure import Pools, RunTiming, Sessions, call_overhead_ms, check_place, latency_of
from autocompress.measure import command_device as own
from autocompress.profile import HardwareProfile, load_profile
from tests.layouts import layout_of

BOARD = Path(__file__).parents[2] / "examples" / "board" / "time_blocks.py"
SOUND = {"reference": [2.0] * 21, "candidate": [[1.0, 1.0]] * 20}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Of three layers, and of one like them."""
    found = []
    for layers in (3, 1):
        model = nn.Sequential(*(nn.Linear(256, 256) for _ in range(layers)))
        found.append(tmp_path / f"{layers}.onnx")
        export(model, layout_of(model, torch.zeros(1, 256)), torch.zeros(1, 256), found[-1], "torchscript")
    return found[0], found[1]


Program = Callable[[str], HardwareProfile]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """``program(code)``: the profile of a device whose program is that code, with ``arguments`` at hand."""

    def write(code: str) -> HardwareProfile:
        path = tmp_path / "program.py"
        path.write_text(f"import json, sys, time\narguments = sys.argv[1:]\n{code}\n")
        return HardwareProfile(name="board", device=f"command:{shlex.quote(sys.executable)} {shlex.quote(str(path))}")

    return write


def session_of(files: tuple[Path, Path], profile: HardwareProfile, runtime: Any = None) -> Any:
    reference, candidate = files
    feeds = [{"input": np.zeros((1, 256), np.float32)}, {"input": np.ones((1, 256), np.float32)}]
    return Sessions(runtime, profile, reference, feeds).record(candidate)


def test_a_session_is_what_the_program_prints_last(files: tuple[Path, Path], program: Program):
    session, blocks = session_of(files, program(f"print('board 1'); print(json.dumps({SOUND}))"))
    assert (session.log_ratio, session.quiet, session.busy) == (pytest.approx(np.log(0.5)), 20, False)
    assert len(blocks.candidate) == 20


def test_on_a_device_that_does_nothing_else_a_ratio_is_what_a_session_says(files: tuple[Path, Path], program: Program):
    """Its clock changes, and slows both files alike."""
    blocks = {**SOUND, "reference": [2.1] * 19 + [2.0] * 2}
    session, _ = session_of(files, program(f"print(json.dumps({blocks}))"))
    assert session.slowed > 1.04
    run = RunTiming.of([Pools((session,))])
    assert run.slowed == 1.0
    assert latency_of([session], run).ratio == pytest.approx(1 / 2.1)


def test_the_program_is_given_both_files_the_inputs_and_the_seconds(files: tuple[Path, Path], program: Program):
    code = f"""
import numpy
candidate, reference, inputs, seconds, threads = arguments
assert open(candidate, "rb").read() != open(reference, "rb").read()
found = numpy.load(inputs)
assert sorted(found) == ["0/input", "1/input"] and found["1/input"].sum() == 256, sorted(found)
assert (float(seconds), threads) == (1.5, "1")
print(json.dumps({SOUND}))"""
    assert not session_of(files, program(code))[0].busy


def test_the_example_times_files_on_this_machine(files: tuple[Path, Path]):
    """In place of a board; of sixteen times the work."""
    profile = HardwareProfile(name="board", device=f"command:{shlex.quote(sys.executable)} {shlex.quote(str(BOARD))}")
    session, blocks = session_of(files, profile)
    assert session.log_ratio < 0
    assert 10 <= len(blocks.candidate) <= 20


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("", "gave no block times: 'nothing'"),
        ("print('hello')", "gave no block times: 'hello'"),
        ("print('[1, 2]')", "gave no block times"),
        (f"print(json.dumps({SOUND | {'reference': [2.0]}}))", "gave no block times"),
        (f"print(json.dumps({SOUND | {'candidate': [['fast']] * 20}}))", "gave no block times"),
        (f"print(json.dumps({SOUND | {'candidate': [[-1.0]] * 20}}))", "block times that no call takes"),
        (f"print(json.dumps({SOUND | {'candidate': [[]] * 20}}))", "block times that no call takes"),
        (
            "print(json.dumps({'reference': [float('nan')] * 2, 'candidate': [[1.0]]}))",
            "block times that no call takes",
        ),
        ("sys.exit('no route to host')", "exit code 1: no route to host"),
        ("print('x' * 2000)", "printed more than"),
        ("time.sleep(60)", "took longer than 1 s and was ended"),
    ],
)  # fmt: skip
def test_a_program_that_lies_fails_or_hangs_is_one_line(
    code: str, reason: str, files: tuple[Path, Path], program: Program, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(own, "STARTING_S", 1.0 - own.TIMES_SECONDS * 1.5 if "sleep" in code else 60.0)
    monkeypatch.setattr(own, "MOST_BYTES", 1000)
    with pytest.raises(CandidateFailed) as failed:
        session_of(files, program(code))
    assert reason in str(failed.value)
    assert "\n" not in str(failed.value)


def test_a_program_that_is_not_there_is_named(files: tuple[Path, Path]):
    with pytest.raises(CandidateFailed, match=r"cannot be run: No such file or directory: \./none\.sh board"):
        session_of(files, HardwareProfile(name="board", device="command:./none.sh board"))


def test_what_a_program_started_ends_with_it(
    files: tuple[Path, Path], program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(own, "STARTING_S", 3.0)
    monkeypatch.setattr(own, "GRACE_S", 0.1)
    pid = tmp_path / "pid"
    code = f"""
import subprocess
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open({str(pid)!r}, "w").write(str(child.pid))
time.sleep(60)"""
    with pytest.raises(CandidateFailed, match="was ended"):
        session_of(files, program(code))
    stat = Path(f"/proc/{pid.read_text()}/stat")
    for _ in range(100):  # a process that was told to end does so in a moment
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.1)
    pytest.fail("it goes on")


def test_what_is_of_this_machine_alone_is_not_asked_of_a_device():
    profile = HardwareProfile(name="board", device="command:./board.sh", threads=1000)
    check_place(profile)
    runtime: Any = None
    assert call_overhead_ms(runtime, profile) == 0.0


def test_a_device_is_a_command_or_this_machine(tmp_path: Path):
    path = tmp_path / "board.toml"
    path.write_text('name = "board"\ndevice = "command:./over_ssh.sh pi@board"\n')
    profile = load_profile(str(path))
    assert profile.command == "./over_ssh.sh pi@board"
    assert HardwareProfile.model_validate(json.loads(profile.model_dump_json())) == profile
    for wrong in ("board", "command:", "command: ", "command:./board.sh 'pi"):
        path.write_text(f'name = "board"\ndevice = "{wrong}"\n')
        with pytest.raises(UsageError, match="device"):
            load_profile(str(path))
    path.write_text('name = "board"\ndevice = "command:./board.sh"\nthreads = "all"\n')
    with pytest.raises(UsageError, match="say how many for a device elsewhere"):
        load_profile(str(path))
