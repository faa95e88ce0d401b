"""Whether what a search says of its models can be relied on.

    python benchmarks/trust_searches.py [share hold drop] [--tasks digits,my_task.py:task] [--minutes 1,3,10]
                                        [--states quiet,busy] [--speedups 2,4] [--seeds 4] [--budgets speedup,ms]
                                        [--times 5] [--wait 10]

runs ``autocompress search`` once for each combination, with the machine left alone and with one core kept busy:

- share, with the first speed-up of each task: the share of the time that measuring took, and in which the workers
  computed nothing, how many files there were, how many of them were never timed in a quiet session, and how many that
  nothing dominates are not on the front (none may be);
- hold, with each speed-up and with as many milliseconds as it comes to: ``--wait`` minutes after a search, while the
  others run, the recommended model is timed again, each ``--times`` in a process of its own, in one session beside the
  reference, on a machine in the state of the search: how often the budget is kept there, and the ratio is within 3 % of
  the one that front.json says;
- drop, with each speed-up and at most 1 point to lose: the verdict, and what was lost on the test split, with the
  standard error of the difference on the same examples, and whether that is more than a point and one such error.

Prints each row as it is known and a summary of each mode and state, and writes them to
benchmarks/results/trust_searches.json. Rows that are there are not made again, so that a run that was cut off goes on;
``--anew`` forgets them. Runs and logs are in ``--folder``; a run is removed when its row is complete.

    python benchmarks/trust_searches.py remeasure RUN [--test TASK] [--json]

prints one session of the recommended model of a run; with ``--test`` also the error of its loss on the test split.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import results
from trust import beside, show
from trust_again import once_more, paired_on_test
from trust_plan import BUDGETS, MINUTES, MODES, asked, planned, run_name
from trust_rows import Document, Row, is_done, key_of, of_search, of_sessions, of_test, summary

from autocompress.errors import UsageError
from autocompress.storage.front import read_front

NAME = "trust_searches"


@dataclass
class Table:
    """The rows, and what is still to be done for some of them. folder: of runs and logs."""

    folder: Path
    workers: int
    times: int
    wait_s: float
    rows: list[Row] = field(default_factory=list)
    pending: list[Row] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def row(self, what: Row) -> None:
        """One row, unless it is there; what waits and is due meanwhile is done first."""
        self.later()
        name = run_name(what)
        out = self.folder / name
        found = next((row for row in self.rows if key_of(row) == key_of(what)), None)
        if found is not None and is_done(found, what["mode"]):
            return
        if found is not None and self._is_of(found, out):
            self.pending.append(found)
            return
        if found is not None:
            self.rows.remove(found)
        shutil.rmtree(out, ignore_errors=True)  # of a search that was cut off
        options = asked(what, self.rows)
        with beside(what["state"]):
            document = self._searched(what, options, out, self.folder / f"{name}.log")
        if document is None:
            self.failed.append(f"{name}.log")
            print(f"no front.json came of {name}: see {name}.log in the folder of runs", flush=True)
            return
        row = {**what, "asked": " ".join(options), **of_search(document, self.workers)}
        self.rows.append(row)
        show(row)
        self.write()
        if is_done(row, what["mode"]):
            shutil.rmtree(out)
        else:
            self.pending.append(row)

    def later(self, wait: bool = False) -> None:
        """What is due for rows whose search has ended. wait: until all of it is."""
        while self.pending:
            row = min(self.pending, key=self._due)
            left = self._due(row) - time.time()
            if left > 0 and not wait:
                return
            time.sleep(max(0.0, left))
            self.pending.remove(row)
            out = self.folder / run_name(row)
            document = read_front(out)
            if row["mode"] == "hold":
                with beside(row["state"]):
                    row |= of_sessions(document, [once_more_elsewhere(out) for _ in range(self.times)])
            else:
                row |= {"tested": True, **of_test(document, paired_elsewhere(out, row["task"]))}
            show(row)
            self.write()
            shutil.rmtree(out)

    def write(self) -> None:
        results.write(NAME, {"rows": self.rows, "summary": summary(self.rows)})

    def _searched(self, what: Row, options: Sequence[str], out: Path, log: Path) -> Document | None:
        """The document of one search, in a process of its own; None when there is none."""
        named = [] if what["task"] == "digits" else [what["task"]]
        command = [
            *named,
            "--minutes",
            f"{what['minutes']:g}",
            "--seed",
            str(what["seed"]),
            "--out",
            str(out),
            *options,
        ]
        with log.open("w") as lines:
            subprocess.run(
                [sys.executable, "-m", "autocompress", "search", *command, "--workers", str(self.workers)],
                stdout=lines, stderr=subprocess.STDOUT, check=False,
            )  # fmt: skip
        try:
            return read_front(out)
        except UsageError:
            return None

    def _due(self, row: Row) -> float:
        ended = (self.folder / run_name(row) / "front.json").stat().st_mtime
        return ended + (self.wait_s if row["mode"] == "hold" else 0.0)

    @staticmethod
    def _is_of(row: Row, out: Path) -> bool:
        """Whether a run that is there is the one of a row."""
        try:
            return bool(read_front(out)["wall_seconds"] == row["wall_seconds"])
        except UsageError:
            return False


def once_more_elsewhere(out: Path) -> Row:
    """One session of the recommended model of a run, in a new process."""
    return _remeasured(out)


def paired_elsewhere(out: Path, task: str) -> float | None:
    """The error of the loss on the test split, in points; None when it cannot be had."""
    try:
        return float(_remeasured(out, "--test", task)["test_error"])
    except (subprocess.CalledProcessError, KeyError):
        return None


def _remeasured(out: Path, *options: str) -> Row:
    command = [sys.executable, __file__, "remeasure", str(out), *options, "--json"]
    answer: Row = json.loads(subprocess.check_output(command, text=True).splitlines()[-1])
    return answer


def remeasure(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="trust_searches.py remeasure")
    parser.add_argument("run", type=Path)
    parser.add_argument("--test", help="the task, for its test split")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    found = paired_on_test(options.run, options.test) if options.test else {}
    row = {**once_more(options.run), **found}
    print(json.dumps(row)) if options.json else show(row)


def main() -> None:
    if sys.argv[1:2] == ["remeasure"]:
        remeasure(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modes", nargs="*", metavar="share|hold|drop", help="all three when none is given")
    parser.add_argument("--tasks", nargs="+", default=["digits"], help="digits, or my_task.py:factory")
    parser.add_argument("--minutes", help="of each search; left out: 1,3,10 for share, 3 for the others")
    parser.add_argument("--states", default="quiet,busy")
    parser.add_argument("--speedups", help="of every task, in place of the table in this file")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--budgets", default=",".join(BUDGETS), help="of hold")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--wait", type=float, default=10.0, help="minutes between a search and its model's sessions")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / NAME, help="of runs and logs")
    parser.add_argument("--anew", action="store_true", help="forget the rows that are there")
    options = parser.parse_args()
    modes = options.modes or MODES
    if unknown := [mode for mode in modes if mode not in MODES]:
        parser.error(f"no such mode: {', '.join(unknown)}")
    tasks = [task for given in options.tasks for task in given.split(",")]
    minutes = dict.fromkeys(MODES, numbers(options.minutes)) if options.minutes else MINUTES
    speedups = numbers(options.speedups) if options.speedups else None
    options.folder.mkdir(parents=True, exist_ok=True)
    known = [] if options.anew or not (results.FOLDER / f"{NAME}.json").exists() else results.read(NAME)["rows"]
    table = Table(options.folder, options.workers, options.times, 60 * options.wait, known)
    for what in planned(
        modes, tasks, minutes, options.states.split(","), speedups, options.seeds, options.budgets.split(",")
    ):
        table.row(what)
    table.later(wait=True)
    for line in summary(table.rows):
        show(line)
    if table.failed:
        sys.exit(f"{len(table.failed)} searches gave nothing")


def numbers(text: str) -> tuple[float, ...]:
    return tuple(float(number) for number in text.split(","))


if __name__ == "__main__":
    main()
