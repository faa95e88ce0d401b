"""The validation examples that a file does worse on than the reference, and what both answer there."""

from pathlib import Path

import torch
from torch import Tensor

from autocompress.candidate.open_task import OpenTask
from autocompress.candidate.request import ModelFile
from autocompress.candidate.score import stored_outputs
from autocompress.changed_examples import ChangedExample, ChangedExamples
from autocompress.classes import answers_of, class_count, labels_of
from autocompress.data import Batch, Split, joined_padded, label_name, picture_of, spread
from autocompress.measure import outputs_of

EXAMPLES_SHOWN = 8  # examples
RUN_AGAIN = 64  # of those that lost most, by both files


def changed_examples(opened: OpenTask, file: ModelFile, reference: str, own: str) -> ChangedExamples | None:
    """None where the metric says nothing of one example. reference, own: store keys of what was kept of outputs. Raises
    CandidateFailed when one is missing.
    """
    with opened.supervisor.during("score", "example by example"):
        found = opened.val.changed(stored_outputs(opened, own), stored_outputs(opened, reference))
        if found is None:
            return None
        losses, by_length = found
        losses = losses.nan_to_num(0.0)
        order = losses.argsort(descending=True, stable=True)
        lost = order[losses[order] > 0]
        level = losses[lost][:RUN_AGAIN].min() if len(lost) else 0.0
        surely, equal = lost[losses[lost] > level], lost[losses[lost] == level]
        again = torch.cat([surely, equal[spread(len(equal), RUN_AGAIN - len(surely))]]) if len(lost) else lost
        most = _most_changed(opened, file, again, losses) if len(again) else []
    return ChangedExamples(len(losses), int((losses > 0).sum()), int((losses < 0).sum()), tuple(most), by_length)


def _most_changed(opened: OpenTask, file: ModelFile, numbers: Tensor, losses: Tensor) -> list[ChangedExample]:
    """Of these examples the ones that lost most, and of equal ones those whose outputs changed most."""
    split = opened.val.split.of(numbers)
    reference, own = (
        _outputs(opened, split, path) for path in (opened.folder.reference, opened.folder.root / file.path)
    )
    moved = (reference - own).flatten(1).abs().amax(1)
    order = sorted(range(len(numbers)), key=lambda at: (-float(losses[numbers[at]]), -float(moved[at])))
    found = []
    for at in order[:EXAMPLES_SHOWN]:
        example, number = split.take(torch.tensor([at])), int(numbers[at])
        words = (_in_words(opened, outputs[[at]], example) for outputs in (reference, own))
        (target, before), (_, now) = words
        found.append(ChangedExample(number, float(losses[number]), target, before, now, picture_of(example)))
    return found


def _outputs(opened: OpenTask, split: Split, path: Path) -> Tensor:
    """The scored outputs of a file, examples first; what varies in size is padded with zeros."""
    layout = opened.context.layout
    pieces = outputs_of(
        lambda: opened.open(path), split, opened.profile.batch, layout, opened.lock.give_way, sessions=1
    )
    found: Tensor = joined_padded([rows[layout.scored].float() for _, rows in pieces])
    return found


def _in_words(opened: OpenTask, outputs: Tensor, example: Batch) -> tuple[str, str]:
    """The right answer of one example, and the one that these outputs (1, ...) give."""
    targets, task = example.targets, opened.task
    if not isinstance(targets, Tensor):
        return "", ""
    if class_count(outputs, targets) is not None:
        labels = labels_of(outputs, targets), answers_of(outputs, targets, task.classes_last)
        if any(of.numel() > 1 for of in labels):
            return "", ""
        target, answer = (label_name(task, int(of)) for of in labels)
        return target, answer
    if targets.numel() == 1 == outputs.numel():
        return f"{float(targets):.4g}", f"{float(outputs):.4g}"
    return "", ""
