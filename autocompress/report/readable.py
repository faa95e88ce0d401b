"""What of a ``front.json`` can be shown: an entry that is missing or damaged is left out, and that is said.

The document of a search is whole. One that another version or program wrote, or that somebody changed, may lack
anything; a report of it is of what is there.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from autocompress.errors import UsageError, one_line
from autocompress.report import explain
from autocompress.report.explain import Candidate, Document
from autocompress.storage.front import FRONT, candidate_of

# What a gap in it raises.
MISSING_FIGURE = (KeyError, TypeError, AttributeError, ValueError, ZeroDivisionError, IndexError)
BUDGET = {"latency_ms": None, "speedup": None, "statistic": "p90", "max_drop": None}
EXPECTED: dict[str, Any] = {  # what every version writes, and what stands for it where it is missing
    "profile": "unknown",
    "metric": "score",
    "seed": None,
    "tried": None,
    "wall_seconds": None,
    "candidates": [],
    "environment": {},
    "budget": BUDGET,
    "rejected": [],
    "failed": [],
    "refused": [],
    "warnings": [],
}
T = TypeVar("T")


def readable(document: Document) -> tuple[Document, list[str]]:
    """The document with what can be shown of it, and what is missing, a sentence each. Raises UsageError where not even
    the reference can be shown.
    """
    absent = [name for name, default in EXPECTED.items() if not _is_like(document.get(name), default)]
    found = {**document, **{name: EXPECTED[name] for name in absent}}
    found["budget"] = {**BUDGET, **found["budget"]}
    said = [f"{FRONT} does not say: {', '.join(absent)}."] if absent else []
    try:
        _refuse_damaged(found["reference"], found)
    except MISSING_FIGURE as error:
        raise UsageError(
            f"the reference in {FRONT} cannot be read ({_what(error)}), and every number stands beside it: search "
            "again with another --out"
        ) from error
    for name, check in (
        ("candidates", _refuse_damaged_candidate),
        ("rejected", _refuse_damaged_note),
        ("failed", _refuse_damaged_note),
        ("refused", _refuse_damaged_refusal),
    ):
        found[name], damaged = _sound(found[name], lambda entry, check=check: check(entry, found))  # type: ignore[misc]
        if damaged:
            said.append(f"Of {name} in {FRONT} {len(damaged)} cannot be read and are left out, as {damaged[0]}.")
    found["warnings"] = [str(warning) for warning in found["warnings"]]
    for role in ("recommended", "nearest"):
        if found[role] is not None and candidate_of(found, found[role]) is None:
            said.append(f"The {role} candidate, {one_line(found[role], 80)}, is not among those that can be read.")
    return found, said


def as_far_as_known(tell: Callable[[Document], T], document: Document, otherwise: T) -> T:
    """What is told of a document; ``otherwise`` where that needs what is not there."""
    try:
        return tell(document)
    except MISSING_FIGURE:
        return otherwise


def _is_like(value: Any, default: Any) -> bool:
    """Whether a value is of the kind of what stands for it: a number where nothing does."""
    if default is None:
        return _is_number(value)
    return isinstance(value, type(default))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _sound(entries: list[Any], check: Callable[[Any], None]) -> tuple[list[Any], list[str]]:
    """Those that can be shown, and why each of the others cannot."""
    sound, damaged = [], []
    for entry in entries:
        try:
            check(entry)
            sound.append(entry)
        except MISSING_FIGURE as error:
            damaged.append(_what(error))
    return sound, damaged


def _what(error: Exception) -> str:
    return f"{type(error).__name__}: {one_line(error, 80)}"


def _refuse_damaged(point: Candidate, document: Document) -> None:
    for name, value in _numbers(point):
        if not _is_number(value):
            raise ValueError(f"{name} is {one_line(repr(value), 40)}")
    if not min(point["latency_ms"][name] for name in ("p50", "p90", "ratio")) > 0:
        raise ValueError("a latency is not above 0")
    for name, value in _optional_numbers(point):
        if not (value is None or _is_number(value)):
            raise ValueError(f"{name} is {one_line(repr(value), 40)}")
    if not (_is_number(ms := explain.statistic_ms(point, document)) and ms > 0):
        raise ValueError("its latency is not above 0")
    for verdict in (point.get("verdicts") or {}).values():
        if verdict:
            str(verdict["answer"]), str(verdict["reason"])


def _numbers(point: Candidate) -> Iterator[tuple[str, Any]]:
    for name in ("val", "val_low", "val_high"):
        yield name, point["score"][name]
    if point["score"]["test"] is not None:
        yield "test", point["score"]["test"]
    for name in ("p50", "p90", "ratio"):
        yield name, point["latency_ms"][name]
    for name in ("size_bytes", "compressed_bytes", "params", "macs"):
        yield name, point[name]


def _optional_numbers(point: Candidate) -> Iterator[tuple[str, Any]]:
    """Those that earlier versions did not write."""
    yield "sampled", point["score"].get("sampled")
    for name in ("ratio_low", "ratio_high"):
        yield name, point["latency_ms"].get(name)


def _refuse_damaged_candidate(candidate: Candidate, document: Document) -> None:
    _refuse_damaged(candidate, document)
    if not (isinstance(candidate["id"], str) and isinstance(candidate["artifact"], str)):
        raise ValueError("its id or its file is no text")
    for name in ("fidelity", "elapsed_s"):
        if not _is_number(candidate[name]):
            raise ValueError(f"{name} is {one_line(repr(candidate[name]), 40)}")
    for name in ("feasible", "on_front"):
        if not isinstance(candidate[name], bool):
            raise ValueError(f"{name} is {one_line(repr(candidate[name]), 40)}")
    if loss := candidate.get("loss"):
        for name in ("points", "error"):
            if not _is_number(loss[name]):
                raise ValueError(f"{name} of its loss is {one_line(repr(loss[name]), 40)}")
    explain.techniques(candidate), explain.steps(candidate)


def _refuse_damaged_note(entry: Any, document: Document) -> None:
    """Of what was rejected or failed."""
    explain.techniques(entry), explain.steps(entry)
    if not isinstance(entry["reason"], str):
        raise ValueError("its reason is no text")
    for name in ("latency_ms", "ratio"):
        if not (entry.get(name) is None or (_is_number(entry[name]) and entry[name] > 0)):
            raise ValueError(f"{name} is {one_line(repr(entry[name]), 40)}")


def _refuse_damaged_refusal(entry: Any, document: Document) -> None:
    if not (isinstance(entry["strategy"], str) and isinstance(entry["reason"], str)):
        raise ValueError("its strategy or reason is no text")
