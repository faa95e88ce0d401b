"""An int8 file whose outputs are cut off fails with the reason, and nothing else does."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from autocompress.candidate.cut_off import refuse_cut_off
from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Array, Context, Feed, Runtime, Session
from autocompress.profile import HardwareProfile
from autocompress.recipe import Recipe
from tests.conftest import FakeRuntime, FakeSession

SOURCE, INT8 = Path("float.onnx"), Path("int8.onnx")
INPUTS = np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 1, 8)


class Adding(Session):
    def __init__(self, error: float) -> None:
        self.error = error

    @property
    def input_names(self) -> Sequence[str]:
        return ["input"]

    def run(self, feed: Feed) -> Sequence[Array]:
        return [feed["input"] + self.error * float(INPUTS.std())]


class Board(Runtime):
    """The outputs of its int8 file are ``found`` deviations off the float file's, ``without`` where nothing is cut
    off.
    """

    name = "board"

    def __init__(self, found: float, without: float | None, saturating: bool = True) -> None:
        self.found, self.without, self.saturating = found, without, saturating

    def saturates(self, profile: HardwareProfile) -> bool:
        return self.saturating

    def open(self, path: Path, profile: HardwareProfile) -> Session:
        return Adding(self.found if path == INT8 else 0.0)

    def exact(self, path: Path, profile: HardwareProfile) -> Session | None:
        return None if self.without is None else Adding(self.without)


def refuse(board: Board) -> None:
    def feeds(count: int) -> Iterator[Feed]:
        return ({"input": values} for values in INPUTS[:count])

    unused: dict[str, Any] = dict.fromkeys(("task", "model", "example_inputs", "layout", "train", "reference"))
    refuse_cut_off(
        INT8, SOURCE, Context(**unused, profile=HardwareProfile(name="x"), runtime=board, seed=0, feeds=feeds)
    )


@pytest.mark.parametrize(("found", "without"), [(0.21, 0.009), (0.066, 0.002), (float("nan"), 0.002), (0.3, 0.1)])
def test_outputs_that_are_cut_off_are_noticed(found: float, without: float) -> None:
    with pytest.raises(CandidateFailed, match="cut off on this target"):
        refuse(Board(found, without))


def test_the_reason_says_how_far_off_they_are() -> None:
    with pytest.raises(CandidateFailed, match=r"outputs are 21% of their deviation off.* and 0\.9% without"):
        refuse(Board(0.21, 0.009))


@pytest.mark.parametrize(
    "board",
    [
        Board(0.009, 0.009),
        Board(0.033, 0.029),  # a deep transformer, where roundings differ as much as int8 costs
        Board(0.15, 0.1),  # int8 is bad for this model: its score will say so
        Board(0.019, 0.001),
        Board(0.21, None),
        Board(0.21, float("nan")),
        Board(0.21, 0.009, saturating=False),
    ],
)
def test_rounding_and_what_cannot_be_compared_are_not_taken_for_it(board: Board) -> None:
    refuse(board)


class Cut(FakeRuntime):
    """A target on which files with unsigned weights give something else than they say."""

    def saturates(self, profile: HardwareProfile) -> bool:
        return True

    def open(self, path: Path, profile: HardwareProfile) -> Session:
        return CutSession(path)

    def exact(self, path: Path, profile: HardwareProfile) -> Session:
        return FakeSession(path)


class CutSession(FakeSession):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        constants = onnx.load(str(path)).graph.initializer
        self.cut = any(tensor.data_type == TensorProto.UINT8 and len(tensor.dims) > 1 for tensor in constants)

    def run(self, feed: Feed) -> Sequence[Array]:
        outputs = super().run(feed)
        return [2 * outputs[0], *outputs[1:]] if self.cut else outputs


def test_such_a_file_fails_and_the_others_of_its_family_go_on(
    open_quickly: Callable[..., Any], tiny_task: Any, plugins: Any, tmp_path: Path
) -> None:
    plugins.runtimes["fake"] = Cut()
    opened = open_quickly(tiny_task, plugins, tmp_path / "run", only=("quantize_static", "distill_logits"))
    outcome = opened.evaluate(Recipe())
    ((recipe, strategy, reason),) = outcome.failed
    assert strategy == "quantize_static"
    assert recipe.variant.values["weights"] == "QUInt8"
    assert "cut off on this target" in reason
    made = [e.recipe.variant for e in outcome.evaluations]
    assert None in made
    assert any(variant is not None and variant.values.get("reduce_range") for variant in made)
