"""A training that was cut off goes on from where it was kept, and ends as if it had never been cut off."""

from collections.abc import Callable
from itertools import count
from pathlib import Path
from time import monotonic

import pytest
import torch
from torch import Tensor, nn

from autocompress.candidate.arithmetic import Arithmetic
from autocompress.candidate.policy import TrainingPolicy
from autocompress.candidate.snapshot import Snapshots
from autocompress.candidate.stream import TrainStream
from autocompress.candidate.teacher import Teacher
from autocompress.candidate.train import Schedule, Trained, train
from autocompress.data.loading import open_split
from autocompress.errors import Interrupted
from autocompress.plugin.contract import LossTerm, TrainHook, TrainStep
from autocompress.storage.store import Store
from autocompress.task import Task
from tests.layouts import layout_of

SCHEDULE = Schedule(lr=0.01, batch_size=32, start=0, examples=640)


class Adapter(TrainHook):
    """Learns a matrix beside the model."""

    def __init__(self) -> None:
        torch.manual_seed(3)
        self.beside = nn.Linear(4, 4)

    def parameters(self) -> list[nn.Parameter]:
        return list(self.beside.parameters())

    def loss(self, step: TrainStep) -> LossTerm:
        return LossTerm(self.beside(step.outputs).square().mean(), 0.1)


class Cut(Exception):
    pass


Run = Callable[..., tuple[Trained, TrainHook, int]]


@pytest.fixture
def run(tiny_task: Task, tmp_path: Path) -> Run:
    def go(  # type: ignore[no-untyped-def]
        cut_at: float = 2.0,
        by: type[Exception] = Interrupted,
        key: str = "partial-a",
        clock: Callable[[], float] = monotonic,
        policy: TrainingPolicy = TrainingPolicy(),
        **schedule: object,
    ):
        model = tiny_task.copy_of_model()
        teacher = Teacher(model, Arithmetic(), layout_of(model, tiny_task.train[0][:2]))
        stream = TrainStream(tiny_task, open_split("train", tiny_task.train), teacher, 0)
        steps: list[float] = []

        def between(fraction: float) -> None:
            steps.append(fraction)
            if fraction >= cut_at:
                raise by("cut")

        hook = Adapter()
        trained = train(
            tiny_task.copy_of_model(),
            [("adapter", hook)],
            tiny_task.loss_fn,
            stream,
            Schedule(**{**vars(SCHEDULE), **schedule}),  # type: ignore[arg-type]
            Arithmetic(),
            between=between,
            snapshots=Snapshots(Store(tmp_path), key, policy),
            clock=clock,
        )
        return trained, hook, len(steps)

    return go


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_interrupted_training_ends_as_if_it_had_not_been(run: Run):
    whole, own, steps = run(key="partial-whole")
    with pytest.raises(Interrupted):
        run(cut_at=0.5)
    rest, again, left = run()
    assert left == steps // 2, "what was done is not done again"
    assert same(whole.model.state_dict(), rest.model.state_dict())
    assert same(own.beside.state_dict(), again.beside.state_dict())
    assert rest.examples == whole.examples


def test_training_that_crashed_goes_on_from_the_last_snapshot(run: Run):
    always = TrainingPolicy(snapshot_s=0.0)  # before every step
    whole, _, steps = run(key="partial-whole", policy=always)
    with pytest.raises(Cut):
        run(cut_at=0.5, by=Cut, policy=always)
    rest, _, left = run(policy=always)
    assert left < 0.7 * steps
    assert same(whole.model.state_dict(), rest.model.state_dict())


def test_long_training_is_not_done_again_when_its_files_could_not_be_made(run: Run):
    always = TrainingPolicy(snapshot_s=0.0)
    whole, own, _ = run(policy=always)
    again, hook, steps = run(policy=always)
    assert steps == 0
    assert same(whole.model.state_dict(), again.model.state_dict())
    assert same(own.beside.state_dict(), hook.beside.state_dict())


def test_snapshot_of_another_structure_is_not_taken(run: Run, tmp_path: Path, tiny_task: Task):
    with pytest.raises(Interrupted):
        run(cut_at=0.5)
    found = Store(tmp_path).load("partial-a")
    assert found is not None
    Store(tmp_path).save("partial-a", {name: t[:1] if t.dim() else t for name, t in found.items()})
    whole, _, steps = run(key="partial-whole")
    fresh, _, again = run()
    assert again == steps
    assert same(whole.model.state_dict(), fresh.model.state_dict())


@pytest.mark.parametrize(("cut_at", "length_s", "steps"), [(0.2, 10.0, 8), (0.8, 10.0, 9), (0.8, None, 16)])
def test_time_before_the_cut_counts_and_a_quarter_is_left_to_end_in(
    cut_at: float, length_s: float | None, steps: int, run: Run
):
    """Each step takes a second of the ten there are; opening and cutting off one each. Without a length all the time
    there is now is used."""
    with pytest.raises(Interrupted):
        run(cut_at=cut_at, limit_s=10.0, length_s=length_s, clock=count().__next__)
    rest, _, _ = run(limit_s=10.0, length_s=length_s, clock=count().__next__)
    assert rest.examples == steps * SCHEDULE.batch_size
