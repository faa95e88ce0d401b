"""A finished file: scored, counted and kept with the recipe that makes it again; later measured again and tested."""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from autocompress.candidate.bench import Bench
from autocompress.candidate.count import compressed_size, count
from autocompress.candidate.evaluate import (
    Evaluation,
    Latency,
    Outcome,
    outputs_of,
    padded,
    score_of,
    targets_of,
)
from autocompress.candidate.measure import Effort
from autocompress.data import Split, map_inputs
from autocompress.errors import CandidateFailed
from autocompress.recipe import Recipe, RecipeFile
from autocompress.run.store import write_text
from autocompress.task import Inputs


def scored(bench: Bench, recipe: Recipe, epochs: float, rung: int, path: Path, latency: Latency) -> Evaluation:
    """Score the file on the validation split, count it and keep its outputs for paired comparisons."""
    with bench.supervisor.during("score", f"score: {recipe.techniques()}"), ThreadPoolExecutor(1) as beside:
        packed = beside.submit(compressed_size, path)

        def give_way() -> None:
            packed.result()
            bench.room.give_way()

        outputs = outputs_of(lambda: bench.open(path), bench.val, bench.profile.batch, give_way)
    if not torch.isfinite(outputs).all():
        raise CandidateFailed("the model gives NaN or infinite outputs on the validation split")
    score = score_of(bench.task, outputs, targets_of(bench.val))
    if score.val != score.val or score.val in (float("inf"), float("-inf")):
        raise CandidateFailed(f"the metric is {score.val} on the validation split")
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    key = bench.store.key("val", content)
    bench.store.save(key, {"outputs": outputs})
    params, macs = count(path)
    return Evaluation(
        id=path.parent.name,
        recipe=recipe,
        epochs=epochs,
        rung=rung,
        score=score,
        latency=latency,
        size_bytes=path.stat().st_size,
        compressed_bytes=packed.result(),
        params=params,
        macs=macs,
        artifact=bench.folder.relative(path),
        digest=content,
        outputs=key,
    )


def write_recipe(bench: Bench, evaluation: Evaluation, outcome: Outcome, exporter: str) -> None:
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
    write_text((bench.folder.root / evaluation.artifact).with_name("recipe.toml"), stored.to_toml())


def remeasure(bench: Bench, evaluation: Evaluation, effort: Effort) -> Latency:
    """Time a finished file again, side by side with the reference."""
    return bench.time(bench.folder.root / evaluation.artifact, effort)


def test_scores(bench: Bench, evaluations: Sequence[Evaluation]) -> list[float]:
    """The metric of finished files on the test split. Raises CandidateFailed when there is none."""
    if bench.test is None:
        raise CandidateFailed("the task has no test split")
    targets, scores = targets_of(bench.test), []
    for evaluation in evaluations:
        path = bench.folder.root / evaluation.artifact
        with bench.supervisor.during("score", f"test: {evaluation.recipe.techniques()}"):
            outputs = outputs_of(lambda: bench.open(path), bench.test, bench.profile.batch, bench.room.give_way)  # noqa: B023
        scores.append(float(bench.task.metric_fn(outputs, targets)))
    return scores


def profile_inputs(split: Split, batch: int, batches: int) -> Iterator[Inputs]:
    """The first inputs of a split at the profile's batch, the last example repeated when the split is too small."""
    for number in range(batches):
        indices = torch.arange(number * batch, (number + 1) * batch) % len(split)
        yield map_inputs(lambda t: t.contiguous(), padded(split.take(indices), batch))
