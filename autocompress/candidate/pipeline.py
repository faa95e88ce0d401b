"""One candidate from recipe to measured ONNX files, in two steps the driver calls in turn:

``gate``: structure -> export -> the fastest variant timed, nothing trained;
``evaluate``: structure -> train -> export, checked -> every graph variant -> latency and score of each file.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from autocompress.budget import Budget
from autocompress.candidate.arithmetic import Arithmetic
from autocompress.candidate.count import compressed_size, count
from autocompress.candidate.evaluate import (
    Evaluation,
    Latency,
    Outcome,
    Rejected,
    feed_of,
    open_with,
    outputs_of,
    padded,
    score_of,
    targets_of,
)
from autocompress.candidate.export import check, export
from autocompress.candidate.measure import FULL, QUICK, Effort, Timer, measure, timer
from autocompress.candidate.stream import TrainStream
from autocompress.candidate.structure import blamed_on, build
from autocompress.candidate.train import Schedule, Trained, train
from autocompress.data import Split, map_inputs, seeded
from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Context, Feed, GraphStrategy, Stage, TrainingStrategy, stages_of
from autocompress.plugin.loader import PluginSet
from autocompress.profile import HardwareProfile
from autocompress.recipe import TRAIN, Recipe, RecipeFile, Step
from autocompress.run.folder import RunFolder
from autocompress.run.store import Store, replacing, write_text
from autocompress.task import Inputs, Task

CHECKED_BATCHES = 4
TIMED_FEEDS = 4
GATE_FEEDS = 4  # the gate's calibration: ranges do not change what an operator costs
WORTH_GATING = 1.5  # variants within this factor of the fastest on the reference are tried by the gate

Tell = Callable[[str, float | None], None]


@dataclass(frozen=True)
class Bench:
    """What every candidate needs and none changes: made once, by ``opening``.

    variants: (strategy, parameters) of each graph variant, the fastest on the reference first, with its ratio there.
    """

    task: Task
    profile: HardwareProfile
    plugins: PluginSet
    folder: RunFolder
    context: Context
    val: Split
    test: Split | None
    stream: TrainStream
    arithmetic: Arithmetic
    exporter: str
    fingerprint: str
    feeds: Sequence[Feed]
    reference: Timer
    variants: tuple[tuple[Step, float], ...] = ()
    tell: Tell = lambda text, fraction: None
    stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True)
class Request:
    """One family to evaluate. rung: which training this is. checkpoint, plans: what an earlier rung left.

    start, examples: the piece of the training stream; examples = 0 trains nothing. peak: share of the learning rate
    to warm up to. learned: what an earlier rung's hooks learned beside the weights. skip: graph variants not to make.
    """

    recipe: Recipe
    rung: int = 0
    start: int = 0
    examples: int = 0
    limit_s: float | None = None
    peak: float = 1.0
    checkpoint: str | None = None
    plans: tuple[dict[str, Any], ...] | None = None
    learned: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    skip: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Gate:
    """The untrained structure, exported and timed as its fastest variant."""

    latency: Latency
    plans: tuple[dict[str, Any], ...]


def gate(bench: Bench, recipe: Recipe, budget: Budget, plans: Sequence[dict[str, Any]] | None = None) -> Gate:
    """Time a structure before any training: latency does not depend on the values of the weights.

    The variants that were fast on the reference are tried in turn until one is within the budget.
    """
    bench.tell(f"gate: {recipe.techniques()}", None)
    model, decided = build(recipe, bench.context, bench.plugins, plans)
    folder = bench.folder.root / "store" / "gate"
    path = folder / "float.onnx"
    export(model, _profile_inputs(bench, 1)[0], path, bench.exporter)
    few = replace(bench.context, feeds=lambda n: bench.context.feeds(min(n, GATE_FEEDS)))
    fastest: Latency | None = None
    for variant in (*_worth_gating(bench, recipe), None):
        file = path
        if variant is not None:
            file = folder / f"{variant.strategy}.onnx"
            try:
                rewrite(bench.plugins, variant, path, file, few)
            except CandidateFailed:
                continue  # it fails again, with its reason kept, if the family is evaluated
        latency = _time(bench, file, QUICK, budget.decided)
        if fastest is None or latency.ratio < fastest.ratio:
            fastest = latency
        if budget.bounded and not budget.excluded(latency):
            break
    assert fastest is not None
    return Gate(fastest, decided)


def evaluate(bench: Bench, request: Request) -> Outcome:
    """Make a family's model and measure every file that comes of it."""
    model, plans = build(request.recipe, bench.context, bench.plugins, request.plans)
    trained, checkpoint = _trained(bench, request, model)
    model, learned = (trained.model, trained.learned) if trained else (model, request.learned)
    context = replace(bench.context, learned=learned)
    source = bench.folder.root / "store" / "export" / "float.onnx"
    used = export(model, _profile_inputs(bench, 1)[0], source, bench.exporter)
    inputs = _profile_inputs(bench, CHECKED_BATCHES)
    session = bench.plugins.runtime(bench.profile.runtime).open(source, bench.profile)
    check(session, [feed_of(i, session.input_names) for i in inputs], model, inputs)

    outcome = Outcome(
        plans=plans,
        checkpoint=checkpoint,
        learned=dict(learned),
        epochs=_epochs(bench, request, trained),
        train_s=trained.seconds if trained else 0.0,
        examples=trained.examples if trained else 0,
    )
    base: Latency | None = None
    for variant in (None, *(v for v in _variants_for(bench, request.recipe) if v not in request.skip)):
        recipe = request.recipe if variant is None else request.recipe.rewritten(variant)
        identifier = f"{recipe.id}-{request.rung}"
        target = bench.folder.candidate(identifier)
        try:
            with blamed_on(variant.strategy if variant else "export"):
                with replacing(target) as temporary:
                    if variant is None:
                        temporary.write_bytes(source.read_bytes())
                    else:
                        bench.tell(f"{variant.strategy}: {request.recipe.techniques()}", None)
                        rewrite(bench.plugins, variant, source, temporary, context)
                for_size = variant is not None and bench.plugins.strategy(variant.strategy).size_only(bench.context)
                latency = _time(bench, target, FULL, None if for_size else partial(_slower, base=base))
                if base is not None and not for_size and _slower(latency, base):
                    target.unlink()
                    reason = f"slower than the float file it was made from ({latency.p50 / base.p50:.2f}x)"
                    rejected = Rejected(recipe, reason, latency.statistic, latency.ratio)
                    outcome = replace(outcome, slower=(*outcome.slower, rejected))
                    continue
                evaluation = _scored(bench, recipe, identifier, request.rung, outcome.epochs, target, latency)
        except CandidateFailed as error:
            target.unlink(missing_ok=True)
            blamed = error.strategy or (variant.strategy if variant else "export")
            outcome = replace(outcome, failed=(*outcome.failed, (recipe, blamed, error.reason)))
            continue
        base = base or latency
        write_recipe(bench, target.with_name("recipe.toml"), evaluation, outcome, used)
        outcome = replace(outcome, evaluations=(*outcome.evaluations, evaluation))
    if not outcome.evaluations and outcome.failed:
        raise CandidateFailed(outcome.failed[0][2], outcome.failed[0][1])
    return outcome


