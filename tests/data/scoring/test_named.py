"""Metrics by name: what people write, against scikit-learn's numbers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch import Tensor

from autocompress.errors import UsageError
from tests.data.scoring.sets import kept_of, set_of


def labelled(classes: int, size: int = 300) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(classes)
    labels = torch.randint(classes, (size,), generator=generator)
    outputs = torch.randn(size, classes, generator=generator)
    outputs[torch.arange(size), labels] += 1
    return outputs, labels


def value(outputs: Tensor, targets: Tensor, name: str) -> float:
    examples = set_of(outputs, targets, name)
    return examples.score(kept_of(examples, outputs)).shown(examples.maximize).val


MACRO = {"average": "macro"}


@pytest.mark.parametrize(
    ("name", "known", "of_many"),
    [
        ("f1", metrics.f1_score, MACRO),
        ("F1 Score", metrics.f1_score, MACRO),
        ("precision", metrics.precision_score, MACRO),
        ("recall", metrics.recall_score, MACRO),
        ("iou", metrics.jaccard_score, MACRO),
        ("Cohen_Kappa", metrics.cohen_kappa_score, {}),
        ("mcc", metrics.matthews_corrcoef, {}),
        ("balanced accuracy", metrics.balanced_accuracy_score, {}),
    ],
)
@pytest.mark.parametrize("classes", [2, 5])
def test_labels(name: str, known: Callable[..., float], of_many: dict[str, str], classes: int):
    """Of two classes the second's, as in scikit-learn; of more the mean over them."""
    outputs, labels = labelled(classes)
    wanted = known(labels.numpy(), outputs.argmax(1).numpy(), **(of_many if classes > 2 else {}))
    assert value(outputs, labels, name) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("classes", [2, 5])
def test_mean_iou_is_over_all_classes(classes: int):
    outputs, labels = labelled(classes)
    wanted = metrics.jaccard_score(labels, outputs.argmax(1), average="macro")
    assert value(outputs, labels, "mean IoU") == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("classes", [2, 5])
def test_areas_under_curves_rank_probabilities(classes: int):
    outputs, labels = labelled(classes)
    likely = outputs.softmax(1).numpy()
    wanted = metrics.roc_auc_score(labels, likely if classes > 2 else likely[:, 1], multi_class="ovr")
    assert value(outputs, labels, "AUROC") == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("f1", lambda y, x: metrics.f1_score(y, x > 0)),
        ("mean_iou", lambda y, x: metrics.jaccard_score(y, x > 0, average="macro")),
        ("balanced_accuracy", lambda y, x: metrics.balanced_accuracy_score(y, x > 0)),
        ("auroc", metrics.roc_auc_score),
        ("average_precision", metrics.average_precision_score),
    ],
)
def test_one_output_for_two_classes(name: str, known: Callable[[Any, Any], float], probabilities: bool):
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(2, (300,), generator=generator).float()
    logits = torch.randn(300, generator=generator) + targets - 0.5
    outputs = (logits.sigmoid() if probabilities else logits)[:, None]
    assert value(outputs, targets, name) == pytest.approx(known(targets.numpy(), logits.numpy()), abs=1e-5)


def test_several_labels_an_example():
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(2, (300, 4), generator=generator).float()
    outputs = torch.randn(300, 4, generator=generator) + targets - 0.5
    wanted = metrics.f1_score(targets.numpy(), (outputs > 0).numpy(), average="macro")
    assert value(outputs, targets, "f1") == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("rmse", metrics.root_mean_squared_error),
        ("MSE", metrics.mean_squared_error),
        ("mae", metrics.mean_absolute_error),
        ("MeanAbsoluteError", metrics.mean_absolute_error),
        ("r2", metrics.r2_score),
        ("pearson", lambda y, x: np.corrcoef(y, x)[0, 1]),
    ],
)
def test_regression_brings_a_last_axis_of_one_together(name: str, known: Callable[[Any, Any], float]):
    generator = torch.Generator().manual_seed(0)
    targets = 3 * torch.randn(300, generator=generator)
    outputs = targets[:, None] + torch.randn(300, 1, generator=generator)
    wanted = known(targets.numpy(), outputs[:, 0].numpy())
    assert value(outputs, targets, name) == pytest.approx(wanted, abs=1e-4)


def test_places_with_the_ignored_label_do_not_count():
    outputs, labels = labelled(3)
    ignored = labels.clone()
    ignored[::3] = -100
    counted = ignored >= 0
    wanted = metrics.f1_score(labels[counted], outputs.argmax(1)[counted], average="macro")
    assert value(outputs, ignored, "f1") == pytest.approx(wanted, abs=1e-5)


def test_a_metric_of_other_targets_is_refused_with_their_shape():
    outputs, labels = labelled(3)
    with pytest.raises(UsageError, match=r"'rmse' is one of regression targets.*\(64, 3\).*int64"):
        set_of(outputs, labels, "rmse")
    with pytest.raises(UsageError, match=r"'f1' is one of binary, multiclass, multilabel targets.*float32"):
        set_of(torch.randn(20, 1), torch.randn(20, 1), "f1")
