"""What the driver itself costs a trial, as a search grows: no model is made, nothing is trained or measured.

    python benchmarks/driver.py [--trials 5000]

runs a search whose executor answers at once by arithmetic, with strategies like those of the reference CNN; prints the
milliseconds a trial takes around the 10th, 100th, 1,000th and last, and writes benchmarks/results/driver.json.

All of it is trained: every family loses so much that a better one could always be gained, and no time passes by the
search's own clock, so that it never seems to have stopped gaining.
"""

import argparse
import asyncio
import hashlib
import resource
import sys
import tempfile
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from statistics import mean
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import results

from autocompress.budget import Budget
from autocompress.candidate.arithmetic import Arithmetic
from autocompress.candidate.opening import Opening
from autocompress.candidate.preparation import Preparation
from autocompress.candidate.request import Gate, Request
from autocompress.evaluation import Evaluation, Outcome, Score
from autocompress.explore.clock import Clock
from autocompress.explore.driver import Search
from autocompress.explore.identity import Settings
from autocompress.explore.space_file import SpaceFile
from autocompress.latency import Latency
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

GROUNDWORK = Preparation("0", APPLICABLE, (), "none", "")


def latency(ratio: float) -> Latency:
    return Latency(ratio, ratio, 0.99 * ratio, 1.01 * ratio, ratio, 0.99 * ratio, 1.01 * ratio, ratio)


def evaluation(recipe: Recipe, rung: int, score: float, ratio: float) -> Evaluation:
    macs = round(1000 * strength(recipe))
    name = f"{recipe.id}-{rung}"
    own = Score(score, score - 0.01, score + 0.01)
    return Evaluation(
        name, recipe, 1.0, rung, own, latency(ratio), 1000, 900, 1000, macs, f"{name}.onnx", name, f"val-{name}"
    )


def strength(recipe: Recipe) -> float:
    """What is left of the latency."""
    left = 1.0
    for step in recipe.steps:
        left *= 1 - 0.9 * float(step.values.get("ratio", 0.0))
    return max(left, 0.01)


class Arithmetical:
    """An executor that computes nothing."""

    concurrency = 1

    async def call(self, method: str, *args: Any, limit_s: float | None = None) -> Any:
        if method == "prepare":
            return GROUNDWORK
        if method == "open":
            own = evaluation(Recipe(), 0, 0.93, 1.0)
            family = Outcome((evaluation(Recipe().rewritten(INT8), 0, 0.89, 0.5),))
            return Opening("fake", GROUNDWORK, "accuracy", 50_000, 5_000, 0, own, family, (), Arithmetic(), {})
        if method == "gate":
            left = strength(args[0].recipe)
            return Gate(latency(0.5 * left), (), macs=round(1000 * left))
        if method == "evaluate":
            request: Request = args[0]
            left, luck = (
                strength(request.recipe),
                int(hashlib.sha256(request.recipe.id.encode()).hexdigest()[:4], 16) / 2**16,
            )
            score = 0.893 - 0.02 * (1 - left) - 0.01 * luck + 0.002 * min(request.rung, 3)
            files = (
                evaluation(request.recipe, request.rung, score, left),
                evaluation(request.recipe.rewritten(INT8), request.rung, score - 0.002, 0.5 * left),
            )
            return Outcome(
                files,
                plans=(),
                checkpoint=f"weights-{request.recipe.id}",
                epochs=1.0,
                train_s=0.0,
                rung=request.rung,
                examples=request.examples,
            )
        if method == "remeasure":
            return args[0].latency
        return [(0.0, 0.0) for _ in args[1]]

    def sharing(self, concurrency: int) -> AbstractContextManager[None]:
        return nullcontext()

    def spent(self) -> dict[str, float]:
        return {}

    def kill(self) -> None:
        pass

    def close(self) -> None:
        pass


class Watch:
    """Notes when each family was entered."""

    def __init__(self) -> None:
        self.times: list[tuple[int, float]] = []

    def opened(self, *args: Any) -> None: ...

    def note(self, text: str) -> None: ...

    def status(self, standings: Any, left_s: float) -> None:
        done = len(standings.families) + len(standings.rejected)
        if not self.times or self.times[-1][0] != done:
            self.times.append((done, time.perf_counter()))
            if done % 500 == 0:
                print(f"{done} trials", flush=True)

    def milliseconds(self, around: int, width: int) -> float:
        """Of a trial, on average over those numbered around ``around``."""
        near = [(n, at) for n, at in self.times if around - width <= n <= around + width]
        return 1e3 * (near[-1][1] - near[0][1]) / (near[-1][0] - near[0][0])


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
        search = Search(settings, Arithmetical(), folder, record, watch, Clock(6e6, now=lambda: 0.0))

        async def go() -> None:
            await search.open()
            await search.run()

        asyncio.run(go())
        record.close()
    marks = [(10, 5), (100, 20), (1000, 100), (min(chosen.trials, watch.times[-1][0]) - 100, 100)]
    rows = {str(around): round(watch.milliseconds(around, width), 2) for around, width in marks}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    results.write("driver", {"ms_a_trial": rows, "mean_ms": mean(rows.values()), "peak_mib": peak})
    for around, ms in rows.items():
        print(f"around trial {around}: {ms} ms")


if __name__ == "__main__":
    main()
