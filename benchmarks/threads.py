"""How many threads train fastest, with the machine left alone and with one core kept busy, and how many are chosen.

    python benchmarks/threads.py [TASK] [--rounds 10]

times training steps of a task's model (the bundled demo's when none is named) with each number of threads in turn, and
beside them as many as a worker would choose at that moment. Prints the milliseconds of a step, writes
benchmarks/results/threads.json.
"""

import argparse
import sys
import time
from collections import Counter
from pathlib import Path
from statistics import fmean
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import results
import torch
from trust import beside, show
from trust_again import DIGITS

from autocompress.compute.threads import Threads
from autocompress.data import call
from autocompress.data.loading import open_split
from autocompress.machine.cores import cores
from autocompress.task import Task
from autocompress.task_source import load_task

BATCH, STEPS = 64, 10  # examples, and steps of each number of threads a round


def step_ms(task: Task, batch: Any) -> float:
    """Milliseconds of a training step, on average over some."""
    model, began = task.copy_of_model().train(), time.perf_counter()
    for _ in range(STEPS):
        loss = task.loss_fn(call(model, batch.inputs), batch.targets)
        model.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
    return 1e3 * (time.perf_counter() - began) / STEPS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", nargs="?", default=DIGITS)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    task = load_task(options.task)
    batch = open_split("train", task.train).take(torch.arange(BATCH))
    choices, rows = sorted({1, max(1, cores() // 2), max(1, cores() - 1), cores()}), []
    for state in ("quiet", "busy"):
        found: dict[int | str, list[float]] = {}
        chosen: Counter[int] = Counter()
        with beside(state):
            for _ in range(options.rounds):
                for threads in choices:
                    torch.set_num_threads(threads)
                    found.setdefault(threads, []).append(step_ms(task, batch))
                Threads().allow(cores())
                chosen[torch.get_num_threads()] += 1
                found.setdefault("chosen", []).append(step_ms(task, batch))
        row = {
            "task": task.name,
            "state": state,
            **{f"ms with {threads}": fmean(times) for threads, times in found.items()},
            "chosen": dict(sorted(chosen.items())),
        }
        rows.append(row)
        show(row)
    results.write("threads", {"rows": rows})


if __name__ == "__main__":
    main()