def _trained(bench: Bench, request: Request, model: nn.Module) -> tuple[Trained | None, str | None]:
    """Train the structure from its inherited weights or its checkpoint; the result and where its weights are stored."""
    if request.checkpoint is not None:
        load_weights(bench.folder.store, model, request.checkpoint)
    strategies = _training_parts(bench.plugins, request.recipe)
    if not strategies or not request.examples:
        return None, request.checkpoint
    hooks = []
    for step, strategy in strategies:
        with blamed_on(step.strategy):
            hook = strategy.hook(step.values, bench.context)
            if step.strategy in request.learned:
                hook.resume(request.learned[step.strategy])
            hooks.append((step.strategy, hook))
    settings = train_settings(request.recipe)
    schedule = Schedule(settings[0] * request.peak, settings[1], request.start, request.examples, request.limit_s)
    text = f"train: {request.recipe.techniques()}"
    with seeded(bench.context.seed + request.start):  # dropout draws the same, whatever was made before
        trained = train(
            model,
            hooks,
            bench.task.loss_fn,
            bench.stream,
            schedule,
            bench.arithmetic,
            progress=lambda fraction: bench.tell(text, fraction),
            stop=bench.stop,
        )
    bench.tell(f"export: {request.recipe.techniques()}", None)
    checkpoint = bench.folder.store.key(
        "weights", bench.fingerprint, request.recipe.to_json(), request.rung, request.start, bench.context.seed
    )
    bench.folder.store.save(checkpoint, trained.model.state_dict())
    return trained, checkpoint


