"""A repaired structure brought nearer to what the original gives, on inputs without their labels.

Changes: the weights of a structure whose recipe trains nothing. Needs: a step that is fast enough for some dozens of
them in the time there is. Some hundreds of steps of the one training loop, of small batches, with the squared error to
the output of the original as the only loss; kept where that error falls on inputs that are held out. Follows: Hinton,
Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015; with few inputs Wang et al., "MiR", CVPR 2022.
Block by block (Li et al., "BRECQ", ICLR 2021, arXiv 2102.05426) a step costs the same and gains less:
docs/performance.md.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median_low

import torch
import torch.nn.functional as F
from torch import nn

from autocompress.candidate.arithmetic import Arithmetic
from autocompress.candidate.open_task import OpenTask
from autocompress.candidate.repair.calibration import calibration_sample
from autocompress.candidate.repair.repair import relative_output_error
from autocompress.candidate.request import TrainRequest
from autocompress.candidate.stream import TrainStream
from autocompress.candidate.teacher import Teacher
from autocompress.candidate.train import Schedule, Trained, train
from autocompress.data import Split, call, seeded
from autocompress.errors import CandidateFailed
from autocompress.nested import Nested, as_float, map_tensors, tensors_of
from autocompress.plain_model import evaluating
from autocompress.plugin.contract import LossTerm, TrainHook, TrainStep
from autocompress.task import Inputs

RECONSTRUCTION_SECONDS = 20.0  # of one structure
OVERTIME = 0.5  # times what it should take, in which it is annealed when it is late
LEAST_STEPS, MOST_STEPS = 24, 512  # fewer gain nothing that could be told from noise
PROBED_STEPS, PROBED_SHARE = 8, 0.1  # to learn what a step takes; of the time, at most
PEAK_LR = 1e-3
MOST_A_STEP = 32  # examples, at most
STEPS_IN_MEMORY = 4  # that as many examples make as the repair had memory for
MOST_READ = 4096  # that are read, at most, and held out
INPUT_BYTES = 1 << 28  # of these, at most
LEAST_ERROR = 0.02  # squared, as a share of the original's spread: what is nearer has lost next to no score
LEAST_FALL = 0.1  # of the squared error on held-out inputs, that it has to take away: less was noise in the score
HELD_OUT_OF = 4  # one in so many, at most, tells whether it helps
RECONSTRUCTION = "reconstructed_on"  # examples, with repetitions: what a recipe records beside the calibration


@dataclass(frozen=True)
class UnlabelledInputs:
    """stream: of training inputs with the original's outputs; the labels are not read. held_out: other inputs. wanted:
    what the original gives for those. batch: examples of a step.
    """

    stream: TrainStream
    held_out: Inputs
    wanted: Nested
    batch: int

    @property
    def spreads(self) -> dict[str, float]:
        """The variance of each output of the original, by name."""
        heads = self.stream.layout.heads(self.wanted)
        return {name: max(float(head.var()), 1e-30) for name, head in heads.items() if head.is_floating_point()}

    def error(self, model: nn.Module) -> float:
        """Squared error of the output on the held-out inputs, as a share of the original's spread."""
        with torch.no_grad():
            return relative_output_error(call(evaluating(model), self.held_out), self.wanted)


class OutputError(TrainHook):
    """The squared error to the teacher's outputs is the whole loss, of each as a share of its variance."""

    needs_teacher = True

    def __init__(self, spreads: Mapping[str, float]) -> None:
        self._spreads = spreads

    def loss(self, step: TrainStep) -> LossTerm:
        assert step.teacher_heads is not None
        both = [n for n in self._spreads if n in step.heads and n in step.teacher_heads]
        errors = [F.mse_loss(step.heads[n], step.teacher_heads[n]) / self._spreads[n] for n in both]
        return LossTerm(torch.stack(errors).mean(), 1.0, task_scale=0.0)


