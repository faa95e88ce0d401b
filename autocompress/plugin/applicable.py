"""What strategies said of themselves on one task: plain data, sent between processes."""

from collections.abc import Collection
from dataclasses import dataclass, field

from autocompress.plugin.strategy import GraphStrategy, Parameter, Stage, Strategy, StructureStrategy, TrainingStrategy
from autocompress.recipe import Value


@dataclass(frozen=True)
class Refusal:
    """A strategy that does not apply, and why."""

    strategy: str
    reason: str


@dataclass(frozen=True)
class Applicable:
    """A strategy that applies here, as the search sees it: plain data, sent between processes."""

    name: str
    stages: tuple[Stage, ...]
    parameters: tuple[Parameter, ...] = ()
    provides: frozenset[str] = frozenset()
    excludes: frozenset[str] = frozenset()
    variants: tuple[dict[str, Value], ...] = field(default=())
    size_only: str | None = None
    trains_alone: bool = False

    def conflicts(self, other: "Applicable") -> bool:
        """Whether either excludes what the other provides."""
        return bool(self.excludes & other.provides or other.excludes & self.provides)

    def in_use(self, only: Collection[str] | None) -> bool:
        """Whether a search space has it. only: the strategies it names; None: all but those for size alone."""
        return self.size_only is None if only is None else self.name in only


def stages_of(strategy: Strategy) -> tuple[Stage, ...]:
    """The stages a strategy acts in, by the parts it has."""
    stages: list[Stage] = []
    if isinstance(strategy, StructureStrategy):
        stages.append(strategy.stage)
    if isinstance(strategy, TrainingStrategy):
        stages.append(Stage.TRAIN)
    if isinstance(strategy, GraphStrategy):
        stages.append(Stage.GRAPH)
    return tuple(stages)
