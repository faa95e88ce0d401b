"""How fast a search comes to a good front: this one, a naive Optuna loop, and random search with all else as here.

    python benchmarks/efficiency.py TASK [--minutes 10] [--seeds 3] [--searches ours,naive,random]

runs them one after another (alone on the machine: 10 minutes each), writes benchmarks/results/efficiency-<task>.json
and .svg, and prints the table. A run that is there already is not repeated; ``--again`` repeats it. What is compared is
the area of the front over time (``curve``).

naive: Optuna's own multi-objective sampler, nothing enqueued; a trial prunes channels, distils for three epochs and
quantizes or not, and is measured as here, in bfloat16 where that is faster. Its clock starts when everything is open
and the first trial begins; the others' when the command does.
"""

import argparse
import json
import multiprocessing
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import results
from curve import Seen, area_at, curve_of, seen_in, time_to

EPOCHS = 3.0  # of the naive loop's trainings
Run = dict[str, Any]  # {"seen": [Seen], "reference": score, "tried", "spent_seconds", "wall_seconds"}


def ours(task: str, minutes: float, seed: int, folder: Path, **policy: Any) -> Run:
    from autocompress import search
    from autocompress.explore.policy import SearchPolicy

    result = search(task, minutes=minutes, seed=seed, out=folder, quiet=True, policy=SearchPolicy(**policy))
    front = result.document
    return {
        "seen": seen_in(front),
        "reference": front["reference"]["score"]["val"],
        "tried": front["tried"],
        "rank_correlation": front["rank_correlation"],
        "spent_seconds": front["spent_seconds"],
        "wall_seconds": front["wall_seconds"],
    }


def random(task: str, minutes: float, seed: int, folder: Path) -> Run:
    from optuna.samplers import RandomSampler

    from autocompress.explore.policy import SearchParts

    return ours(task, minutes, seed, folder, parts=SearchParts(sampler=RandomSampler))


def naive(task: str, minutes: float, seed: int, folder: Path) -> Run:
    import optuna
    from opened import open_here

    from autocompress.candidate.request import TrainRequest
    from autocompress.errors import CandidateFailed
    from autocompress.plugin.loader import load_plugins
    from autocompress.profile import load_profile
    from autocompress.recipe import Recipe, Step
    from autocompress.storage.folder import RunFolder
    from autocompress.task_source import load_task

    used = ("prune_channels", "distill_logits", "quantize_static")
    opened = open_here(load_task(task), load_profile("cpu"), load_plugins(), RunFolder(folder), used, seed)
    arithmetic = opened.computation.time_training()
    variants = tuple(variant for variant, _ in opened.pipeline.ratios)  # the fastest on the reference first
    skip = {True: variants[1:], False: variants}
    reference = opened.opening.reference
    seen: list[Seen] = [(0.0, reference.score.val, 1.0)]
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=_seeded(seed))
    began, tried = time.monotonic(), 0
    while (left := minutes * 60 - (time.monotonic() - began)) > 0:
        trial = study.ask()
        ratio = trial.suggest_float("ratio", 0.1, 0.9)
        prune = Step.of(
            "prune_channels", ratio=ratio, importance="l2", allocation="uniform", schedule="at_once", round_to=8
        )
        distil = Step.of(
            "distill_logits",
            alpha=trial.suggest_float("alpha", 0.3, 1.0),
            temperature=trial.suggest_float("temperature", 1.0, 8.0, log=True),
            schedule="constant",
        )
        train = Step.of("train", lr=trial.suggest_float("lr", 5e-4, 4e-3, log=True), batch_size=128)
        quantized = trial.suggest_categorical("int8", [True, False])
        request = TrainRequest(
            Recipe((prune, distil, train)),
            arithmetic,
            examples=round(EPOCHS * opened.opening.prepared.train_examples),
            limit_s=left,
        )
        try:
            files = opened.evaluate(request, skip[quantized]).evaluations
        except CandidateFailed:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            continue
        tried += 1
        seconds = time.monotonic() - began
        found = next((e for e in files if bool(e.recipe.variant) == quantized), files[0])
        study.tell(trial, (found.score.val, found.latency.ratio))
        if seconds <= 1.02 * minutes * 60:
            seen.append((seconds, found.score.val, found.latency.ratio))
    return {"seen": seen, "reference": reference.score.val, "tried": tried, "wall_seconds": time.monotonic() - began}


