"""What a second worker is worth, and which split of the cores is the better default.

    python benchmarks/scaling.py TASK [--minutes 5] [--seeds 1]

runs the same search without a budget with one worker of one thread, two workers of one thread each, and one worker of
two threads, one after another; prints trainings and evaluated files an hour and where the time went; writes
benchmarks/results/scaling-<task>.json.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import efficiency
import results
from curve import curve_of, seen_in

SPLITS = {"1 worker x 1 thread": (1, 1), "2 workers x 1 thread": (2, 2), "1 worker x 2 threads": (1, 2)}


def run(split: str, task: str, minutes: float, seed: int, folder: Path) -> dict[str, Any]:
    from autocompress import search
    from autocompress.compute.policy import WorkerPolicy
    from autocompress.explore.policy import SearchPolicy

    workers, cores = SPLITS[split]
    policy = SearchPolicy(workers=WorkerPolicy(cores=cores))
    result = search(task, minutes=minutes, seed=seed, out=folder, quiet=True, workers=workers, policy=policy)
    front = result.document
    trained = [c for c in front["candidates"] if c["fidelity"] > 0]
    curve = curve_of(seen_in(front), front["reference"]["score"]["val"])
    hours = front["wall_seconds"] / 3600
    return {
        "trainings_an_hour": len({(json.dumps(family(c)), c["fidelity"]) for c in trained}) / hours,
        "evaluated_an_hour": len(front["candidates"]) / hours,
        "tried_an_hour": front["tried"] / hours,
        "final_area": curve[-1][1],
        "wall_seconds": front["wall_seconds"],
        "spent_seconds": front["spent_seconds"],
    }


def family(candidate: dict[str, Any]) -> list[dict[str, Any]]:
    """The steps of what was trained."""
    return [step for step in candidate["recipe"] if not step.get("variant")]


def child(kind: str, task: str, minutes: float, seed: int, pipe: Any) -> None:
    folder = Path(tempfile.mkdtemp(prefix="scaling-"))
    try:
        pipe.send(run(kind, task, minutes, seed, folder / "run"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", help="my_task.py:factory")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seeds", type=int, default=1)
    chosen = parser.parse_args()
    runs: dict[str, list[dict[str, Any]]] = {}
    for seed in range(chosen.seeds):
        for split in SPLITS:
            runs.setdefault(split, []).append(efficiency.alone(split, chosen.task, chosen.minutes, seed, child))
            print(split, runs[split][-1], flush=True)
    name = f"scaling-{chosen.task.rpartition(':')[2]}"
    results.write(name, {"task": chosen.task, "minutes": chosen.minutes, "runs": runs})


if __name__ == "__main__":
    main()
