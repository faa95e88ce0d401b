"""What the record of a run tells beside its ``front.json``: every timing session, and which choices mattered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from autocompress.comparison import TimingSessions


@dataclass(frozen=True)
class Importances:
    """target: ``score`` or ``latency``. group: what the trials have in common: all of them, or a strategy. trials: how
    many. shares: of the variation, what each choice explains alone, the largest first, at most 1 together; empty where
    that cannot be told, and why.
    """

    target: str
    group: str
    trials: int
    shares: tuple[tuple[str, float], ...] = ()
    why: str = ""


@dataclass(frozen=True)
class Recorded:
    """sessions: in which a file's graph was timed beside the reference, by the file's id. parts: of the task, a digest
    each. pictures: of validation examples, PNG in base64, by their number. why: there is nothing of these.
    """

    sessions: Mapping[str, TimingSessions] = field(default_factory=dict)
    importances: Sequence[Importances] = ()
    parts: Mapping[str, str] = field(default_factory=dict)
    pictures: Mapping[int, str] = field(default_factory=dict)
    why: str = ""
