"""The search space: which strategies, which choices; and how a recipe maps onto an Optuna trial and back.

Parameters are namespaced ``strategy.parameter`` and each strategy has one switch, so a new plug-in joins an old
study. Ordered choices are searched by their index, so that the sampler sees their order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Protocol

from autocompress.errors import UsageError, unknown
from autocompress.explore.space.space_file import TRAIN_PARAMETERS, SpaceFile, with_choices
from autocompress.plugin.contract import Applicable, Parameter, Refusal, Stage
from autocompress.recipe import TRAIN, Recipe, Step, Value


class Suggests(Protocol):
    """The two methods of an Optuna trial that are used."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...
    def suggest_int(self, name: str, low: int, high: int) -> int: ...


@dataclass(frozen=True)
class Space:
    """What is searched on one task. ``families`` are the strategies sampled; graph strategies are evaluated, not
    sampled.
    """

    families: tuple[Applicable, ...]
    graph: tuple[str, ...]
    train: tuple[Parameter, ...]

    @classmethod
    def of(
        cls,
        file: SpaceFile,
        applicable: Sequence[Applicable],
        refused: Sequence[Refusal],
        training: Mapping[str, Sequence[Value]] = MappingProxyType({}),
    ) -> "Space":
        """Narrow a space to what applies. training: choices of the user's for parameters of trainings, as the batch
        size of his loader, which hold unless the space names others. Raises UsageError when a parameter does not exist
        or nothing is left.
        """
        chosen = [a for a in applicable if a.in_use(file.strategies) and (file.train or Stage.TRAIN not in a.stages)]
        if not chosen:
            trains = [a for a in applicable if a.in_use(file.strategies)]
            said = [f"{a.name} trains, and nothing is to be trained" for a in trains]
            said += [f"{r.strategy}: {r.reason}" for r in refused]
            reasons = "; ".join(said) or "none is installed"
            raise UsageError(f"no strategy of the space {file.name!r} applies to this task ({reasons})")
        own = {f"{a.name}.{p.name}": p for a in chosen for p in a.parameters} | {
            f"{TRAIN}.{p.name}": p for p in TRAIN_PARAMETERS
        }
        absent = {r.strategy for r in refused} | {a.name for a in applicable if a not in chosen}
        for key, strategy in ((key, key.split(".")[0]) for key in file.parameters):
            if key not in own and strategy not in absent and strategy in (file.strategies or (strategy,)):
                raise UsageError(f"search space {file.name!r}: {unknown('parameter', key, own)}")

        choices = {f"{TRAIN}.{name}": made for name, made in training.items()} | file.parameters

        def narrowed(strategy: str, parameters: Sequence[Parameter]) -> tuple[Parameter, ...]:
            return tuple(with_choices(p, choices.get(f"{strategy}.{p.name}")) for p in parameters)

        families = tuple(
            replace(a, parameters=narrowed(a.name, a.parameters), variants=())
            for a in sorted(chosen, key=lambda a: (min(a.stages), a.name))
            if a.stages != (Stage.GRAPH,)
        )
        if not any(a.trains_alone for a in families):  # what there is has to do
            families = tuple(replace(a, trains_alone=Stage.TRAIN in a.stages) for a in families)
        graph = tuple(a.name for a in chosen if Stage.GRAPH in a.stages)
        return cls(families, graph, narrowed(TRAIN, TRAIN_PARAMETERS))

    @property
    def structural(self) -> tuple[Applicable, ...]:
        return tuple(a for a in self.families if is_structural(a))

    @property
    def training(self) -> tuple[Applicable, ...]:
        return tuple(a for a in self.families if Stage.TRAIN in a.stages)

    def sample(self, trial: Suggests) -> Recipe:
        """One family's recipe. A structure that was changed is always trained: the last strategy that trains alone is
        on when none was.
        """
        on: list[Applicable] = []
        steps: list[tuple[int, int, str, Step]] = []
        for number, strategy in enumerate(self.families):
            if not compatible(strategy, on):
                continue
            structural = any(is_structural(a) for a in on)
            trained = any(a.trains_alone for a in on)
            later = any(a.trains_alone and compatible(a, on) for a in self.families[number + 1 :])
            must = strategy.trains_alone and structural and not trained and not later
            if not must and not trial.suggest_categorical(strategy.name, [True, False]):
                continue
            on.append(strategy)
            position = 0
            if strategy in self._movable and len(self._movable) > 1:
                position = trial.suggest_int(f"{strategy.name}.position", 0, len(self._movable) - 1)
            steps.append(
                (
                    min(strategy.stages),
                    position,
                    strategy.name,
                    Step.of(strategy.name, **_suggested(trial, strategy.name, strategy.parameters)),
                )
            )
        recipe = Recipe(tuple(step for *_, step in sorted(steps, key=lambda s: s[:3])))
        if any(Stage.TRAIN in a.stages for a in on):
            recipe = recipe.plus(Step.of(TRAIN, **_suggested(trial, TRAIN, self.train)))
        return recipe

    def params(self, recipe: Recipe) -> dict[str, Any]:
        """The trial parameters that ``sample`` turns into ``recipe``."""
        found: dict[str, Any] = {}
        movable = {a.name for a in self._movable}
        ordered = [s.strategy for s in recipe.steps if s.strategy in movable]
        for strategy in self.families:
            step = recipe.step(strategy.name)
            found[strategy.name] = step is not None
            if step is not None:
                if strategy.name in ordered:
                    found[f"{strategy.name}.position"] = ordered.index(strategy.name)
                found |= {f"{strategy.name}.{p.name}": _encoded(p, step.values[p.name]) for p in strategy.parameters}
        step = recipe.step(TRAIN)
        if step is not None:
            found |= {f"{TRAIN}.{p.name}": _encoded(p, step.values[p.name]) for p in self.train}
        return found

    def default_params(self) -> dict[str, Any]:
        """The trial parameter of every default, no strategy on."""
        found: dict[str, Any] = {a.name: False for a in self.families}
        found |= {f"{a.name}.position": 0 for a in self._movable}
        found |= {f"{a.name}.{p.name}": _encoded(p, p.default) for a in self.families for p in a.parameters}
        return found | {f"{TRAIN}.{p.name}": _encoded(p, p.default) for p in self.train}

    def gated(self, recipe: Recipe) -> Recipe:
        """What of a recipe decides how fast its files are: the structural steps, and which of the other strategies are
        on that bring graph variants or conflict with some.
        """
        known = {a.name: a for a in self.families}
        kept = []
        for step, own in ((s, known[s.strategy]) for s in recipe.steps if s.strategy in known):
            if is_structural(own):
                kept.append(step)
            elif own.provides or own.excludes or Stage.GRAPH in own.stages:
                kept.append(Step.of(step.strategy))
        return Recipe(tuple(kept))

    def strengths_of(self, strategy: str) -> list[Parameter]:
        """The parameters that make a structural strategy stronger; none of another strategy."""
        own = next(a for a in self.families if a.name == strategy)
        return [p for p in own.parameters if p.by_strength] if is_structural(own) else []

    def movable_strengths(self, recipe: Recipe) -> list[tuple[str, Parameter, int]]:
        """(strategy, parameter, index of its choice) of every strength of a recipe's structural steps."""
        names = {a.name for a in self.structural}
        return [
            (step.strategy, parameter, parameter.choices.index(step.values[parameter.name]))
            for step in recipe.steps
            if step.strategy in names
            for parameter in self.strengths_of(step.strategy)
        ]

    def moved(self, recipe: Recipe, indices: Sequence[int]) -> Recipe:
        """The recipe with other choices of its ``movable_strengths``."""
        chosen: dict[str, dict[str, Value]] = {}
        for (strategy, parameter, _), index in zip(self.movable_strengths(recipe), indices, strict=True):
            chosen.setdefault(strategy, {})[parameter.name] = parameter.choices[index]
        steps = [Step.of(step.strategy, **(step.values | chosen.get(step.strategy, {}))) for step in recipe.steps]
        return replace(recipe, steps=tuple(steps))

    @property
    def _movable(self) -> tuple[Applicable, ...]:
        """The strategies whose order among each other is searched."""
        return tuple(a for a in self.families if min(a.stages) == Stage.STRUCTURE)

    def describe(self) -> dict[str, list[Value]]:
        """Every parameter with its choices, for comparing the spaces of two runs."""
        found: dict[str, list[Value]] = {a.name: [] for a in self.families}
        found |= {f"{a.name}.{p.name}": list(p.choices) for a in self.families for p in a.parameters}
        found |= {f"{TRAIN}.{p.name}": list(p.choices) for p in self.train}
        return found | {name: [] for name in self.graph}


def is_structural(strategy: Applicable) -> bool:
    """Whether a strategy changes the model's structure."""
    return min(strategy.stages) in (Stage.BUILD, Stage.STRUCTURE)


def compatible(strategy: Applicable, on: Sequence[Applicable]) -> bool:
    """Whether no tag of ``strategy`` conflicts with one of those that are on."""
    return not any(strategy.conflicts(other) for other in on)


def _suggested(trial: Suggests, strategy: str, parameters: Sequence[Parameter]) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for p in parameters:
        name = f"{strategy}.{p.name}"
        values[p.name] = (
            p.choices[trial.suggest_int(name, 0, len(p.choices) - 1)]
            if p.ordered
            else trial.suggest_categorical(name, list(p.choices))
        )
    return values


def _encoded(parameter: Parameter, value: Value) -> Value:
    return parameter.choices.index(value) if parameter.ordered else value
