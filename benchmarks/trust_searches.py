"""Whether what a search says of its models can be relied on.

    python benchmarks/trust_searches.py [--tasks digits,my_task.py:task] [--minutes 1,3] [--states quiet,busy]
                                        [--budgets "--speedup 3;--budget-ms 0.06"] [--seeds 1] [--times 5] [--wait 10]

runs ``autocompress search`` once for each combination, with the machine left alone and with one core kept busy. Of each
it prints the share of the time that measuring took, how many files there were, how many of them were never timed in a
quiet session, and how many that nothing dominates are not on the front (none may be). When all have run and ``--wait``
minutes have passed since each, the recommended models are timed again, each ``--times`` in a process of its own, in one
session: whether the budget is kept there, how far its ratio is from what front.json says, and what was lost on the test
split. Rows are written to benchmarks/results/trust_searches.json.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import results
from trust import beside, show

from autocompress.commands.verify import recorder
from autocompress.profile import HardwareProfile
from autocompress.storage.front import MODEL, RECOMMENDED, candidate_of, read_front

Row = dict[str, Any]
Document = dict[str, Any]


def searched(task: str, minutes: float, options: str, seed: int, out: Path) -> Document:
    """The document of one search, in a process of its own."""
    named = [] if task == "digits" else [task]
    arguments = [*named, "--minutes", str(minutes), "--seed", str(seed), "--out", str(out), *options.split()]
    subprocess.run([sys.executable, "-m", "autocompress", "search", *arguments], capture_output=True, check=False)
    return read_front(out)


def of_search(document: Document) -> Row:
    """What one search says of itself."""
    candidates, spent = document["candidates"], document["spent_seconds"]
    chosen = candidate_of(document, document["recommended"])
    points = [(c["score"]["val"], c["latency_ms"]["ratio"]) for c in candidates]
    best = {p for p in points if not any(o[0] >= p[0] and o[1] <= p[1] and o != p for o in points)}
    shown = {p for p, c in zip(points, candidates, strict=True) if c["on_front"]}
    return {
        "measuring": spent.get("measure", 0.0) / document["wall_seconds"],
        "wall_seconds": document["wall_seconds"],
        "files": len(candidates),
        "never_quiet": sum(not c["latency_ms"]["quiet_sessions"] for c in candidates),
        "left_off": len(best - shown),
        "sessions": sum(c["latency_ms"]["sessions"] for c in candidates),
        "recommended": None if chosen is None else chosen["latency_ms"]["ratio"],
        "val_loss": None if chosen is None else chosen["loss"]["points"],
        **{name: verdict and verdict["answer"] for name, verdict in (chosen or {}).get("verdicts", {}).items()},
        **({"test_loss": loss[0], "test_error": loss[1]} if (loss := test_loss(document, chosen)) else {}),
    }


def test_loss(document: Document, chosen: Document | None) -> tuple[float, float] | None:
    """Points lost on the test split, and the standard error as if both scores were of different examples."""
    if chosen is None or chosen["score"]["test"] is None:
        return None
    reference, score = document["reference"]["score"], chosen["score"]
    halves = [(s["val_high"] - s["val_low"]) / 2 / 1.96 for s in (reference, score)]
    return 100 * (reference["test"] - score["test"]), 100 * math.hypot(*halves)


def once_more(out: Path) -> Row:
    """One session of the recommended model of a run beside its reference, in this process."""
    document = read_front(out)
    profile = HardwareProfile.model_validate(document["environment"]["profile"])
    session = recorder(out / RECOMMENDED / MODEL, out / document["reference"]["artifact"], profile)()
    return {"ratio": math.exp(session.log_ratio), "statistic": session.statistic, "busy": session.busy}


def of_sessions(document: Document, sessions: list[Row]) -> Row:
    """How what a run says of its recommended model stands to later sessions."""
    chosen = candidate_of(document, document["recommended"])
    assert chosen is not None
    said, budget = chosen["latency_ms"]["ratio"], document["budget"]
    kept = [
        (not budget["speedup"] or s["ratio"] <= 1 / budget["speedup"])
        and (not budget["latency_ms"] or s["statistic"] <= budget["latency_ms"])
        for s in sessions
    ]
    return {
        "times": len(sessions),
        "kept": sum(kept),
        "within_3_percent": sum(abs(s["ratio"] / said - 1) <= 0.03 for s in sessions),
        "ratios": [round(s["ratio"] / said, 4) for s in sessions],
        "busy": sum(s["busy"] for s in sessions),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", default="digits")
    parser.add_argument("--minutes", default="1,3")
    parser.add_argument("--states", default="quiet,busy")
    parser.add_argument("--budgets", default="--speedup 3")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--wait", type=float, default=10.0, help="minutes between a search and its models' sessions")
    parser.add_argument("--again", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.again:
        print(json.dumps(once_more(options.again)))
        return
    rows: list[Row] = []
    runs: list[tuple[Row, Path, float]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for state in options.states.split(","):
            for minutes in map(float, options.minutes.split(",")):
                for task in options.tasks.split(","):
                    for budget in options.budgets.split(";"):
                        for seed in range(options.seeds):
                            what = {"task": task, "minutes": minutes, "state": state, "asked": budget, "seed": seed}
                            out = Path(scratch) / str(len(runs))
                            with beside(state):
                                document = searched(task, minutes, budget, seed, out)
                            rows.append({**what, **of_search(document)})
                            show(rows[-1])
                            runs.append((rows[-1], out, time.monotonic()))
                            results.write("trust_searches", {"rows": rows})
        for row, out, ended in runs:
            document = read_front(out)
            if document["recommended"] is None or not options.times:
                continue
            time.sleep(max(0.0, ended + 60 * options.wait - time.monotonic()))
            command = [sys.executable, __file__, "--again", str(out)]
            answers = [subprocess.check_output(command, text=True) for _ in range(options.times)]
            row |= of_sessions(document, [json.loads(answer.splitlines()[-1]) for answer in answers])
            show(row)
            results.write("trust_searches", {"rows": rows})


if __name__ == "__main__":
    main()
