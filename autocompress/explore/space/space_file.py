"""A search space as people write it, in a TOML file: which strategies, and which choices in place of their own."""

import math
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from autocompress.errors import UsageError, unknown
from autocompress.plugin.contract import Parameter
from autocompress.plugin.loader import PluginSet
from autocompress.recipe import TRAIN, Value
from autocompress.toml_file import read_written

TRAIN_PARAMETERS = (
    Parameter("lr", (0.0005, 0.001, 0.002, 0.004), 0.001),
    Parameter("batch_size", (32, 64, 128, 256), 64),
)


class SpaceFile(BaseModel):
    """A search space as people write it. strategies: only these; left out: all installed. parameters: choices in
    place of a strategy's own. train: whether anything is trained.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(min_length=1, max_length=80)]
    description: str = ""
    strategies: tuple[str, ...] | None = None
    parameters: dict[str, Annotated[tuple[bool | int | float | str, ...], Field(min_length=1, max_length=1000)]] = {}
    train: bool = True


def load_space(name: str, plugins: PluginSet) -> SpaceFile:
    """A ready space by name, or any by the path of its TOML file. Raises UsageError with the file, the field and the
    nearest name.
    """
    if name not in plugins.spaces and not name.endswith(".toml"):
        raise unknown("search space", name, plugins.spaces)
    path = plugins.spaces.get(name) or Path(name)
    space = read_written(path, SpaceFile, "search space")
    for strategy in chain(space.strategies or (), (key.split(".")[0] for key in space.parameters)):
        if strategy not in plugins.strategies and strategy != TRAIN:
            raise UsageError(f"{path}: {unknown('strategy', strategy, plugins.strategies)}")
    return space


def with_choices(parameter: Parameter, choices: Sequence[Value] | None) -> Parameter:
    """A parameter with the choices of a space file in place of its own; None leaves it as it is. Raises UsageError for
    choices of another type, words it does not know, and numbers no training can use.
    """
    if choices is None:
        return parameter
    kinds = {type(c) for c in parameter.choices} | (
        {float, int} if any(isinstance(c, float) for c in parameter.choices) else set()
    )
    for choice in choices:
        if type(choice) not in kinds:
            raise UsageError(
                f"parameter {parameter.name}: {choice!r} is {type(choice).__name__}, "
                f"expected {'/'.join(sorted(k.__name__ for k in kinds))}"
            )
        known = not isinstance(choice, (str, bool)) or choice in parameter.choices
        if not known:
            raise unknown(f"choice of {parameter.name}", str(choice), map(str, parameter.choices))
        if not isinstance(choice, (str, bool)) and not (
            math.isfinite(choice) and (choice > 0 or parameter not in TRAIN_PARAMETERS)
        ):
            raise UsageError(f"parameter {parameter.name}: {choice!r} must be a finite number above 0")
    kept = [c for c in parameter.choices if c in choices]
    order = kept if len(kept) == len(set(choices)) else list(dict.fromkeys(choices))
    if parameter.by_strength and all(isinstance(c, (int, float)) for c in order):
        order = sorted(order, reverse=parameter.choices[0] > parameter.choices[-1])  # type: ignore[operator]
    default = parameter.default if parameter.default in order else order[len(order) // 2]
    return Parameter(parameter.name, tuple(order), default, parameter.by_strength)
