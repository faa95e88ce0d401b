"""What runs in a child process of an agent: one session of two files, outputs, operators, memory.

Each takes paths and numbers and returns what JSON can hold; ``Refused`` says what cannot be done.
"""

import io
import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from .external_data import has_external_data
from .machine.blocks import BlockLimits, TooCoarse, record_blocks, warm_up
from .machine.caches import eviction
from .machine.conditions import Counters
from .machine.gpu import GPU_PROVIDERS, gpu_throttled
from .machine.memory import peak_bytes, settled_bytes
from .machine.onnx_session import (
    NOTHING,
    CannotLoad,
    affinity_entries,
    bound_call,
    node_times,
    open_session,
    session_options,
)
from .machine.processors import own_processors, staying_on, taking_turns
from .machine.quiet import counting
from .machine.waiting import Waited, waited_here, without_wait
from .machine.weighted import of_each_shape, weighted
from .refusal import Refused

PROCESSOR = "CPUExecutionProvider"
Feeds = Sequence[Mapping[str, Any]]
DIGITS = 7  # of a number of milliseconds
MOST_OUTPUTS = 256 << 20  # bytes of one answer


def compare(
    candidate: Path, reference: Path, inputs: Path, how: Mapping[str, Any], limits: Mapping[str, Any]
) -> dict[str, Any]:
    """The blocks of one session, both files opened anew. limits: ``quiet``, ``seconds``, ``fewest`` of a session, and
    ``known_ms``, the reference's time when nobody disturbs it, null where every block counts (0: unknown).
    """
    feeds, evict = read_feeds(inputs), eviction() if how["cold"] else None
    weights = how["weights"]
    if len(weights) > len(feeds):
        raise Refused(422, "there are fewer inputs than weights")
    until = BlockLimits(int(limits["quiet"]), float(limits["seconds"]), int(limits["fewest"]))
    known_ms = limits["known_ms"]
    count = counting(None if known_ms is None else float(known_ms) or float("inf"))
    on_gpu, in_this_thread = how["provider"] in GPU_PROVIDERS, how["threads"] == 1 and how["provider"] == PROCESSOR
    waiting = waited_here(
        possible=in_this_thread and known_ms is not None, one_by_one=evict is not None or len(weights) > 1
    )
    try:
        with waiting as (of_call, of_block), _each_on_its_own(how) as placed:
            ours, theirs = (
                _weighted(_opened(path, placed), feeds, weights, evict, of_call) for path in (candidate, reference)
            )
            if on_gpu:
                for call in (ours, theirs):
                    warm_up(call)
            before = Counters.now()
            with taking_turns(possible=in_this_thread) as move:
                blocks = record_blocks(ours, theirs, count, until, move=move, waited=of_block)
    except TooCoarse as error:
        raise Refused(422, str(error)) from error
    conditions = before.until(Counters.now())
    if on_gpu:
        conditions = replace(conditions, gpu_throttled=gpu_throttled(ours))
    return {
        "blocks": {
            "reference": [round(ms, DIGITS) for ms in blocks.reference.tolist()],
            "candidate": [[round(ms, DIGITS) for ms in block.tolist()] for block in blocks.candidate],
        },
        "conditions": asdict(conditions),
    }


def outputs(file: Path, inputs: Path, how: Mapping[str, Any]) -> bytes:
    """An .npz file of what the file gives for each input, by ``number/name``."""
    session = _opened(file, how)
    names = [output.name for output in session.get_outputs()]
    found, size = {}, 0
    for number, feed in enumerate(read_feeds(inputs)):
        for name, value in zip(names, _called(session, feed), strict=True):
            found[f"{number}/{name}"], size = value, size + value.nbytes
        if size > MOST_OUTPUTS:
            raise Refused(413, f"the outputs are more than {MOST_OUTPUTS >> 20} MB: ask for fewer calls at once")
    kept = io.BytesIO()
    np.savez(kept, **found)
    return kept.getvalue()


