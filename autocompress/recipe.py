"""A recipe: an ordered list of steps, each a strategy with its parameters; one point of the search space.

``Recipe`` is the idea (frozen, hashable). ``RecipeFile`` is the idea with what it takes to make the very same model
again: the plans its structural steps decided, and where its weights lie. It goes in and out of TOML.
"""

import hashlib
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import tomli_w

from autocompress.errors import UsageError, one_line

Value = bool | int | float | str
Plan = Mapping[str, Any]

TRAIN = "train"  # the core's own step: learning rate, batch size. Not a plug-in.
RECIPE_SCHEMA = 2


@dataclass(frozen=True, order=True)
class Step:
    """One strategy with its parameters, sorted by name. ``Step.of("prune_channels", ratio=0.5)``."""

    strategy: str
    params: tuple[tuple[str, Value], ...] = ()

    @classmethod
    def of(cls, strategy: str, /, **params: Value) -> "Step":
        return cls(strategy, tuple(sorted(params.items())))

    @property
    def values(self) -> dict[str, Value]:
        return dict(self.params)

    def __str__(self) -> str:
        inside = ", ".join(f"{name}={value}" for name, value in self.params)
        return f"{self.strategy}({inside})" if inside else self.strategy


@dataclass(frozen=True)
class Recipe:
    """Steps in the order they act; they make a family of files, of which ``variant`` is the one that a graph strategy
    rewrote. The empty recipe is the reference model, exported.
    """

    steps: tuple[Step, ...] = ()
    variant: Step | None = None

    @cached_property
    def id(self) -> str:
        """Ten hexadecimal digits, the same for equal recipes in every process."""
        steps = [[s.strategy, [[k, _number(v)] for k, v in s.params]] for s in self.all_steps]
        return digest([steps, self.variant is not None])[:10]

    @cached_property
    def family(self) -> "Recipe":
        """What the float file is made by."""
        return Recipe(self.steps)

    @property
    def changes(self) -> bool:
        """Whether the file differs from the reference's."""
        return bool(self.all_steps)

    def step(self, strategy: str) -> Step | None:
        """The first step of a strategy, the variant included."""
        return next((step for step in self.all_steps if step.strategy == strategy), None)

    def plus(self, *steps: Step) -> "Recipe":
        return replace(self, steps=(*self.steps, *steps))

    def rewritten(self, variant: Step) -> "Recipe":
        """The file that a graph strategy makes of this family's float file."""
        return replace(self, variant=variant)

    def without(self, strategy: str) -> "Recipe":
        """The same without the steps of a strategy."""
        return replace(self, steps=tuple(s for s in self.steps if s.strategy != strategy))

    def to_json(self) -> list[dict[str, Any]]:
        """The steps; a graph variant is the last and says so."""
        steps: list[dict[str, Any]] = [{"strategy": s.strategy, "params": s.values} for s in self.all_steps]
        if self.variant is not None:
            steps[-1]["variant"] = True
        return steps

    @classmethod
    def from_json(cls, steps: list[dict[str, Any]]) -> "Recipe":
        made = [Step.of(step["strategy"], **step["params"]) for step in steps]
        if steps and steps[-1].get("variant"):
            return cls(tuple(made[:-1]), made[-1])
        return cls(tuple(made))

    def techniques(self, between: str = "+") -> str:
        """The strategies alone, in order, for a table: ``prune_channels+distill_logits``."""
        return between.join(dict.fromkeys(s.strategy for s in self.all_steps if s.strategy != TRAIN)) or "unchanged"

    def __str__(self) -> str:
        return " + ".join(str(step) for step in self.all_steps) or "unchanged"

    @property
    def all_steps(self) -> tuple[Step, ...]:
        """With the variant, last."""
        return self.steps if self.variant is None else (*self.steps, self.variant)


