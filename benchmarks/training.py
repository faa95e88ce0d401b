"""What the speed of training comes from: examples a second of a distilled student, with one thing off at a time.

    python benchmarks/training.py TASK [--seconds 6] [--rounds 4]

All ways take turns, so that what else the machine does meets them alike; prints the median of each as a share of the
search's own, within a round, and writes benchmarks/results/training-<task>.json. The teacher's outputs are known when
the clock starts, as they are for every family but the first.
"""

import argparse
import statistics
import sys
import tempfile
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import results

WIDTH = 0.4  # of the student
OURS = "as the search trains"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", help="my_task.py:factory")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--rounds", type=int, default=4)
    chosen = parser.parse_args()
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        trained = ways(chosen.task, Path(scratch))
        trained[OURS](chosen.seconds * 3)  # teaches what all of them then see
        for _ in range(chosen.rounds):
            for name, train in trained.items():
                found.setdefault(name, []).append(train(chosen.seconds))
                print(f"{name}: {found[name][-1]:,.0f} examples/s", flush=True)
    print("| training | examples a second | share of the search's own |\n|---|---|---|")
    for name, speeds in found.items():
        shares = [one / own for one, own in zip(speeds, found[OURS], strict=True)]
        span = f"{statistics.median(shares):.2f} ({min(shares):.2f} to {max(shares):.2f})"
        print(f"| {name} | {statistics.median(speeds):,.0f} | {span} |")
    results.write(f"training-{chosen.task.rpartition(':')[2]}", {"task": chosen.task, "examples_a_second": found})


def ways(task: str, folder: Path) -> dict[str, Any]:
    """By name, what trains for so many seconds and answers the examples a second."""
    from opened import open_here

    from autocompress.candidate.policy import TrainingPolicy
    from autocompress.candidate.stream import TrainStream
    from autocompress.candidate.structure import build
    from autocompress.candidate.teacher import Teacher
    from autocompress.candidate.train import Schedule, train
    from autocompress.plugin.loader import load_plugins
    from autocompress.profile import load_profile
    from autocompress.recipe import Recipe, Step
    from autocompress.storage.folder import RunFolder
    from autocompress.task_source import load_task

    used = ("student", "distill_logits")
    opened = open_here(load_task(task), load_profile("cpu"), load_plugins(), RunFolder(folder), used)
    held, arithmetic = opened.task, opened.computation.time_training()
    stream = opened.computation.stream(arithmetic)
    print(f"trains in {arithmetic}", flush=True)
    student = Recipe((Step.of("student", width=WIDTH, dropped=0, weights="inherited"),))
    structure = build(student, held.context, held.plugins, None, held.plans)[0]
    strategy = held.plugins.strategies["distill_logits"]
    values = {"temperature": 4.0, "alpha": 0.9, "schedule": "constant"}

    def way(stream: Any, arithmetic: Any) -> Any:
        def run(seconds: float) -> float:
            hooks = [("distill_logits", strategy.hook(values, held.context))]
            schedule = Schedule(1e-3, 128, 0, 10**9, seconds, seconds)
            done = train(deepcopy(structure), hooks, held.task.loss_fn, stream, schedule, arithmetic)
            return done.examples / done.seconds

        return run

    teacher = Teacher(held.task.copy_of_model(), arithmetic, held.context.layout)
    untaught = TrainStream(
        held.task, held.context.train, teacher, held.context.seed, policy=TrainingPolicy(teacher_bytes=0)
    )
    found = {OURS: way(stream, arithmetic), "the teacher runs for every batch": way(untaught, arithmetic)}
    if arithmetic.bfloat16:
        found["in float32"] = way(stream, replace(arithmetic, bfloat16=False))
    if arithmetic.channels_last:
        found["channels first"] = way(stream, replace(arithmetic, channels_last=False))
    return found


if __name__ == "__main__":
    main()
