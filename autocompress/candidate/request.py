"""What is asked of a candidate, and what timing its structure answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from autocompress.latency import Latency
from autocompress.recipe import Recipe, Step


@dataclass(frozen=True)
class Request:
    """One family to evaluate. rung: which training this is. checkpoint, plans: what an earlier rung left.

    start, examples: the piece of the training stream; examples = 0 trains nothing. limit_s: seconds there are for it
    now. length_s: that it takes in all, with what was trained of it before it was cut off; None for as long as there
    is. learned: what an earlier rung's hooks learned beside the weights. skip: graph variants not to make.
    worth_below: the latency ratio at and above which a file adds nothing to the front, whatever it scores.
    """

    recipe: Recipe
    rung: int = 0
    start: int = 0
    examples: int = 0
    limit_s: float | None = None
    length_s: float | None = None
    checkpoint: str | None = None
    plans: tuple[dict[str, Any], ...] | None = None
    learned: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    skip: tuple[Step, ...] = ()
    worth_below: float | None = None


@dataclass(frozen=True)
class Gate:
    """The untrained structure, exported and timed as its fastest variant. slower: variants that were surely no faster
    than the float file they were made from. macs: multiply-accumulates of one call.
    """

    latency: Latency
    plans: tuple[dict[str, Any], ...]
    slower: tuple[Step, ...] = ()
    macs: int = 0
