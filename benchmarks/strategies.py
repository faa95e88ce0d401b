"""What each strategy adds: recipes with it beside recipes without it, trained equally long on the same examples.

    python benchmarks/strategies.py examples/fashion_vit.py:task --strategies distill_logits,quantize_aware --epochs 0.5
    python benchmarks/strategies.py --markdown

The first prints every file as it is measured and writes benchmarks/results/strategies-<task>.json and .svg for each
task that is given. The second prints what is stored there as tables. Every row is one ONNX file: score on the
validation split, latency as a share of the reference's (paired medians), bytes, and bytes after DEFLATE.

What a strategy is compared with follows from its stages:

- structure: the untouched model, and uniformly narrower ones, one that is about as fast or the two on either side of
  its latency, all of them trained;
- training: the same small model trained without it; or, when it trains alone, by each other strategy that does;
- graph: the float file; when it is trained for, the same trained without it and quantized afterwards.
"""

import argparse
import asyncio
import json
import math
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

from autocompress.budget import Budget
from autocompress.candidate.arithmetic import Arithmetic
from autocompress.candidate.request import TrainRequest
from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Applicable, Parameter, Stage, stages_of
from autocompress.plugin.loader import load_plugins
from autocompress.profile import load_profile
from autocompress.recipe import TRAIN, Recipe, Step, Value
from autocompress.storage.folder import RunFolder
from autocompress.task_source import load_task

sys.path.insert(0, str(Path(__file__).parent))
import plots
from opened import OpenedHere, open_here

RESULTS = Path(__file__).parent / "results"
SMALL = 0.75  # strength of the structure that training strategies are compared on: where they have most to do
AS_FAST = 0.05  # relative difference of two latencies that are compared as equal
SETTINGS = Step.of(TRAIN, lr=0.002, batch_size=128)

Row = dict[str, Any]
Known = Mapping[str, Applicable]


@dataclass(frozen=True)
class Arm:
    """One of the recipes that are compared, and what it is in the comparison."""

    label: str
    recipe: Recipe


def arms(opened: OpenedHere, strategy: str, known: Known) -> Iterator[Arm]:
    """The recipes to compare for one strategy; its own is the one "with". Raises CandidateFailed."""
    own = known[strategy]
    teachers = [a for a in known.values() if a.trains_alone and (a is own or not a.conflicts(own))]
    if set(own.stages) == {Stage.GRAPH}:
        yield Arm("reference", Recipe())
        return
    if not teachers:
        raise CandidateFailed(f"nothing that is installed trains beside {strategy}")
    taught = (_step(teachers[0]), SETTINGS)
    if Stage.TRAIN not in own.stages:
        changed = _step(own)
        yield Arm("untouched", Recipe(taught))
        yield Arm("with", Recipe((changed, *taught)))
        if Stage.BUILD not in own.stages:
            like = _as_fast(opened, Recipe((changed,)), known)
            yield from (Arm(f"as fast, or next to it: {step}", Recipe((step, *taught))) for step in like)
        return
    small = [_step(a, **{p.name: _at(p, SMALL)}) for a, p in _uniform(known)[:1]]
    if own.trains_alone:
        for other in (a for a in known.values() if a.trains_alone and a is not own):
            yield Arm(f"{other.name} instead", Recipe((*small, _step(other), SETTINGS)))
        yield Arm("with", Recipe((*small, _step(own), SETTINGS)))
    else:
        yield Arm("without", Recipe((*small, *taught)))
        yield Arm("with", Recipe((*small, _step(own), *taught)))


def _uniform(known: Known) -> list[tuple[Applicable, Parameter]]:
    """Strategies that make the whole model smaller, each with its strength."""
    building = [a for a in known.values() if Stage.BUILD in a.stages]
    return [(a, p) for a in building for p in a.parameters if p.by_strength]


