"""What the driver itself costs a trial, as a search grows: no model is made, nothing is trained or measured.

    python benchmarks/driver.py [--trials 5000]

runs a search whose operations answer at once by arithmetic, with strategies like those of the reference CNN; prints the
milliseconds a trial takes around the 10th, 100th, 500th, 2,000th and last, by the clock and of the processor, which is
the driver's own also on a busy machine; writes benchmarks/results/driver.json.

All of it is trained: every family loses so much that a better one could always be gained, and no time passes by the
search's own clock, so that it never seems to have stopped gaining.
"""

import argparse
import asyncio
import hashlib
import math
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import count
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import results

from autocompress.budget import Budget
from autocompress.candidate.arithmetic import Arithmetic
from autocompress.candidate.preparation import KnownTask, Preparation
from autocompress.candidate.request import (
    FamilyFiles,
    Made,
    MakeRequest,
    ModelFile,
    NotScored,
    Sample,
    Scored,
    TrainedWeights,
    TrainRequest,
)
from autocompress.comparison import TimingSession
from autocompress.compute.operations import Strategies, Surveyed
from autocompress.evaluation import Score
from autocompress.explore.clock.clock import Clock
from autocompress.explore.clock.durations import Durations
from autocompress.explore.driver import Search
from autocompress.explore.opening.identity import Settings
from autocompress.explore.opening.opener import Opener
from autocompress.explore.space.space_file import SpaceFile
from autocompress.group_losses import GroupLosses
from autocompress.measure import CompareRequest
from autocompress.plugin.contract import Applicable, Parameter, Stage
from autocompress.profile import load_profile
from autocompress.recipe import Recipe, Step
from autocompress.storage.folder import RunFolder
from autocompress.storage.record import open_record

STRENGTHS = tuple(round(0.05 * i, 2) for i in range(1, 20))
KINDS = ("l1", "l2", "taylor", "lamp", "bn_scale")
SHARES = ("uniform", "global", "sensitivity")
INT8 = Step.of("squeeze", activations="QUInt8")
APPLICABLE = (
    *(
        Applicable(
            name,
            (stage,),
            (
                Parameter("ratio", STRENGTHS, 0.5, by_strength=True),
                Parameter("importance", KINDS, "l2"),
                Parameter("allocation", SHARES, "uniform"),
            ),
        )
        for name, stage in (
            ("shrink", Stage.BUILD),
            ("carve", Stage.STRUCTURE),
            ("drop", Stage.STRUCTURE),
            ("split", Stage.STRUCTURE),
        )
    ),
    *(
        Applicable(
            name,
            (Stage.TRAIN,),
            (Parameter("weight", (0.1, 0.3, 1.0, 3.0), 1.0), Parameter("kind", SHARES, "uniform")),
            trains_alone=name == "logits",
        )
        for name in ("features", "logits", "relations")
    ),
    Applicable("squeeze", (Stage.GRAPH,), variants=(INT8.values,)),
)

MARKS = ((10, 5), (100, 20), (500, 100), (2000, 100))  # a trial, and how many before and after it
LAST = 100
REFERENCE = ModelFile(Recipe(), "reference.onnx", "reference", "1.0 None")
PREPARED = Preparation(
    name="fake",
    fingerprint="0",
    metric="accuracy",
    chance=None,
    train_examples=50_000,
    val_examples=5_000,
    test_examples=0,
    applicable=APPLICABLE,
    refused=(),
    exporter="none",
    export_note="",
    exported=True,
    reference=REFERENCE,
    feeds="feeds",
    warnings=(),
    versions={},
)


MOMENTS = map(float, count())


def session(ratio: float) -> TimingSession:
    log_ratio = math.log(ratio)
    return TimingSession(log_ratio, log_ratio, ratio, ratio, ratio, ratio, 1.0, 20, 40, at_s=next(MOMENTS))


def strength(recipe: Recipe) -> float:
    """What is left of the latency."""
    left = 1.0
    for step in recipe.steps:
        left *= 1 - 0.9 * float(step.values.get("ratio", 0.0))
    return max(left, 0.01)


