"""The checks of a training part."""

from autocompress.plugin.contract import (
    TrainingStrategy,
)
from autocompress.testing.checks import Checks, Neighbour, is_plain
from autocompress.testing.lab import FEW_EXAMPLES, LAB_BATCH, Form, Lab, same_values, untouched


class TrainingChecks(Checks):
    def test_the_hook_trains_and_leaves_nothing_behind(self, training: TrainingStrategy, lab: Lab) -> None:
        model = lab.built(lab.defaults)
        form = Form.of(model)
        with untouched(lab.context.model, "the hook"):
            trained = lab.trained(model, {training.name: lab.hook(lab.defaults)}).model
        left = Form.of(trained)
        assert left == form, f"unwrap must take off all that wrap put on ({form.difference(left)})"
        assert all(value.isfinite().all() for value in trained.state_dict().values()), "training left NaN in weights"
        self._runs(lab, trained, "after training")
        lab.exported(trained, "after training")

    def test_training_repeats_bit_for_bit(self, training: TrainingStrategy, lab: Lab) -> None:
        one, other = (
            lab.trained(
                lab.built(lab.defaults), {training.name: lab.hook(lab.defaults)}, examples=FEW_EXAMPLES, luck=luck
            ).model
            for luck in (1, 2)
        )
        assert same_values(one.state_dict(), other.state_dict()), (
            "two trainings gave other weights: let the hook draw from a generator seeded by context.seed"
        )

    def test_it_trains_beside_another_strategy(self, training: TrainingStrategy, lab: Lab) -> None:
        for first in (True, False):
            model, neighbour = lab.built(lab.defaults), Neighbour()
            form = Form.of(model)
            hooks = {training.name: lab.hook(lab.defaults), "neighbour": neighbour}
            done = lab.trained(model, hooks if first else dict(reversed(hooks.items())), examples=FEW_EXAMPLES)
            assert neighbour.steps == FEW_EXAMPLES // LAB_BATCH, "beside it another strategy's hook misses steps"
            left = Form.of(done.model)
            assert left == form, f"beside another hook something is left behind ({form.difference(left)})"

    def test_what_was_learned_is_json_and_training_goes_on_from_it(self, training: TrainingStrategy, lab: Lab) -> None:
        hook = lab.hook(lab.defaults)
        done = lab.trained(lab.built(lab.defaults), {training.name: hook}, examples=FEW_EXAMPLES)
        assert is_plain(dict(hook.learned())), "learned must be JSON: words, finite numbers, true/false, lists, dicts"
        form, later = Form.of(done.model), lab.hook(lab.defaults)
        later.resume(done.learned[training.name])
        left = Form.of(lab.trained(done.model, {training.name: later}, examples=FEW_EXAMPLES).model)
        assert left == form, f"a training that goes on leaves something behind ({form.difference(left)})"
