"""The rows of a layer, times its weights, are what it gave: for each kind, at the places that were chosen."""

import pytest
import torch
from torch import Tensor, nn

from autocompress.candidate.repair import rows
from autocompress.candidate.repair.rows import Convolution, Places, examples_first, input_rows, output_rows, weight_rows
from autocompress.errors import CandidateFailed

N = 7  # examples


def agree(layer: nn.Linear | Convolution, given: Tensor, places: int | None = None) -> Places:
    with torch.no_grad():
        gave, chosen = output_rows(layer, layer(given), N)
        if places is not None:
            assert len(chosen.chosen) == places
        z = input_rows(layer, given, N, chosen)  # (G, N, P, I)
        made = z @ weight_rows(layer)[:, None].transpose(2, 3)
        made = made.movedim(0, 2).flatten(2)
    torch.testing.assert_close(made, gave, atol=1e-5, rtol=1e-5)
    return chosen


@pytest.mark.parametrize(
    ("shape", "places"),
    [((N, 5), 1), ((N, 6, 5), 6), ((6, N, 5), 6), ((N, 3, 4, 5), 12), ((N * 4, 5), 4), ((N * 3, 6, 5), 18)],
    ids=str,
)
@pytest.mark.parametrize("bias", [True, False])
def test_of_a_linear_layer(shape: tuple[int, ...], places: int, bias: bool) -> None:
    agree(nn.Linear(5, 3, bias=bias), torch.randn(shape), places)


CONVOLUTIONS: dict[str, tuple[Convolution, tuple[int, ...]]] = {
    "1d": (nn.Conv1d(4, 6, 3), (N, 4, 9)),
    "1d strided": (nn.Conv1d(4, 6, 3, stride=2, padding=1, dilation=2), (N, 4, 11)),
    "1d same, even kernel": (nn.Conv1d(4, 6, 4, padding="same"), (N, 4, 9)),
    "2d": (nn.Conv2d(4, 6, 3, padding=1), (N, 4, 5, 6)),
    "2d unequal": (nn.Conv2d(4, 6, (1, 3), stride=(2, 1), padding=(0, 2), dilation=(1, 2)), (N, 4, 8, 7)),
    "2d pointwise": (nn.Conv2d(4, 6, 1, bias=False), (N, 4, 5, 5)),
    "2d same": (nn.Conv2d(4, 6, 3, padding="same", dilation=2), (N, 4, 6, 6)),
    "2d valid": (nn.Conv2d(4, 6, 3, padding="valid"), (N, 4, 6, 6)),
    "2d circular": (nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"), (N, 4, 6, 5)),
    "2d circular, same": (nn.Conv2d(4, 6, (4, 2), padding="same", padding_mode="circular"), (N, 4, 6, 5)),
    "2d reflected": (nn.Conv2d(4, 6, 3, padding=(2, 1), padding_mode="reflect"), (N, 4, 6, 5)),
    "2d grouped": (nn.Conv2d(4, 6, 3, groups=2), (N, 4, 6, 6)),
    "2d depthwise": (nn.Conv2d(4, 4, 3, padding=1, groups=4), (N, 4, 6, 6)),
    "2d depthwise, twice as many": (nn.Conv2d(4, 8, 3, stride=2, groups=4), (N, 4, 7, 7)),
    "2d of pieces": (nn.Conv2d(4, 6, 3), (N * 3, 4, 5, 5)),
    "3d": (nn.Conv3d(2, 3, (1, 2, 3), stride=(1, 2, 1), padding=(0, 1, 1), groups=1), (N, 2, 3, 4, 5)),
    "3d grouped": (nn.Conv3d(4, 4, 2, groups=2, dilation=(1, 2, 1)), (N, 4, 3, 5, 4)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_of_a_convolution(name: str) -> None:
    layer, shape = CONVOLUTIONS[name]
    agree(layer, torch.randn(shape))


@pytest.mark.parametrize("layer", [nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(2, 4, 3, padding=1, groups=2)])
def test_at_some_of_many_places_the_same_ones_each_time(layer: nn.Conv2d, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "LEAST_ROWS", 100)
    given = torch.randn(N, 2, 20, 20)
    wanted = -(-max(100, rows.ROWS_PER_COLUMN * (layer.in_channels // layer.groups) * 9) // N)
    one, other = agree(layer, given, wanted), agree(layer, given)
    assert torch.equal(one.chosen, other.chosen)
    assert len(one.chosen.unique()) == wanted


def test_there_are_no_more_rows_than_there_is_memory_for() -> None:
    layer, given = nn.Linear(6, 3), torch.randn(N, 5000, 6)
    assert len(output_rows(layer, layer(given), N, most=70)[1].chosen) == 10
    wide = nn.Linear(rows.MOST_VALUES // 14, 1)
    assert len(output_rows(wide, torch.zeros(N, 5000, 1), N)[1].chosen) == 2


def test_where_most_places_are_padding_there_are_more_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "LEAST_ROWS", 70)
    layer, output, counting = nn.Linear(5, 3), torch.zeros(N, 40, 3), torch.zeros(N, 40, dtype=torch.bool)
    counting[:, :20] = True
    several = [output_rows(layer, output, N, counting=each)[1] for each in (None, counting, counting[:, :30])]
    assert [len(places.chosen) for places in several] == [10, 20, 10]
    assert torch.equal(several[1].counting, counting[:, several[1].chosen])  # type: ignore[arg-type]
    assert several[2].counting is None, "it is of other places"


def test_the_examples_axis_is_found() -> None:
    assert examples_first(torch.zeros(N, 3, 5), N, -1).shape == (N, 3, 5)
    assert examples_first(torch.zeros(3, N, 5), N, -1).shape == (N, 3, 5)
    assert examples_first(torch.zeros(N, 5, 3, 4), N, 1).shape == (N, 3, 4, 5)
    pieces = torch.arange(N * 3.0)[:, None].expand(-1, 5)
    assert examples_first(pieces, N, -1)[..., 0].tolist() == torch.arange(N * 3.0).reshape(N, 3).tolist()
    assert examples_first(torch.zeros(3, N, N), N, -1).shape == (N, 3, N), "the features are not the examples"


@pytest.mark.parametrize("shape", [(3, 5), (N + 1, 5), (5, N)], ids=str)
def test_without_an_axis_of_the_examples_it_fails(shape: tuple[int, ...]) -> None:
    with pytest.raises(CandidateFailed, match="no axis is the 7 examples'"):
        examples_first(torch.zeros(shape), N, -1)


def test_a_layer_that_is_called_elsewhere_than_it_was_fails() -> None:
    layer = nn.Linear(5, 3)
    places = output_rows(layer, layer(torch.zeros(N, 6, 5)), N)[1]
    with pytest.raises(CandidateFailed, match="called at the places"):
        input_rows(layer, torch.zeros(N, 4, 5), N, places)
    convolution = nn.Conv1d(5, 3, 3)
    places = output_rows(convolution, convolution(torch.zeros(N, 5, 6)), N)[1]
    with pytest.raises(CandidateFailed, match="it gives the places"):
        input_rows(convolution, torch.zeros(N, 5, 9), N, places)
