"""How scores and losses of score are said to people: in the metric's own unit and direction."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autocompress.evaluation import NORMAL, Score
from autocompress.metric_names import ACCURACY

POINTS = 100  # in one of the metric's unit


@dataclass(frozen=True)
class ScoreScale:
    """metric: its name. maximize: whether higher values of it are better. Scores and losses within a search are so that
    higher scores are better, and losses positive where it is worse.
    """

    metric: str
    maximize: bool = True

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "ScoreScale":
        """Of the document of ``front.json``."""
        return cls(document["metric"], document.get("maximize", True))

    @property
    def in_percent(self) -> bool:
        return self.metric == ACCURACY

    def text(self, value: float | None) -> str:
        """A value of the metric, in its own direction: accuracy as a percentage, any other in its own unit."""
        if value is None:
            return "-"
        return f"{100 * value:.2f} %" if self.in_percent else f"{value:.4g}"

    def change(self, before: float | None, after: float) -> str:
        """From one value of the metric to another, signed, in its own direction."""
        if before is None:
            return "not compared"
        return f"{self._signed(POINTS * (after - before))}{' points' if self.in_percent else ''}"

    @property
    def change_title(self) -> str:
        """Of a column of changes."""
        return "change, points" if self.in_percent else "change"

    def signed(self, lost: float) -> str:
        """What a loss of so many points is as a change: this file minus the other, in the metric's own direction;
        points of accuracy, any other metric in its own unit.
        """
        return self._signed(-lost if self.maximize else lost)

    def half_width(self, error: float) -> str:
        """Of the 95 % interval around such a change. error: its standard error, in points."""
        half = NORMAL * error
        return f"± {half:.2f}" if self.in_percent else f"± {half / POINTS:.2g}"

    def _signed(self, points: float) -> str:
        if self.in_percent:
            return f"{round(points, 2) + 0.0:+.2f}"  # no minus before a zero
        return f"{points / POINTS + 0.0:+.4g}"

    def points(self, points: float, digits: str = "g") -> str:
        """So many points, hundredths of the metric's unit, of which the amount in that unit is said where it is no
        share.
        """
        if self.in_percent:
            return f"{points:{digits}} points"
        return f"{points:{digits}} points ({points / POINTS:.3g} of {self.metric})"

    def goodness(self, value: float) -> float:
        """To compare values by: higher is better."""
        return value if self.maximize else -value

    def scored(self, score: Score) -> str:
        """A score of a search as the metric's own value."""
        return self.text(score.shown(self.maximize).val)


def give_or_take(error: float) -> str:
    """Half of the 95 % interval around a difference of points, by its standard error."""
    return f"give or take {NORMAL * error:.2f}"


IN_PERCENT = ScoreScale(ACCURACY)
