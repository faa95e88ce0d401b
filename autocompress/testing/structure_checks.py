"""The checks of a structure part."""

import json
from contextlib import suppress

import torch

from autocompress.candidate.count import count
from autocompress.candidate.repair.declared import check_declared
from autocompress.candidate.weights import load_weights
from autocompress.data import call
from autocompress.errors import CandidateFailed
from autocompress.nested import primary
from autocompress.plain_model import evaluating
from autocompress.plugin.contract import Params, StructureStrategy
from autocompress.storage.store import Store
from autocompress.testing.checks import Checks, Neighbour, is_plain, is_sentence
from autocompress.testing.declared_layers import with_other_weights
from autocompress.testing.lab import Form, Lab, fail, same_values, untouched

SAME_WHOLE = 1e-4  # of the range of the output


class StructureChecks(Checks):
    def test_plan_is_json_and_changes_nothing(self, structure: StructureStrategy, lab: Lab) -> None:
        model = lab.context.task.copy_of_model()
        with untouched(model, "plan"), untouched(lab.context.model, "plan"):
            plan = structure.plan(model, lab.defaults, lab.context)
        assert is_plain(dict(plan)), "the plan must be JSON: words, finite numbers, true/false, lists, dicts"

    def test_the_same_seed_plans_the_same(self, structure: StructureStrategy, lab: Lab) -> None:
        one, other = (json.dumps(lab.planned(lab.defaults, luck)) for luck in (1, 2))
        assert one == other, "plan gave another plan the second time: draw from a generator seeded by context.seed"

    def test_apply_changes_the_model_and_keeps_it_running(self, structure: StructureStrategy, lab: Lab) -> None:
        before = lab.context.task.copy_of_model()
        after = lab.built(lab.defaults)
        changed = Form.of(after) != Form.of(before) or not same_values(after.state_dict(), before.state_dict())
        assert changed, "apply with the default parameters changed nothing: neither modules, nor shapes, nor values"
        self._runs(lab, after, "after apply")

    def test_a_plan_replays_bit_for_bit(self, structure: StructureStrategy, lab: Lab) -> None:
        plan = lab.plan_of(lab.defaults)
        one, other = (lab.applied(plan, luck) for luck in (1, 2))
        assert same_values(one.state_dict(), other.state_dict()), (
            "apply of one plan gave other weights the second time: put what is drawn, or its seed, into the plan"
        )
        inputs = lab.context.example_inputs
        with torch.no_grad():
            results = [primary(call(model, inputs)) for model in (one, other)]
        assert torch.equal(*results), "apply of one plan gave a model with other outputs the second time"

    def test_a_stronger_choice_is_not_larger(self, structure: StructureStrategy, lab: Lab) -> None:
        strengths = [parameter for parameter in lab.parameters if parameter.by_strength]
        if not strengths:
            return  # what it does has no strength
        reference, smaller = count(lab.context.reference), []
        for parameter in strengths:
            mild, strong = (
                self._first_size(lab, [{**lab.defaults, parameter.name: c} for c in choices])
                for choices in (parameter.choices, parameter.choices[::-1])
            )
            assert strong[1] <= mild[1], (
                f"{parameter.name} is by_strength, but its last choice costs {strong[1]} multiply-accumulates and its "
                f"first {mild[1]}: list the choices from the mildest to the one that makes the fastest model"
            )
            smaller.append(strong[0] < reference[0] or strong[1] < reference[1])
        assert any(smaller), "the strongest choice leaves the model as large as it was, in parameters and in operations"

    def _first_size(self, lab: Lab, sets: list[Params]) -> tuple[int, int]:
        for params in sets:
            with suppress(CandidateFailed):
                return lab.size(lab.built(params))
        raise AssertionError("no choice of a parameter works with the others at their defaults")

    def test_the_structure_exports(self, structure: StructureStrategy, lab: Lab) -> None:
        lab.exported(lab.built(lab.defaults), "after apply")

    def test_the_structure_trains_and_its_weights_are_kept(self, structure: StructureStrategy, lab: Lab) -> None:
        plan = lab.plan_of(lab.defaults)
        trained = lab.trained(lab.applied(plan), {"neighbour": Neighbour()}).model
        store = Store(lab.folder)
        store.save("weights", trained.state_dict())
        again = lab.applied(plan)
        load_weights(store, again, "weights")
        inputs = lab.context.example_inputs
        with torch.no_grad():
            one, other = (primary(call(model, inputs)) for model in (trained, again))
        assert torch.equal(one, other), (
            "the replayed structure with the trained weights gives other outputs: keep all state in the state dict"
        )

    def test_what_counterparts_declares_is_true(self, structure: StructureStrategy, lab: Lab) -> None:
        model, plan = lab.context.task.copy_of_model(), lab.plan_of(lab.defaults)
        with untouched(model, "counterparts"), untouched(lab.context.model, "counterparts"):
            declared = structure.counterparts(model, plan, lab.context)
        if declared is None:
            return  # nothing of it is repaired
        changed = lab.applied(plan)
        try:
            check_declared(declared, changed)
        except CandidateFailed as error:
            fail(f"what counterparts declares does not fit the model that apply makes of the same plan: {error.reason}")
        inputs = lab.context.example_inputs
        with torch.no_grad():
            before, whole = (primary(call(evaluating(each), inputs)) for each in (model, declared.whole))
        alike = whole.shape == before.shape and float((whole - before).abs().max()) <= SAME_WHOLE * _range(before)
        assert alike, (
            "the `whole` of counterparts gives other outputs than the model before the step: "
            "copy the model, in evaluation mode, before anything is removed"
        )
        others = list(with_other_weights(declared, changed))
        assert not others, (
            f"counterparts declares channels of the original whose weights {', '.join(others)} does not hold: "
            "give the indices that apply keeps, in its order, and inputs=None for a layer that reads something else"
        )

    def test_its_groups_shrink_by_as_many_units_as_asked(self, structure: StructureStrategy, lab: Lab) -> None:
        with untouched(lab.context.model, "shrinkable_groups"):
            groups = list(structure.shrinkable_groups(lab.context))
        assert len({group.name for group in groups}) == len(groups), "no two shrinkable_groups have the same name"
        for group in groups:
            counts = list(group.counts)
            ascending = counts and counts == sorted(set(counts))
            sound = is_sentence(group.name) and ascending and counts[0] > 0 and counts[-1] <= group.units
            assert sound, (
                f"a group has a name and counts of its {group.units} units that can go, ascending, from 1: "
                f"{group.name!r}, {counts}"
            )
        for group in {group.name: group for group in (*groups[:1], *groups[-1:])}.values():
            with untouched(lab.context.model, "plan_without"):
                few, many = (dict(group.plan_without(group.counts[end])) for end in (0, -1))
            assert is_plain([few, many]), "a plan of plan_without must be JSON, as any plan"
            less, least = (self._parameters(lab.applied(plan)) for plan in (few, many))
            own = self._parameters(lab.context.model)
            assert least <= less < own, (
                f"{group.name}: without {group.counts[0]} and {group.counts[-1]} of its units the model has {less} and "
                f"{least} parameters, and {own} with all: plan_without takes out as many units as it is asked for"
            )
            self._runs(lab, lab.applied(many), f"after {group.name} lost {group.counts[-1]} units")

    def _parameters(self, model: torch.nn.Module) -> int:
        return sum(value.numel() for value in model.parameters())

    def test_what_it_leaves_alone_has_a_reason(self, structure: StructureStrategy, lab: Lab) -> None:
        with untouched(lab.context.model, "left_alone"):
            found = dict(structure.left_alone(lab.context))
        for part, reason in found.items():
            sound = is_sentence(part) and is_sentence(reason)
            assert sound, f"left_alone gives the name of a part and a reason in words, not {part!r}: {reason!r}"


def _range(values: torch.Tensor) -> float:
    return float(values.max() - values.min())
