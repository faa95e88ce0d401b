"""Sessions on a target, until they say how two files stand to each other."""

import math
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from autocompress.candidate.export import export
from autocompress.errors import CandidateFailed
from autocompress.machine.blocks import BlockLimits
from autocompress.measure import ReferenceSpeed, Sessions, requalified
from autocompress.measure.statistics import session_of
from autocompress.plugin.contract import Feed, Session
from autocompress.profile import HardwareProfile
from tests.layouts import layout_of

PROFILE = HardwareProfile(name="fake", runtime="fake")


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Of one layer, and of three like it."""
    found = []
    for layers in (1, 3):
        model = nn.Sequential(*(nn.Linear(16, 16) for _ in range(layers)))
        found.append(tmp_path / f"{layers}.onnx")
        export(model, layout_of(model, torch.zeros(1, 16)), torch.zeros(1, 16), found[-1], "torchscript")
    return found[0], found[1]


def feeds() -> list[Feed]:
    return [{"input": torch.zeros(1, 16).numpy()}]


def test_a_clear_answer_takes_the_fewest_sessions(files: tuple[Path, Path], fake_runtime: Any):
    one, three = files
    said: list[str] = []
    latency, relation = Sessions(fake_runtime, PROFILE, one, feeds()).compare(three, 0.03, said.append)
    assert (relation, latency.ratio, len(latency.sessions)) == ("slower", pytest.approx(3.0), 4)
    assert said == [f"session {number} of at most 8" for number in (1, 2, 3, 4)]
    assert Sessions(fake_runtime, PROFILE, three, feeds()).compare(one, 0.03)[1] == "faster"
    assert Sessions(fake_runtime, PROFILE, one, feeds()).compare(one, 0.03)[1] == "same"


def test_an_open_question_is_given_more_sessions(files: tuple[Path, Path], fake_runtime: Any):
    one, _ = files
    latency, relation = Sessions(fake_runtime, PROFILE, one, feeds()).compare(one, 0.001)
    assert (relation, len(latency.sessions)) == ("undecided", 8)


def test_where_every_moment_counts_no_block_is_left_out_and_a_session_lasts_its_time(
    files: tuple[Path, Path], fake_runtime: Any, monkeypatch: pytest.MonkeyPatch
):
    """A neighbour takes turns of five calls, and slows the larger file by more than the reference."""
    one, three = files
    clock: Callable[[Session, Feed], float] = fake_runtime.clock
    calls = iter(range(10**9))
    alone = clock(fake_runtime.open(one, PROFILE), feeds()[0])

    def beside(session: Session, feed: Feed) -> float:
        ms, busy = clock(session, feed), next(calls) // 5 % 2
        return ms * ((3.0 if ms > 2 * alone else 1.5) if busy else 1.0)

    fake_runtime.ms_per_mac = 0.04  # a call is a block
    monkeypatch.setattr(fake_runtime, "clock", beside)
    limits = BlockLimits(seconds=0.0, fewest=100)
    as_it_is = PROFILE.model_copy(update={"machine": "as it is"})
    session, blocks = Sessions(fake_runtime, as_it_is, one, feeds()).record(three, limits)
    assert len(blocks.candidate) == 100, "and does not end with some quiet blocks"
    assert (session.busy, session.quiet) == (False, 100)
    assert session.log_ratio == session.log_ratio_of_all
    assert session.statistic == session.statistic_of_all
    quiet, _ = Sessions(fake_runtime, PROFILE, one, feeds()).record(three, limits)
    assert quiet.quiet < 60
    assert requalified((session,), ReferenceSpeed().after([session])) == (session,)
    assert ReferenceSpeed().after([session]).near(session.at_s) == math.inf, "it tells nothing of a quiet machine"
    assert ReferenceSpeed().after([quiet]).near(quiet.at_s) < math.inf


def test_both_files_are_opened_anew_for_each_session(
    files: tuple[Path, Path], fake_runtime: Any, monkeypatch: pytest.MonkeyPatch
):
    one, three = files
    opened: list[Path] = []
    open_file: Callable[[Path, HardwareProfile], Session] = fake_runtime.open
    monkeypatch.setattr(fake_runtime, "open", lambda path, profile: opened.append(path) or open_file(path, profile))
    sessions = Sessions(fake_runtime, PROFILE, one, feeds())
    for _ in range(2):
        sessions.record(three)
    assert opened == [three, one] * 2


def test_what_a_session_says_can_be_worked_out_again_from_its_blocks(files: tuple[Path, Path], fake_runtime: Any):
    one, three = files
    session, blocks = Sessions(fake_runtime, PROFILE, one, feeds()).record(three)
    again = session_of(blocks, float(blocks.reference.min()), PROFILE.percentile)
    assert replace(again, conditions=session.conditions, at_s=session.at_s, seconds=session.seconds) == session


def test_a_clock_that_is_too_coarse_fails_the_file(
    files: tuple[Path, Path], fake_runtime: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fake_runtime, "clock", lambda session, feed: 0.0)
    with pytest.raises(CandidateFailed, match="too coarse"):
        Sessions(fake_runtime, PROFILE, files[0], feeds()).record(files[1])


def test_each_session_may_have_a_process_of_its_own(
    files: tuple[Path, Path], fake_runtime: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    one, three = files
    opened = fake_runtime.open

    def noted(path: Path, profile: HardwareProfile) -> Session:
        with (tmp_path / "processes").open("a") as noting:
            noting.write(f"{os.getpid()}\n")
        return opened(path, profile)  # type: ignore[no-any-return]

    monkeypatch.setattr(fake_runtime, "open", noted)
    sessions = Sessions(fake_runtime, PROFILE, one, feeds(), forks=True)
    ratios = [math.exp(sessions.record(three)[0].log_ratio) for _ in range(2)]
    assert ratios == [pytest.approx(3.0)] * 2
    processes = (tmp_path / "processes").read_text().split()
    assert len(processes) == 4
    assert len(set(processes) - {str(os.getpid())}) == 2
    slow = np.array([1e9])
    assert sessions.recent.fastest(time.monotonic(), slow) < 1e9, "what they saw is remembered here"
