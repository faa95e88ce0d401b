"""What worker processes go by and a benchmark or a test sets otherwise."""

from dataclasses import dataclass

from autocompress.candidate.policy import TrainingPolicy


@dataclass(frozen=True)
class WorkerPolicy:
    """Travels to the child process with the worker's configuration."""

    stop_grace_s: float = 30.0  # to come to the next safe point, when asked to stop: not measured
    memory_share: float = (
        0.85  # of the machine's, for all workers; one that takes more than its part ends: not measured
    )
    cores: int | None = None  # that the workers share; None: all there are: benchmarks/scaling.py
    training: TrainingPolicy = TrainingPolicy()
