"""What a search keeps of how it goes on, beside what happened in it."""

from typing import Any

import torch

from autocompress.candidate.arithmetic import Arithmetic
from autocompress.explore.progress import Progress
from tests.recordings.memory_record import MemoryRecord


def test_an_arithmetic_that_trainings_keep_to_is_what_the_next_process_finds() -> None:
    record: Any = MemoryRecord()
    assert Progress(record).arithmetic is None
    Progress(record).keep_arithmetic(Arithmetic())
    assert Progress(record).arithmetic == Arithmetic()


def test_an_arithmetic_of_another_machine_is_timed_anew() -> None:
    record: Any = MemoryRecord()
    Progress(record).keep_arithmetic(Arithmetic(device="cuda"))
    assert torch.cuda.is_available() or Progress(record).arithmetic is None
