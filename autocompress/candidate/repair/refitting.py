"""One layer refitted: from what it reads now to what its original gave, at all of its calls together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from autocompress.candidate.repair.least_squares import Fit, RegressionRows, are_few, refit, squared
from autocompress.candidate.repair.original import GaveRows
from autocompress.candidate.repair.recurrent_rows import GaveStates, Recurrent
from autocompress.candidate.repair.rows import Convolution, weight_rows
from autocompress.errors import CandidateFailed

HELD_OUT = 4  # one example in so many chooses the ridge, and tells whether a refit helps
SAME = 1e-10  # squared error, as a share, of a layer that reads what it read


@dataclass(frozen=True)
class LayerFit:
    """before, after: squared error of what a layer gives on held-out examples, as a share of what the original gave.
    ridge: None where nothing does better there than the weights that it has, which stay. rows: that it was fitted on.
    part: of a recurrent layer, which of its matrices.
    """

    layer: str
    before: float
    after: float
    ridge: float | None
    rows: int
    regressors: int
    part: str = ""

    @property
    def on_few_rows(self) -> bool:
        """Whether there were so few that a stronger ridge held it to the weights that it has."""
        return are_few(self.rows, self.regressors)


def refit_matrix(
    name: str,
    layers: Sequence[nn.Linear | Convolution],
    given: Sequence[Tensor],
    gave: Sequence[GaveRows],
    outputs: Tensor,
    *,
    normed: bool,
) -> Iterator[LayerFit]:
    """Refit a linear layer or a convolution, or several that have the same weights. given: what they read at each of
    their calls, as ``input_rows`` has it. gave: by the same calls. outputs: which of the original's they have. normed:
    whether batch norms behind them take what an intercept would.
    """
    z, own = _joined(given, 2), weight_rows(layers[0])
    kept = _joined([one.outputs[..., outputs] for one in gave], 1)
    t = kept.reshape(*kept.shape[:2], len(z), -1).movedim(2, 0)
    valid = _joined([_counting(one) for one in gave], 1)
    biases = {layer.bias for layer in layers}
    found = _fit(name, z, t, own, intercept=None not in biases or normed, valid=valid)
    if found is None:
        return
    fit, told = found
    if fit is not None:
        with torch.no_grad():
            layers[0].weight.copy_(fit.weights.reshape(layers[0].weight.shape))
            for bias in biases:
                if bias is not None and fit.intercept is not None:
                    bias.add_(fit.intercept.flatten())
    yield told


def refit_recurrent(
    name: str,
    layer: Recurrent,
    original: Recurrent,
    given: Sequence[Tensor],
    gave: Sequence[GaveStates],
    outputs: Tensor,
) -> Iterator[LayerFit]:
    """Refit the matrices of a recurrent layer of one layer, or of a cell, each direction alone: the recurrent one on
    the original's own states, without an intercept since the first state is zero; the input one on what the layer reads
    now. given: at each of its calls, (N, T, I). Steps behind the end of a sequence do not count.
    """
    size, now, before = int(original.hidden_size), _joined(given, 1), GaveStates.joined(gave)
    for direction, began in enumerate(before.began):
        reverse = "_reverse" if direction else ""
        suffix = f"{'' if isinstance(layer, nn.RNNCellBase) else '_l0'}{reverse}"
        units = outputs[(outputs >= direction * size) & (outputs < (direction + 1) * size)] - direction * size
        gates = getattr(original, f"weight_hh{suffix}").shape[0] // size
        kept = (torch.arange(gates)[:, None] * size + units).flatten()
        read = {
            "weight_hh": (began[..., units], began, before.began_valid, False),
            "weight_ih": (now, before.inputs, before.valid, bool(layer.bias)),
        }
        for part, (reads, was_read, valid, intercept) in read.items():
            target = was_read @ getattr(original, f"{part}{suffix}").detach()[kept].T
            weight = getattr(layer, f"{part}{suffix}")
            found = _fit(name, reads[None], target[None], weight.detach()[None], intercept=intercept, valid=valid)
            if found is None:
                continue
            fit, told = found
            if fit is not None:
                with torch.no_grad():
                    weight.copy_(fit.weights[0])
                    if fit.intercept is not None:
                        getattr(layer, f"bias_ih{suffix}").add_(fit.intercept[0])
            yield replace(told, part=part + reverse)


def _joined(calls: Sequence[Tensor], axis: int) -> Tensor:
    """Of a layer that is called once no copy: its rows may take a quarter of a GiB."""
    return calls[0] if len(calls) == 1 else torch.cat(tuple(calls), axis)


def _counting(gave: GaveRows) -> Tensor:
    every = torch.ones(gave.outputs.shape[:2], dtype=torch.bool)
    return every if gave.places.counting is None else gave.places.counting


def _fit(
    name: str, z: Tensor, t: Tensor, own: Tensor, *, intercept: bool, valid: Tensor
) -> tuple[Fit | None, LayerFit] | None:
    """z: (G, N, P, I). t: (G, N, P, O). own: (G, O, I). valid: (N, P), the places that count. No fit where none is
    better than the weights there are; None where nothing is to be gained.
    """
    if z.shape[:3] != t.shape[:3]:
        raise CandidateFailed(f"it reads {tuple(z.shape[1:3])} examples and places, and read {tuple(t.shape[1:3])}")
    held = torch.arange(z.shape[1]) % HELD_OUT == HELD_OUT - 1
    rows = [valid & part[:, None] for part in (~held, held)]
    if not all(part.any() for part in rows):
        return None
    fitted, told = (RegressionRows(z[:, part], t[:, part]) for part in rows)
    before, scale = squared(told.off(own)), squared(told.targets)
    if before <= SAME * scale:
        return None
    fit, share = refit(fitted, told, own, intercept=intercept), before / max(scale, 1e-30)
    after, ridge = (share, None) if fit is None else (fit.after, fit.ridge)
    return fit, LayerFit(name, share, after, ridge, *fitted.regressors.shape[1:])
