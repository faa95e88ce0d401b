"""What a search keeps of how it goes on, beside what happened in it."""

from typing import Any

from autocompress.explore.progress import Progress
from tests.recordings.memory_record import MemoryRecord


def test_an_arithmetic_that_trainings_keep_to_is_what_the_next_process_finds() -> None:
    record: Any = MemoryRecord()
    found = {"arithmetic": {"bfloat16": True}, "chance": None}
    Progress(record).keep_opened(identity={}, prepared_s=1.0, floor=None, opening=found)
    Progress(record).keep_arithmetic({"bfloat16": False})
    assert Progress(record).opening == {"arithmetic": {"bfloat16": False}, "chance": None}