def _as_fast(opened: OpenedHere, recipe: Recipe, known: Known) -> list[Step]:
    """The uniformly smaller model that is about as fast as the recipe's, or the next slower and the next faster one;
    none where no strategy makes such.
    """
    wanted, found = _ratio(opened, recipe), {}
    for strategy, strength in _uniform(known)[:1]:
        for choice in strength.choices:
            step = _step(strategy, **{strength.name: choice})
            with suppress(CandidateFailed):  # too mild to change anything
                found[step] = _ratio(opened, Recipe((step,))) / wanted
    nearest = sorted(found, key=lambda step: abs(found[step] - 1))
    if nearest and abs(found[nearest[0]] - 1) < AS_FAST:
        return nearest[:1]
    either = ([step for step in nearest if (found[step] > 1) is slower] for slower in (True, False))
    return [side[0] for side in either if side]


def _ratio(opened: OpenedHere, recipe: Recipe) -> float:
    """Latency of the float file of an untrained structure, as a share of the reference's."""
    pipeline = replace(opened.pipeline, ratios=())
    return asyncio.run(pipeline.gate(recipe, Budget(), math.inf)).latency.ratio


def _step(strategy: Applicable, **chosen: Value) -> Step:
    return Step.of(strategy.name, **({p.name: p.default for p in strategy.parameters} | chosen))


def _at(parameter: Parameter, strength: float) -> Value:
    return parameter.choices[round(strength * (len(parameter.choices) - 1))]


def rewriters(opened: OpenedHere, strategy: str) -> frozenset[str]:
    """The graph strategies whose files are compared: its own, and what gives the same precision without training."""
    plugins, own = opened.task.plugins, opened.task.plugins.strategy(strategy)
    if Stage.GRAPH not in stages_of(own):
        return frozenset()
    every = {step.strategy: plugins.strategy(step.strategy) for step, _ in opened.pipeline.ratios}
    trained = Stage.TRAIN in stages_of(own)
    return frozenset(
        name for name, s in every.items() if s is own or (trained and own.precision and s.precision == own.precision)
    )


def measured(opened: OpenedHere, recipe: Recipe, examples: int, graph: frozenset[str]) -> list[Row]:
    """The float file that comes of one recipe and what the graph strategies named make of it; what came to nothing is
    a row too, with the reason.
    """
    trains = recipe.step(TRAIN) is not None
    skip = tuple(step for step, _ in opened.pipeline.ratios if step.strategy not in graph)
    arithmetic = asyncio.run(opened.pipeline.operations.time_training(limit_s=math.inf)) if trains else Arithmetic()
    request = TrainRequest(recipe, arithmetic, examples=examples if trains else 0)
    try:
        outcome = asyncio.run(opened.pipeline.evaluate(request, skip=skip, limit_s=math.inf))
    except CandidateFailed as error:
        return [{**_named(recipe), "failed": f"{error.strategy}: {error.reason}"}]
    rows = [
        {
            **_named(e.recipe),
            "val": e.score.val,
            "val_low": e.score.val_low,
            "val_high": e.score.val_high,
            "ratio": e.latency.ratio,
            "quiet_sessions": e.latency.quiet_sessions,
            "params": e.params,
            "macs": e.macs,
            "size_bytes": e.size_bytes,
            "compressed_bytes": e.compressed_bytes,
        }
        for e in outcome.evaluations
    ]
    rows += [{**_named(s.recipe), "slower": s.reason} for s in outcome.slower]
    return rows + [{**_named(made), "failed": f"{blamed}: {reason}"} for made, blamed, reason in outcome.failed]


def _named(recipe: Recipe) -> Row:
    variant = "" if recipe.variant is None else f", then {recipe.variant}"
    return {"recipe": str(recipe), "made_by": f"{recipe.family.techniques()}{variant}"}


def compared(opened: OpenedHere, strategies: Sequence[str], examples: int) -> Iterator[list[Row]]:
    """For each strategy the rows of its comparison. A recipe that several of them ask for is measured once."""
    opening = opened.opening
    known, refused = {a.name: a for a in opening.applicable}, {r.strategy: r.reason for r in opening.refused}
    done: dict[tuple[Recipe, frozenset[str]], list[Row]] = {}
    for name in strategies:
        rows: list[Row] = []
        try:
            if name not in known:
                raise CandidateFailed(f"it does not apply: {refused[name]}")
            graph = rewriters(opened, name)
            for arm in arms(opened, name, known):
                if (arm.recipe, graph) not in done:
                    done[arm.recipe, graph] = measured(opened, arm.recipe, examples, graph)
                rows += [{"strategy": name, "arm": arm.label, **row} for row in done[arm.recipe, graph]]
        except CandidateFailed as error:
            rows.append({"strategy": name, "arm": "with", "recipe": name, "made_by": "", "failed": error.reason})
        yield rows