def _seeded(seed: int) -> Any:
    """What Optuna takes for several objectives by itself, with a seed."""
    import optuna

    default = type(optuna.create_study(directions=["maximize", "minimize"]).sampler)
    return default(seed=seed)


SEARCHES: dict[str, Callable[[str, float, int, Path], Run]] = {"ours": ours, "naive": naive, "random": random}


def child(kind: str, task: str, minutes: float, seed: int, pipe: Any) -> None:
    folder = Path(tempfile.mkdtemp(prefix="efficiency-"))
    try:
        pipe.send(SEARCHES[kind](task, minutes, seed, folder / "run"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def alone(kind: str, task: str, minutes: float, seed: int, target: Callable[..., None] = child) -> Run:
    """One search in a process of its own, so that none inherits anything of another."""
    context = multiprocessing.get_context("spawn")
    ours_end, theirs = context.Pipe()
    process = context.Process(target=target, args=(kind, task, minutes, seed, theirs))
    process.start()
    theirs.close()
    run: Run = ours_end.recv()
    process.join()
    return run


def table(runs: dict[str, list[Run]], minutes: float) -> list[str]:
    """Lines of Markdown: median and range over seeds."""
    curves = {
        kind: [curve_of([tuple(s) for s in run["seen"]], run["reference"]) for run in own] for kind, own in runs.items()
    }
    finals = {kind: [curve[-1][1] for curve in own] for kind, own in curves.items()}
    target = statistics.median(finals["naive"]) if "naive" in finals else None
    marks = [share * minutes * 60 for share in (0.1, 0.2, 0.5)]
    lines = [
        "| search | "
        + " | ".join(f"area at {mark:.0f} s" for mark in marks)
        + " | final area | tried | s to naive's final area |"
    ]
    lines.append("|---" * (len(marks) + 4) + "|")
    for kind, own in curves.items():
        cells = [_range([area_at(curve, mark) for curve in own]) for mark in marks]
        reached = [time_to(curve, target) for curve in own] if target is not None else []
        said = "-" if not reached or None in reached else _range([float(r) for r in reached if r is not None], ".0f")
        tried = _range([float(run["tried"]) for run in runs[kind]], ".0f")
        lines.append(f"| {kind} | {' | '.join(cells)} | {_range(finals[kind])} | {tried} | {said} |")
    return lines


def _range(values: list[float], form: str = ".3f") -> str:
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:{form}} ({low:{form}} to {high:{form}})" if len(values) > 1 else f"{middle:{form}}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", help="my_task.py:factory")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--searches", default="ours,naive,random")
    parser.add_argument("--name", help="of the result; the factory's by default")
    parser.add_argument("--again", action="store_true", help="repeat runs that are there")
    chosen = parser.parse_args()
    name = f"efficiency-{chosen.name or chosen.task.rpartition(':')[2]}"
    path = results.FOLDER / f"{name}.json"
    runs: dict[str, dict[str, Run]] = json.loads(path.read_text())["runs"] if path.exists() else {}
    for seed in range(chosen.seeds):
        for kind in chosen.searches.split(","):
            if chosen.again or str(seed) not in runs.get(kind, {}):
                runs.setdefault(kind, {})[str(seed)] = alone(kind, chosen.task, chosen.minutes, seed)
                results.write(name, {"task": chosen.task, "minutes": chosen.minutes, "runs": runs})
                print("\n".join(table({k: list(v.values()) for k, v in runs.items()}, chosen.minutes)), flush=True)


if __name__ == "__main__":
    main()