def reconstructed(
    opened: OpenTask, request: TrainRequest, model: nn.Module, repaired: str
) -> tuple[nn.Module, str, dict[str, int]]:
    """A repaired structure nearer to the original, the store key of its weights, and what a recipe records of it; all
    as it was, and nothing, where it is near already, or the steps did not help or are too dear.

    It has as much time as the request says; without a limit as many steps as the request knows of an earlier time.
    repaired: the key of the weights that it has. Raises Interrupted.
    """
    text = f"reconstruct: {request.recipe.techniques()}"
    with opened.supervisor.during("repair", text):
        found = None
        with suppress(CandidateFailed, RuntimeError):  # it diverges, or has no gradient
            found = _reconstructed(opened, request, model, text)
        if found is None:
            return model, repaired, {}
        key = opened.store.key("reconstructed", repaired, found.examples)
        opened.store.save(key, found.model.state_dict())
    return found.model, key, {RECONSTRUCTION: found.examples}


def _reconstructed(opened: OpenTask, request: TrainRequest, model: nn.Module, text: str) -> Trained | None:
    """None where there is little to gain, it does not help, or is too dear."""
    examples, limit_s = int(request.calibration.get(RECONSTRUCTION, 0)), request.limit_s
    if limit_s is None and not examples:
        return None
    inputs = unlabelled_inputs(opened, request.arithmetic)
    if inputs is None or (before := inputs.error(model)) < LEAST_ERROR:
        return None
    clock, safe_point = opened.working_s, opened.safe_point(text)
    began: list[float] = []  # when each step did

    def between(fraction: float) -> None:
        safe_point(fraction)
        began.append(clock())

    def trained(examples: int, limit_s: float | None, clock: Callable[[], float]) -> Trained:
        with seeded(opened.context.seed):  # dropout draws the same, whatever was made before
            return train(
                copy.deepcopy(model),
                [("reconstruction", OutputError(inputs.spreads))],
                opened.task.loss_fn,
                inputs.stream,
                Schedule(PEAK_LR, inputs.batch, 0, examples, limit_s),
                request.arithmetic,
                between=between,
                clock=clock,
            )

    overtime_s, due_s = None, 0.0
    if limit_s is not None:
        limit_s = min(limit_s, RECONSTRUCTION_SECONDS)
        trained(PROBED_STEPS * inputs.batch, PROBED_SHARE * limit_s, clock)
        steps = _affordable([*began, clock()], limit_s)
        if steps < LEAST_STEPS:
            return None
        examples, overtime_s, due_s = steps * inputs.batch, OVERTIME * limit_s, clock() + limit_s
    # A clock that stands still until the work is overdue: until then the weights follow from the number of steps alone.
    found = trained(examples, overtime_s, lambda: max(clock(), due_s))
    return found if inputs.error(found.model) < (1 - LEAST_FALL) * before else None


def _affordable(moments: Sequence[float], limit_s: float) -> int:
    """How many steps there is time for. moments: when each step so far began, and the last one ended."""
    took = [after - before for before, after in pairwise(moments)]
    return min(MOST_STEPS, int(limit_s / max(median_low(took), 1e-6))) if took else 0


def unlabelled_inputs(opened: OpenTask, arithmetic: Arithmetic) -> UnlabelledInputs | None:
    """The same for all structures of a task; None where there are too few examples."""
    return opened.context.once(("repair.unlabelled", arithmetic), lambda: _drawn(opened, arithmetic))


def _drawn(opened: OpenTask, arithmetic: Arithmetic) -> UnlabelledInputs | None:
    context, sample = opened.context, calibration_sample(opened.context)
    if sample is None:
        return None
    one = tensors_of(context.example_inputs)
    bytes_each = sum(t.numel() * t.element_size() for t in one) // max(1, len(one[0]))
    pool = context.train.sampled(max(sample.examples, min(MOST_READ, INPUT_BYTES // max(1, bytes_each))))
    every = max(HELD_OUT_OF, len(pool) // sample.examples)
    rows = torch.arange(len(pool))
    held = rows % every == every - 1
    read, held_out = pool.take(rows[~held]), pool.take(rows[held]).inputs
    with torch.no_grad():
        wanted = map_tensors(as_float, call(context.model, held_out))
    batch = min(MOST_A_STEP, max(1, sample.examples // STEPS_IN_MEMORY))
    stream = TrainStream(
        opened.task,
        Split(context.train.name, len(read), lambda indices: pool.take(rows[~held][list(indices)]), read),
        Teacher(opened.task.copy_of_model(), arithmetic, context.layout),
        context.seed,
        policy=replace(opened.policy, taught_block=batch),  # no more runs of the original than there are steps
    )
    return UnlabelledInputs(stream, held_out, wanted, batch)
