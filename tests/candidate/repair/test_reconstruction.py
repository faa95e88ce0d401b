"""A repaired structure is brought nearer to the original without its labels, or left as it is."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autocompress.candidate.arithmetic import Arithmetic
from autocompress.candidate.policy import TrainingPolicy
from autocompress.candidate.reading import read_task
from autocompress.candidate.repair import reconstruction as under_test
from autocompress.candidate.repair.reconstruction import RECONSTRUCTION, OutputError, reconstructed, unlabelled_inputs
from autocompress.candidate.request import TrainRequest
from autocompress.errors import Interrupted
from autocompress.plugin.contract import TrainStep
from autocompress.profile import HardwareProfile
from autocompress.recipe import Recipe, Step
from autocompress.storage.store import Store
from autocompress.supervisor import Supervisor
from autocompress.task import Task

CUT = Recipe((Step.of("cut"),))
BY_STEPS = TrainRequest(CUT, Arithmetic(), calibration={RECONSTRUCTION: 1280})


@pytest.fixture
def opened(tiny_task: Task, fake_runtime: Any, tmp_path: Path) -> Any:
    return opening(tiny_task, fake_runtime, tmp_path)


def opening(task: Task, runtime: Any, folder: Path) -> Any:
    """As much of an opened task as it takes, with a clock of 1 ms a call."""
    profile = HardwareProfile(name="fake", runtime="fake")
    folder.mkdir(exist_ok=True)
    context = read_task(task, profile, runtime, folder / "reference.onnx", 0).context
    told: list[float | None] = []
    seconds = iter(range(10**9))

    def safe_point(text: str) -> Any:
        return lambda fraction: (opened.supervisor.check(), told.append(fraction))

    opened = SimpleNamespace(
        context=context,
        task=task,
        store=Store(folder / "store"),
        policy=TrainingPolicy(),
        supervisor=Supervisor(),
        safe_point=safe_point,
        working_s=lambda: next(seconds) / 1e3,
        told=told,
    )
    return opened


def damaged(opened: Any, noise: float = 0.1) -> nn.Module:
    """The original with noise on its weights."""
    model = opened.task.copy_of_model().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(noise * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    return model


def error(opened: Any, model: nn.Module) -> float:
    inputs = unlabelled_inputs(opened, Arithmetic())
    assert inputs is not None
    return inputs.error(model)


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one | other)


def test_it_comes_nearer_to_the_original_on_inputs_that_it_has_not_seen(opened: Any) -> None:
    model = damaged(opened)
    before = state(model)
    found, key, facts = reconstructed(opened, replace(BY_STEPS, calibration={}, limit_s=0.1), model, "repaired")
    assert error(opened, found) < 0.8 * error(opened, model)
    assert same(state(model), before), "what was given is as it was"
    stored = opened.store.load(key)
    assert same(stored, state(found))
    assert facts[RECONSTRUCTION] > 0
    assert opened.told[-1] > 0.5


def test_labels_are_not_read(opened: Any, tiny_task: Task, fake_runtime: Any, tmp_path: Path) -> None:
    inputs, targets = tiny_task.train
    mislabelled = replace(tiny_task, train=(inputs, targets.flip(0)))
    other = opening(mislabelled, fake_runtime, tmp_path / "other")
    ones = [reconstructed(each, BY_STEPS, damaged(each), "repaired")[0] for each in (opened, other)]
    assert same(*map(state, ones))


def test_as_many_steps_as_before_give_the_same_weights(tiny_task: Task, fake_runtime: Any, tmp_path: Path) -> None:
    task = replace(tiny_task, model=nn.Sequential(tiny_task.copy_of_model(), nn.Dropout(0.1)))
    one, other = (opening(task, fake_runtime, tmp_path / name) for name in ("one", "other"))
    first, key, facts = reconstructed(one, replace(BY_STEPS, calibration={}, limit_s=0.1), damaged(one), "repaired")
    assert facts[RECONSTRUCTION] > 0
    again = reconstructed(other, replace(BY_STEPS, calibration=facts), damaged(other), "repaired")
    assert (again[1], again[2]) == (key, facts)
    assert same(state(again[0]), state(first))


def test_where_the_error_does_not_fall_it_stays_as_it_is(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "PEAK_LR", 10.0)
    model = damaged(opened)
    assert reconstructed(opened, BY_STEPS, model, "repaired") == (model, "repaired", {})


def test_what_is_near_already_stays_as_it_is(opened: Any) -> None:
    model = damaged(opened, 0.001)
    assert 0 < error(opened, model) < 0.02
    assert reconstructed(opened, BY_STEPS, model, "repaired") == (model, "repaired", {})
    assert not opened.told, "no step was made"


def test_a_model_without_a_gradient_stays_as_it_is(opened: Any) -> None:
    model = damaged(opened).requires_grad_(False)
    assert reconstructed(opened, BY_STEPS, model, "repaired") == (model, "repaired", {})


def test_where_a_step_is_too_dear_nothing_is_done(opened: Any) -> None:
    calls = iter(range(10**9))
    opened.working_s = lambda: 0.2 * next(calls)
    model = damaged(opened)
    request = replace(BY_STEPS, calibration={}, limit_s=8.0)
    assert reconstructed(opened, request, model, "repaired") == (model, "repaired", {})


def test_without_time_and_without_an_earlier_one_nothing_is_done(opened: Any) -> None:
    model = damaged(opened)
    request = replace(BY_STEPS, calibration={"examples": 251})
    assert reconstructed(opened, request, model, "repaired") == (model, "repaired", {})


def test_what_takes_much_memory_is_read_in_small_batches(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autocompress.candidate.repair.calibration.ACTIVATION_BYTES", 400_000)
    inputs = unlabelled_inputs(opened, Arithmetic())
    assert inputs is not None
    assert inputs.batch < 16
    assert len(inputs.wanted) <= 4 * inputs.batch + 4


def test_the_work_can_be_ended_between_two_steps(opened: Any) -> None:
    opened.supervisor = replace(opened.supervisor, stop=lambda: len(opened.told) > 3)
    with pytest.raises(Interrupted):
        reconstructed(opened, BY_STEPS, damaged(opened), "repaired")


def test_outputs_that_training_mode_lacks_have_no_error() -> None:
    both, one = {"logits": torch.ones(2, 3), "other": torch.ones(2)}, {"logits": torch.zeros(2, 3)}
    step = TrainStep(None, None, one["logits"], both["logits"], 0.0, heads=one, teacher_heads=both)
    assert float(OutputError({"logits": 2.0, "other": 1.0}).loss(step).value) == pytest.approx(0.5)
