"""The checks that every strategy passes, whoever wrote it."""

import inspect

import pytest

from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import (
    GraphStrategy,
    Params,
    Strategy,
    StructureStrategy,
    TrainingStrategy,
    stages_of,
)
from autocompress.testing.checks import is_sentence, is_value
from autocompress.testing.graph_checks import GraphChecks
from autocompress.testing.lab import LAB_BATCH, Lab
from autocompress.testing.structure_checks import StructureChecks
from autocompress.testing.training_checks import TrainingChecks

PARTS: dict[str, type] = {"structure": StructureStrategy, "training": TrainingStrategy, "graph": GraphStrategy}


class StrategyConformance(StructureChecks, TrainingChecks, GraphChecks):
    """Subclass it as ``TestMine`` and set ``strategy`` to an instance.

    task: makes the task to try it on; left out, the first of ``autocompress.testing.tasks`` that it does not refuse.
    A task of your own must train the same way twice: no dropout. refused_task: makes one that it has to refuse.
    tolerance: largest relative error of a graph variant's outputs (norm of the difference over norm of the outputs);
    left out, it keeps the class of 80 % of the examples, or without classes an error of 0.1.
    """

    def __init_subclass__(cls) -> None:
        """A strategy has the tests of the parts that it has."""
        super().__init_subclass__()
        if not hasattr(cls, "strategy"):
            return
        for name in (name for name in dir(StrategyConformance) if name.startswith("test_")):
            asked = PARTS.keys() & inspect.signature(getattr(StrategyConformance, name)).parameters.keys()
            if not all(isinstance(cls.strategy, PARTS[part]) for part in asked):
                setattr(cls, name, None)

    def test_it_is_named_and_has_a_part(self) -> None:
        own = self.strategy
        assert isinstance(own, Strategy), f"`strategy` must be an instance, as in strategy = Mine(), not {own!r}"
        name = getattr(own, "name", None)
        assert isinstance(name, str) and name.isidentifier(), f"name must be an identifier, not {name!r}"  # noqa: PT018
        assert is_sentence(own.summary), f"summary must be one line for a list, not {own.summary!r}"
        assert stages_of(own), "inherit from StructureStrategy, TrainingStrategy or GraphStrategy: it has no part"
        for tags in ("provides", "excludes"):
            value = getattr(own, tags)
            assert isinstance(value, frozenset), f'{tags} must be a frozenset of tags, as in frozenset({{"quantized"}})'

    def test_parameters_are_fixed_lists_of_plain_choices(self, lab: Lab) -> None:
        found = self.strategy.parameters(lab.context)
        again = self.strategy.parameters(lab.context)
        assert list(found) == list(again), "parameters must answer the same each time it is asked"
        names = [parameter.name for parameter in found]
        assert len(set(names)) == len(names), f"two parameters share a name: {names}"
        for parameter in found:
            assert parameter.name.isidentifier(), f"the parameter's name must be an identifier, not {parameter.name!r}"
            assert all(map(is_value, parameter.choices)), (
                f"the choices of {parameter.name} must be numbers, words or true/false, not {parameter.choices!r}"
            )

    def test_refusing_has_a_reason(self, lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> None:
        assert self._refusal(lab) is None, "refuses must answer the same each time it is asked"
        make = type(self).refused_task
        if make is not None:
            refused = Lab.open(self.strategy, make(), tmp_path_factory.mktemp("lab"))
            assert self._refusal(refused) is not None, "`refused_task` makes a task that the strategy does not refuse"

    def test_size_only_has_a_reason(self, lab: Lab) -> None:
        reason = self.strategy.size_only(lab.context)
        assert reason is None or is_sentence(reason), f"size_only must answer None or a reason, not {reason!r}"

    def test_both_ends_of_every_parameter_work(self, lab: Lab) -> None:
        for params in lab.ends():
            reason = self._failure(lab, params)
            assert reason != "", f"CandidateFailed needs a reason in words, with {params} it has none"
            assert reason is None or params != lab.defaults, f"the defaults must work where it applies: {reason}"

    def _failure(self, lab: Lab, params: Params) -> str | None:
        """The reason of the CandidateFailed that a parameter set raises; None when it works."""
        try:
            model = lab.built(params)
            if isinstance(self.strategy, TrainingStrategy):
                model = lab.trained(model, {self.strategy.name: lab.hook(params)}, examples=2 * LAB_BATCH).model
        except CandidateFailed as error:
            return error.reason
        self._runs(lab, model, f"with {params}")
        return None
