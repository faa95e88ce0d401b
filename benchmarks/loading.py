"""What reading data costs: a search on 200,000 examples that take 5 ms each to decode, and an epoch of training by each
way to hand over the same examples.

    python benchmarks/loading.py [--minutes 1.5] [--examples 200000] [--rounds 5]

Prints seconds until the first points of the front are there, the most memory of all processes together (proportional
set size: what workers share counts once), how many examples were decoded and how many of them more than once; then
the seconds of an epoch over those of tensors, and whether scores are the same. Writes benchmarks/results/loading.json.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import results

TASK = Path(__file__).with_name("slow_decoding.py")
MEASURED_EVERY_S = 0.5
EPOCH = 20_000  # examples
FIRST_POINTS = re.compile(r"^unchanged")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.5)
    parser.add_argument("--examples", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("search", "epoch"))
    chosen = parser.parse_args()
    found: dict[str, Any] = {}
    if chosen.only != "epoch":
        found["search"] = search(chosen.minutes, chosen.examples)
        print("search on what is slow to decode:", found["search"], flush=True)
    if chosen.only != "search":
        found["epoch"] = epochs(chosen.rounds)
        print("| handed over as | seconds of an epoch | over tensors | the same score |\n|---|---|---|---|")
        for name, way in found["epoch"].items():
            print(f"| {name} | {way['seconds']:.2f} | {way['ratio']:.3f} | {way['same score']} |")
    results.write("loading", found)


def search(minutes: float, examples: int) -> dict[str, Any]:
    """One search from the command line, watched from outside."""
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch, "decoded")
        environment = os.environ | {"LOADING_LOG": str(log), "LOADING_EXAMPLES": str(examples)}
        command = [sys.executable, "-m", "autocompress", "search", f"{TASK}:task", "--speedup", "2"]
        command += ["--minutes", str(minutes), "--out", str(Path(scratch, "run"))]
        began, wall = time.monotonic(), time.time()
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=scratch
        )
        most = [0]
        watching = threading.Thread(target=_watch_memory, args=(process, most), daemon=True)
        watching.start()
        first_s = None
        assert process.stdout is not None
        for line in process.stdout:
            print("   ", line.rstrip(), flush=True)
            if first_s is None and FIRST_POINTS.match(line):
                first_s = time.monotonic() - began
        code = process.wait()
        return {
            "first point of the front, s": first_s,
            "most memory, GiB": round(most[0] / 2**30, 2),
            "exit": code,
            "seconds": time.monotonic() - began,
            "decoded": _decoded(log, wall + (first_s or 0)),
        }


def _watch_memory(process: "subprocess.Popen[str]", most: list[int]) -> None:
    while process.poll() is None:
        most[0] = max(most[0], sum(map(_proportional_bytes, _family(process.pid))))
        time.sleep(MEASURED_EVERY_S)


def _family(root: int) -> list[int]:
    """A process and all that descend from it."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    family = [root]
    for pid in family:
        family += [child for child, parent in parents.items() if parent == pid]
    return family


def _proportional_bytes(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))


def _decoded(log: Path, first: float) -> dict[str, Any]:
    """By split: examples decoded in all, by the first points, and more than once."""
    from slow_decoding import RECORD

    records = list(RECORD.iter_unpack(log.read_bytes()[: log.stat().st_size // RECORD.size * RECORD.size]))
    found: dict[str, Any] = {}
    for split in ("train", "val"):
        own = [(number, at) for name, number, at in records if name == split[:1].encode()]
        times = Counter(number for number, _ in own)
        found[split] = {
            "examples": len(times),
            "by the first points": sum(at <= first for _, at in own),
            "decoded more than once": sum(count > 1 for count in times.values()),
            "decodings": len(own),
        }
    return found


def epochs(rounds: int) -> dict[str, dict[str, Any]]:
    """An epoch of training by each way to hand over the same examples, in turns; the score of the untrained model."""
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    from autocompress.candidate.arithmetic import Arithmetic
    from autocompress.candidate.stream import TrainStream
    from autocompress.candidate.teacher import Teacher
    from autocompress.candidate.train import Schedule, train
    from autocompress.data import ScoredSet, call, read_data
    from autocompress.task import Task

    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(EPOCH, 1, 28, 28, generator=generator), torch.arange(EPOCH) % 10
    pairs = TensorDataset(x, y)

    def as_dict(examples: list[Any]) -> dict[str, Any]:
        return {"x": torch.stack([one for one, _ in examples]), "labels": torch.stack([label for _, label in examples])}

    class ByName(nn.Sequential):
        def forward(self, x: Any) -> Any:
            return super().forward(x)

    def model() -> nn.Module:
        torch.manual_seed(0)
        return ByName(
            *(nn.Conv2d(1, 16, 3, stride=2), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(32 * 36, 10)),
        )

    sources = {
        "tensors": (x, y),
        "Dataset": pairs,
        "DataLoader with two workers": DataLoader(pairs, 64, shuffle=True, num_workers=2),
        "dict batches": DataLoader(pairs, 64, shuffle=True, collate_fn=as_dict),
    }
    streams, scores, seconds = {}, {}, {name: list[float]() for name in sources}
    for name, source in sources.items():
        task = Task(name, model().eval(), source, source)
        data = read_data(task)
        streams[name] = TrainStream(
            task, data.splits["train"], Teacher(task.copy_of_model(), Arithmetic(), data.layout), 0
        )
        scored = ScoredSet(task, data.splits["val"], data.layout)
        with torch.no_grad():
            kept = scored.kept(
                (data.layout.rows_of(call(task.model, batch.inputs)), batch.targets)
                for batch in data.splits["val"].batches(64)
            )
        scores[name] = scored.value(kept)
    for _ in range(rounds):
        for name, stream in streams.items():
            done = train(model(), [], nn.functional.cross_entropy, stream, Schedule(1e-3, 64, 0, EPOCH), Arithmetic())
            seconds[name].append(done.seconds)
    return {
        name: {
            "seconds": statistics.median(took),
            "ratio": statistics.median(own / tensors for own, tensors in zip(took, seconds["tensors"], strict=True)),
            "same score": scores[name] == scores["tensors"],
        }
        for name, took in seconds.items()
    }


if __name__ == "__main__":
    main()
