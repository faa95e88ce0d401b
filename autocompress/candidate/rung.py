"""One training of a family: from its structure or the checkpoint of the rung before, to a checkpoint of its own."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from autocompress.candidate.bench import Bench, Request
from autocompress.candidate.snapshot import Snapshots
from autocompress.candidate.structure import blamed_on
from autocompress.candidate.train import Schedule, train
from autocompress.data import seeded
from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import TrainHook, TrainingStrategy
from autocompress.recipe import TRAIN, Recipe
from autocompress.run.store import Store


@dataclass(frozen=True)
class Rung:
    """A family's model after a training. checkpoint: where its weights lie; None when nothing was ever trained.

    examples, seconds: of this training; examples that were counted before, and are repeated because the weights are
    gone, do not count again. epochs: of all, over the training split. learned: by strategy, beside the weights.
    snapshots: of this training, to be dropped once its files are made.
    """

    model: nn.Module
    checkpoint: str | None
    epochs: float
    examples: int = 0
    seconds: float = 0.0
    learned: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    snapshots: Snapshots | None = None


def train_rung(bench: Bench, request: Request, model: nn.Module) -> Rung:
    """Train ``model``, the untrained structure, which may be changed. Raises CandidateFailed, Interrupted.

    A checkpoint that is gone or damaged is made up for: the structure trains from the beginning, on as many examples in
    all, as far as this training's time allows.
    """
    counted = 0  # of the examples, by trainings whose weights are gone
    if request.checkpoint is not None and not _loaded(bench, request.checkpoint, model):
        counted, whole = request.start, request.start + request.examples
        request = replace(request, start=0, examples=whole, checkpoint=None, learned={})
    strategies = [(step, bench.plugins.strategies.get(step.strategy)) for step in request.recipe.steps]
    training = [(step, strategy) for step, strategy in strategies if isinstance(strategy, TrainingStrategy)]
    if not training or not request.examples:
        return Rung(model, request.checkpoint, _epochs(bench, request, 0), learned=request.learned)
    if bench.trainer is None:
        raise RuntimeError("the task is prepared for gating only")
    hooks: list[tuple[str, TrainHook]] = []
    for step, strategy in training:
        with blamed_on(step.strategy):
            hook = strategy.hook(step.values, bench.context)
            if step.strategy in request.learned:
                hook.resume(request.learned[step.strategy])
            hooks.append((step.strategy, hook))
    lr, batch_size = train_settings(request.recipe)
    schedule = Schedule(lr, batch_size, request.start, request.examples, request.limit_s, request.length_s)
    parts = (bench.fingerprint, request.recipe.to_json(), request.rung, request.start, bench.context.seed)
    snapshots = Snapshots(bench.store, bench.store.key("partial", *parts))
    text = f"train: {request.recipe.techniques()}"

    def between(fraction: float) -> None:
        bench.supervisor.check()
        bench.room.give_way()
        bench.supervisor.tell(text, fraction)

    # Dropout draws the same, whatever was made before.
    with bench.supervisor.during("train", text), seeded(bench.context.seed + request.start):
        trained = train(
            model,
            hooks,
            bench.task.loss_fn,
            bench.trainer.stream,
            schedule,
            bench.trainer.arithmetic,
            between=between,
            snapshots=snapshots,
            clock=lambda: time.monotonic() - bench.room.waited_s,
        )
        checkpoint = bench.store.key("weights", *parts)
        bench.store.save(checkpoint, trained.model.state_dict())
    epochs = _epochs(bench, request, trained.examples)
    examples = trained.examples - counted
    return Rung(trained.model, checkpoint, epochs, examples, trained.seconds, trained.learned, snapshots)


def _loaded(bench: Bench, checkpoint: str, model: nn.Module) -> bool:
    """Whether the checkpoint's weights are in ``model`` now."""
    if bench.store.path(checkpoint).exists():
        try:
            load_weights(bench.store, model, checkpoint)
            return True
        except CandidateFailed as error:
            bench.supervisor.note(f"{error.reason}: its family is trained from the beginning")
    return False


def load_weights(store: Store, model: nn.Module, checkpoint: str) -> None:
    """Put stored weights into a rebuilt structure. Raises CandidateFailed when they are gone or do not fit."""
    weights = store.load(checkpoint)
    if weights is None:
        raise CandidateFailed(f"the weights {store.path(checkpoint)} are missing, damaged or of another version")
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise CandidateFailed(f"the checkpoint {checkpoint} does not fit the structure: {error}") from error


def train_settings(recipe: Recipe) -> tuple[float, int]:
    """Peak learning rate and batch size of a recipe."""
    step = recipe.step(TRAIN)
    values = step.values if step else {}
    return float(values.get("lr", 1e-3)), int(values.get("batch_size", 128))


def _epochs(bench: Bench, request: Request, examples: int) -> float:
    seen = (request.start if request.checkpoint else 0) + examples
    return round(seen / len(bench.context.train), 4)
