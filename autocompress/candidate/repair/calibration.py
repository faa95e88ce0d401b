"""The training examples that a structure is repaired on."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from autocompress.candidate.repair.original import REPAIRED_LAYERS, bytes_of
from autocompress.candidate.repair.refitting import LayerFit
from autocompress.data import call, named_inputs
from autocompress.nested import tensors_of
from autocompress.plugin.contract import Context
from autocompress.storage.store import digest_of_tensors
from autocompress.task import Inputs

EXAMPLES = 256  # at most; what counts is rows over width, and an image has many places
ACTIVATION_BYTES = 1 << 30  # of what the layers give for all examples, at most at a time
FEWEST = 5  # examples, of which one is held out


@dataclass(frozen=True)
class CalibrationSample:
    """inputs: of training examples spread over the split, without augmentation. examples: how many; a prime number, by
    which their axis is known from others. digest: of the inputs. whole_split: whether there would be more of them if
    the split had more.
    """

    inputs: Inputs
    examples: int
    digest: str
    whole_split: bool = False

    def facts(self, fits: Iterable[LayerFit] = ()) -> dict[str, Any]:
        """What a recipe records of it, and of the layers that it gave few rows for their width: of each, the matrix
        with fewest. fits: of the layers that were to be refitted on it.
        """
        told = {"examples": self.examples, "digest": self.digest, "whole_split": self.whole_split}
        rows: dict[str, dict[str, Any]] = {}
        for fit in sorted((fit for fit in fits if fit.on_few_rows), key=lambda fit: fit.rows / fit.regressors):
            rows.setdefault(fit.layer, {"layer": fit.layer, "rows": fit.rows, "regressors": fit.regressors})
        return {**told, "few_rows": [*rows.values()]} if rows else told


def calibration_sample(context: Context) -> CalibrationSample | None:
    """The same one for all structures of a task; None where there are too few examples."""
    return context.once("repair.sample", lambda: _drawn(context))


def _drawn(context: Context) -> CalibrationSample | None:
    allowed = min(EXAMPLES, ACTIVATION_BYTES // max(1, _bytes_an_example(context)))
    count = _largest_prime(min(allowed, len(context.train)))
    if count < FEWEST:
        return None
    inputs = next(context.train_batches(count, count)).inputs
    return CalibrationSample(inputs, count, digest_of_tensors(named_inputs(inputs)), count < _largest_prime(allowed))


def _bytes_an_example(context: Context) -> int:
    """What the largest layer gives for one, with what is kept beside it; at least all that those give that are called
    more than once, those that share their weights as one.
    """
    gives: dict[Any, list[int]] = defaultdict(list)

    def see(module: nn.Module, given: object, gave: object) -> None:
        if isinstance(module, REPAIRED_LAYERS):
            gives[dict(module.named_parameters(recurse=False)).get("weight", module)].append(bytes_of(gave))
        elif isinstance(gave, Tensor):
            gives[None].append(bytes_of(gave))

    handles = [module.register_forward_hook(see) for module in context.model.modules()]
    try:
        with torch.no_grad():
            call(context.model, context.example_inputs)
    finally:
        for handle in handles:
            handle.remove()
    largest = max((max(calls) for calls in gives.values()), default=0)
    again = sum(sum(calls) for shared, calls in gives.items() if shared is not None and len(calls) > 1)
    return max(8 * largest, again) // max(1, len(tensors_of(context.example_inputs)[0]))


def _largest_prime(most: int) -> int:
    """0 where there is none."""
    primes = (n for n in range(most, 1, -1) if all(n % divisor for divisor in range(2, int(n**0.5) + 1)))
    return next(primes, 0)
