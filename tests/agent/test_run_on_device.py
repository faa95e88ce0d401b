"""A file run on a device beside this machine: the same there, worse there, and not to be run there."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from autocompress.candidate import score
from autocompress.candidate.score import run_on_device
from autocompress.errors import CandidateFailed
from autocompress.evaluation import OnDevice
from autocompress.measure import DeviceRefused
from autocompress.plugin.contract import Array, Feed
from autocompress.plugin.loader import PluginSet
from autocompress.task import Task

from .conftest import Served


@pytest.fixture(scope="module")
def opened(
    open_quickly: Callable[..., Any],
    make_tiny_task: Callable[[nn.Module], Task],
    trained_tiny: nn.Module,
    shared_plugins: PluginSet,
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    """With the task's own model, on the profile ``fake``; a test runs it elsewhere."""
    task, folder = make_tiny_task(trained_tiny), tmp_path_factory.mktemp("device") / "run"
    return open_quickly(task, shared_plugins, folder, only=())


Ran = Callable[..., OnDevice]


@pytest.fixture
def ran(opened: Any, monkeypatch: pytest.MonkeyPatch) -> Ran:
    """``ran(there)``: the reference on a device whose outputs are those here, changed so."""

    def run(there: Callable[[Array], Array]) -> OnDevice:
        class Device:
            def __init__(self, profile: Any, path: Path) -> None:
                self._session = opened.task.open(path)
                self.input_names = self._session.input_names

            def run_all(self, feeds: Sequence[Feed]) -> Iterator[Sequence[Array]]:
                return ([there(output) for output in self._session.run(feed)] for feed in feeds)

        monkeypatch.setattr(score, "DeviceSession", Device)
        return run_on_device(opened.task, opened.pipeline.prepared.reference, opened.opening.reference.outputs)

    return run


def test_on_an_agent_with_the_same_runtime_nothing_differs(agent: Served, opened: Any):
    task = replace(opened.task, profile=agent.profile)
    found = run_on_device(task, opened.pipeline.prepared.reference, opened.opening.reference.outputs)
    assert (found.examples, found.failed, found.score_difference) == (96, "", 0.0)
    assert found.output_difference < 1e-4
    assert found.score is None, "it is scored there in full only where it falls"


def test_other_kernels_that_change_no_answer_change_the_outputs_alone(ran: Ran):
    found = ran(lambda output: output * np.float32(1.01))
    assert found.output_difference == pytest.approx(0.01, rel=1e-3)
    assert (found.score_difference, found.score, found.failed) == (0.0, None, "")


def test_a_score_that_falls_is_told_on_the_whole_split_with_its_loss(ran: Ran, opened: Any):
    found = ran(lambda output: output[:, ::-1].copy())  # every class is another one
    reference = opened.opening.reference.score
    assert found.score is not None
    assert found.score.whole
    assert found.score.val < reference.val - 0.2
    assert found.loss is not None
    assert found.loss[0] == pytest.approx(reference.val - found.score.val)
    assert opened.task.store.load(found.outputs) is not None, "to be compared with those of others"


@pytest.mark.parametrize("wrong", [lambda output: output * np.nan, lambda output: output[:, :1]], ids=["nan", "shape"])
def test_outputs_that_are_none_cannot_be_used_there(ran: Ran, wrong: Callable[[Array], Array]):
    assert ran(wrong).failed


def test_what_a_device_refuses_has_failed_and_what_went_wrong_once_has_not(ran: Ran):
    def refuses(output: Array) -> Array:
        raise DeviceRefused("no such operator")

    def fails(output: Array) -> Array:
        raise CandidateFailed("the job took too long")

    assert ran(refuses).failed == "no such operator"
    with pytest.raises(CandidateFailed, match="too long"):
        ran(fails)
