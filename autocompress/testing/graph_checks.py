"""The checks of a graph part."""

from dataclasses import replace

import torch

from autocompress.plugin.contract import (
    GraphStrategy,
)
from autocompress.testing.checks import Checks, is_value
from autocompress.testing.lab import Lab


class GraphChecks(Checks):
    def test_variants_are_plain_and_always_the_same(self, graph: GraphStrategy, lab: Lab) -> None:
        for context, when in ((lab.context, ""), (lab.context.for_timing(), " with context.scored false")):
            found = list(graph.variants(context))
            assert found, f"variants is empty{when}: where there is nothing to measure, refuses gives the reason"
            assert found == list(graph.variants(context)), "variants must answer the same each time it is asked"
            for params in found:
                plain = all(map(is_value, params.values()))
                assert plain, f"a variant's values must be numbers, words or true/false, not {params!r}"

    def test_every_variant_is_a_file_that_agrees_with_its_source(self, graph: GraphStrategy, lab: Lab) -> None:
        source, context = lab.trained_source
        expected = lab.outputs(source)
        for params in graph.variants(context):
            outputs = lab.outputs(lab.rewritten(source, params, context))
            self._finite(outputs, expected, f"variant {params}")
            self._agree(lab, outputs, expected, f"variant {params}")

    def test_every_variant_repeats(self, graph: GraphStrategy, lab: Lab) -> None:
        source, context = lab.trained_source
        for params in graph.variants(context):
            one, other = (lab.rewritten(source, params, context) for _ in range(2))
            same = one.read_bytes() == other.read_bytes() or torch.equal(lab.outputs(one), lab.outputs(other))
            assert same, f"variant {params}: apply gave a file with other outputs the second time"

    def test_every_variant_works_before_any_training(self, graph: GraphStrategy, lab: Lab) -> None:
        source, context = lab.untrained_source
        expected, timed = lab.outputs(source), replace(context, learned={}).for_timing()
        offered = list(graph.variants(timed))
        for params in (*offered, *(other for other in graph.variants(context) if other not in offered)):
            outputs = lab.outputs(lab.rewritten(source, params, timed))
            self._finite(outputs, expected, f"variant {params} with nothing learned")
