"""A file of a search as trackers of experiments have it: parameters and metrics by name."""

from autocompress.plugin.contract import MeasuredFile
from autocompress.recipe import Recipe, Value


def parameters_of(recipe: Recipe) -> dict[str, Value]:
    """As a search space names them, ``prune_channels.ratio``; a step without parameters is there as true."""
    steps = [*recipe.steps, *([] if recipe.variant is None else [recipe.variant])]
    found: dict[str, Value] = {}
    for step in steps:
        own = {f"{step.strategy}.{name}": value for name, value in step.params}
        found |= own or {step.strategy: True}
    return found


def metrics_of(file: MeasuredFile) -> dict[str, float]:
    """Score on the validation split (``score``) and, where it was tested, on the test split (``test``), both in the
    metric's unit; milliseconds of the profile's percentile; times faster than the reference; bytes; epochs.
    """
    found = {
        "score": file.score.val,
        "latency_ms": file.latency_ms.statistic,
        "speedup": file.speedup,
        "size_bytes": float(file.size_bytes),
        "params": float(file.params),
        "epochs": file.fidelity,
    }
    return found if file.score.test is None else {**found, "test": file.score.test}
