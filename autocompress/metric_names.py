"""The names of metrics that a task may give: "accuracy", and those of torchmetrics as people write them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from autocompress.errors import UsageError, unknown

if TYPE_CHECKING:
    from torchmetrics import Metric

ACCURACY = "accuracy"
ACCURACY_TOO = ("accuracy", "acc", "top1", "top1accuracy")
BINARY, MULTICLASS, MULTILABEL, REGRESSION = "Binary", "Multiclass", "Multilabel", ""  # as names of classes begin
OBJECT = ("update", "compute", "reset")  # the methods of a metric that is an object


@dataclass(frozen=True)
class NamedMetric:
    """classes: of torchmetrics, by kind. arguments: theirs, beside the number of classes or labels. of_both: of two
    classes the mean over both is meant, and not the metric of the second.
    """

    name: str
    classes: Mapping[str, type[Metric]]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    of_both: bool = False

    @property
    def higher_is_better(self) -> bool | None:
        """As torchmetrics has it; None where that does not say."""
        return next(iter(self.classes.values())).higher_is_better


@dataclass(frozen=True)
class _Short:
    """What people write for a metric of torchmetrics."""

    stem: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    of_both: bool = False
    kinds: tuple[str, ...] = (BINARY, MULTICLASS, MULTILABEL, REGRESSION)


SHORT = {
    "balancedaccuracy": _Short("accuracy", {"average": "macro"}, of_both=True, kinds=(MULTICLASS,)),
    "top5": _Short("accuracy", {"average": "micro", "top_k": 5}, kinds=(MULTICLASS,)),
    "top5accuracy": _Short("accuracy", {"average": "micro", "top_k": 5}, kinds=(MULTICLASS,)),
    "meaniou": _Short("jaccardindex", of_both=True),
    "miou": _Short("jaccardindex", of_both=True),
    "rmse": _Short("meansquarederror", {"squared": False}),
    "rootmeansquarederror": _Short("meansquarederror", {"squared": False}),
    **{
        short: _Short(stem)
        for short, stem in {
            "ap": "averageprecision",
            "auc": "auroc",
            "f1": "f1score",
            "f1macro": "f1score",
            "hamming": "hammingdistance",
            "iou": "jaccardindex",
            "jaccard": "jaccardindex",
            "kappa": "cohenkappa",
            "macrof1": "f1score",
            "mae": "meanabsoluteerror",
            "mape": "meanabsolutepercentageerror",
            "matthews": "matthewscorrcoef",
            "mcc": "matthewscorrcoef",
            "mse": "meansquarederror",
            "nrmse": "normalizedrootmeansquarederror",
            "pearson": "pearsoncorrcoef",
            "prauc": "averageprecision",
            "r2": "r2score",
            "rocauc": "auroc",
            "sensitivity": "recall",
            "smape": "symmetricmeanabsolutepercentageerror",
            "spearman": "spearmancorrcoef",
        }.items()
    },
}
NOT_ONE_NUMBER = re.compile(r"At(Fixed|Sensitivity|Specificity)|Curve$|^ROC$|StatScores$|Rates$|Fairness$|Matrix$")
MORE_NEEDED = ("FBetaScore", "MinkowskiDistance", "CriticalSuccessIndex")  # arguments that a name does not tell


def checked_metric(given: Any, maximize: bool | None) -> Any:
    """A task's metric: a name, as it is to be read from now on, or what the user gave. Raises UsageError for what is no
    metric, an unknown name, and a direction that is not the metric's.
    """
    inner = metric_and_entry(given)[0]
    better: bool | None = None
    if isinstance(given, str):
        if _key(given) in ACCURACY_TOO:
            given, better = ACCURACY, True
        else:
            better = named_metric(given).higher_is_better
    elif isinstance(inner, type):
        raise UsageError(f"Task.metric is the class {inner.__name__}: give an object of it, as in {inner.__name__}()")
    elif not callable(inner) and not is_object(inner):
        raise UsageError(
            "Task.metric must be a name, a callable, an object with update, compute and reset, or one of these with "
            f"the entry of its result that counts, as in (metric, 'map'), not {given!r}"
        )
    else:
        better = known_direction(inner)
    if better is not None and maximize is not None and maximize is not better:
        raise UsageError(
            f"Task.maximize is {maximize}, and of {given if isinstance(given, str) else type(inner).__name__} "
            f"{'higher' if better else 'lower'} values are better: leave Task.maximize out"
        )
    return given


def metric_and_entry(given: Any) -> tuple[Any, str | None]:
    """The metric, and which entry of the dict that it computes counts: of ``(metric, "map")`` both."""
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], str):
        return given
    return given, None


def is_object(metric: Any) -> bool:
    """Whether it is told outputs and targets piece by piece, and computes its value of all of them."""
    return not isinstance(metric, type) and all(callable(getattr(metric, name, None)) for name in OBJECT)


def known_direction(metric: Any) -> bool | None:
    """Whether higher values are better, where the metric says so: as those of torchmetrics do."""
    better = getattr(metric, "higher_is_better", None)
    return better if isinstance(better, bool) else None


def named_metric(name: str) -> NamedMetric:
    """What a name stands for, whichever way it is written: ``F1``, ``mean IoU``, ``MeanSquaredError``. Raises
    UsageError, with the nearest name, when it is unknown.
    """
    known, short = _known(), SHORT.get(_key(name))
    stem = short.stem if short else _key(name)
    classes = known.get(stem) or known.get(f"{stem}score") or known.get(f"{stem}index")
    if classes is None:
        raise unknown("metric", _key(name), [ACCURACY, *SHORT, *known])
    if short is None:
        return NamedMetric(name, classes)
    kinds = {kind: found for kind, found in classes.items() if kind in short.kinds}
    return NamedMetric(name, kinds, short.arguments, short.of_both)


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


@cache
def _known() -> Mapping[str, Mapping[str, type[Metric]]]:
    """The metrics of torchmetrics that compute one number of outputs and targets alone, by name and kind."""
    from torchmetrics import classification, regression  # it takes a second or two

    found: dict[str, dict[str, type[Metric]]] = {}
    for name in classification.__all__:
        kind = next((kind for kind in (BINARY, MULTICLASS, MULTILABEL) if name.startswith(kind)), None)
        if kind is not None and _is_simple(name.removeprefix(kind)):
            found.setdefault(_key(name.removeprefix(kind)), {})[kind] = getattr(classification, name)
    for name in filter(_is_simple, regression.__all__):
        found[_key(name)] = {REGRESSION: getattr(regression, name)}
    return found


def _is_simple(stem: str) -> bool:
    return stem not in MORE_NEEDED and not NOT_ONE_NUMBER.search(stem)
