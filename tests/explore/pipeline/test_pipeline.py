"""One candidate from recipe to measured files, on the tiny model and a clock that counts operations."""

import asyncio
import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from autocompress.budget import Budget
from autocompress.candidate import score
from autocompress.candidate.count import count
from autocompress.candidate.repair.reconstruction import RECONSTRUCTION
from autocompress.candidate.request import Sample, TrainRequest
from autocompress.candidate.score import score_files
from autocompress.compute.worker import WorkerCrashed
from autocompress.data import ScoredSet
from autocompress.errors import CandidateFailed
from autocompress.explore.pipeline.timed_graphs import TimedGraphs
from autocompress.explore.pipeline.worth import no_faster
from autocompress.plugin.contract import GraphStrategy, StructureStrategy, TrainHook, TrainingStrategy
from autocompress.plugin.loader import PluginSet
from autocompress.profile import HardwareProfile
from autocompress.recipe import Recipe, RecipeFile, Step
from autocompress.storage.folder import RunFolder
from autocompress.task import Task
from autocompress_plugins.quantization.quantize_static import QuantizeStatic

HALF = Step.of("prune_channels", ratio=0.5, importance="l2", allocation="uniform", schedule="at_once", round_to=1)
DISTIL = Step.of("distill_logits", alpha=0.9, temperature=4.0)
TRAIN = Step.of("train", lr=0.004, batch_size=64)
SPACE = ("prune_channels", "distill_logits", "quantize_static")


