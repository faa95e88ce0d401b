"""What each strategy adds: the same recipe with and without it, trained equally long on the same examples.

    python benchmarks/ablation.py examples/fashion_vit.py:task --strategies distill_logits,quantize_aware --epochs 0.5

prints a table and writes benchmarks/results/ablation-<task>.json. Every row is one ONNX file: validation score, latency
ratio to the reference (paired medians), bytes, and bytes after DEFLATE.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from autocompress.candidate.opening import open_bench
from autocompress.candidate.pipeline import Bench, Request, evaluate
from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Applicable
from autocompress.plugin.loader import load_plugins
from autocompress.profile import load_profile
from autocompress.recipe import TRAIN, Recipe, Step, Value
from autocompress.run.folder import RunFolder
from autocompress.task import load_task

MakeStep = Callable[..., Step]
Arm = tuple[str, Recipe]

# The structure that training strategies are compared on: the strongest that still learns, where they have most to do.
SMALL: dict[str, dict[str, Value]] = {"student": {"width": 0.25}}


def arms(strategy: str, step: MakeStep) -> Iterator[Arm]:
    """Recipes to compare for one strategy: first without it, then with it."""
    train = step(TRAIN)
    if strategy in ("quantize_static", "quantize_dynamic", "float16", "quantize_weights"):
        yield "reference", Recipe()
        return
    teach = step("distill_logits")
    if strategy == "student":
        yield "fresh weights", Recipe((step("student", width=0.5, weights="fresh"), teach, train))
        yield "inherited weights", Recipe((step("student", width=0.5), teach, train))
    elif strategy in ("distill_logits", "finetune"):
        small = step("student", **SMALL["student"])
        yield "fine-tuned on labels", Recipe((small, step("finetune"), train))
        yield "distilled", Recipe((small, teach, train))
    elif strategy in ("distill_features", "distill_relations", "quantize_aware", "prune_weights", "share_weights"):
        small = step("student", **SMALL["student"])
        yield "without", Recipe((small, teach, train))
        yield "with", Recipe((small, teach, step(strategy), train))
    else:  # a structural strategy, at its default strength
        yield "untouched", Recipe((teach, train))
        yield "with", Recipe((step(strategy), teach, train))


def steps_of(applicable: tuple[Applicable, ...]) -> MakeStep:
    """``step(name, **chosen)``: a step with the strategy's defaults where nothing is chosen."""

    def step(name: str, **chosen: Value) -> Step:
        if name == TRAIN:
            return Step.of(TRAIN, lr=0.002, batch_size=128)
        found = next((a for a in applicable if a.name == name), None)
        if found is None:
            raise CandidateFailed(f"{name} does not apply here")
        return Step.of(name, **({p.name: p.default for p in found.parameters} | chosen))

    return step


def measured(bench: Bench, recipe: Recipe, examples: int, graph: frozenset[str]) -> Iterator[dict[str, Any]]:
    """The float file that comes of one recipe, and what the graph strategies named make of it."""
    trains = any(s.strategy == TRAIN for s in recipe.steps)
    skip = tuple(step for step, _ in bench.variants if step.strategy not in graph)
    outcome = evaluate(bench, Request(recipe, examples=examples if trains else 0, skip=skip))
    for e in outcome.evaluations:
        yield {
            "recipe": str(e.recipe),
            "techniques": e.recipe.techniques(),
            "val": e.score.val,
            "val_low": e.score.val_low,
            "val_high": e.score.val_high,
            "ratio": e.latency.ratio,
            "reliable": e.latency.reliable,
            "params": e.params,
            "macs": e.macs,
            "size_bytes": e.size_bytes,
            "compressed_bytes": e.compressed_bytes,
        }
    for slower in outcome.slower:
        yield {"recipe": str(slower.recipe), "techniques": slower.recipe.techniques(), "slower": slower.reason}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", help="my_task.py:factory")
    parser.add_argument("--strategies", required=True, help="names, separated by commas")
    parser.add_argument("--epochs", type=float, default=0.5, help="of training for each recipe")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--profile", default="cpu")
    chosen = parser.parse_args()
    names = chosen.strategies.split(",")
    rows: list[dict[str, Any]] = []
    for seed in range(chosen.seeds):
        plugins, task = load_plugins(), load_task(chosen.task)
        with tempfile.TemporaryDirectory() as folder:
            bench, opening = open_bench(
                task, load_profile(chosen.profile), plugins, RunFolder(Path(folder)), seed=seed, only=plugins.strategies
            )
            step = steps_of(opening.applicable)
            examples = round(chosen.epochs * len(bench.stream.split))
            known: dict[tuple[Recipe, frozenset[str]], list[dict[str, Any]]] = {}
            for name in names:
                try:
                    for arm, recipe in arms(name, step):
                        both = {"quantize_static", "quantize_aware"} if name == "quantize_aware" else {name}
                        graph = frozenset(both & {step.strategy for step, _ in bench.variants})
                        if (recipe, graph) not in known:
                            known[recipe, graph] = list(measured(bench, recipe, examples, graph))
                        for row in known[recipe, graph]:
                            rows.append({"strategy": name, "arm": arm, "seed": seed, **row})
                            print(_line(rows[-1]), flush=True)
                except CandidateFailed as error:
                    rows.append({"strategy": name, "seed": seed, "refused": error.reason})
                    print(f"{name}: {error.reason}", flush=True)
    target = Path(__file__).parent / "results" / f"ablation-{task.name}.json"
    target.parent.mkdir(exist_ok=True)
    document = {"task": task.name, "epochs": chosen.epochs, "environment": opening.versions, "rows": rows}
    target.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    print(target)


def _line(row: dict[str, Any]) -> str:
    if "slower" in row:
        return f"{row['strategy']:18} {row['arm']:20} {row['techniques']}: {row['slower']}"
    return (
        f"{row['strategy']:18} {row['arm']:20} val {100 * row['val']:6.2f} %  ratio {row['ratio']:.3f}  "
        f"{row['size_bytes'] / 1e3:7.0f} kB  deflated {row['compressed_bytes'] / 1e3:7.0f} kB  {row['techniques']}"
    )


if __name__ == "__main__":
    main()
