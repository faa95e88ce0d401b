"""A GPU as a target, by a provider that only says it is one: no test needs the real thing."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest
import torch
from torch import nn

from autocompress.candidate.export import export
from autocompress.errors import CandidateFailed
from autocompress.machine.blocks import BlockLimits, warm_up
from autocompress.machine.gpu import gpu_throttled
from autocompress.measure.conditions import advice
from autocompress.measure.here import Here
from autocompress.profile import HardwareProfile
from autocompress_plugins.quantization.float16 import Float16
from autocompress_plugins.runtimes.onnxruntime import OnnxRuntime
from tests.layouts import layout_of

from .test_conditions import GOOD

GPU = HardwareProfile(name="gpu", provider="CUDAExecutionProvider")


class FakeSession(ort.InferenceSession):  # type: ignore[misc]
    """Computes on the processor, and says that it is a GPU."""

    def __init__(self, path: str, options: Any, providers: list[str]) -> None:
        super().__init__(path, options, providers=["CPUExecutionProvider"])
        self._said = providers

    def get_providers(self) -> list[str]:
        return [*self._said, "CPUExecutionProvider"]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> OnnxRuntime:
    monkeypatch.setattr(ort, "get_available_providers", lambda: [GPU.provider, "CPUExecutionProvider"])
    monkeypatch.setattr(ort, "InferenceSession", FakeSession)
    return OnnxRuntime()


@pytest.fixture
def tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """``tells(line)``: what the driver's tool prints from now on."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def tell(line: str) -> None:
        tool = folder / "nvidia-smi"
        tool.write_text(f"#!/bin/sh\necho '{line}'\n")
        tool.chmod(0o755)

    return tell


@pytest.fixture
def here(gpu: OnnxRuntime, tmp_path: Path) -> Here:
    model, given = nn.Linear(8, 8), torch.randn(1, 8)
    path = tmp_path / "m.onnx"
    export(model, layout_of(model, given), given, path, "torchscript")
    return Here(gpu, GPU, path, [{"input": given.numpy()}], forks=True)


def test_a_gpu_is_available_where_a_file_runs_on_it(gpu: OnnxRuntime) -> None:
    assert gpu.unavailable(GPU) is None
    other = GPU.model_copy(update={"provider": "TensorrtExecutionProvider"})
    assert "onnxruntime-gpu" in str(gpu.unavailable(other))


def test_a_session_is_in_this_process_with_what_the_gpu_did(
    here: Here, tells: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("a GPU's driver does not outlive a fork"))
    tells("1485, 1980, 0x0000000000000040")
    blocks, conditions = here.blocks(here.reference, BlockLimits(quiet=2, seconds=0.0, fewest=2), 1e9)
    assert len(blocks.candidate) >= 2
    assert conditions.gpu_throttled == pytest.approx(0.25)
    said = advice(GOOD, 1, replace(conditions, switches=0.0, stolen=0.0, throttled=0.0), 1.0, False)
    assert said == [
        "the GPU lowered its clock by 25%, for heat or power: cool it, or raise its power limit (`nvidia-smi -q -d "
        "PERFORMANCE` says why)"
    ]


@pytest.mark.parametrize(
    ("line", "state"),
    [
        ("1980, 1980, 0x0000000000000001", 0.0),
        ("990, 1980, 0x0000000000000004", 0.5),
        ("990, 1980, 0x0000000000000002", 0.0),
        ("[N/A], [N/A], [N/A]", 0.0),
        ("", 0.0),
    ],
    ids=["idle", "power", "set by its owner", "not told", "nothing"],
)
def test_a_clock_that_is_lowered_for_heat_or_power_is_told(
    line: str, state: float, tells: Callable[[str], None]
) -> None:
    tells(line)
    assert gpu_throttled(lambda: None) == state


def test_it_works_while_the_driver_tells(tells: Callable[[str], None]) -> None:
    """An idle GPU says nothing of a busy one."""
    worked: list[int] = []
    tells("1980, 1980, 0x0'; sleep 0.1; echo '")
    gpu_throttled(lambda: worked.append(1))
    assert len(worked) > 1


def test_without_the_drivers_tool_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert gpu_throttled(lambda: None) == 0.0


@pytest.mark.parametrize(
    ("takes", "calls"),
    [([900.0, 600.0, 400.0, 395.0, 390.0], 4), ([400.0] * 5, 2), ([1600.0, 800.0, 400.0, 230.0, 100.0], 4)],
    ids=["faster twice", "warm", "the time is up"],
)
def test_it_is_called_until_it_gets_no_faster(takes: list[float], calls: int) -> None:
    """Milliseconds of calls so slow that each is a spell."""
    made: list[float] = []

    def call() -> float:
        made.append(takes[len(made)])
        return made[-1]

    warm_up(call, lambda: sum(made) / 1e3)
    assert len(made) == calls


def test_float16_may_be_faster_on_a_gpu_and_is_not_on_a_processor(gpu: OnnxRuntime) -> None:
    context: Any = type("Context", (), {"runtime": gpu, "profile": GPU})
    assert Float16().size_only(context) is None
    context.profile = HardwareProfile(name="cpu")
    assert "no faster in float16" in str(Float16().size_only(context))


def test_what_does_not_fit_into_its_memory_is_a_failure_of_the_candidate(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Any, binding: Any) -> None:
        raise RuntimeError("Failed to allocate memory for requested buffer of size 8589934592")

    monkeypatch.setattr(FakeSession, "run_with_iobinding", full)
    with pytest.raises(CandidateFailed, match="Failed to allocate memory"):
        here.blocks(here.reference, BlockLimits(quiet=2, seconds=0.0, fewest=2), 1e9)
