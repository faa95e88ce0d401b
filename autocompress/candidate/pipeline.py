"""One candidate from recipe to measured ONNX files, in two steps the driver calls in turn:

``gate``: structure -> export -> the fastest variant timed, nothing trained;
``evaluate``: structure -> train -> export, checked -> every graph variant timed -> those worth it scored.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from autocompress.budget import FAR, Budget
from autocompress.candidate.artifact import scored, write_recipe
from autocompress.candidate.count import count
from autocompress.candidate.export import export, export_checked
from autocompress.candidate.open_task import OpenTask
from autocompress.candidate.request import Gate, Request
from autocompress.candidate.rung import train_rung
from autocompress.candidate.structure import build
from autocompress.candidate.variants import rewrite, variants_for, worth_gating
from autocompress.data import profile_inputs
from autocompress.errors import CandidateFailed
from autocompress.evaluation import Outcome, Rejected
from autocompress.latency import Latency
from autocompress.measure import FULL, QUICK
from autocompress.recipe import Recipe, Step
from autocompress.storage.atomic import copy_file, replacing

CHECKED_BATCHES = 4
FASTER = 0.97  # of its source's latency, below which a variant counts as faster
DISTURBED = 1.25  # times the source's latency, above which it is not even when the machine was disturbed


def gate(opened: OpenTask, recipe: Recipe, budget: Budget, plans: Sequence[dict[str, Any]] | None = None) -> Gate:
    """Time a structure before any training: latency does not depend on the values of the weights.

    The variants that were fast on the reference are tried in turn until one is within the budget; the float file last,
    and not when a variant that was much faster than it on the reference is far over the budget.
    """
    model, decided = _structure(opened, recipe, plans)
    opened.lock.give_way()
    path = opened.folder.scratch / "gate.onnx"
    with opened.supervisor.during("export", f"export: {recipe.techniques()}"):
        export(model, next(profile_inputs(opened.val, opened.profile.batch, 1)), path, opened.exporter)
    context = opened.context.for_timing()
    timed: dict[Step | None, Latency] = {}
    for variant in (*worth_gating(opened, recipe), None):
        if variant is None and _far_over(opened, timed, budget):
            break
        file = path if variant is None else opened.folder.scratch / f"gate-{variant.strategy}.onnx"
        try:
            if variant is not None:
                with opened.supervisor.during("graph", f"{variant.strategy}: {recipe.techniques()}"):
                    rewrite(opened.plugins, variant, path, file, context)
            timed[variant] = opened.time(file, QUICK, budget.decided, budget.ruled_out)
        except CandidateFailed:
            if variant is None:
                raise
            continue  # it fails again, with its reason kept, if the family is evaluated
        if budget.bounded and not budget.excluded(timed[variant]):
            break
    fastest = min(timed.values(), key=lambda latency: latency.ratio)
    source = timed.get(None)
    slower = tuple(v for v, latency in timed.items() if v is not None and source and no_faster(latency, source))
    return Gate(fastest, decided, slower, count(path)[1])


def _far_over(opened: OpenTask, timed: Mapping[Step | None, Latency], budget: Budget) -> bool:
    """Whether the float file need not be timed: a variant that was much faster on the reference is far over the
    budget.
    """
    known = dict(opened.variants)
    return any(
        variant is not None
        and known[variant] * FAR <= 1
        and budget.ruled_out(latency)
        and budget.excess(latency) >= FAR - 1
        for variant, latency in timed.items()
    )


def evaluate(opened: OpenTask, request: Request) -> Outcome:
    """Make a family's model and measure every file that comes of it.

    Every file is timed before any is scored: what is no faster than the file it was made from, or too slow to add
    anything to the front, is not scored; the fastest one is in any case.
    """
    model, plans = _structure(opened, request.recipe, request.plans)
    rung = train_rung(opened, request, model)
    made = Outcome(
        plans=plans,
        rung=request.rung,
        checkpoint=rung.checkpoint,
        learned=dict(rung.learned),
        epochs=rung.epochs,
        train_s=rung.seconds,
        examples=rung.examples,
    )
    files = _Files(opened, request, made)
    files.export(rung.model)
    outcome = files.outcome()
    if rung.snapshots:
        rung.snapshots.drop()
    return outcome


def evaluate_reference(opened: OpenTask) -> Outcome:
    """Measure the file that the unchanged model was exported to, and its graph variants."""
    files = _Files(opened, Request(Recipe()), Outcome())
    files.take(opened.folder.reference, opened.exporter)
    return files.outcome()


def _structure(
    opened: OpenTask, recipe: Recipe, plans: Sequence[dict[str, Any]] | None
) -> tuple[nn.Module, tuple[dict[str, Any], ...]]:
    with opened.supervisor.during("structure", f"structure: {recipe.techniques()}"):
        return build(recipe, opened.context, opened.plugins, plans, opened.plans)


@dataclass(frozen=True)
class _File:
    """A file that was made and timed. needed: it is scored whatever its latency, because it is made for its size."""

    recipe: Recipe
    path: Path
    latency: Latency
    needed: bool = False


class _Files:
    """The files of one family as they are made, timed and scored; each failure costs its own file alone."""

    def __init__(self, opened: OpenTask, request: Request, made: Outcome) -> None:
        self._bench = opened
        self._request = request
        self._made = made
        self._files: list[_File] = []

    def export(self, model: nn.Module) -> None:
        """The float file, which all the others are made from. Raises CandidateFailed."""
        opened, recipe = self._bench, self._request.recipe
        source = opened.folder.scratch / "float.onnx"
        with opened.supervisor.during("export", f"export: {recipe.techniques()}"):
            inputs = list(profile_inputs(opened.val, opened.profile.batch, CHECKED_BATCHES))
            exporter = export_checked(model, inputs, source, opened.exporter, opened.open)
        self.take(source, exporter)

    def take(self, source: Path, exporter: str) -> None:
        """The same, of a file that is there and was checked."""
        self._source, self._exporter, recipe = source, exporter, self._request.recipe
        target = self._bench.folder.candidate(self._identifier(recipe))
        copy_file(source, target)
        self._files.append(_File(recipe, target, self._bench.time(target, FULL, self._hopeless)))

    def _rewrite(self, variant: Step) -> None:
        """The file of one graph variant."""
        opened, recipe = self._bench, self._request.recipe.rewritten(variant)
        target, base = opened.folder.candidate(self._identifier(recipe)), self._files[0].latency
        context = replace(opened.context, learned=self._made.learned)
        try:
            text = f"{variant.strategy}: {self._request.recipe.techniques()}"
            with opened.supervisor.during("graph", text), replacing(target) as temporary:
                rewrite(opened.plugins, variant, self._source, temporary, context)
            for_size = opened.plugins.strategy(variant.strategy).size_only(opened.context) is not None
            latency = opened.time(target, FULL, None if for_size else lambda m: no_faster(m, base) or self._hopeless(m))
        except CandidateFailed as error:
            _discard(target)
            self._failed(recipe, error.strategy or variant.strategy, error.reason)
            return
        if not for_size and no_faster(latency, base):
            _discard(target)
            reason = f"no faster than the float file it was made from ({latency.ratio / base.ratio:.2f} of its latency)"
            rejected = Rejected(recipe, reason, latency.statistic, latency.ratio)
            self._made = replace(self._made, slower=(*self._made.slower, rejected))
            return
        self._files.append(_File(recipe, target, latency, needed=for_size))

    def _score(self) -> None:
        """Score the files that are worth it."""
        opened, request = self._bench, self._request
        fastest = min(self._files, key=lambda file: file.latency.ratio)
        for file in self._files:
            if file is not fastest and not file.needed and self._hopeless(file.latency):
                self._leave(file)
                continue
            try:
                evaluation = scored(opened, file.recipe, self._made.epochs, request.rung, file.path, file.latency)
            except CandidateFailed as error:
                _discard(file.path)
                by = file.recipe.variant.strategy if file.recipe.variant else "export"
                self._failed(file.recipe, error.strategy or by, error.reason)
                continue
            write_recipe(opened, evaluation, self._made, self._exporter)
            self._made = replace(self._made, evaluations=(*self._made.evaluations, evaluation))

    def outcome(self) -> Outcome:
        """All that comes of the float file. Raises CandidateFailed when that is nothing but failures."""
        for variant in variants_for(self._bench, self._request.recipe):
            if variant not in self._request.skip:
                self._rewrite(variant)
        self._score()
        if not self._made.evaluations and self._made.failed:
            raise CandidateFailed(self._made.failed[0][2], self._made.failed[0][1])
        return self._made

    def _hopeless(self, latency: Latency) -> bool:
        """Whether a file is surely too slow to add anything, whatever it scores."""
        most = self._request.worth_below
        return most is not None and latency.reliable and latency.ratio_low >= most

    def _leave(self, file: _File) -> None:
        _discard(file.path)
        reason = f"no faster than a model that loses nothing ({file.latency.ratio:.3g} of the reference's latency)"
        rejected = Rejected(file.recipe, reason, file.latency.statistic, file.latency.ratio)
        self._made = replace(self._made, hopeless=(*self._made.hopeless, rejected))

    def _failed(self, recipe: Recipe, strategy: str, reason: str) -> None:
        self._made = replace(self._made, failed=(*self._made.failed, (recipe, strategy, reason)))

    def _identifier(self, recipe: Recipe) -> str:
        return f"{recipe.id}-{self._request.rung}"


def _discard(path: Path) -> None:
    """Remove a candidate's file, and its folder when nothing else is in it."""
    path.unlink(missing_ok=True)
    with suppress(OSError):
        path.parent.rmdir()


def no_faster(latency: Latency, source: Latency) -> bool:
    """Whether a variant is surely no faster than the float file it was made from: where the machine was disturbed, when
    it is slower by more than that accounts for.
    """
    sound = latency.reliable and source.reliable
    return latency.ratio_low > (FASTER if sound else DISTURBED) * source.ratio