@dataclass(frozen=True)
class RecipeFile:
    """A recipe as it is stored: ``recipe.toml``.

    plans: what each structural step decided, by its position in the recipe; replaying them needs no data.
    weights: the trained or repaired weights (safetensors), relative to the file; None when they are neither.
    calibration: how many training examples the structure was repaired on, the digest of their inputs, the layers that
    these gave few rows for their width, and on how many examples it was reconstructed where nothing trained it; nothing
    where it was not repaired.
    """

    recipe: Recipe
    task: str
    fingerprint: str
    profile: str
    seed: int
    exporter: str
    epochs: float = 0.0
    plans: tuple[Plan, ...] = ()
    weights: str | None = None
    learned: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by strategy, beside the weights
    calibration: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    hardware: Mapping[str, Any] = field(default_factory=dict)  # the whole profile, which may be the user's own file
    parts: Mapping[str, str] = field(default_factory=dict)  # of the fingerprint, by name; earlier versions kept none

    def to_toml(self) -> str:
        document: dict[str, Any] = {
            "schema": RECIPE_SCHEMA,
            "task": self.task,
            "fingerprint": self.fingerprint,
            "profile": self.profile,
            "seed": self.seed,
            "exporter": self.exporter,
            "epochs": self.epochs,
        }
        if self.weights is not None:
            document["weights"] = self.weights
        if self.calibration:
            document["calibration"] = dict(self.calibration)
        if self.parts:
            document["parts"] = dict(self.parts)
        document["measured"] = dict(self.facts)
        document["hardware"] = dict(self.hardware)
        document["step"] = self.recipe.to_json()
        for step, plan in zip(document["step"], self.plans, strict=False):
            step["plan"] = json.dumps(plan, separators=(",", ":"))
        for step in document["step"][: len(self.recipe.steps)]:
            if self.learned.get(step["strategy"]):
                step["learned"] = json.dumps(self.learned[step["strategy"]], separators=(",", ":"))
        return tomli_w.dumps(document)

    @classmethod
    def read(cls, path: Path) -> "RecipeFile":
        """Read and check a ``recipe.toml``. Raises UsageError naming the file and what is wrong with it."""
        try:
            head = path.open("rb").read(2)
            if head[:1] == b"\x80" or head == b"PK":
                raise UsageError(f"{path} is a pickle, which can run code when it is read: give a recipe.toml instead")
            document = tomllib.loads(path.read_text("utf-8"))
        except OSError as error:
            raise UsageError(
                f"cannot read the recipe {path}: {error.strerror}; give the path of a recipe.toml"
            ) from error
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise UsageError(f"{path} is not a TOML recipe: {one_line(error)}") from error
        if document.get("schema") != RECIPE_SCHEMA:
            raise UsageError(
                f"{path}: schema is {document.get('schema')!r}, this version reads {RECIPE_SCHEMA}; "
                "use the autocompress that wrote it"
            )
        try:
            steps = document.get("step", [])
            return cls(
                recipe=Recipe.from_json([_step(step) for step in steps]),
                task=_typed(document, "task", str),
                fingerprint=_typed(document, "fingerprint", str),
                profile=_typed(document, "profile", str),
                seed=_typed(document, "seed", int),
                exporter=_typed(document, "exporter", str),
                epochs=_finite(_typed(document, "epochs", float, int)),
                plans=tuple(_plan(step["plan"]) for step in steps if "plan" in step),
                weights=_typed(document, "weights", str) if "weights" in document else None,
                learned={step["strategy"]: _plan(step["learned"]) for step in steps if "learned" in step},
                calibration=_typed(document, "calibration", dict) if "calibration" in document else {},
                facts=document.get("measured", {}),
                hardware=_typed(document, "hardware", dict) if "hardware" in document else {},
                parts=_typed(document, "parts", dict) if "parts" in document else {},
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{path}: missing or malformed field: {one_line(error)}") from error


def _number(value: Value) -> Value:
    """Equal numbers as one: 1 and 1.0."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _typed(document: dict[str, Any], key: str, *kinds: type) -> Any:
    value = document[key]
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise TypeError(f"{key} must be {kinds[0].__name__}, not {value!r}")
    return value


def _finite(value: float) -> float:
    if not 0 <= value < math.inf:
        raise ValueError(f"epochs must be a number of at least 0, not {value!r}")
    return value


def _step(value: dict[str, Any]) -> dict[str, Any]:
    params = _typed(value, "params", dict)
    for name, item in params.items():
        if not isinstance(item, (bool, int, float, str)):
            raise TypeError(f"{name} must be a number, a word or true/false, not {item!r}")
    return {**value, "strategy": _typed(value, "strategy", str), "params": params}


def _plan(text: str) -> Plan:
    plan = json.loads(text)
    if not isinstance(plan, dict):
        raise TypeError("a plan, and what was learned, must be a JSON object")
    return plan


def digest(value: object) -> str:
    """SHA-256 of a JSON-serialisable value, hexadecimal."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
