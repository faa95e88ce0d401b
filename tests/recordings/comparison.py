"""Two recordings of one search: what differs, in words."""

import json
import math
from collections.abc import Sequence
from typing import Any

from .entries import Entry

TIMES = ("limit_s", "train_s", "length_s")  # of an entry: with two workers they depend on which ends first
MOMENTS = ("wall_seconds",)  # of the end
SHOWN = 5  # differences, at most
TOLERANCE = 2e-5  # of a number: six digits are kept


def difference(expected: dict[str, Any], actual: dict[str, Any], *, ordered: bool) -> str:
    """Empty when they are the same. ordered: with one worker; with more the groups are compared as a set, and without
    what depends on which of two ends first.
    """
    lines: list[str] = []
    for number, (before, now) in enumerate(zip(expected["processes"], actual["processes"], strict=True), start=1):
        calls = _in_order if ordered else _as_a_set
        lines += [f"process {number}: {line}" for line in calls(before["calls"], now["calls"])]
        lines += [
            f"process {number}: {line}" for key in ("notes", "ended") for line in _value(key, before[key], now[key])
        ]
    before, now = expected["end"], actual["end"]
    if before is None or now is None:
        return "\n".join(lines + _value("end", before, now))
    for key in before:
        if ordered or key not in MOMENTS:
            one, other = (end.get(key) if ordered else _unordered(end.get(key)) for end in (before, now))
            lines += _value(f"end: {key}", one, other)
    return "\n".join(lines)


def same(one: Any, other: Any) -> bool:
    """Whether two plain values are equal, numbers within what is kept of them."""
    if isinstance(one, (int, float)) and isinstance(other, (int, float)) and not isinstance(one, bool):
        return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=1e-9)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def _in_order(before: Sequence[Entry], now: Sequence[Entry]) -> list[str]:
    """The first place where the calls part; what comes after it differs as a consequence."""
    for at, (one, other) in enumerate(zip(before, now, strict=False)):
        if not same(one, other):
            lines = [
                f"call {at} of {len(before)} ({len(now)} now) is the first that differs, after {_last(before[:at])}"
            ]
            if one["call"] != other["call"] or one.get("recipe") != other.get("recipe"):
                return [*lines, f"  was {_text(one)}", f"  is  {_text(other)}"]
            keys = [key for key in one.keys() | other.keys() if not same(one.get(key), other.get(key))]
            lines.append(f"  {one['call']} {one.get('recipe') or one.get('file') or ''}")
            return lines + [f"  {key}: was {_text(one.get(key))}, is {_text(other.get(key))}" for key in sorted(keys)]
    if len(before) != len(now):
        common = min(len(before), len(now))
        word, rest = ("missing", before[common:]) if len(before) > common else ("new", now[common:])
        return [f"the first {common} calls are the same; {word}: {_text(rest[0])}"]
    return []


def _as_a_set(before: Sequence[Entry], now: Sequence[Entry]) -> list[str]:
    missing = [_timeless(entry) for entry in before]
    new = []
    for entry in map(_timeless, now):
        match = next((other for other in missing if same(entry, other)), None)
        if match is None:
            new.append(entry)
        else:
            missing.remove(match)
    return [f"missing: {_text(e)}" for e in missing[:SHOWN]] + [f"new: {_text(e)}" for e in new[:SHOWN]]


def _timeless(entry: Entry) -> Entry:
    kept = {key: value for key, value in entry.items() if key not in TIMES}
    return {key: sorted(value) if key == "files" else value for key, value in kept.items()}


def _unordered(value: Any) -> Any:
    """The rows of the end in an order of their own, a candidate without its moment."""
    if not isinstance(value, list) or not all(isinstance(row, list) for row in value):
        return value
    moment = bool(value) and len(value[0]) == 10
    return sorted((row[:-1] if moment else row for row in value), key=json.dumps)


def _value(name: str, before: Any, now: Any) -> list[str]:
    if same(before, now):
        return []
    if not (isinstance(before, list) and isinstance(now, list)):
        return [f"{name}: was {_text(before)}, is {_text(now)}"]
    gone = [row for row in before if not any(same(row, other) for other in now)]
    new = [row for row in now if not any(same(row, other) for other in before)]
    lines = [f"{name}: was {_text(row)}" for row in gone[:SHOWN]] + [f"{name}: is  {_text(row)}" for row in new[:SHOWN]]
    return lines or [f"{name}: the same in another order"]


def _last(calls: Sequence[Entry]) -> str:
    return f"{calls[-1]['call']} {calls[-1].get('recipe', '')}".strip() if calls else "nothing"


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
