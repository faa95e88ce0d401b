"""How many quiet blocks it takes to tell a file's time, and what slows it beside the reference.

    python benchmarks/quiet_blocks.py RUN [--files 4] [--sessions 60] [--states quiet,training]

times files of a finished run's front beside its reference, in sessions of 0.4 s each in a process of its own, with the
machine left alone and beside a training that uses all cores. Prints of each file how single sessions spread as they are
and as they count in a run (docs/measurement.md, "How much slower the reference was"), and the slope of the logarithm of
its time on that of the reference's over quiet sessions; how far busy ones are from the mean of the quiet ones, by their
quietest blocks and by all (root of the mean square); then, over pieces of twelve blocks, how far the quiet blocks of
a piece are from the mean of all sessions, and all of its blocks, by how many were quiet.
"""

import argparse
import math
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import numpy as np
from trust import beside, show

from autocompress.commands.measure import random_feeds
from autocompress.comparison import TimingSession
from autocompress.machine.blocks import BlockLimits, Blocks
from autocompress.machine.quiet import FASTEST, quiet
from autocompress.measure import RunTiming, Sessions, latency_of
from autocompress.measure.statistics import session_of
from autocompress.plugin.loader import load_plugins
from autocompress.profile import HardwareProfile
from autocompress.storage.front import read_front

SECONDS, PIECE = 0.4, 12
KINDS = (0, 0), (1, 1), (2, 2), (3, 4), (5, 7), (8, PIECE)  # of pieces, by how many blocks were quiet


def recorded(run: Path, files: int, sessions: int, states: list[str]) -> dict[str, list[tuple[str, Blocks]]]:
    """What each session recorded, with the state of the machine, by the file's id; the files in turn."""
    document = read_front(run)
    profile = HardwareProfile.model_validate(document["environment"]["profile"])
    front = [c for c in document["candidates"] if c["on_front"] and c["id"] != "reference"]
    chosen = front[:: max(1, len(front) // files)][:files]
    paths = {c["id"]: run / c["artifact"] for c in chosen}
    runtime, reference = load_plugins().runtime_of(profile), run / document["reference"]["artifact"]
    found: dict[str, list[tuple[str, Blocks]]] = {name: [] for name in paths}
    timed = {
        name: Sessions(runtime, profile, reference, random_feeds(path, profile), forks=True)
        for name, path in paths.items()
    }
    limits = BlockLimits(quiet=sys.maxsize, seconds=SECONDS)
    for state in states:
        with beside(state):
            for _ in range(sessions):
                for name, path in paths.items():
                    found[name].append((state, timed[name].record(path, limits)[1]))
    return found


def spread(name: str, rows: list[tuple[str, Blocks]], fastest: float) -> float:
    """Prints how quiet sessions of a file spread; the logarithm of the ratio that they agree on."""
    every = [(state, session_of(blocks, fastest, 90)) for state, blocks in rows]
    still = [(state, session) for state, session in every if not session.busy]
    reference = np.log([session.reference for _, session in still])
    run = RunTiming(slowed=math.exp(reference.mean()) / fastest)

    def counted(session: TimingSession) -> float:
        return math.log(latency_of([session], run).ratio)

    raw = np.array([session.log_ratio for _, session in still])
    as_counted = np.array([counted(session) for _, session in still])
    means = {f"ratio {s}": math.exp(np.mean([counted(x) for t, x in still if t == s])) for s in {t for t, _ in still}}
    slope = float(np.polyfit(reference, raw + reference, 1)[0])
    sds = {"sd_as_they_are": 100 * raw.std(), "sd_as_they_count": 100 * as_counted.std()}
    show({"file": name, "sessions": len(every), "quiet": len(still), **means, **sds, "slope": slope})
    truth = float(as_counted.mean())
    busy = [session for _, session in every if session.busy]
    if busy:
        whole = [
            session_of(blocks, math.inf, 90) for (_, blocks), (_, one) in zip(rows, every, strict=True) if one.busy
        ]
        by_all = [replace(session, slowed=session.reference / fastest) for session in whole]
        off = {
            f"{kind}_off": 100 * math.sqrt(np.mean([(counted(session) - truth) ** 2 for session in sessions]))
            for kind, sessions in (("quietest", busy), ("all", by_all))
        }
        show({"file": name, "busy": len(busy), **off})
    return truth


def pieces(name: str, rows: list[tuple[str, Blocks]], fastest: float, truth: float) -> None:
    """Prints how far pieces of sessions are from the truth, by how many of their blocks were quiet."""
    found = []
    for _, blocks in rows:
        own, logs = np.log([np.median(block) for block in blocks.candidate]), np.log(blocks.reference)
        ratios, still = own - (logs[:-1] + logs[1:]) / 2, quiet(blocks.reference, fastest)
        for begin in range(0, len(own) - PIECE + 1, PIECE):
            part, counts = ratios[begin : begin + PIECE], still[begin : begin + PIECE]
            found.append((counts.sum(), np.median(part[counts]) if counts.any() else np.nan, np.median(part)))
    table = np.array(found)
    for least, most in KINDS:
        of_kind = table[(table[:, 0] >= least) & (table[:, 0] <= most)]
        if len(of_kind) > 2:
            off = 100 * (of_kind[:, 1:] - truth)
            shown = {f"{what}_off": off[:, i].mean() for i, what in enumerate(("quiet", "all"))}
            sds = {f"{what}_sd": off[:, i].std() for i, what in enumerate(("quiet", "all"))}
            show({"file": name, "quiet_blocks": f"{least}-{most}", "pieces": len(of_kind), **shown, **sds})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--files", type=int, default=4)
    parser.add_argument("--sessions", type=int, default=60, help="of each file in each state")
    parser.add_argument("--states", default="quiet,training")
    options = parser.parse_args()
    found = recorded(options.run, options.files, options.sessions, options.states.split(","))
    every = [blocks for rows in found.values() for _, blocks in rows]
    fastest = min(float(np.percentile(blocks.reference, FASTEST)) for blocks in every)
    for name, rows in found.items():
        pieces(name, rows, fastest, spread(name, rows, fastest))


if __name__ == "__main__":
    main()
