"""To which learning rate a training that goes on from a checkpoint should warm up.

    python benchmarks/warm_restarts.py TASK --structure JSON [--examples 5000]

JSON is like '{"student": {"width": 0.4, "dropped": 0, "weights": "inherited"}}'. Trains that structure, distilled, on
so many examples, then on twice as many, then on sixteen times as many, each from the checkpoint before, at half of, the
whole of and twice the recipe's learning rate. By examples and not by the clock, so that a busy machine changes nothing.
Prints the table and writes benchmarks/results/warm_restarts-<task>.json.
"""

import argparse
import json
import sys
import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import results

LR, BATCH = 0.002, 64
SECOND, THIRD = 2, 16  # times the first length
PEAKS = ((0.5, 0.5), (1.0, 1.0), (1.0, 2.0))  # of the second and of the third training
DISTILLED = {"temperature": 4.0, "alpha": 0.9, "schedule": "constant"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", help="my_task.py:factory")
    parser.add_argument("--structure", required=True, help="JSON: strategy -> its parameters")
    parser.add_argument("--examples", type=int, default=5000, help="of the first training")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(chosen.task, json.loads(chosen.structure), chosen.examples, Path(folder))
    print("| peaks, of the recipe's learning rate | after the second training | after the third |\n|---|---|---|")
    for peaks, scores in zip(PEAKS, found["then"], strict=True):
        print(f"| {peaks[0]}, {peaks[1]} | {100 * scores[0]:.2f} % | {100 * scores[1]:.2f} % |")
    results.write(f"warm_restarts-{chosen.task.rpartition(':')[2]}", {**vars(chosen), "peaks": PEAKS, **found})


def measure(task: str, structure: dict[str, Any], examples: int, folder: Path) -> dict[str, Any]:
    import torch
    from opened import module_score, open_here

    from autocompress.candidate.structure import build
    from autocompress.candidate.train import Schedule, train
    from autocompress.plugin.loader import load_plugins
    from autocompress.profile import load_profile
    from autocompress.recipe import Recipe, Step
    from autocompress.storage.folder import RunFolder
    from autocompress.task_source import load_task

    plugins, used = load_plugins(), (*structure, "distill_logits")
    opened = open_here(load_task(task), load_profile("cpu"), plugins, RunFolder(folder), used)
    held, arithmetic = opened.task, opened.computation.time_training()
    stream = opened.computation.stream(arithmetic)
    recipe = Recipe(tuple(Step.of(name, **params) for name, params in structure.items()))

    def score(model: Any) -> float:
        return module_score(held, model)

    def trained(model: Any, start: int, length: int, lr: float) -> Any:
        hook = plugins.strategies["distill_logits"].hook(DISTILLED, held.context)  # type: ignore[attr-defined]
        torch.manual_seed(start)
        schedule = Schedule(lr, BATCH, start, length)
        return train(deepcopy(model), [("distill_logits", hook)], held.task.loss_fn, stream, schedule, arithmetic).model

    first = trained(build(recipe, held.context, plugins, None, held.plans)[0], 0, examples, LR)
    then = []
    for second_peak, third_peak in PEAKS:
        second = trained(first, examples, SECOND * examples, second_peak * LR)
        third = trained(second, (1 + SECOND) * examples, THIRD * examples, third_peak * LR)
        then.append((score(second), score(third)))
        print(second_peak, third_peak, then[-1], flush=True)
    return {"first": score(first), "then": then}


if __name__ == "__main__":
    main()