def run(target: str, strategies: Sequence[str], epochs: float, seeds: int, profile: str) -> Path:
    """Measure the strategies on one task; the file of results, which is written anew after each of them."""
    path, rows = RESULTS, []
    for seed in range(seeds):
        plugins, task = load_plugins(), load_task(target)
        for name in strategies:
            plugins.strategy(name)  # a name that is not known is an error before anything is measured
        path = RESULTS / f"strategies-{task.name}.json"
        with tempfile.TemporaryDirectory() as folder:
            opened = open_here(
                task, load_profile(profile), plugins, RunFolder(Path(folder)), tuple(plugins.strategies), seed
            )
            prepared = opened.opening.prepared
            document = {
                "task": task.name,
                "metric": prepared.metric,
                "reference": opened.opening.reference.score.val,
                "profile": profile,
                "epochs": epochs,
                "environment": prepared.versions,
            }
            for found in compared(opened, strategies, round(epochs * prepared.train_examples)):
                rows += [{"seed": seed, **row} for row in found]
                print("\n".join(_line(row) for row in found), flush=True)
                path.parent.mkdir(exist_ok=True)
                path.write_text(json.dumps({**document, "rows": rows}, indent=1) + "\n", "utf-8")
    return path


def table(document: Mapping[str, Any]) -> str:
    """The results of one task in Markdown, means over the seeds."""
    lines = [
        f"`{document['task']}`: {document['metric']} of the reference {document['reference']:.4f}, "
        f"{document['epochs']:g} epochs of training",
        "",
        "| strategy | compared | made by | validation | latency | kB | deflated kB |",
        "|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in document["rows"]:
        groups.setdefault((row["strategy"], row["arm"], row["recipe"]), []).append(row)
    for (strategy, arm, _), rows in groups.items():
        files = [row for row in rows if "val" in row]
        if files:
            val, ratio, size, packed = (
                mean(row[key] for row in files) for key in ("val", "ratio", "size_bytes", "compressed_bytes")
            )
            told = f"{val:.4f} | {ratio:.3f} | {size / 1e3:.0f} | {packed / 1e3:.0f}"
        else:
            told = f"{rows[0].get('slower') or rows[0]['failed']} | | |"
        lines.append(f"| `{strategy}` | {arm} | {rows[0]['made_by']} | {told} |")
    return "\n".join(lines)


def _line(row: Row) -> str:
    told = row.get("slower") or row.get("failed")
    if told is None:
        told = (
            f"val {row['val']:.4f}  ratio {row['ratio']:.3f}  {row['size_bytes'] / 1e3:7.0f} kB  "
            f"deflated {row['compressed_bytes'] / 1e3:7.0f} kB"
        )
    return f"{row['strategy']:18} {row['arm']:28} {told}  {row['made_by']}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", help="my_task.py:factory")
    parser.add_argument("--strategies", help="names, separated by commas; left out: all that are installed")
    parser.add_argument("--epochs", type=float, default=0.5, help="of training for each recipe")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--profile", default="cpu")
    parser.add_argument("--markdown", action="store_true", help="print tables; without a task, of all that is stored")
    chosen = parser.parse_args()
    strategies = chosen.strategies.split(",") if chosen.strategies else sorted(load_plugins().strategies)
    paths = [run(task, strategies, chosen.epochs, chosen.seeds, chosen.profile) for task in chosen.tasks]
    for path in paths:
        plots.draw(path)
    if chosen.markdown:
        stored = paths or sorted(RESULTS.glob("strategies-*.json"))
        print("\n\n".join(table(json.loads(path.read_text("utf-8"))) for path in stored))


if __name__ == "__main__":
    main()
