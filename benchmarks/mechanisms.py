"""What each mechanism of the search is worth: the same search with one of them off, or set otherwise, at a time.

    python benchmarks/mechanisms.py TASK [--minutes 10] [--seeds 1] [--speedup X] [--only gate,rungs]

writes benchmarks/results/mechanisms-<task>.json and prints the table: the area of the front over time without a budget,
the recommended model with one. All run in this process (a task object), so that what is off is off everywhere.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import efficiency
import results
from curve import area_at, curve_of, seen_in


def nothing_off() -> None:
    pass


def no_gate() -> None:
    """Nothing is timed before it is trained."""
    from autocompress.candidate.request import Gate
    from autocompress.explore.admission import Admission
    from autocompress.explore.floor import Floor
    from autocompress.latency import Latency

    async def passed(admission: Any, recipe: Any) -> Gate:
        return Gate(Latency(1, 1, 0, 1e9, 1, 0, 1e9, 1, reliable=False), None)  # type: ignore[arg-type]

    async def nowhere(floor: Any, search: Any) -> None:
        pass

    Admission.gate = passed  # type: ignore[method-assign]
    Floor.find = nowhere  # type: ignore[method-assign]


def no_aim() -> None:
    """Strengths are the sampler's."""
    from autocompress.explore.structure_model import StructureModel

    StructureModel.aimed = lambda self, recipe, target: recipe  # type: ignore[method-assign]


def no_hopeless() -> None:
    """What can add next to nothing to the front is trained and scored like the rest."""
    from autocompress.explore import admission
    from autocompress.explore.standings import Standings

    Standings.worth_below = lambda self: None  # type: ignore[method-assign]
    admission.LEAST_GAIN, admission.COMPARED = -1.0, 0


def no_rungs() -> None:
    """Every family trains once, as long as the last rung."""
    from autocompress.explore import rungs

    own = rungs.lengths
    rungs.promotable = lambda *others: None  # type: ignore[assignment]
    rungs.lengths = lambda *others: (own(*others)[-1],) * 3


def no_teacher_cache() -> None:
    """The teacher runs for every batch."""
    from autocompress.candidate.stream import TrainStream

    TrainStream._fits = lambda self, copy, inputs: False  # type: ignore[method-assign]


def no_free_variants() -> None:
    """Of a trained family only the variant that was fastest on the reference is evaluated beside the float file."""
    from autocompress.candidate import pipeline

    own = pipeline.variants_for
    pipeline.variants_for = lambda bench, recipe: own(bench, recipe)[:1]


def no_bfloat16() -> None:
    """Training computes in float32."""
    from autocompress.candidate import arithmetic

    own = arithmetic._step_seconds
    arithmetic._step_seconds = lambda way, *others: float("inf") if way.bfloat16 else own(way, *others)


def no_first_recipes() -> None:
    """The sampler is asked from the beginning."""
    from autocompress.explore import driver

    async def none(*others: Any) -> list[Any]:
        return []

    driver.first_recipes = driver.default_recipes = none


def no_again() -> None:
    """Good families are not tried at other strengths."""
    from autocompress.explore.proposer import Proposer

    Proposer._again = lambda self, target: None  # type: ignore[method-assign]


def no_neighbours() -> None:
    """Of what is new all is the sampler's."""
    from autocompress.explore.proposer import Proposer

    Proposer._changed = lambda self, target: None  # type: ignore[method-assign]


def no_tpe() -> None:
    """Recipes are drawn at random."""
    import optuna

    from autocompress.explore import sampler

    sampler.tpe = lambda seed: optuna.samplers.RandomSampler(seed)


def first_rung(share: float) -> Callable[[], None]:
    """The first training takes that share of the whole time, and the others as many times it as before."""

    def change() -> None:
        from autocompress.explore import rungs

        rungs.FIRST_SHARE = share

    return change


def finishing(share: float) -> Callable[[], None]:
    """So much of the whole time is kept for training the finalists, at most."""

    def change() -> None:
        from autocompress.explore import time_budget as timetable

        timetable.MOST_FINISHING = timetable.MOST_FOR_FRONT = share

    return change


OFF: dict[str, Callable[[], None]] = {  # by name: what is off, or what is set to which value
    "nothing": nothing_off,
    "gate": no_gate,
    "aim": no_aim,
    "hopeless": no_hopeless,
    "rungs": no_rungs,
    "teacher_cache": no_teacher_cache,
    "free_variants": no_free_variants,
    "bfloat16": no_bfloat16,
    "first_recipes": no_first_recipes,
    "again": no_again,
    "neighbours": no_neighbours,
    "tpe": no_tpe,
    "full_training": finishing(0.0),
    "first_rung_0.008": first_rung(0.008),
    "first_rung_0.032": first_rung(0.032),
    "finishing_0.3": finishing(0.3),
    "finishing_0.7": finishing(0.7),
}


def run(kind: str, task: str, minutes: float, seed: int, folder: Path) -> dict[str, Any]:
    from autocompress import search
    from autocompress.task import load_task

    off, _, speedup = kind.partition(":")
    OFF[off]()
    budget = {"speedup": float(speedup)} if speedup else {}
    front = search(load_task(task), minutes=minutes, seed=seed, out=folder, quiet=True, **budget)
    chosen = next((c for c in front["candidates"] if c["id"] == front["recommended"]), None)
    return {
        "seen": seen_in(front),
        "reference": front["reference"]["score"]["val"],
        "tried": front["tried"],
        "trained": len({json.dumps(c["recipe"]) for c in front["candidates"] if c["fidelity"] > 0}),
        "recommended": chosen and {"score": chosen["score"], "ratio": chosen["latency_ms"]["ratio"]},
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
    parser.add_argument("--only", default=",".join(OFF), help="mechanisms and settings, separated by commas")
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
