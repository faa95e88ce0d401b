"""A finished file: scored, counted and kept with the recipe that makes it again; later measured again and tested."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from autocompress.candidate.count import compressed_size, count
from autocompress.candidate.open_task import OpenTask
from autocompress.data import score_of, targets_of
from autocompress.errors import CandidateFailed
from autocompress.evaluation import Evaluation, Outcome
from autocompress.latency import Latency
from autocompress.measure import Effort, outputs_of
from autocompress.recipe import Recipe, RecipeFile
from autocompress.storage.atomic import write_text


def scored(opened: OpenTask, recipe: Recipe, epochs: float, rung: int, path: Path, latency: Latency) -> Evaluation:
    """Score the file on the validation split, count it and keep its outputs for paired comparisons."""
    with opened.supervisor.during("score", f"score: {recipe.techniques()}"), ThreadPoolExecutor(1) as beside:
        packed = beside.submit(compressed_size, path)

        def give_way() -> None:
            packed.result()
            opened.lock.give_way()

        outputs = outputs_of(lambda: opened.open(path), opened.val, opened.profile.batch, give_way)
    if not torch.isfinite(outputs).all():
        raise CandidateFailed("the model gives NaN or infinite outputs on the validation split")
    score = score_of(opened.task, outputs, targets_of(opened.val))
    if score.val != score.val or score.val in (float("inf"), float("-inf")):
        raise CandidateFailed(f"the metric is {score.val} on the validation split")
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    key = opened.store.key("val", content)
    opened.store.save(key, {"outputs": outputs})
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
        artifact=opened.folder.relative(path),
        digest=content,
        outputs=key,
    )


def write_recipe(opened: OpenTask, evaluation: Evaluation, outcome: Outcome, exporter: str) -> None:
    """The ``recipe.toml`` beside a candidate's ``model.onnx``."""
    weights = None if outcome.checkpoint is None else f"../../store/{outcome.checkpoint}.safetensors"
    stored = RecipeFile(
        recipe=evaluation.recipe,
        task=opened.task.name,
        fingerprint=opened.fingerprint,
        profile=opened.profile.name,
        seed=opened.context.seed,
        exporter=exporter,
        epochs=evaluation.epochs,
        plans=outcome.plans,
        weights=weights,
        learned=outcome.learned,
        hardware=opened.profile.model_dump(mode="json"),
        facts={
            "val": evaluation.score.val,
            "ratio": evaluation.latency.ratio,
            "p50_ms": evaluation.latency.p50,
            "p90_ms": evaluation.latency.p90,
        },
    )
    write_text((opened.folder.root / evaluation.artifact).with_name("recipe.toml"), stored.to_toml())


def remeasure(opened: OpenTask, evaluation: Evaluation, effort: Effort) -> Latency:
    """Time a finished file again, side by side with the reference."""
    return opened.time(opened.folder.root / evaluation.artifact, effort)


def test_scores(opened: OpenTask, evaluations: Sequence[Evaluation]) -> list[float]:
    """The metric of finished files on the test split. Raises CandidateFailed when there is none."""
    if opened.test is None:
        raise CandidateFailed("the task has no test split")
    targets, scores = targets_of(opened.test), []
    for evaluation in evaluations:
        path = opened.folder.root / evaluation.artifact
        with opened.supervisor.during("score", f"test: {evaluation.recipe.techniques()}"):
            outputs = outputs_of(lambda: opened.open(path), opened.test, opened.profile.batch, opened.lock.give_way)  # noqa: B023
        scores.append(float(opened.task.metric_fn(outputs, targets)))
    return scores
