"""How fast examples run through files that are scored, from what scoring took so far in this search."""

LATEST_SCORINGS = 5  # scorings that say what the next one takes
AS_MUCH = 0.5  # of the work of the most: of less it is what is around it that takes the time
WORTH_KNOWING_S = 0.2  # of scoring: less says more of what is around it
SLACK = 1.3  # times what the latest took: the machine may become slower


class ScoringSpeed:
    """``took`` is told what scoring took; ``share`` answers."""

    def __init__(self) -> None:
        self._known: list[tuple[float, float]] = []  # the latest of the large ones

    def took(self, seconds: float, one_by_one_s: float) -> None:
        """one_by_one_s: what the same examples take one after the other, by the latency of the files."""
        if max(seconds, one_by_one_s) >= WORTH_KNOWING_S:
            known = [*self._known, (seconds, one_by_one_s)]
            most = max(alone for _, alone in known)
            self._known = [(took, alone) for took, alone in known if alone >= AS_MUCH * most][-LATEST_SCORINGS:]

    def share(self) -> float:
        """Of the time of examples one after the other, what to keep for scoring on them: threads share them, and what
        is around a call costs too, and so does a slow metric. 1 while nothing is known.
        """
        if not self._known:
            return 1.0
        took, one_by_one = sum(took for took, _ in self._known), sum(alone for _, alone in self._known)
        return SLACK * took / max(one_by_one, 1e-9)