def load_weights(store: Store, model: nn.Module, checkpoint: str) -> None:
    """Put stored weights into a rebuilt structure. Raises CandidateFailed when they are gone or do not fit."""
    weights = store.load(checkpoint)
    if weights is None:
        raise CandidateFailed(
            f"the weights {store.path(checkpoint)} are missing or damaged: apply --redo trains them anew"
        )
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise CandidateFailed(f"the checkpoint {checkpoint} does not fit the structure: {error}") from error


def train_settings(recipe: Recipe) -> tuple[float, int]:
    """Peak learning rate and batch size of a recipe."""
    step = recipe.step(TRAIN)
    values = step.values if step else {}
    return float(values.get("lr", 1e-3)), int(values.get("batch_size", 128))


def _epochs(bench: Bench, request: Request, trained: Trained | None) -> float:
    seen = (request.start if request.checkpoint else 0) + (trained.examples if trained else 0)
    return round(seen / len(bench.stream.split), 4)


def rewrite(plugins: PluginSet, variant: Step, source: Path, target: Path, context: Context) -> None:
    """Apply one graph variant. Raises CandidateFailed naming the strategy."""
    strategy = plugins.strategy(variant.strategy)
    assert isinstance(strategy, GraphStrategy)
    with blamed_on(variant.strategy):
        strategy.apply(source, target, variant.values, context)


def _scored(
    bench: Bench, recipe: Recipe, identifier: str, rung: int, epochs: float, path: Path, latency: Latency
) -> Evaluation:
    """Score the file on the validation split, count it and keep its outputs for paired comparisons."""
    bench.tell(f"score: {recipe.techniques()}", None)
    runtime = bench.plugins.runtime(bench.profile.runtime)
    outputs = outputs_of(open_with(runtime, bench.profile, path), bench.val, bench.profile.batch)
    if not torch.isfinite(outputs).all():
        raise CandidateFailed("the model gives NaN or infinite outputs on the validation split")
    score = score_of(bench.task, outputs, targets_of(bench.val))
    if score.val != score.val or score.val in (float("inf"), float("-inf")):
        raise CandidateFailed(f"the metric is {score.val} on the validation split")
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    key = bench.folder.store.key("val", content)
    bench.folder.store.save(key, {"outputs": outputs})
    params, macs = count(path)
    return Evaluation(
        id=identifier,
        recipe=recipe,
        epochs=epochs,
        rung=rung,
        score=score,
        latency=latency,
        size_bytes=path.stat().st_size,
        compressed_bytes=compressed_size(path),
        params=params,
        macs=macs,
        artifact=bench.folder.relative(path),
        digest=content,
        outputs=key,
    )


def _time(bench: Bench, path: Path, effort: Effort, stop: Callable[[Latency], bool] | None = None) -> Latency:
    bench.tell("measure", None)
    runtime = bench.plugins.runtime(bench.profile.runtime)
    return measure(
        timer(runtime, runtime.open(path, bench.profile), bench.feeds),
        bench.reference,
        bench.profile,
        effort=effort,
        stop=stop,
    )


