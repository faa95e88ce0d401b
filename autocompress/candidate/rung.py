"""One training of a family: from its structure or the checkpoint of the rung before, to a checkpoint of its own."""

from collections.abc import Callable
from dataclasses import replace

from torch import nn

from autocompress.candidate.make import built
from autocompress.candidate.open_task import OpenTask
from autocompress.candidate.repair.reconstruction import reconstructed
from autocompress.candidate.repair.repaired import repaired
from autocompress.candidate.request import TrainedWeights, TrainRequest
from autocompress.candidate.snapshot import Snapshots
from autocompress.candidate.stream import TrainStream
from autocompress.candidate.structure import blamed_on
from autocompress.candidate.train import Schedule, train
from autocompress.candidate.weights import load_weights
from autocompress.data import seeded
from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import TrainHook, TrainingStrategy
from autocompress.recipe import TRAIN, Plan, Recipe


def train_rung(
    opened: OpenTask, request: TrainRequest, stream: Callable[[], TrainStream]
) -> tuple[nn.Module, TrainedWeights]:
    """Build a family's structure and train it on ``stream``. Raises CandidateFailed, Interrupted.

    A checkpoint that is gone or damaged is made up for: the structure trains from the beginning, on as many examples in
    all, as far as this training's time allows.
    """
    counted = 0  # of the examples, by trainings whose weights are gone
    found = None if request.checkpoint is None else _loaded(opened, request)
    if request.checkpoint is not None and found is None:
        counted, whole = request.start, request.start + request.examples
        request = replace(request, start=0, examples=whole, checkpoint=None, learned={})
    if found is None:
        model, plans, weights_key = repaired(opened, request.recipe, request.plans)
        calibration = {} if weights_key is None else dict(opened.store.load_json(weights_key) or {})
    else:
        model, plans = found
        weights_key, calibration = request.checkpoint, dict(request.calibration)
    strategies = [(step, opened.plugins.strategies.get(step.strategy)) for step in request.recipe.steps]
    training = [(step, strategy) for step, strategy in strategies if isinstance(strategy, TrainingStrategy)]
    if found is None and weights_key is not None and not training:
        model, weights_key, facts = reconstructed(opened, request, model, weights_key)
        calibration |= facts
    if not training or not request.examples:
        epochs = _epochs(opened, request, 0)
        untrained = TrainedWeights(request.recipe, plans, weights_key, request.learned, epochs)
        return model, replace(untrained, calibration=calibration)
    hooks: list[tuple[str, TrainHook]] = []
    for step, strategy in training:
        with blamed_on(step.strategy):
            hook = strategy.hook(step.values, opened.context)
            if step.strategy in request.learned:
                hook.resume(request.learned[step.strategy])
            hooks.append((step.strategy, hook))
    lr, batch_size = train_settings(request.recipe)
    schedule = Schedule(lr, batch_size, request.start, request.examples, request.limit_s, request.length_s)
    parts = (opened.fingerprint, request.recipe.to_json(), request.rung, request.start, opened.context.seed)
    snapshots = Snapshots(opened.store, opened.store.key("partial", *parts), opened.policy)
    text = f"train: {request.recipe.techniques()}"

    # Dropout draws the same, whatever was made before.
    with opened.supervisor.during("train", text), seeded(opened.context.seed + request.start):
        trained = train(
            model,
            hooks,
            opened.task.loss_fn,
            stream(),
            schedule,
            request.arithmetic,
            between=opened.safe_point(text),
            snapshots=snapshots,
            clock=opened.working_s,
        )
        checkpoint = opened.store.key("weights", *parts)
        opened.store.save(checkpoint, trained.model.state_dict())
    snapshots.drop()
    epochs, examples = _epochs(opened, request, trained.examples), trained.examples - counted
    weights = TrainedWeights(request.recipe, plans, checkpoint, trained.learned, epochs, examples, trained.seconds)
    return trained.model, replace(weights, calibration=calibration)


def _loaded(opened: OpenTask, request: TrainRequest) -> tuple[nn.Module, tuple[Plan, ...]] | None:
    """The structure with the weights of an earlier training; None when they are gone or damaged."""
    checkpoint = request.checkpoint
    assert checkpoint is not None
    if not opened.store.path(checkpoint).exists():
        return None
    model, plans = built(opened, request.recipe, request.plans)
    try:
        load_weights(opened.store, model, checkpoint)
    except CandidateFailed as error:
        opened.supervisor.note(f"{error.reason}: its family is trained from the beginning")
        return None
    return model, plans


def train_settings(recipe: Recipe) -> tuple[float, int]:
    """Peak learning rate and batch size of a recipe."""
    step = recipe.step(TRAIN)
    values = step.values if step else {}
    return float(values.get("lr", 1e-3)), int(values.get("batch_size", 128))


def _epochs(opened: OpenTask, request: TrainRequest, examples: int) -> float:
    seen = (request.start if request.checkpoint else 0) + examples
    return round(seen / len(opened.context.train), 4)
