"""How long examples are, told by a mask or by what a loader pads."""

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from autocompress import Task
from autocompress.data import Batch, read_data
from autocompress.data.lengths import lengths_of
from autocompress.data.reading import Reading
from autocompress.data.split import Split

LENGTHS = torch.tensor([3, 1, 5, 2, 4, 5])


class Pooled(nn.Module):
    """The mean over what a mask leaves, or over all."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(2, 2)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        kept = torch.ones(x.shape[:2]) if mask is None else mask.float()
        return self.net((x * kept.unsqueeze(-1)).sum(1) / kept.sum(1, keepdim=True))  # type: ignore[no-any-return]


def masked(mask: Tensor) -> Split:
    inputs = {"x": torch.randn(6, 5, 2), "mask": mask}
    data = inputs, torch.arange(6) % 2
    return read_data(Task(name="t", model=Pooled(), train=data, val=data), Reading()).splits["val"]


def test_a_mask_tells_lengths_whichever_side_is_padded() -> None:
    places = torch.arange(5)
    right, left = places < LENGTHS[:, None], places >= 5 - LENGTHS[:, None]
    for mask in (right.long(), left.float()):
        found = lengths_of(masked(mask), {}, 10.0)
        assert found is not None
        assert found.tolist() == LENGTHS.tolist()


def test_zeros_and_ones_in_no_order_are_no_mask() -> None:
    scattered = torch.tensor([[1, 0, 1, 0, 1]] * 6)
    assert lengths_of(masked(scattered), {}, 10.0) is None
    assert lengths_of(masked(torch.ones(6, 5)), {}, 10.0) is None, "all are as long"


def test_marks_of_an_example_are_no_mask() -> None:
    places = torch.arange(5)
    mask = (places < LENGTHS[:, None]).long()
    data = {"x": torch.randn(6, 5, 2), "kind": torch.zeros(6, 5), "flag": torch.tensor([[1, 0]] * 6), "mask": mask}
    batch = Batch(data, torch.arange(6) % 2)
    found = lengths_of(Split("val", 6, lambda rows: batch.at(torch.tensor(rows)), batch), {}, 10.0)
    assert found is not None
    assert found.tolist() == LENGTHS.tolist(), "of the mask, which is the last"


def test_what_takes_long_to_read_is_left_out() -> None:
    mask = (torch.arange(5) < LENGTHS[:, None]).long()
    assert lengths_of(masked(mask), {}, -1.0) is None


def test_what_a_loader_pads_is_as_long_as_it_is_alone() -> None:
    rows = [(torch.randn(int(length), 2), number % 2) for number, length in enumerate(LENGTHS)]

    def padded(items: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
        return nn.utils.rnn.pad_sequence([x for x, _ in items], batch_first=True), torch.tensor([y for _, y in items])

    loader = DataLoader(rows, batch_size=3, collate_fn=padded)  # type: ignore[arg-type,var-annotated]
    data = read_data(Task(name="t", model=Pooled(), train=loader, val=loader), Reading())
    found = lengths_of(data.splits["val"], data.layout.dynamic, 10.0)
    assert found is not None
    assert found.tolist() == LENGTHS.tolist()
