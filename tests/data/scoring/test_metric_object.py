"""Objects with update, compute and reset, and what they compute."""

from typing import Any

import pytest
import torch
from torch import Tensor

from autocompress.errors import CandidateFailed, UsageError
from tests.data.scoring.sets import kept_of, set_of

OUTPUTS, TARGETS = torch.arange(6.0)[:, None], torch.zeros(6)


class MeanOutput:
    """Counts what it was told since it was reset."""

    def __init__(self) -> None:
        self.told: list[Tensor] = []

    def reset(self) -> None:
        self.told = []

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        self.told.append(outputs)

    def compute(self) -> Any:
        return torch.cat(self.told).mean()


class Detections(MeanOutput):
    def compute(self) -> Any:
        return {"map": torch.tensor(0.5), "map_50": torch.tensor(0.75), "per_class": torch.zeros(3)}


def value(metric: Any, **others: Any) -> float:
    examples = set_of(OUTPUTS, TARGETS, metric, **others)
    return examples.value(kept_of(examples, OUTPUTS, at_once=2))


def test_an_object_of_the_users_own_is_a_metric_and_stays_as_it_was():
    metric = MeanOutput()
    metric.update(torch.full((1, 1), 9.0), TARGETS)
    assert value(metric) == 2.5
    assert value(metric, maximize=False) == -2.5
    assert len(metric.told) == 1


def test_of_a_dict_the_entry_is_asked_for_with_the_names():
    with pytest.raises(CandidateFailed, match=r"several numbers, but map, map_50, per_class: .*\(metric, 'map'\)"):
        value(Detections())
    assert value((Detections(), "map_50")) == 0.75
    assert value((lambda outputs, targets: {"a": 1, "b": 2}, "b")) == 2.0
    with pytest.raises(CandidateFailed, match="gives no 'ap', but map"):
        value((Detections(), "ap"))


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (torch.zeros(3), r"a tensor of shape \(3,\): expected one number"),
        (None, "NoneType: expected one number"),
        ({"per_class": torch.zeros(2)}, "several numbers, but per_class"),
    ],
)
def test_what_is_no_number_is_said(result: Any, said: str):
    with pytest.raises(CandidateFailed, match=f"Task.metric gives {said}"):
        value(lambda outputs, targets: result)


def test_an_object_that_cannot_be_copied_is_refused():
    class Held(MeanOutput):
        def __deepcopy__(self, memo: object) -> "Held":
            raise TypeError("cannot pickle a file")

    with pytest.raises(UsageError, match=r"Task\.metric cannot be copied: TypeError: cannot pickle a file"):
        set_of(OUTPUTS, TARGETS, Held())
