"""One call of several models, or of one with inputs of several shapes, each with a weight."""

from collections.abc import Sequence
from typing import TypeVar

from .blocks import Call

T = TypeVar("T")


def of_each_shape(feeds: Sequence[T], weights: Sequence[float]) -> list[Sequence[T]]:
    """Inputs that come in one shape after another, those of each."""
    return [feeds[number :: len(weights)] for number in range(len(weights))]


def weighted(calls: Sequence[Call], weights: Sequence[float]) -> Call:
    """Runs each once; the mean of what they took, by their weights."""
    if len(calls) == 1:
        return calls[0]
    whole = sum(weights)
    shares = [(call, weight / whole) for call, weight in zip(calls, weights, strict=True)]
    return lambda: sum(share * call() for call, share in shares)
