"""Default recipes of a search space: each structural strategy at every strength, and the smallest structures of all."""

from collections.abc import Iterator, Sequence

from autocompress.explore.space.space import Space, compatible
from autocompress.plugin.contract import Applicable
from autocompress.recipe import TRAIN, Recipe, Step


def default_recipe(space: Space, structural: Sequence[Step]) -> Recipe:
    """These structural steps, trained by the first strategy that trains alone and goes with them, with defaults."""
    on = [a for a in space.families if any(step.strategy == a.name for step in structural)]
    teach = next((a for a in space.families if a.trains_alone and compatible(a, on)), None)
    if not structural or teach is None:
        return Recipe(tuple(structural))
    settings = {p.name: p.default for p in space.train}
    taught = Step.of(teach.name, **{p.name: p.default for p in teach.parameters})
    return Recipe((*structural, taught, Step.of(TRAIN, **settings)))


def ladders(space: Space) -> Iterator[list[Recipe]]:
    """For each structural strategy that has a strength: its default recipe at every strength, mildest first. One
    that has several has two ladders: all of them rising together, and the first alone.
    """
    for strategy in space.structural:
        defaults = {p.name: p.default for p in strategy.parameters}
        strengths = [p for p in strategy.parameters if p.by_strength]
        for moved in [strengths, strengths[:1]] if len(strengths) > 1 else [strengths]:
            if moved:
                last = max(len(p.choices) for p in moved) - 1
                shares = [n / max(last, 1) for n in range(last + 1)]
                steps = [{p.name: p.choices[round(s * (len(p.choices) - 1))] for p in moved} for s in shares]
                yield [default_recipe(space, [Step.of(strategy.name, **{**defaults, **step})]) for step in steps]


def ladder_to(space: Space, strongest: Recipe) -> list[Recipe]:
    """A recipe with all its strengths rising together to those that it has, mildest first."""
    ends = [at for *_, at in space.movable_strengths(strongest)]
    last = max(ends, default=0)
    found = [space.moved(strongest, [round(n / max(last, 1) * end) for end in ends]) for n in range(last + 1)]
    return [*dict.fromkeys((*found[:-1], strongest))]


def single_defaults(space: Space) -> list[Recipe]:
    """Each structural strategy alone, with its default parameters."""
    return [
        default_recipe(space, [Step.of(a.name, **{p.name: p.default for p in a.parameters})]) for a in space.structural
    ]


def strongest_recipes(space: Space) -> list[Recipe]:
    """The smallest structures: every structural strategy at its strongest, all together and alone."""
    together: list[Applicable] = []
    for strategy in space.structural:
        if compatible(strategy, together):
            together.append(strategy)
    sets = ([together] if len(together) > 1 else []) + [[a] for a in space.structural]
    found = [
        default_recipe(space, [_strongest_step(a, every) for a in chosen]) for chosen in sets for every in (True, False)
    ]
    return list(dict.fromkeys(found))


def strongest_neighbours(space: Space, recipe: Recipe) -> list[Recipe]:
    """The recipe with one structural strategy less, for each that it has, and with one more at its strongest, which
    takes the place of those that it does not go with.
    """
    own = {a.name: a for a in space.structural}
    steps = {step.strategy: step for step in recipe.steps if step.strategy in own}
    found = []
    for name, strategy in own.items():
        if name in steps:
            chosen = {other: step for other, step in steps.items() if other != name}
        else:
            kept = {other: step for other, step in steps.items() if not strategy.conflicts(own[other])}
            chosen = {**kept, name: _strongest_step(strategy, every=True)}
        found.append(default_recipe(space, [chosen[other] for other in own if other in chosen]))
    return found


def _strongest_step(strategy: Applicable, every: bool) -> Step:
    """A strategy at the end of its strength; with ``every``, of all its parameters that have one."""
    ends = [p.name for p in strategy.parameters if p.by_strength][: None if every else 1]
    return Step.of(
        strategy.name, **{p.name: p.choices[-1] if p.name in ends else p.default for p in strategy.parameters}
    )
