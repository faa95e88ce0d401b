"""Which structures are worth training: each is timed once before, and some are turned away for it."""

from collections.abc import Awaitable, Callable

from autocompress.candidate.bench import Gate
from autocompress.errors import CandidateFailed
from autocompress.explore.aim import StructureModel
from autocompress.explore.ledger import Family, Ledger
from autocompress.explore.space import Space
from autocompress.recipe import Recipe

GATE_LIMIT_S = 120.0  # for one structure, at most
GATE_LEAST_S = 20.0  # for one that hangs; more for a model that took longer to open
OPENINGS = 2.0  # times the opening of the task, which exports the reference twice, that a gate may take
EXPLORE_EVERY = 10  # one trained family in ten may be over the budget, so that the front does not end there
EXPLORE_UP_TO = 3.0  # times the budget


def gate_limit_s(opened_s: float) -> float:
    """Seconds that timing one structure may take. opened_s: those that opening the task took."""
    return min(GATE_LIMIT_S, max(GATE_LEAST_S, OPENINGS * opened_s))


class Admission:
    """``gate`` is a structure's latency, remembered; ``refusal`` says why it is not trained.

    structures: learns from every structure. timed: builds and times a structure; raises CandidateFailed.
    """

    def __init__(
        self, space: Space, ledger: Ledger, structures: StructureModel, timed: Callable[[Recipe], Awaitable[Gate]]
    ) -> None:
        self._space = space
        self._ledger = ledger
        self._structures = structures
        self._timed = timed
        self._gates: dict[Recipe, Gate | CandidateFailed] = {}
        self._explored_beyond = sum(map(self._is_beyond, ledger.families.values()))

    async def gate(self, recipe: Recipe) -> Gate:
        """The gate's answer for a recipe; how it is trained does not matter to it. Raises CandidateFailed, and again
        when the same structure is asked for again.
        """
        key = self._space.gated(recipe)
        if key not in self._gates:
            try:
                gate = await self._timed(recipe)
                self._structures.add(key, gate.latency.ratio, self._kept(gate))
                self._gates[key] = gate
            except CandidateFailed as error:
                self._gates[key] = error
        known = self._gates[key]
        if isinstance(known, CandidateFailed):
            raise known
        return known

    def _kept(self, gate: Gate) -> float:
        """The share of the reference's multiply-accumulates that a structure does; 1 where they are not counted."""
        whole = self._ledger.opening.reference.macs
        return gate.macs / whole if whole and gate.macs else 1.0

    def over(self, gate: Gate) -> bool:
        """Whether a gate's sound answer excludes the budget."""
        budget = self._ledger.steering
        return budget.bounded and gate.latency.reliable and budget.excluded(gate.latency)

    def refusal(self, gate: Gate, cheap: bool) -> str | None:
        """Why a structure is not worth training: it is over the budget, and it is not the turn to explore beyond (which
        is done while it is ``cheap``); or it is no faster than what loses nothing.
        """
        worth_below = self.worth_below()
        if worth_below is not None and gate.latency.reliable and gate.latency.ratio_low >= worth_below:
            return "no faster than a model that loses nothing"
        if not self.over(gate):
            return None
        turn = (self._explored_beyond + 1) * EXPLORE_EVERY <= len(self._ledger.families) + 1
        if turn and cheap and self._ledger.steering.excess(gate.latency) + 1 <= EXPLORE_UP_TO:
            self._explored_beyond += 1
            return None
        return "over the budget before training"

    def worth_below(self) -> float | None:
        """The latency ratio at and above which a file adds nothing. None where slower ones may: within a budget only
        the score counts, and who searches no structures wants what training alone gives.
        """
        return self._ledger.worth_below() if self._space.structural and not self._ledger.steering.bounded else None

    def _is_beyond(self, family: Family) -> bool:
        """Whether no file of a family is within the budget."""
        budget = self._ledger.steering
        return budget.bounded and all(budget.excluded(e.latency) for e in family.outcomes[0].evaluations)
