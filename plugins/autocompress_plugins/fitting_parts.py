"""Which parts of a model a technique fits, and why it does not fit the others."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FittingParts:
    """names: the parts that it fits, in the model's order. kept: those that stay as they are, each with the reason."""

    names: tuple[str, ...]
    kept: dict[str, str]
