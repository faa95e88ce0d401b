"""What each mechanism of the search is worth: the same search with one of them off, or set otherwise, at a time.

    python benchmarks/mechanisms.py TASK [--minutes 10] [--seeds 1] [--speedup X] [--only gate,rungs]

writes benchmarks/results/mechanisms-<task>.json and prints the table: the area of the front over time without a budget,
the recommended model with one. All run in this process (a task object).
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import efficiency
import results
from curve import area_at, curve_of, seen_in
from optuna.samplers import RandomSampler

from autocompress.budget import Budget
from autocompress.candidate.policy import TrainingPolicy
from autocompress.comparison import TimingSession
from autocompress.compute.policy import WorkerPolicy
from autocompress.explore.pipeline.gate import Gate
from autocompress.explore.pipeline.gating import Gating
from autocompress.explore.policy import SearchParts, SearchPolicy
from autocompress.explore.space.structure_model import StructureModel
from autocompress.measure import latency_of
from autocompress.recipe import Recipe

UNKNOWN = latency_of([TimingSession(0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, quiet=0, blocks=1)])


class Untimed(Gating):
    """Nothing is timed before it is trained."""

    async def time(self, recipe: Recipe, budget: Budget) -> Gate:
        return Gate(UNKNOWN, None)


class Unlearned(StructureModel):
    """Nothing is known of any structure, so strengths are the sampler's."""

    def add(self, structure: Recipe, latency: float, macs: float) -> None:
        pass


class Unaimed(StructureModel):
    """Strengths are the sampler's."""

    def aimed(self, recipe: Recipe, target: float) -> Recipe:
        return recipe


OURS = SearchPolicy()


def trained(**others: Any) -> SearchPolicy:
    return SearchPolicy(workers=WorkerPolicy(training=TrainingPolicy(**others)))


def finishing(share: float) -> SearchPolicy:
    return SearchPolicy(most_finishing=share, most_for_front=share)


POLICIES: dict[str, SearchPolicy] = {  # by name: what is off, or what is set to which value
    "nothing": OURS,
    "gate": SearchPolicy(parts=SearchParts(gating=Untimed, structure_model=Unlearned)),
    "aim": SearchPolicy(parts=SearchParts(structure_model=Unaimed)),
    "hopeless": SearchPolicy(least_gain=None),
    "repair": trained(repair=False),
    "rungs": SearchPolicy(promotes=False),
    "teacher_cache": trained(teacher_bytes=0),
    "free_variants": SearchPolicy(most_variants=1),
    "bfloat16": trained(bfloat16=False),
    "first_recipes": SearchPolicy(first_recipes=False),
    "again": SearchPolicy(strengthened=0),
    "neighbours": SearchPolicy(neighbours=0),
    "tpe": SearchPolicy(parts=SearchParts(sampler=RandomSampler)),
    "full_training": finishing(0.0),
    "first_training_0.02": SearchPolicy(first_share=0.02),
    "first_training_0.08": SearchPolicy(first_share=0.08),
    "finishing_0.3": finishing(0.3),
    "finishing_0.7": finishing(0.7),
}


def run(kind: str, task: str, minutes: float, seed: int, folder: Path) -> dict[str, Any]:
    from autocompress import search
    from autocompress.task_source import load_task

    off, _, speedup = kind.partition(":")
    bound = float(speedup) if speedup else None
    result = search(
        load_task(task), speedup=bound, minutes=minutes, seed=seed, out=folder, quiet=True, policy=POLICIES[off]
    )
    front, chosen = result.document, result.recommended
    return {
        "seen": seen_in(front),
        "reference": front["reference"]["score"]["val"],
        "tried": front["tried"],
        "trained": len({json.dumps(c["recipe"]) for c in front["candidates"] if c["fidelity"] > 0}),
        "recommended": chosen and {"score": asdict(chosen.score), "ratio": chosen.latency_ms.ratio},
        "spent_seconds": front["spent_seconds"],
    }


def table(runs: dict[str, list[dict[str, Any]]], minutes: float) -> list[str]:
    lines = [
        "| off, or set | area at a fifth of the time | final area | recommended test | tried |",
        "|---|---|---|---|---|",
    ]
    for kind, own in runs.items():
        curves = [curve_of([tuple(s) for s in run["seen"]], run["reference"]) for run in own]
        early = statistics.median(area_at(curve, 0.2 * minutes * 60) for curve in curves)
        final = statistics.median(curve[-1][1] for curve in curves)
        tests = [run["recommended"]["score"]["test"] for run in own if run["recommended"]]
        test = f"{100 * statistics.median(tests):.2f} %" if tests else "-"
        tried = statistics.median(run["tried"] for run in own)
        lines.append(f"| {kind} | {early:.3f} | {final:.3f} | {test} | {tried:.0f} |")
    return lines


def child(kind: str, task: str, minutes: float, seed: int, pipe: Any) -> None:
    folder = Path(tempfile.mkdtemp(prefix="mechanisms-"))
    try:
        pipe.send(run(kind, task, minutes, seed, folder / "run"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", help="my_task.py:factory")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--speedup", help="a budget for all of them")
    parser.add_argument("--only", default=",".join(POLICIES), help="mechanisms and settings, separated by commas")
    parser.add_argument("--again", action="store_true", help="repeat runs that are there")
    chosen = parser.parse_args()
    name = f"mechanisms-{chosen.task.rpartition(':')[2]}" + (f"-{chosen.speedup}x" if chosen.speedup else "")
    path = results.FOLDER / f"{name}.json"
    runs: dict[str, dict[str, Any]] = json.loads(path.read_text())["runs"] if path.exists() else {}
    for seed in range(chosen.seeds):
        for off in chosen.only.split(","):
            if chosen.again or str(seed) not in runs.get(off, {}):
                kind = f"{off}:{chosen.speedup}" if chosen.speedup else off
                runs.setdefault(off, {})[str(seed)] = efficiency.alone(kind, chosen.task, chosen.minutes, seed, child)
                results.write(name, {"task": chosen.task, "minutes": chosen.minutes, "runs": runs})
                print("\n".join(table({k: list(v.values()) for k, v in runs.items()}, chosen.minutes)), flush=True)


if __name__ == "__main__":
    main()
