"""The validation examples that a file does worse on than the reference, and what both answer there."""

from pathlib import Path

import torch
from torch import Tensor

from autocompress.candidate.open_task import OpenTask
from autocompress.candidate.request import ModelFile
from autocompress.candidate.score import kept_here, stored_outputs
from autocompress.changed_examples import ChangedExample, ChangedExamples
from autocompress.classes import answers_of, class_count, labels_of
from autocompress.data import Batch, Split, joined_padded, label_name, picture_of, spread
from autocompress.measure import outputs_of

EXAMPLES_SHOWN = 8
RUN_AGAIN = 64  # of the examples that lost most, by both files
FEWEST_LOOKED_AT, MOST_LOOKED_AT = 20, 500  # examples, where what is kept of outputs tells nothing of a single one


def changed_examples(
    opened: OpenTask, file: ModelFile, reference: str, own: str, seconds: float, again: int
) -> ChangedExamples | None:
    """None where the metric says nothing of one example, or that takes more than so many seconds. Where what was kept
    is of several examples together, a sample of them is scored anew, by both files. reference, own: store keys of what
    was kept of outputs. again: how many examples both files may be run on once more; at most ``RUN_AGAIN`` of those
    that lost most are. Raises CandidateFailed when some outputs are missing.
    """
    val, paths = opened.val, (opened.folder.root / file.path, opened.folder.reference)
    with opened.supervisor.during("score", "example by example"):
        kept = [stored_outputs(opened, key) for key in (own, reference)]
        if not val.tells_examples(kept[0]):
            val = val.sampled(min(again, MOST_LOOKED_AT))
            if len(val) < FEWEST_LOOKED_AT:
                return None
            kept = [kept_here(opened, path, val, opened.lock.give_way) for path in paths]
        found = val.changed(kept[0], kept[1], seconds)
        if found is None:
            return None
        losses, by_length = found[0].nan_to_num(0.0), found[1]
        numbers = _that_lost_most(losses, min(again, RUN_AGAIN))
        most = _most_changed(opened, val.split, file, numbers, losses) if len(numbers) and val.split.steady else []
    worse, better = int((losses > 0).sum()), int((losses < 0).sum())
    sampled_of = None if val is opened.val else len(opened.val)
    return ChangedExamples(len(losses), worse, better, tuple(most), by_length, sampled_of)


def _that_lost_most(losses: Tensor, most: int) -> Tensor:
    """At most so many indices; of those that lost as much, some that are spread over the split."""
    order = losses.argsort(descending=True, stable=True)
    lost = order[losses[order] > 0]
    if len(lost) <= most:
        return lost
    level = losses[lost[most - 1]] if most else losses.max()
    more, equal = lost[losses[lost] > level], lost[losses[lost] == level]
    return torch.cat([more, equal[spread(len(equal), most - len(more))]])


def _most_changed(
    opened: OpenTask, scored: Split, file: ModelFile, numbers: Tensor, losses: Tensor
) -> list[ChangedExample]:
    """Of these examples the ones that lost most, and of equal ones those whose outputs changed most; without those that
    both files answer alike now, in other company than when they were scored.
    """
    split, task = scored.of(numbers), opened.task
    reference, own = (
        _outputs(opened, split, path) for path in (opened.folder.reference, opened.folder.root / file.path)
    )
    moved = (reference - own).reshape(len(numbers), -1).abs().amax(1)
    order = sorted(range(len(numbers)), key=lambda at: (-float(losses[numbers[at]]), -float(moved[at])))
    examples = split.take(torch.arange(len(split)))
    right, before, now = (_in_words(opened, outputs, examples) for outputs in (None, reference, own))
    shown = [at for at in order if not before[at] or before[at] != now[at]][:EXAMPLES_SHOWN]
    return [
        ChangedExample(
            split.number(at),
            float(losses[numbers[at]]),
            right[at],
            before[at],
            now[at],
            picture_of(split.take(torch.tensor([at]))) if task.pictures else "",
        )
        for at in shown
    ]


def _outputs(opened: OpenTask, split: Split, path: Path) -> Tensor:
    """The scored outputs of a file, examples first; what varies in size is padded with zeros."""
    layout = opened.context.layout
    pieces = outputs_of(
        lambda: opened.open(path), split, opened.profile.batch, layout, opened.lock.give_way, sessions=1
    )
    found: Tensor = joined_padded([rows[layout.scored].float() for _, rows in pieces])
    return found


def _in_words(opened: OpenTask, outputs: Tensor | None, examples: Batch) -> list[str]:
    """For each example the answer that the outputs give, or the right one; empty where an answer is neither a class nor
    one number.
    """
    targets, task = examples.targets, opened.task
    nothing = [""] * len(examples)
    if not isinstance(targets, Tensor):
        return nothing
    like = opened.context.layout.rows_of(opened.context.layout.like)[opened.context.layout.scored].float()
    of_classes = like[:1].expand(len(targets), *like.shape[1:]) if outputs is None else outputs
    if class_count(of_classes, targets) is not None:
        labels = labels_of(of_classes, targets) if outputs is None else answers_of(outputs, targets, task.classes_last)
        return [label_name(task, int(label)) for label in labels] if labels.dim() == 1 else nothing
    numbers = targets if outputs is None else outputs
    if numbers.numel() != len(examples) or targets.numel() != len(examples):
        return nothing
    if bool(((targets == 0) | (targets == 1)).all()):  # one logit of two classes
        numbers = numbers if outputs is None else (numbers > 0)
        return [label_name(task, int(number)) for number in numbers.flatten()]
    return [f"{float(number):.4g}" for number in numbers.flatten()]
