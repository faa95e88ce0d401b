"""Which graph variants a gate times, by how fast they were on the reference."""

import math

from autocompress.explore.pipeline.variants import worth_gating
from autocompress.plugin.contract import Applicable, Stage
from autocompress.recipe import Recipe, Step

KINDS = (
    {"bits": 8, "calibration": "minmax"},
    {"bits": 8, "calibration": "entropy"},
    {"bits": 7, "calibration": "minmax"},
)
STATIC = Applicable("static", (Stage.GRAPH,), variants=KINDS)
DYNAMIC = Applicable("dynamic", (Stage.GRAPH,), variants=({"bits": 8},))


def gated(*ratios: float) -> list[Step]:
    """Of the three static variants and the dynamic one, with these ratios on the reference."""
    steps = [*(Step.of("static", **kind) for kind in KINDS), Step.of("dynamic", bits=8)]
    return worth_gating(Recipe(), tuple(zip(steps, ratios, strict=True)), [STATIC, DYNAMIC])


def test_one_variant_of_a_strategy_stands_for_those_that_are_as_fast() -> None:
    assert gated(0.50, 0.51, 0.58, 0.51) == [
        Step.of("static", **KINDS[0]),
        Step.of("static", **KINDS[2]),
        Step.of("dynamic", bits=8),
    ]


def test_what_is_slower_than_the_fastest_or_than_the_reference_is_not_timed() -> None:
    assert gated(0.50, 0.70, 0.75, 0.9) == [Step.of("static", **KINDS[0])]
    assert gated(1.1, 1.2, 1.3, 1.4) == []


def test_what_could_not_be_timed_on_the_reference_is_not_gated() -> None:
    assert gated(math.inf, 0.6, math.nan, 0.6) == [Step.of("static", **KINDS[1]), Step.of("dynamic", bits=8)]