def _variants_for(bench: Bench, recipe: Recipe) -> list[Step]:
    """The graph variants that go with the recipe: no tag conflicts with its steps, and a graph part that belongs to a
    step has that step.
    """
    on = [bench.plugins.strategies[s.strategy] for s in recipe.steps if s.strategy in bench.plugins.strategies]
    allowed = []
    for variant, _ in bench.variants:
        own = bench.plugins.strategy(variant.strategy)
        conflict = any(
            own.excludes & other.provides or other.excludes & own.provides for other in on if other is not own
        )
        if not conflict and (own in on or stages_of(own) == (Stage.GRAPH,)):
            allowed.append(variant)
    return allowed


def _slower(latency: Latency, base: Latency | None) -> bool:
    """Whether a variant is surely slower than the float file it was made from."""
    return base is not None and latency.ratio_low > base.ratio_high


def remeasure(bench: Bench, evaluation: Evaluation, effort: Effort) -> Latency:
    """Time a finished file again, side by side with the reference."""
    return _time(bench, bench.folder.root / evaluation.artifact, effort)


def test_scores(bench: Bench, evaluations: Sequence[Evaluation]) -> list[float]:
    """The metric of finished files on the test split. Raises CandidateFailed when there is none."""
    if bench.test is None:
        raise CandidateFailed("the task has no test split")
    targets, runtime, scores = targets_of(bench.test), bench.plugins.runtime(bench.profile.runtime), []
    for evaluation in evaluations:
        bench.tell(f"test: {evaluation.recipe.techniques()}", None)
        path = bench.folder.root / evaluation.artifact
        scores.append(
            float(
                bench.task.metric_fn(
                    outputs_of(open_with(runtime, bench.profile, path), bench.test, bench.profile.batch), targets
                )
            )
        )
    return scores


def write_recipe(
    bench: Bench,
    path: Path,
    evaluation: Evaluation,
    outcome: Outcome,
    exporter: str,
) -> None:
    """The ``recipe.toml`` beside a candidate's ``model.onnx``."""
    weights = None if outcome.checkpoint is None else f"../../store/{outcome.checkpoint}.safetensors"
    stored = RecipeFile(
        recipe=evaluation.recipe,
        task=bench.task.name,
        fingerprint=bench.fingerprint,
        profile=bench.profile.name,
        seed=bench.context.seed,
        exporter=exporter,
        epochs=evaluation.epochs,
        plans=outcome.plans,
        weights=weights,
        learned=outcome.learned,
        hardware=bench.profile.model_dump(mode="json"),
        facts={
            "val": evaluation.score.val,
            "ratio": evaluation.latency.ratio,
            "p50_ms": evaluation.latency.p50,
            "p90_ms": evaluation.latency.p90,
        },
    )
    write_text(path, stored.to_toml())


def _profile_inputs(bench: Bench, batches: int) -> list[Inputs]:
    return list(profile_inputs(bench.val, bench.profile.batch, batches))


def profile_inputs(split: Split, batch: int, batches: int) -> Iterator[Inputs]:
    """The first inputs of a split at the profile's batch, the last example repeated when the split is too small."""
    for number in range(batches):
        indices = torch.arange(number * batch, (number + 1) * batch) % len(split)
        yield map_inputs(lambda t: t.contiguous(), padded(split.take(indices), batch))


def _worth_gating(bench: Bench, recipe: Recipe) -> list[Step]:
    """Of the variants that go with the recipe the ones that were fast on the reference, and those that are not made of
    it because they belong to a step of the recipe.
    """
    allowed = _variants_for(bench, recipe)
    timed = {step: ratio for step, ratio in bench.variants if math.isfinite(ratio)}
    best = min((timed[step] for step in allowed if step in timed), default=1.0)
    untimed = [step for step in allowed if stages_of(bench.plugins.strategy(step.strategy)) != (Stage.GRAPH,)]
    return untimed + [step for step in allowed if timed.get(step, math.inf) <= min(best * WORTH_GATING, 1.0)]


def _training_parts(plugins: PluginSet, recipe: Recipe) -> list[tuple[Step, TrainingStrategy]]:
    found = [(step, plugins.strategies.get(step.strategy)) for step in recipe.steps]
    return [(step, strategy) for step, strategy in found if isinstance(strategy, TrainingStrategy)]
