"""The error of the refitted readers, against least squares written out, and the order in which units go by it."""

import pytest
import torch
from torch import Tensor

from autocompress_plugins.shrinking import surgeon
from autocompress_plugins.shrinking.surgeon import REFIT_RIDGE, ConsumerStatistics, surgeon_importance


def rows(count: int, width: int) -> Tensor:
    return torch.randn(count, width, dtype=torch.float64)


def consumer(x: Tensor, weight: Tensor, columns: int = 1) -> ConsumerStatistics:
    """Reads so many columns of each unit."""
    units = tuple(column // columns for column in range(x.shape[1]))
    return ConsumerStatistics(x.T @ x / len(x), weight, units)


def refit_error(x: Tensor, weight: Tensor, gone: list[int]) -> Tensor:
    """Mean squared change of the output, and the ridge's share, with the weights of the other columns refitted: the
    ridge, towards the weights as they are, is as many rows more.
    """
    ridge = REFIT_RIDGE * x.square().mean()
    x = torch.cat([x / len(x) ** 0.5, ridge.sqrt() * torch.eye(x.shape[1], dtype=torch.float64)])
    kept = [column for column in range(x.shape[1]) if column not in gone]
    wanted = x @ weight.T
    return (x[:, kept] @ torch.linalg.lstsq(x[:, kept], wanted).solution - wanted).square().sum()


def energy(x: Tensor, weight: Tensor) -> Tensor:
    return (x @ weight.T).square().sum() / len(x)


@pytest.mark.parametrize("columns", [1, 3])
def test_the_values_are_the_errors_of_an_explicit_refit(columns: int):
    """Of two readers, along the whole order; the next to go is always the one that leaves the least error."""
    size = 5
    width = size * columns
    cases = [(rows(60, width) @ rows(width, width), rows(4, width)), (rows(50, width), rows(2, width))]
    found = surgeon_importance([consumer(x, w, columns) for x, w in cases], size)
    order, gone = found.argsort().tolist(), list[int]()

    def error(units: list[int]) -> float:
        at = [unit * columns + i for unit in units for i in range(columns)]
        return float(sum(refit_error(x, w, at) / energy(x, w) for x, w in cases))

    for unit in order:
        best = min((other for other in range(size) if other not in gone), key=lambda other: error([*gone, other]))
        assert unit == best
        gone.append(unit)
        assert float(found[unit]) == pytest.approx(error(gone), rel=1e-6)


def test_many_units_are_right_too(monkeypatch: pytest.MonkeyPatch):
    """More than what is brought up to date at once, with readers of some of the units and of several columns each."""
    monkeypatch.setattr(surgeon, "LATE", 32)
    x, weight = rows(400, 150) @ rows(150, 150), rows(3, 150)
    some = ConsumerStatistics(x.T @ x / len(x), weight, tuple(i // 2 if i < 120 else -1 for i in range(150)))
    found = surgeon_importance([some], 70)
    order = found.argsort().tolist()
    assert sorted(order[:10]) == list(range(60, 70)), "what nothing reads goes first"
    for count in (1, 40, 60):
        at = [2 * unit + i for unit in order[10 : 10 + count] for i in range(2)]
        assert float(found[order[9 + count]]) == pytest.approx(
            float(refit_error(x, weight, at) / energy(x, weight)), rel=1e-6
        )


def test_of_wide_layers_several_go_at_a_time_at_their_joint_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(surgeon, "ONE_BY_ONE", 20)
    x, weight = rows(300, 80) @ rows(80, 80), rows(3, 80)
    found = surgeon_importance([consumer(x, weight)], 80)  # four at a time
    order = found.argsort().tolist()
    for count in (4, 40, 76):
        joint = float(refit_error(x, weight, order[:count]) / energy(x, weight))
        assert float(found[order[count - 1]]) == pytest.approx(joint, rel=1e-6)
    monkeypatch.setattr(surgeon, "ONE_BY_ONE", 80)
    one_by_one = surgeon_importance([consumer(x, weight)], 80).argsort().tolist()
    assert refit_error(x, weight, order[:40]) < 1.3 * refit_error(x, weight, one_by_one[:40])


def test_of_two_units_that_are_alike_one_goes_first_and_costs_nothing():
    x = rows(100, 4)
    x[:, 3] = x[:, 1]
    found = surgeon_importance([consumer(x, 1 + rows(3, 4).abs())], 4)
    first, second = found[[1, 3]].sort().values.tolist()
    assert found.argmin() in (1, 3)
    assert first < 1e-3 < 0.05 < second


def test_a_unit_that_two_others_make_up_goes_before_a_small_one_that_nothing_does():
    x = rows(100, 4)
    x[:, 2] = 3 * x[:, 0] - 2 * x[:, 1]
    x[:, 3] *= 0.3
    found = surgeon_importance([consumer(x, torch.ones(1, 4, dtype=torch.float64))], 4)
    assert found.argmin() in (0, 1, 2)
    assert float(found.min()) < 1e-2


def test_what_a_second_reader_needs_stays():
    """Each alone would let go of another unit."""
    one, other = torch.diag(torch.tensor([0.1, 1.0, 0.5])).double(), torch.diag(torch.tensor([1.0, 0.1, 0.5])).double()
    x = torch.eye(3, dtype=torch.float64)
    alone = [surgeon_importance([consumer(x, weight)], 3) for weight in (one, other)]
    assert [int(values.argmin()) for values in alone] == [0, 1]
    assert int(surgeon_importance([consumer(x, one), consumer(x, other)], 3).argmin()) == 2


def test_a_reader_counts_by_the_share_of_its_output():
    x, weight, other = rows(50, 6), rows(2, 6), rows(2, 6)
    both = [surgeon_importance([consumer(x, weight * scale), consumer(x, other)], 6) for scale in (1.0, 100.0)]
    torch.testing.assert_close(*both)


def test_equally_many_go_of_each_block_whatever_they_cost():
    weight = torch.tensor([[1e-3, 2e-3, 3e-3, 1.0, 2.0, 3.0]], dtype=torch.float64)
    found = surgeon_importance([consumer(torch.eye(6, dtype=torch.float64), weight)], 6, blocks=2)
    assert found.argsort().tolist() == [0, 3, 1, 4, 2, 5]


def test_values_are_all_different_in_the_order_in_which_units_go():
    """A dead unit, units that nothing reads, a reader that is given nothing: what costs nothing has an order too."""
    x = rows(30, 5)
    x[:, 2] = 0
    weight = rows(2, 5) * torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0]).double()
    nothing = consumer(torch.zeros(30, 5, dtype=torch.float64), weight)
    found = surgeon_importance([consumer(x, weight), nothing], 5)
    assert found.isfinite().all()
    assert len(found.unique()) == 5
    assert sorted(found.argsort().tolist()[:3]) == [1, 2, 3]
    assert float(found.sort().values[2]) < 1e-9
    assert len(surgeon_importance([nothing], 5).unique()) == 5
