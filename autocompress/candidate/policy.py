"""What trainings go by and a benchmark or a test sets otherwise.

A line ends with where it was measured: the share of the examples a second that is left otherwise, by
benchmarks/training.py (docs/performance.md).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingPolicy:
    """How trainings compute and what they keep."""

    bfloat16: bool = True  # timed, and used where it is faster: 0.63 without, where it was
    long_s: float = 1.0  # of timing one way to compute, after which it is known: not measured
    teacher_bytes: int = 1 << 30  # of its outputs, kept for a copy of the data at most: 0.68 at 0
    taught_block: int = 1024  # examples augmented at a time, or taught and kept as one entry of the store: not measured
    reading_s: float = 10.0  # of reading a split that is scored, for which it is sampled otherwise: not measured
    scoring_s: float | None = None  # of scoring the reference on a split, likewise; None: a share of the search's time
    snapshot_s: float = 45.0  # between two snapshots of a training, which a crash can cost: not measured
    repair: bool = True  # structures are repaired before they are trained; without, docs/performance.md says
