"""The log of a search: one entry for each group of operations that it asked for, in order.

An entry is ``{"call": name, ...arguments...}``. It is made of recipes and plain values alone, so that whoever computes
makes the same entry whether it is asked for the whole group at once or for one operation of it after another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from autocompress.recipe import Recipe

Entry = dict[str, Any]
DIGITS = 6  # of a number that is kept


def prepare(*, known: bool, only: Sequence[str] | None, limit_s: float | None) -> Entry:
    """All that gating takes. known: what an earlier process found was handed over. only: the strategies to ask."""
    return {"call": "prepare", "known": known, "only": _list(only), "limit_s": limit_s}


def opened(*, known: bool, only: Sequence[str] | None, limit_s: float | None) -> Entry:
    """The rest of opening: the other exporter, the reference evaluated. known: nothing is asked any more."""
    return {"call": "open", "known": known, "only": _list(only), "limit_s": limit_s}


def gate(recipe: Recipe, *, budget: str, plans: Sequence[Mapping[str, Any]] | None, limit_s: float | None) -> Entry:
    """An untrained structure made and timed. budget: the one it may stop at."""
    return {"call": "gate", "recipe": str(recipe), "budget": budget, "plans": _list(plans), "limit_s": limit_s}


def evaluate(
    recipe: Recipe,
    *,
    rung: int,
    start: int,
    examples: int,
    train_s: float | None,
    length_s: float | None,
    checkpoint: str | None,
    plans: Sequence[Mapping[str, Any]] | None,
    learned: Mapping[str, Any],
    skip: Sequence[object],
    worth_below: float | None,
    limit_s: float | None,
) -> Entry:
    """A family trained, or trained on, its files made, timed and scored.

    train_s: seconds that this training may take. length_s: those that the schedule is made for. skip: graph variants
    not to make. worth_below: the latency ratio from which on a file adds nothing. limit_s: for all of it.
    """
    return {
        "call": "evaluate",
        "recipe": str(recipe),
        "rung": rung,
        "start": start,
        "examples": examples,
        "train_s": train_s,
        "length_s": length_s,
        "checkpoint": checkpoint,
        "plans": _list(plans),
        "learned": {name: dict(values) for name, values in learned.items()},
        "skip": sorted(map(str, skip)),
        "worth_below": worth_below,
        "limit_s": limit_s,
    }


def session(name: str, *, limit_s: float | None) -> Entry:
    """A finished file timed in one more session. name: the evaluation's."""
    return {"call": "session", "file": name, "limit_s": limit_s}


def test(names: Sequence[str], *, limit_s: float | None) -> Entry:
    """Finished files scored on the test split."""
    return {"call": "test", "files": list(names), "limit_s": limit_s}


def compare(best: str, others: Sequence[str], *, limit_s: float | None) -> Entry:
    """The paired difference of validation scores of the best file and each of the others."""
    return {"call": "compare", "best": best, "files": list(others), "limit_s": limit_s}


@dataclass
class Log:
    entries: list[Entry] = field(default_factory=list)

    def add(self, entry: Entry) -> None:
        self.entries.append(plain(entry))


def plain(value: Any) -> Any:
    """As JSON gives it back: lists, and numbers of six digits."""
    if isinstance(value, float):
        short = float(f"{value:.{DIGITS}g}")
        return int(short) if short == int(short) and abs(short) < 1e15 else short
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def _list(values: Sequence[Any] | None) -> list[Any] | None:
    return None if values is None else list(values)
