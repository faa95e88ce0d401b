"""Several callers of one model at once."""

import threading
import time

import pytest

from autocompress.machine.blocks import BlockLimits, record_blocks
from autocompress.machine.streams import Streams


class Model:
    """Counts who is in a call."""

    def __init__(self) -> None:
        self.inside, self.most = 0, 0
        self._lock = threading.Lock()

    def call(self) -> float:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        time.sleep(0.001)
        with self._lock:
            self.inside -= 1
        return 1.0


def test_as_many_are_in_a_call_as_there_are_callers_and_the_calls_of_each_count() -> None:
    model = Model()
    assert len(Streams([model.call] * 3).block(4)) == 12
    assert model.most == 3
    assert Streams([lambda: 2.0, lambda: 4.0])() == 3.0


def test_who_is_done_goes_on_beside_the_others_and_does_not_count() -> None:
    made: list[str] = []

    def quick() -> float:
        made.append("quick")
        return 1.0

    def slow() -> float:
        time.sleep(0.05)
        made.append("slow")
        return 50.0

    assert sorted(Streams([quick, slow]).block(2)) == [1.0, 1.0, 50.0, 50.0]
    assert made.count("quick") > 2, "the slow one was never alone"


def test_a_caller_that_fails_ends_the_block_with_its_reason() -> None:
    def fails() -> float:
        raise RuntimeError("no memory for it")

    for callers in ([fails, lambda: 1.0], [lambda: 1.0, fails]):
        with pytest.raises(RuntimeError, match="no memory for it"):
            Streams(callers).block(2)


def test_a_session_has_the_calls_of_all_callers() -> None:
    one, two = Streams([lambda: 1.0] * 2), Streams([lambda: 1.0] * 2)
    blocks = record_blocks(one, two, lambda medians: len(medians) - 1, BlockLimits(quiet=2))
    assert {len(block) % 2 for block in blocks.candidate} == {0}
    assert len(blocks.candidate) == 2
