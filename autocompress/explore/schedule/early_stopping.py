"""Whether a search has stopped gaining, so that the time that is left is better spent on training what it found."""

from autocompress.explore.standings.standings import Standings

FEWEST_FAMILIES = 30  # families, before nothing gained means anything
SHARE_WITHOUT_GAIN = 0.5  # of the time searched so far, without a gain
GIVE_UP_AFTER = 5  # failures with nothing that worked
GAIN = 0.002  # of the whole hypervolume, or of a score: less is noise


class EarlyStopping:
    """``seen`` is told the value of the best found so far, higher is better, after each family."""

    def __init__(self) -> None:
        self._best = float("-inf")
        self._at = 0.0

    def seen(self, value: float, searched_s: float) -> None:
        """value: after ``searched_s`` seconds of searching."""
        if value > self._best + GAIN:
            self._best, self._at = value, searched_s

    def stalled(self, families: int, searched_s: float) -> bool:
        found = self._best > float("-inf")  # while nothing meets the budget, finding something that does is a gain
        return found and families >= FEWEST_FAMILIES and searched_s - self._at > SHARE_WITHOUT_GAIN * searched_s


def causes_of_nothing(standings: Standings) -> str:
    """Where several candidates failed and none worked, why, each cause with its count; empty otherwise. Structures that
    could be built, and were over the budget, say as much for the strategies as failures say against them.
    """
    causes = [failed.reason for failed in standings.failed]
    built = sum(rejected.recipe.variant is None for rejected in standings.rejected)
    if standings.families or len(causes) < max(GIVE_UP_AFTER, built):
        return ""
    return "; ".join(f"{causes.count(cause)}x {cause}" for cause in dict.fromkeys(causes))