def operators(file: Path, inputs: Path, how: Mapping[str, Any]) -> dict[str, Any]:
    """Milliseconds of each node, with its name and operator."""
    _refuse_external_data(file)
    try:
        with _each_on_its_own(how) as placed:
            nodes = node_times(file, _options(placed), how["provider"], read_feeds(inputs))
    except CannotLoad as error:
        raise Refused(422, str(error)) from error
    return {"operators": [{"name": name, "operator": kind, "ms": ms} for (name, kind), ms in nodes.items()]}


def memory(file: Path, inputs: Path, how: Mapping[str, Any]) -> dict[str, Any]:
    """The bytes that opening the file and calling it took at most, beside what this process had before, in which ONNX
    Runtime has run something: what it takes itself is not the file's.
    """
    feeds, nothing = read_feeds(inputs), Path("nothing.onnx")
    nothing.write_bytes(NOTHING)
    _called(_opened(nothing, how), {"x": np.zeros(1, np.float32)})
    before = settled_bytes()
    session = _opened(file, how)
    for feed in feeds:
        _called(session, feed)
    peak = peak_bytes(os.getpid())
    return {"bytes": None if peak is None or before is None else max(0, peak - before)}


def read_feeds(inputs: Path) -> Feeds:
    """Of an .npz file with ``number/name``, counted from 0."""
    try:
        with np.load(inputs, allow_pickle=False) as stored:
            found: dict[int, dict[str, Any]] = {}
            for key in stored.files:
                number, _, name = key.partition("/")
                found.setdefault(int(number), {})[name] = stored[key]
    except (ValueError, OSError) as error:
        raise Refused(422, f"the inputs are no .npz file of arrays: {error}") from error
    if not found:
        raise Refused(422, "there are no inputs")
    return [found[number] for number in sorted(found)]


@contextmanager
def _each_on_its_own(how: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """While open, this thread has a processor, and those of files that are opened as handed out have the others; where
    there are fewer processors than threads all are left to the system.
    """
    own = own_processors(how["threads"]) if how["provider"] == PROCESSOR else ()
    entries = affinity_entries(how["options"], own[1:])
    with staying_on(own[:1] if entries else ()):
        yield {**how, "options": {**how["options"], **entries}}


def _opened(path: Path, how: Mapping[str, Any]) -> Any:
    _refuse_external_data(path)
    try:
        return open_session(path, _options(how), how["provider"])
    except CannotLoad as error:
        raise Refused(422, str(error)) from error


def _options(how: Mapping[str, Any]) -> Any:
    return session_options(how["threads"], how["options"])


def _refuse_external_data(path: Path) -> None:
    try:
        outside = has_external_data(path.read_bytes())
    except ValueError as error:
        raise Refused(422, str(error)) from error
    if outside:
        raise Refused(422, "the file keeps weights outside itself: this agent takes files that are whole")


def _called(session: Any, feed: Mapping[str, Any]) -> list[Any]:
    try:
        return list(session.run(None, dict(feed)))
    except Exception as error:  # ONNX Runtime has no common base for what it raises
        raise Refused(422, f"the file does not run: {' '.join(str(error).split())[:200]}") from error


def _weighted(
    session: Any, feeds: Feeds, weights: Sequence[float], evict: Callable[[], None] | None, waited: Waited
) -> Callable[[], float]:
    """One call with inputs of each shape; milliseconds, the mean by weight."""
    return weighted([_timed(session, of_one, evict, waited) for of_one in of_each_shape(feeds, weights)], weights)


def _timed(session: Any, feeds: Feeds, evict: Callable[[], None] | None, waited: Waited) -> Callable[[], float]:
    """Runs the file once, on the inputs in turn; the milliseconds that it took. evict: called before each. waited: by
    this thread for a processor, no part of them.
    """
    _called(session, feeds[0])  # what does not run is told once, and not from within the loop
    turns = itertools.cycle([bound_call(session, feed) for feed in feeds])

    def call() -> float:
        run = next(turns)
        if evict is not None:
            evict()
        had_waited = waited()
        began = time.perf_counter()
        run()
        took = (time.perf_counter() - began) * 1e3
        return without_wait(took, had_waited, waited())

    return call
