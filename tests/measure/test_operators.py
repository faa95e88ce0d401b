"""Where the time of a file goes, with inputs of several shapes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from autocompress.measure.operators import operators_of
from autocompress.plugin.contract import Feed, OperatorTime
from autocompress.profile import HardwareProfile
from tests.conftest import FakeRuntime


class ByRows(FakeRuntime):
    """A product takes a millisecond a row, and what comes after it one in all."""

    def operators(self, path: Path, profile: HardwareProfile, feeds: Sequence[Feed]) -> Sequence[OperatorTime]:
        (rows,) = {len(feed["input"]) for feed in feeds}
        return [
            OperatorTime("a", "MatMul", float(rows), rows / (rows + 1)),
            OperatorTime("b", "Relu", 1.0, 1 / (rows + 1)),
        ]


def test_each_operator_takes_the_mean_by_weight_of_all_shapes() -> None:
    shapes = ({"rows": 2, "weight": 3}, {"rows": 10})
    profile = HardwareProfile(name="mixed", shapes=shapes)  # type: ignore[arg-type]
    feeds = [{"input": np.ones((rows, 4), np.float32)} for rows in (2, 10, 2, 10)]
    found = operators_of(ByRows(), profile, Path("m.onnx"), feeds)
    assert [(node.operator, node.ms) for node in found] == [("MatMul", 4.0), ("Relu", 1.0)]
    assert [node.share for node in found] == pytest.approx([0.8, 0.2])
