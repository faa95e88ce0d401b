"""Seconds and memory of floor, opening, structure, export and gate for models of 1, 25 and 100 million parameters.

    python benchmarks/large_models.py

Plain residual networks on 64x64 images, with three strategies, and the floor with all of them too; each in a process of
its own. Prints the table and writes benchmarks/results/large_models.json.
"""

import asyncio
import math
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import results

USED = ("prune_channels", "distill_logits", "quantize_static")
WIDTHS = {"1 M": 38, "25 M": 192, "100 M": 384}


def build(width: int) -> Any:
    from torch import Tensor, nn

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
                nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
                nn.BatchNorm2d(outputs),
            )
            self.shortcut = (
                nn.Conv2d(inputs, outputs, 1, stride, bias=False) if stride > 1 or inputs != outputs else nn.Identity()
            )

        def forward(self, x: Tensor) -> Tensor:
            return (self.body(x) + self.shortcut(x)).relu()

    widths = [width, width, 2 * width, 2 * width, 4 * width, 4 * width]
    blocks, inputs = [], width
    for number, outputs in enumerate(widths):
        blocks.append(Block(inputs, outputs, 2 if number % 2 == 0 else 1))
        inputs = outputs
    return nn.Sequential(
        nn.Conv2d(3, width, 3, 2, 1), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10)
    )


def floor(width: int, only: Sequence[str] | None, folder: str) -> tuple[Any, dict[str, Any]]:
    """Prepare the task and find the floor with some strategies, or all; the pipeline on it, and the seconds."""
    import torch

    from autocompress import Task
    from autocompress.budget import Budget
    from autocompress.compute.in_process import in_process
    from autocompress.explore.opening.floor import find_floor
    from autocompress.explore.pipeline.gate import Gate
    from autocompress.explore.pipeline.pipeline import Pipeline
    from autocompress.explore.pipeline.variants import untimed
    from autocompress.explore.space.space import Space
    from autocompress.explore.space.space_file import load_space
    from autocompress.plugin.loader import load_plugins
    from autocompress.profile import load_profile
    from autocompress.recipe import Recipe
    from autocompress.storage.folder import RunFolder

    torch.manual_seed(0)
    data = torch.randn(256, 3, 64, 64), torch.arange(256) % 10
    task, plugins = Task(name="large", model=build(width), train=data, val=tuple(t[:64] for t in data)), load_plugins()
    began = time.monotonic()
    profile, run = load_profile("cpu"), RunFolder(Path(folder))
    operations = in_process(task, profile, plugins, run)
    prepared = asyncio.run(operations.prepare(None, only, limit_s=math.inf))
    prepared_s = time.monotonic() - began
    pipeline = Pipeline(operations, run, profile, 0, prepared, untimed(prepared.applicable, only))

    async def timed(recipe: Recipe) -> Gate:
        return await pipeline.gate(recipe, Budget(), math.inf)

    space = Space.of(load_space("default", plugins), prepared.applicable, prepared.refused)
    found = asyncio.run(find_floor(space, timed, lambda latency: latency.ratio < 0.5))
    floor_s = time.monotonic() - began
    return pipeline, {
        "prepared_s": round(prepared_s, 1),
        "floor_s": round(floor_s, 1),
        "floor_ratio": found and found[1].ratio,
    }


def measure(width: int, pipe: Any) -> None:
    from autocompress.budget import Budget
    from autocompress.explore.opening.reference import informed, open_reference
    from autocompress.recipe import Recipe, Step

    with tempfile.TemporaryDirectory() as scratch:
        pipeline, row = floor(width, USED, scratch)
        began = time.monotonic()
        opening = asyncio.run(open_reference(pipeline, None, USED, limit_s=math.inf))
        open_s = row["floor_s"] + time.monotonic() - began
        pipeline, before = informed(pipeline, opening, USED), pipeline.operations.spent()
        prune = Step.of(
            "prune_channels", ratio=0.5, importance="l2", allocation="uniform", schedule="at_once", round_to=8
        )
        began = time.monotonic()
        answer = asyncio.run(pipeline.gate(Recipe((prune,)), Budget(speedup=2.0), math.inf))
        seconds = time.monotonic() - began
        spent = {phase: s - before.get(phase, 0.0) for phase, s in pipeline.operations.spent().items()}
        pipe.send(
            row
            | {
                "params": opening.reference.params,
                "reference_ms": opening.reference.latency.p50,
                "open_s": round(open_s, 1),
                "gate_s": round(seconds, 2),
                "phases": {phase: round(s, 2) for phase, s in spent.items() if s > 0},
                "gate_ratio": answer.latency.ratio,
                "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            }
        )


def with_all(width: int, pipe: Any) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        pipe.send({f"{key}_with_all": value for key, value in floor(width, None, scratch)[1].items()})


def main() -> None:
    context, rows = multiprocessing.get_context("spawn"), {}
    for name, width in WIDTHS.items():
        rows[name] = {}
        for child in (measure, with_all):
            ours, theirs = context.Pipe()
            process = context.Process(target=child, args=(width, theirs))
            process.start()
            theirs.close()
            rows[name] |= ours.recv()
            process.join()
        print(name, rows[name], flush=True)
    results.write("large_models", {"rows": rows})


if __name__ == "__main__":
    main()
