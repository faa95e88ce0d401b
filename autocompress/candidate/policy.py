"""What trainings go by and a benchmark or a test sets otherwise.

Shares are of the examples a second (docs/performance.md, by benchmarks/training.py).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingPolicy:
    """How trainings compute and what they keep."""

    bfloat16: bool = True  # timed, and used where it is faster: 0.63 of the speed without, where it was
    long_s: float = 1.0  # of timing one way to compute, after which it is known: of a large model warming up is little
    teacher_bytes: int = 1 << 30  # of its outputs, kept for a copy of the data at most: 0.68 of the speed at 0
    taught_block: int = 1024  # examples augmented at a time, or taught to be kept as one entry of the store
    snapshot_s: float = 45.0  # between two snapshots of a training: who goes on after a crash loses as much
