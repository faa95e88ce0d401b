"""What a short search shows, and when.

    python benchmarks/first_minute.py [TASK] [--minutes 1] [--runs 10] [--states quiet,busy] [--options "--speedup 2"]

runs ``autocompress search`` again and again, each in an own empty folder, with the machine left alone and with one core
kept busy: seconds from the command until the first measured files beside the reference are shown, to the first file of
a changed structure, to the first trained file that nothing measured until then dominates, to the first that is on the
front at the end, and to the end; and how many points of the front are within 5 points of the reference's score and 10 %
apart in speed. Prints each run and the medians, and
writes benchmarks/results/first_minute-<task>.json.
"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import results
from trust import beside, show

from autocompress.explore.standings.front import Point, dominates

WITHIN, APART = 0.05, 1.1  # of the score, of the speed
Row = dict[str, Any]


def run(task: str, minutes: float, seed: int, options: list[str], folder: Path) -> Row:
    """One search, whose lines are noted with the seconds since the command."""
    named = [] if task == "digits" else [task]
    command = [*named, "--minutes", f"{minutes:g}", "--seed", str(seed), "--out", str(folder / "run"), *options]
    began, first_s = time.monotonic(), None
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "autocompress", "search", *command], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if first_s is None and line.startswith("unchanged, "):
                first_s = time.monotonic() - began
    whole_s = time.monotonic() - began
    document = json.loads((folder / "run" / "front.json").read_text())
    before_s = whole_s - document["wall_seconds"]  # until the search's own clock starts, with the second after it
    changed = [c for c in document["candidates"] if any(not step.get("variant") for step in c["recipe"])]
    trained = [c for c in changed if c["fidelity"] > 0]
    stood = [c["elapsed_s"] for c in trained if stands(c, document["candidates"], document["maximize"])]
    stayed = [c["elapsed_s"] for c in trained if c["on_front"]]
    chosen = next((c for c in document["candidates"] if c["id"] == document["recommended"]), None)
    return {
        "first_s": first_s,
        "changed_s": min((before_s + c["elapsed_s"] for c in changed), default=None),
        "trained_s": before_s + min(stood) if stood else None,
        "stayed_s": before_s + min(stayed) if stayed else None,
        "whole_s": whole_s,
        "points": points(document),
        "exit": process.returncode,
        "speedup": None if chosen is None else 1 / chosen["latency_ms"]["ratio"],
        "points_lost": None if chosen is None else chosen["loss"]["points"],
    }


def stands(candidate: Row, others: list[Row], maximize: bool) -> bool:
    """Whether a file was on the front when it came."""

    def point(c: Row) -> Point:
        return (c["score"]["val"] if maximize else -c["score"]["val"]), c["latency_ms"]["ratio"]

    earlier = [point(c) for c in others if c["elapsed_s"] <= candidate["elapsed_s"]]
    return not any(dominates(other, point(candidate)) for other in earlier)


def points(document: Row) -> int:
    """Of the front, near enough to the reference's score and far enough apart."""
    sign = 1 if document["maximize"] else -1
    least = sign * document["reference"]["score"]["val"] - WITHIN
    near = [c for c in document["candidates"] if c["on_front"] and sign * c["score"]["val"] >= least]
    count, last = 0, 0.0
    for ratio in sorted(c["latency_ms"]["ratio"] for c in near):
        if ratio >= APART * last:
            count, last = count + 1, ratio
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", nargs="?", default="digits", help="digits, or my_task.py:factory")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--states", default="quiet,busy")
    parser.add_argument("--options", default="", help="further ones of the search")
    options = parser.parse_args()
    rows = []
    for state in options.states.split(","):
        for seed in range(options.runs):
            with tempfile.TemporaryDirectory() as folder, beside(state):
                found = run(options.task, options.minutes, seed, shlex.split(options.options), Path(folder))
            rows.append({"state": state, "seed": seed, **found})
            show(rows[-1])
    for state in options.states.split(","):
        own = [row for row in rows if row["state"] == state]
        known = {name: [row[name] for row in own if row[name] is not None] for name in own[0] if name != "state"}
        show({"state": state, **{name: statistics.median(values) for name, values in known.items() if values}})
    name = f"first_minute-{options.task.rpartition(':')[2]}"
    results.write(name, {"task": options.task, "minutes": options.minutes, "options": options.options, "rows": rows})


if __name__ == "__main__":
    main()
