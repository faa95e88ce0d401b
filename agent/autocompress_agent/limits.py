"""What a device may be asked to do."""

from dataclasses import dataclass

MEGABYTE = 1 << 20


@dataclass(frozen=True)
class Limits:
    """file_bytes: of one file. folder_bytes: of all files that are kept. job_s: seconds that one job may take.
    memory_bytes: that it may have in memory.
    """

    file_bytes: int
    folder_bytes: int
    job_s: float
    memory_bytes: int
