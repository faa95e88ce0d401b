"""One trained structure over its rungs."""

from dataclasses import dataclass
from functools import cached_property

from autocompress.evaluation import Evaluation, Outcome
from autocompress.recipe import TRAIN, Recipe


@dataclass(frozen=True, eq=False)
class Family:
    """A value: each further outcome makes a new one. Equal is only the same one, so that what was worked out of one can
    be remembered by it. outcomes: of each rung, one at least.
    """

    recipe: Recipe
    outcomes: tuple[Outcome, ...]

    def after(self, outcome: Outcome) -> "Family":
        """The family after its next training."""
        return Family(self.recipe, (*self.outcomes, outcome))

    @property
    def id(self) -> str:
        return self.recipe.id

    @property
    def latest(self) -> Outcome:
        return self.outcomes[-1]

    @property
    def rung(self) -> int:
        return self.latest.rung

    @property
    def trains(self) -> bool:
        """Whether its recipe is one that trains, and there are weights to train on from."""
        return self.latest.checkpoint is not None and self.recipe.step(TRAIN) is not None

    @property
    def trained(self) -> tuple[Outcome, ...]:
        """The outcomes of its trainings."""
        return tuple(outcome for outcome in self.outcomes if outcome.examples)

    @cached_property
    def examples(self) -> int:
        """Seen in training so far."""
        return sum(outcome.examples for outcome in self.outcomes)

    @cached_property
    def train_s(self) -> float:
        """Seconds that training took so far."""
        return sum(outcome.train_s for outcome in self.outcomes)

    @cached_property
    def evaluations(self) -> tuple[Evaluation, ...]:
        """The files of all rungs, in order."""
        return tuple(e for outcome in self.outcomes for e in outcome.evaluations)