class Arithmetical:
    """Operations that compute nothing."""

    concurrency = 1

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files = {root / REFERENCE.path: (REFERENCE, 0)}  # with its rung

    async def prepare(self, known: KnownTask | None, only: Strategies, *, limit_s: float) -> Preparation:
        return PREPARED

    async def other_reference(self, exporter: str, *, limit_s: float) -> ModelFile:
        return REFERENCE

    async def survey(self, only: Strategies, *, limit_s: float) -> Surveyed:
        return APPLICABLE, ()

    async def time_training(self, *, limit_s: float) -> Arithmetic:
        return Arithmetic()

    def opened(self, prepared: Preparation, only: Strategies) -> None: ...

    async def train(self, request: TrainRequest, *, limit_s: float) -> TrainedWeights:
        checkpoint = f"weights-{request.recipe.id}"
        return TrainedWeights(request.recipe, (), checkpoint, epochs=1.0, examples=request.examples)

    async def make(self, request: MakeRequest, *, limit_s: float) -> Made:
        rung = request.rung if isinstance(request, FamilyFiles) else None
        source = request.source or self._made(request.recipe, rung)
        files = tuple(self._made(request.recipe.rewritten(variant), rung) for variant in request.variants)
        return Made(source, request.exporter, (), round(1000 * strength(request.recipe)), files)

    def _made(self, recipe: Recipe, rung: int | None) -> ModelFile:
        name = f"{recipe.id}-{rung}"
        file = ModelFile(recipe, f"candidates/{name}/model.onnx", name, f"{strength(recipe)} {recipe.variant}")
        self._files[self._root / file.path] = file, rung or 0
        return file

    async def chance(self, outputs: str, *, limit_s: float) -> None:
        return None

    async def compare(self, request: CompareRequest, *, limit_s: float) -> TimingSession:
        recipe = self._files[request.candidate][0].recipe
        return session((0.5 if recipe.variant else 1.0) * strength(recipe))

    async def score(
        self, files: Sequence[ModelFile], sample: Sample | None = None, *, limit_s: float
    ) -> tuple[Scored | NotScored, ...]:
        return tuple(map(self._scored, files))

    def _scored(self, file: ModelFile) -> Scored:
        recipe, rung = file.recipe.family, self._files[self._root / file.path][1]
        left, luck = strength(recipe), int(hashlib.sha256(recipe.id.encode()).hexdigest()[:4], 16) / 2**16
        value = 0.893 - 0.02 * (1 - left) - 0.01 * luck + 0.002 * min(rung, 3) if recipe.steps else 0.93
        value -= 0.0 if file.recipe.variant is None else 0.002 if recipe.steps else 0.04
        score = Score(value, value - 0.01, value + 0.01)
        return Scored(score, 1000, 900, 1000, round(1000 * left), f"val-{file.digest}")

    async def test(self, files: Sequence[ModelFile], *, limit_s: float) -> list[float]:
        return [0.0 for _ in files]

    async def differences(self, best: str, others: Sequence[str], *, limit_s: float) -> list[tuple[float, float]]:
        return [(0.0, 0.0) for _ in others]

    async def by_class(self, reference: str, own: str, *, limit_s: float) -> GroupLosses | None:
        return None

    def sharing(self, calls: int) -> AbstractContextManager[None]:
        return nullcontext()

    def spent(self) -> dict[str, float]:
        return {}


class Watch:
    """Notes when each family was entered: its number, by the clock, and by the time the processor gave this process."""

    def __init__(self) -> None:
        self.times: list[tuple[int, float, float]] = []

    def opened(self, *args: Any) -> None: ...

    def note(self, text: str) -> None: ...

    def status(self, standings: Any, left_s: float) -> None:
        done = len(standings.families) + len(standings.rejected)
        if not self.times or self.times[-1][0] != done:
            self.times.append((done, time.perf_counter(), time.process_time()))
            if done % 500 == 0:
                print(f"{done} trials", flush=True)

    def milliseconds(self, around: int, width: int) -> tuple[float, float]:
        """Of a trial, on average over those numbered around ``around``: by the clock, and of the processor."""
        near = [noted for noted in self.times if around - width <= noted[0] <= around + width]
        trials, clock, processor = (last - first for first, last in zip(near[0], near[-1], strict=True))
        return 1e3 * clock / trials, 1e3 * processor / trials


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=5000)
    chosen = parser.parse_args()
    watch = Watch()
    with tempfile.TemporaryDirectory() as scratch:
        folder = RunFolder(Path(scratch) / "run")
        folder.claim()
        record = open_record(folder.study)
        settings = Settings(
            Budget(max_drop=1.0), 1e5, chosen.trials, 0, load_profile("cpu"), SpaceFile(name="all"), folder.root
        )
        operations, clock = Arithmetical(folder.root), Clock(6e6, now=lambda: 0.0)
        durations = Durations(clock)

        async def go() -> None:
            opener = Opener(
                settings, operations, folder, record, clock, durations, lambda: None, watch.opened, watch.note
            )
            opened = await opener.open()
            await Search(settings, opened, operations, folder, record, watch, clock, durations, lambda: None).run()

        asyncio.run(go())
        record.close()
    last = watch.times[-1][0]
    marks = [(around, width) for around, width in MARKS if around + width <= last - 2 * LAST] + [(last - LAST, LAST)]
    rows = {around: watch.milliseconds(around, width) for around, width in marks}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    clock, processor = ({str(around): round(row[of], 2) for around, row in rows.items()} for of in (0, 1))
    results.write("driver", {"ms_a_trial": clock, "processor_ms_a_trial": processor, "peak_mib": peak})
    for around, (by_clock, of_processor) in rows.items():
        print(f"around trial {around}: {by_clock:.1f} ms, of the processor {of_processor:.1f} ms")


if __name__ == "__main__":
    main()
