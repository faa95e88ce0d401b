"""What is kept of a file that was timed and scored: its evaluation, and the recipe beside it."""

from pathlib import Path

from autocompress.candidate.preparation import Preparation
from autocompress.candidate.request import ModelFile, Scored
from autocompress.evaluation import Evaluation, Outcome
from autocompress.latency import Latency
from autocompress.profile import HardwareProfile
from autocompress.recipe import RecipeFile
from autocompress.storage.delivery import weights_in_store


def evaluation_of(file: ModelFile, scored: Scored, latency: Latency, outcome: Outcome) -> Evaluation:
    """outcome: of its family, as far as it is known."""
    return Evaluation(
        id=Path(file.path).parent.name,
        recipe=file.recipe,
        epochs=outcome.epochs,
        rung=outcome.rung,
        score=scored.score,
        latency=latency,
        size_bytes=scored.size_bytes,
        compressed_bytes=scored.compressed_bytes,
        params=scored.params,
        macs=scored.macs,
        artifact=file.path,
        digest=file.digest,
        graph=file.graph,
        outputs=scored.outputs,
        precision=scored.precision,
    )


def recipe_file(
    evaluation: Evaluation, outcome: Outcome, prepared: Preparation, exporter: str, profile: HardwareProfile, seed: int
) -> RecipeFile:
    """What makes the file again."""
    return RecipeFile(
        recipe=evaluation.recipe,
        task=prepared.name,
        fingerprint=prepared.fingerprint,
        parts=dict(prepared.parts),
        profile=profile.name,
        seed=seed,
        exporter=exporter,
        epochs=evaluation.epochs,
        plans=outcome.plans,
        weights=None if outcome.checkpoint is None else weights_in_store(outcome.checkpoint),
        learned=outcome.learned,
        calibration=outcome.calibration,
        hardware=profile.model_dump(mode="json"),
        facts={
            **({"val": evaluation.score.shown(prepared.maximize).val} if evaluation.score.whole else {}),
            "ratio": evaluation.latency.ratio,
            "p50_ms": evaluation.latency.p50,
            "p90_ms": evaluation.latency.p90,
        },
    )
