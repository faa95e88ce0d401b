"""What works on models as people have them, and what fails, by model and step.

    python benchmarks/zoo.py FILE:FACTORY... [--json OUT] [--limit 600] [--anew]

Each task is probed in a process of its own, which has ``--limit`` seconds:

- open: the model is read and exported, its file loads and gives what the module gives, every strategy is asked whether
  it applies, and every kind of quantization that does is tried;
- each strategy with a structure that applies, at its middle strength: planned, applied, and made from its plan again
  (``structure_s``), trained for a step; its file and its quantized ones are made, load, and give what the module gives;
  and the multiply-accumulates that its strongest leaves (``to``);
- each strategy that trains, on the model as it is: one step, and the files.

A clock that counts multiply-accumulates times the files, so that a busy machine changes nothing. Prints what failed as
it is known, and at the end how many models had no failed step, and how many can be pruned to 0.7 of their
multiply-accumulates by channels, heads or recurrent units alone. ``--json`` keeps it all: a task that is there is not
probed again, so that a run that was cut off goes on; ``--anew`` forgets them. Exits with 1 when a step failed.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PRUNING = ("prune_channels", "prune_attention", "prune_recurrent")
PRUNED_TO = 0.7  # of the multiply-accumulates
LIMIT_S = 600.0

Row = dict[str, Any]  # task, seconds, steps


def probed(target: str, limit_s: float) -> Row:
    """All steps of one task; the one that was under way when the time was over failed."""
    began = time.monotonic()
    command = [sys.executable, "-W", "ignore", str(Path(__file__).parent / "zoo_probe.py"), target]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            out, err = child.communicate(timeout=limit_s)
            ended = None if child.returncode == 0 else f"the process ended with {child.returncode}: {_last_line(err)}"
        except subprocess.TimeoutExpired:
            child.kill()
            out, err = child.communicate()
            ended = f"not through in {limit_s:.0f} s"
    steps = [json.loads(line) for line in out.splitlines() if line.startswith('{"name"')]
    if ended:
        after = f"after {steps[-1]['name']}" if steps else "open"
        steps.append({"name": after, "seconds": 0.0, "failed": ended, "to": None, "structure_s": None})
    return {"task": target, "seconds": round(time.monotonic() - began, 1), "steps": steps}


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "")


def failures(row: Row) -> list[str]:
    return [f"{step['name']}: {step['failed']}" for step in row["steps"] if step["failed"]]


def pruned_to(row: Row) -> float:
    """The least share of the multiply-accumulates that pruning by one kind of unit leaves."""
    own = [s["to"] for s in row["steps"] if s["name"].startswith(PRUNING) and s["to"] is not None and not s["failed"]]
    return min(own, default=1.0)


def line_of(row: Row) -> str:
    opened = next((s["seconds"] for s in row["steps"] if s["name"] == "open"), 0.0)
    slowest = max((s["structure_s"] or 0.0 for s in row["steps"]), default=0.0)
    failed = "".join(f"\n    {each}" for each in failures(row))
    return (
        f"{row['task'].rpartition(':')[2]:38} {len(row['steps']):2} steps {row['seconds']:5.0f} s  open {opened:5.1f}  "
        f"structure {slowest:5.1f}  pruned to {pruned_to(row):.2f}{failed}"
    )


def summary(rows: Sequence[Row]) -> str:
    clean = sum(not failures(row) for row in rows)
    pruned = sum(pruned_to(row) <= PRUNED_TO for row in rows)
    return f"of {len(rows)}: {clean} without a failed step, {pruned} pruned to {PRUNED_TO} or less"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="+", metavar="FILE:FACTORY")
    parser.add_argument("--json", type=Path, metavar="OUT")
    parser.add_argument("--limit", type=float, default=LIMIT_S, metavar="SECONDS", help="of each task")
    parser.add_argument("--anew", action="store_true", help="probe what is in the file again")
    options = parser.parse_args(arguments)
    kept = options.json is not None and options.json.exists()
    known = {row["task"]: row for row in json.loads(options.json.read_text("utf-8"))} if kept else {}
    for target in options.tasks:
        if options.anew or target not in known:
            known[target] = probed(target, options.limit)
            if options.json is not None:
                options.json.write_text(json.dumps(list(known.values()), indent=1) + "\n", "utf-8")
        print(line_of(known[target]), flush=True)
    rows = [known[target] for target in options.tasks]
    print(summary(rows))
    return 1 if any(map(failures, rows)) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
