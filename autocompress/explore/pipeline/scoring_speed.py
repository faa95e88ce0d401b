"""How fast examples run through files that are scored, from what scoring took so far in this search."""

LATEST_SCORINGS = 5  # scorings that say what the next one takes
WORTH_KNOWING_S = 0.2  # of scoring: less says more of what is around it
SLACK = 1.3  # times what the latest took: the machine may become slower


class ScoringSpeed:
    """``took`` is told what scoring took; ``share`` answers."""

    def __init__(self) -> None:
        self._latest: list[tuple[float, float]] = []

    def took(self, seconds: float, one_by_one_s: float) -> None:
        """one_by_one_s: what the same examples take one after the other, by the latency of the files."""
        if max(seconds, one_by_one_s) >= WORTH_KNOWING_S:
            self._latest = [*self._latest, (seconds, one_by_one_s)][-LATEST_SCORINGS:]

    def share(self) -> float:
        """Of the time of examples one after the other, what to keep for scoring on them: threads share them, and what
        is around a call costs too, and so does a slow metric. 1 while nothing is known.
        """
        if not self._latest:
            return 1.0
        took, one_by_one = sum(took for took, _ in self._latest), sum(alone for _, alone in self._latest)
        return SLACK * took / max(one_by_one, 1e-9)
