"""What a file's operators are for, whatever a runtime makes of them: to see which of two files spends more, on what."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

OperatorKinds = Mapping[str, float]  # milliseconds of a call, by kind

CONVERSIONS = "conversions"  # to and from int8, and between layouts and types
CONVERTS = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast", "ReorderInput", "ReorderOutput"}
)
BEFORE = re.compile(r"^(Nhwc|QLinear|DynamicQuantize|Fused|Q(?=[A-Z]))+")  # as ONNX Runtime names what it fuses
AFTER = re.compile(r"(IntegerToFloat|Integer|Nhwc)$")
WORTH_A_WORD = 0.02  # of a call, below which a difference is not worth a word
KINDS_SHOWN = 3


def by_kind(operators: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Of (operator, milliseconds) of each node: the milliseconds of each kind, the most first."""
    found: defaultdict[str, float] = defaultdict(float)
    for operator, ms in operators:
        found[kind_of_operator(operator)] += ms
    return dict(sorted(found.items(), key=lambda one: -one[1]))


def scaled(kinds: OperatorKinds, call_ms: float) -> dict[str, float]:
    """Their shares of what a call takes: in a profile each takes longer than without one."""
    whole = max(sum(kinds.values()), 1e-9)
    return {kind: ms / whole * call_ms for kind, ms in kinds.items()}


def kind_of_operator(operator: str) -> str:
    """``QLinearConv`` and ``FusedConv`` are convolutions; what converts numbers is of one kind."""
    return CONVERSIONS if operator in CONVERTS else AFTER.sub("", BEFORE.sub("", operator)) or operator


def slower_in(before: OperatorKinds, after: OperatorKinds) -> str:
    """The kinds in which a call became slower, with their milliseconds before and after; empty where none did by an
    amount worth a word.
    """
    least = WORTH_A_WORD * sum(before.values())
    more = {kind: ms - before.get(kind, 0.0) for kind, ms in after.items() if ms - before.get(kind, 0.0) > least}
    said = sorted(more, key=lambda kind: -more[kind])[:KINDS_SHOWN]
    return ", ".join(f"{kind} {before.get(kind, 0.0):.3g} -> {after[kind]:.3g} ms" for kind in said)


def spent_on(before: OperatorKinds, after: OperatorKinds) -> str:
    """The kinds on which a call spends most, with what they took before."""
    said = sorted(set(before) | set(after), key=lambda kind: -max(before.get(kind, 0.0), after.get(kind, 0.0)))
    return ", ".join(
        f"{kind} {after.get(kind, 0.0):.3g} ms (was {before.get(kind, 0.0):.3g})" for kind in said[:KINDS_SHOWN]
    )