@pytest.fixture(scope="module")
def opened(
    open_quickly: Callable[..., Any],
    make_tiny_task: Callable[[nn.Module], Task],
    trained_tiny: nn.Module,
    shared_plugins: PluginSet,
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    """Opened once, with what a recipe is drawn from and plug-ins of its own: a test may put one in."""
    plugins = replace(shared_plugins, strategies=dict(shared_plugins.strategies))
    return open_quickly(make_tiny_task(trained_tiny), plugins, tmp_path_factory.mktemp("pipeline") / "run", only=SPACE)


def accuracy_of(path: Path, examples: tuple[torch.Tensor, torch.Tensor]) -> float:
    """Scored by the plainest code there is, one example at a time."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    right = [
        int(np.argmax(session.run(None, {name: x[None].numpy()})[0]) == int(y)) for x, y in zip(*examples, strict=True)
    ]
    return sum(right) / len(right)


def test_every_number_belongs_to_the_file_it_points_to(opened: Any) -> None:
    outcome = opened.evaluate(Recipe((HALF, DISTIL, TRAIN)), examples=512)
    assert len(outcome.evaluations) >= 2, "the float file and at least one quantized one"
    for e in outcome.evaluations:
        path = opened.task.folder.root / e.artifact
        assert e.score.val == pytest.approx(accuracy_of(path, opened.task.task.val), abs=1e-6)
        assert e.score.val_low <= e.score.val <= e.score.val_high
        assert e.size_bytes == path.stat().st_size
        assert (e.params, e.macs) == count(path)
        macs = e.macs * (0.5 if e.recipe.variant else 1.0)
        assert e.latency.ratio == pytest.approx(macs / count(opened.task.folder.reference)[1], rel=1e-6)


def test_pruning_distilling_and_quantizing_leave_a_smaller_model_that_still_works(opened: Any) -> None:
    outcome = opened.evaluate(Recipe((HALF, DISTIL, TRAIN)), examples=2048)
    reference_macs = count(opened.task.folder.reference)[1]
    best = max(e.score.val for e in outcome.evaluations)
    assert all(e.macs < 0.5 * reference_macs for e in outcome.evaluations)
    assert best > 0.5, "four classes: half the channels and a short distillation are far above chance"
    quantized = next(e for e in outcome.evaluations if e.recipe.step("quantize_static"))
    ops = {node.op_type for node in onnx.load(str(opened.task.folder.root / quantized.artifact)).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= ops


def test_the_unchanged_model_is_scored_while_its_variants_are_timed(opened: Any) -> None:
    asked: list[str] = []

    class Noted:
        def __getattr__(self, method: str) -> Any:
            return getattr(opened.pipeline.operations, method)

        async def score(self, files: Any, *given: Any, **limits: Any) -> Any:
            asked.append(f"score {len(files)}")
            return await opened.pipeline.operations.score(files, *given, **limits)

        async def compare(self, request: Any, *, limit_s: float) -> Any:
            asked.append("compare")
            return await opened.pipeline.operations.compare(request, limit_s=limit_s)

    pipeline = replace(opened.pipeline, operations=Noted(), timed=TimedGraphs())
    outcome = asyncio.run(pipeline.evaluate_reference(math.inf))
    assert asked[:3] == ["compare", "score 1", "compare"]
    assert next(e for e in outcome.evaluations if not e.recipe.changes) == outcome.evaluations[0]
    assert len(outcome.evaluations) + len(outcome.slower) == 1 + len(opened.pipeline.ratios)


def test_of_a_family_no_more_variants_are_made_than_asked_for(opened: Any) -> None:
    assert len(opened.pipeline.ratios) > 1
    few = replace(opened.pipeline, most_variants=1)
    outcome = asyncio.run(few.evaluate(TrainRequest(Recipe((HALF,))), limit_s=math.inf))
    made = {e.recipe.variant for e in outcome.evaluations} | {
        r.recipe.variant for r in (*outcome.slower, *outcome.hopeless)
    }
    assert made == {None, opened.pipeline.ratios[0][0]}, "the one that was fastest on the reference"


def test_the_users_module_is_never_changed(
    open_quickly: Any, tiny_task: Task, plugins: PluginSet, tmp_path: Path
) -> None:
    module = tiny_task.model.train()
    next(module.parameters()).requires_grad_(False)
    before = copy.deepcopy(module.state_dict())
    opened = open_quickly(tiny_task, plugins, tmp_path / "run", only=SPACE)
    opened.evaluate(Recipe((HALF, DISTIL, TRAIN)), examples=128)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert module.training
    assert not next(module.parameters()).requires_grad


class Spy(TrainingStrategy):
    name = "spy"

    def __init__(self) -> None:
        self.trained = 0

    def hook(self, params, context) -> TrainHook:  # type: ignore[no-untyped-def]
        self.trained += 1
        return TrainHook()


def test_the_gate_times_the_structure_and_trains_nothing(opened: Any) -> None:
    spy = Spy()
    opened.task.plugins.strategies["spy"] = spy
    family = Recipe((HALF, Step.of("spy"), TRAIN))
    answer = opened.gate(family, Budget(speedup=2))
    assert spy.trained == 0
    assert answer.latency.ratio < 0.5
    assert Budget(speedup=100).excluded(answer.latency), (
        "a budget far below the structure's latency is seen to be missed"
    )
    evaluated = opened.evaluate(family, examples=64, plans=answer.plans)
    fastest = min(e.latency.ratio for e in evaluated.evaluations)
    assert answer.latency.ratio == pytest.approx(fastest), "the untrained structure takes as long as the trained one"


def test_a_structure_that_was_gated_is_known_by_its_sessions_and_not_timed_again(opened: Any) -> None:
    family, timed = Recipe((HALF, DISTIL, TRAIN)), TimedGraphs()
    here = replace(opened, pipeline=replace(opened.pipeline, timed=timed))
    first = here.gate(family, Budget())
    assert first.sessions
    of_another_process = TimedGraphs()
    for graph, session in first.sessions:
        of_another_process.add(graph, [session])
    again = replace(opened, pipeline=replace(opened.pipeline, timed=of_another_process)).gate(family, Budget())
    assert (again.latency, again.sessions) == (first.latency, ())


@pytest.mark.parametrize(("times_over", "float_timed"), [(10.0, False), (1.2, True)])
def test_the_gate_does_not_time_the_float_file_of_what_is_far_over_the_budget_quantized(
    times_over: float, float_timed: bool, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = Recipe((HALF, DISTIL, TRAIN))
    quantized = opened.gate(family, Budget()).latency.ratio
    opened_files: list[str] = []
    own = type(opened.task.runtime).open
    monkeypatch.setattr(
        type(opened.task.runtime), "open", lambda r, path, p: opened_files.append(path.name) or own(r, path, p)
    )
    untimed = replace(opened, pipeline=replace(opened.pipeline, timed=TimedGraphs()))
    answer = untimed.gate(family, Budget(speedup=times_over / quantized))
    assert answer.latency.ratio == pytest.approx(quantized)
    int8 = [step for step, _ in opened.pipeline.ratios if step.strategy == "quantize_static"]
    assert {f"{family.rewritten(step).id}.onnx" for step in int8} & set(opened_files)
    assert (f"{family.id}.onnx" in opened_files) is float_timed


def test_an_untrained_recipe_is_the_reference_exported(opened: Any) -> None:
    outcome = opened.evaluate(Recipe())
    own = outcome.evaluations[0]
    assert own.score.val == pytest.approx(accuracy_of(opened.task.folder.reference, opened.task.task.val))
    assert own.latency.ratio == pytest.approx(1.0)


class Breaks(StructureStrategy):
    name = "breaks"

    def plan(self, model, params, context):  # type: ignore[no-untyped-def]
        return {}

    def apply(self, model, plan, context):  # type: ignore[no-untyped-def]
        raise ZeroDivisionError("as plug-ins do")


class Poison(GraphStrategy):
    """A graph step whose file is faster and answers NaN."""

    name = "poison"

    def variants(self, context):  # type: ignore[no-untyped-def]
        return [{}]

    def apply(self, source, target, params, context) -> None:  # type: ignore[no-untyped-def]
        QuantizeStatic().apply(source, target, {"activations": "QUInt8", "calibration": "minmax"}, context)
        model = onnx.load(str(target))
        for tensor in model.graph.initializer:
            values = onnx.numpy_helper.to_array(tensor)
            if values.dtype == np.float32:
                tensor.CopyFrom(onnx.numpy_helper.from_array(np.full_like(values, math.nan), tensor.name))
        onnx.save(model, str(target))


def test_a_plugin_that_raises_fails_its_candidate_and_is_named(opened: Any) -> None:
    opened.task.plugins.strategies["breaks"] = Breaks()
    with pytest.raises(CandidateFailed, match="ZeroDivisionError: as plug-ins do") as failure:
        opened.evaluate(Recipe((Step.of("breaks"),)))
    assert failure.value.strategy == "breaks"


def test_a_file_that_answers_nan_is_no_candidate(
    open_quickly: Any, tiny_task: Task, plugins: PluginSet, tmp_path: Path
) -> None:
    plugins.strategies["poison"] = Poison()
    opened = open_quickly(tiny_task, plugins, tmp_path / "run", only=(*SPACE, "poison"))
    outcome = opened.evaluate(Recipe((HALF, DISTIL, TRAIN)), examples=64)
    assert [(strategy, "NaN" in reason) for _, strategy, reason in outcome.failed] == [("poison", True)]
    assert outcome.evaluations
    assert all(e.recipe.step("poison") is None for e in outcome.evaluations)
    kept = {path.parent.name for path in opened.task.folder.root.glob("candidates/*/model.onnx")}
    assert kept >= {e.id for e in outcome.evaluations}
    assert not any(
        ".onnx" in path.name and path.name != "model.onnx" for path in opened.task.folder.root.glob("candidates/*/*")
    )


class Asks(TrainingStrategy):
    """Its hook wants layers that are not there."""

    name = "asks"

    def __init__(self, **wants: tuple[str, ...]) -> None:
        self.wants = wants

    def hook(self, params, context) -> TrainHook:  # type: ignore[no-untyped-def]
        hook = TrainHook()
        vars(hook).update(self.wants)
        return hook


@pytest.mark.parametrize("wants", [{"layers": ("nowhere",)}, {"teacher_layers": ("nowhere",)}, {"parameters": 3}])
def test_a_hook_that_wants_what_is_not_there_fails_its_candidate_and_is_named(opened: Any, wants: Any) -> None:
    opened.task.plugins.strategies["asks"] = Asks(**wants)
    with pytest.raises(CandidateFailed) as failure:
        opened.evaluate(Recipe((Step.of("asks"), TRAIN)), examples=64)
    assert failure.value.strategy == "asks"


def test_training_that_diverges_is_stopped_with_the_reason(opened: Any) -> None:
    opened.task.plugins.strategies["spy"] = Spy()
    wild = Recipe((HALF, Step.of("spy"), Step.of("train", lr=1e30, batch_size=64)))
    with pytest.raises(CandidateFailed, match=r"diverged.*learning rate 1e\+30|NaN"):
        opened.evaluate(wild, examples=2048)


def test_a_process_that_dies_after_a_training_does_not_cost_it(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    family = Recipe((HALF, Step.of("finetune"), TRAIN))
    exports: list[str] = []
    before = set(opened.task.folder.stored.glob("weights*"))

    def crash(*given: Any) -> str:
        exports.append("crash")
        raise WorkerCrashed("the worker process ended (SIGSEGV)")

    with monkeypatch.context() as dying:
        dying.setattr("autocompress.candidate.make.export_checked", crash)
        with pytest.raises(WorkerCrashed):
            opened.evaluate(family, examples=512)
    assert exports == ["crash", "crash"], "its files are tried once more"
    assert len(set(opened.task.folder.stored.glob("weights*")) - before) == 1


def test_a_rung_goes_on_from_the_checkpoint_of_the_one_before(opened: Any) -> None:
    family = Recipe((HALF, DISTIL, TRAIN))
    first = opened.evaluate(family, examples=256)
    still = opened.evaluate(family, rung=1, start=256, examples=0, checkpoint=first.checkpoint, plans=first.plans)
    assert still.evaluations[0].digest == first.evaluations[0].digest, (
        "no more training: the same weights, the same file"
    )
    further = opened.evaluate(family, rung=1, start=256, examples=256, checkpoint=first.checkpoint, plans=first.plans)
    assert further.epochs == pytest.approx(2.0)
    assert further.evaluations[0].digest != first.evaluations[0].digest


def test_before_any_training_the_fastest_file_alone_is_scored_and_kept(opened: Any) -> None:
    outcome = opened.look_at(Recipe((HALF, DISTIL, TRAIN)))
    (found,) = outcome.evaluations
    assert found.recipe.variant is not None, "int8 is the fastest"
    assert (outcome.epochs, outcome.examples, outcome.failed) == (0, 0, ())
    assert outcome.checkpoint is not None
    assert outcome.calibration["examples"] == 251
    folders = opened.task.folder.root / "candidates"
    family = {recipe.id for recipe in (found.recipe.family, found.recipe)}
    kept = {path.parent.name for path in folders.glob("*-0/model.onnx") if path.parent.name[:-2] in family}
    assert kept == {found.id}
    recipe = RecipeFile.read((opened.task.folder.root / found.artifact).with_name("recipe.toml"))
    assert recipe.calibration == outcome.calibration


def test_before_any_training_nothing_is_timed_but_what_the_gate_timed(opened: Any) -> None:
    milder = Step.of(HALF.strategy, **{**HALF.values, "ratio": 0.375})
    recipe, timed = Recipe((milder, DISTIL, TRAIN)), opened.pipeline.timed
    opened.gate(recipe, Budget(speedup=1.001))
    spent_s = timed.spent_s
    assert opened.look_at(recipe).evaluations
    assert timed.spent_s == spent_s


def test_a_file_that_cannot_be_scored_makes_way_for_the_next_fastest(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = score._scored

    def scored(task: Any, file: Any, sample: Any) -> Any:
        if file.recipe.variant is not None:
            raise CandidateFailed("the model gives NaN or infinite outputs on the validation split")
        return real(task, file, sample)

    monkeypatch.setattr(score, "_scored", scored)
    outcome = opened.look_at(Recipe((HALF, DISTIL, Step.of("train", lr=0.002, batch_size=64))))
    assert [e.recipe.variant for e in outcome.evaluations] == [None]
    assert outcome.failed
    assert all("NaN" in reason for *_, reason in outcome.failed)


def test_a_sample_tells_the_score_beside_the_reference_on_the_same_examples(opened: Any, tiny_task: Task) -> None:
    reference = opened.opening.reference
    sample = Sample(40, reference.outputs, reference.score)
    sampling = replace(opened.pipeline, sample=sample)

    def evaluated(stands: Any) -> Any:
        request = TrainRequest(Recipe((HALF,)))
        outcome = asyncio.run(sampling.evaluate(request, stands=stands, limit_s=math.inf))
        return min(outcome.evaluations, key=lambda e: e.latency.ratio)

    told = evaluated(lambda score, ratio: False)
    assert (told.score.sampled, told.score.whole) == (40, False)
    images, labels = tiny_task.val
    spread_over = torch.arange(40) * (len(labels) - 1) // 39
    some = images[spread_over], labels[spread_over]
    root = opened.task.folder.root
    difference = accuracy_of(root / told.artifact, some) - accuracy_of(root / reference.artifact, some)
    assert told.score.val == pytest.approx(reference.score.val + difference, abs=1e-6)
    assert told.score.val_high - told.score.val_low > reference.score.val_high - reference.score.val_low
    known = evaluated(lambda score, ratio: True)
    assert known.score.whole
    assert known.score.val == pytest.approx(accuracy_of(root / known.artifact, (images, labels)), abs=1e-6)


def undefined_on_few(outputs: torch.Tensor, targets: torch.Tensor) -> float:
    if len(targets) <= 40:
        raise ValueError("there is one class only")
    return float((outputs.argmax(1) == targets).float().mean())


@pytest.mark.parametrize("lost", [True, False], ids=["the reference's outputs are gone", "the metric is undefined"])
def test_a_sample_that_does_not_tell_is_no_reason_to_fail(
    lost: bool, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = opened.opening.reference
    outputs = "val-00000000000000000000" if lost else reference.outputs
    if not lost:
        val = opened.task.val
        task = replace(opened.task.task, metric=undefined_on_few)
        monkeypatch.setitem(vars(opened.task), "val", ScoredSet(task, val.split, val.layout))
        score_files(opened.task, [opened.opening.prepared.reference])  # what this metric wants kept of its outputs
    sampling = replace(opened.pipeline, sample=Sample(40, outputs, reference.score))
    outcome = asyncio.run(
        sampling.evaluate(TrainRequest(Recipe((HALF,))), stands=lambda score, ratio: False, limit_s=math.inf)
    )
    assert outcome.evaluations
    assert all(e.score.whole for e in outcome.evaluations)


def test_what_is_not_repaired_is_not_looked_at_before_it_is_trained(opened: Any) -> None:
    outcome = opened.look_at(Recipe((DISTIL, TRAIN)))
    assert (outcome.evaluations, outcome.checkpoint, outcome.failed) == ((), None, ())


def test_what_a_structure_was_repaired_on_is_known_after_its_trainings_too(opened: Any) -> None:
    family = Recipe((HALF, DISTIL, TRAIN))
    first = opened.evaluate(family, examples=64)
    on = {"checkpoint": first.checkpoint, "plans": first.plans, "calibration": first.calibration}
    further = opened.evaluate(family, rung=1, start=64, examples=64, **on)
    assert first.calibration == further.calibration != {}
    assert opened.evaluate(Recipe((DISTIL, TRAIN)), examples=64).calibration == {}


def test_what_nothing_will_train_is_reconstructed_in_the_time_that_there_is(opened: Any) -> None:
    repaired, nearer = (opened.evaluate(Recipe((HALF,)), limit_s=limit_s) for limit_s in (None, 4.0))
    assert RECONSTRUCTION not in repaired.calibration
    assert nearer.calibration[RECONSTRUCTION] > 0
    assert nearer.checkpoint != repaired.checkpoint
    assert (nearer.epochs, nearer.examples) == (0, 0)
    again = opened.evaluate(Recipe((HALF,)), calibration=nearer.calibration)
    assert again.calibration == nearer.calibration
    assert {e.digest for e in again.evaluations} == {e.digest for e in nearer.evaluations}
    assert RECONSTRUCTION not in opened.look_at(Recipe((HALF, DISTIL, TRAIN))).calibration


def test_the_recipe_beside_a_model_has_all_it_takes_to_make_it_again(opened: Any) -> None:
    outcome = opened.evaluate(Recipe((HALF, DISTIL, TRAIN)), examples=256)
    assert outcome.evaluations
    for e in outcome.evaluations:
        beside = opened.task.folder.root / e.artifact
        stored = RecipeFile.read(beside.with_name("recipe.toml"))
        assert stored.recipe == e.recipe
        assert stored.plans == outcome.plans
        assert stored.weights is not None
        assert (beside.parent / stored.weights).exists()


def test_a_batch_of_the_profile_that_does_not_divide_the_data_works(
    open_here: Any, tiny_task: Task, plugins: PluginSet, tmp_path: Path
) -> None:
    profile = HardwareProfile(name="seven", runtime="fake", batch=7)
    folder = RunFolder(tmp_path / "run")
    opened = open_here(tiny_task, profile, plugins, folder, SPACE, compare_exporters=False)
    outcome = opened.evaluate(Recipe((HALF, DISTIL, TRAIN)), examples=65)
    assert len(outcome.evaluations) >= 2
    assert onnx.load(str(opened.task.folder.reference)).graph.input[0].type.tensor_type.shape.dim[0].dim_value == 7


@pytest.mark.parametrize(
    ("ratio", "quiet", "slower"), [(0.49, True, True), (0.48, True, False), (0.49, False, False), (0.51, False, True)]
)
def test_a_variant_is_left_out_that_is_no_faster_and_on_a_busy_machine_one_that_seems_slower(
    ratio: float, quiet: bool, slower: bool, make_latency: Any
) -> None:
    assert no_faster(make_latency(ratio, quiet=quiet), make_latency(0.5)) == slower
    assert no_faster(make_latency(ratio), make_latency(0.5, quiet=quiet)) == slower


def test_every_file_of_a_candidate_is_in_the_opset_of_the_profile(
    fake_profile: HardwareProfile, open_here: Any, tiny_task: Task, plugins: PluginSet, tmp_path: Path
) -> None:
    profile, folder = fake_profile.model_copy(update={"opset": 15}), RunFolder(tmp_path / "run")
    opened = open_here(tiny_task, profile, plugins, folder, SPACE, compare_exporters=False)
    outcome = opened.evaluate(Recipe((HALF,)))
    files = [folder.reference, *(folder.root / e.artifact for e in outcome.evaluations)]
    assert len(files) > 2
    for file in files:
        assert [own.version for own in onnx.load(str(file)).opset_import if not own.domain] == [15]
