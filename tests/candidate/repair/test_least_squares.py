"""Least squares towards the weights there are: exact where the rows say it, nothing where they do not."""

import pytest
import torch
from torch import Tensor

from autocompress.candidate.repair.least_squares import Fit, RegressionRows, refit


def fitted(z: Tensor, t: Tensor, own: Tensor, *, intercept: bool = False, held: int = 50) -> Fit | None:
    """The last rows are held out."""
    parts = [RegressionRows(z[:, rows], t[:, rows]) for rows in (slice(None, -held), slice(-held, None))]
    return refit(parts[0], parts[1], own, intercept=intercept)


def of_latent(rows: int, width: int = 6) -> Tensor:
    """Regressors of which the last is a combination of two others: (1, rows, width)."""
    z = torch.randn(1, rows, width)
    z[..., -1] = 2 * z[..., 0] - z[..., 1]
    return z


def test_a_removed_column_that_kept_ones_make_up_is_recovered() -> None:
    z, weights = of_latent(2000), torch.randn(1, 3, 6)
    found = fitted(z[..., :-1], z @ weights.transpose(1, 2), weights[..., :-1])
    assert found is not None
    wanted = weights[..., :-1].clone()
    wanted[..., 0] += 2 * weights[..., -1]
    wanted[..., 1] -= weights[..., -1]
    torch.testing.assert_close(found.weights.float(), wanted, atol=1e-2, rtol=1e-2)  # but for the least ridge
    assert found.before > 0.1
    assert found.after < 1e-5
    assert found.intercept is None


def test_with_few_rows_what_they_do_not_reach_stays_as_it_was() -> None:
    """Three rows of forty regressors: in the other directions weights towards zero would be lost."""
    own, wanted = torch.randn(1, 2, 40), torch.randn(1, 2, 40)
    z = torch.randn(1, 1, 40).expand(1, 60, 40) + 1e-3 * torch.randn(1, 60, 40)
    found = fitted(z, z @ wanted.transpose(1, 2), own)
    assert found is not None
    along = z[0, 0] / z[0, 0].norm()
    moved = found.weights[0].float() - own[0]
    aside = moved - (moved @ along)[:, None] * along
    assert float(aside.norm()) < 0.05 * float(own.norm())
    assert float((moved @ along).norm()) > 1.0


@pytest.mark.parametrize(("rows", "least"), [(8 * 16, 1e-3), (8 * 16 - 1, 1e-2)])
def test_below_eight_rows_a_regressor_the_least_ridge_is_not_tried(rows: int, least: float) -> None:
    """Without noise the least one there is does best."""
    z, wanted = torch.randn(1, rows + 50, 16), torch.randn(1, 2, 16)
    found = fitted(z, z @ wanted.transpose(1, 2), torch.zeros(1, 2, 16))
    assert found is not None
    assert found.ridge == least


def test_few_noisy_rows_hardly_move_the_weights() -> None:
    """What helps on held-out rows is taken, and no more: nearly the least ridge alone would fit the noise."""
    own = torch.randn(1, 4, 64)
    z = torch.randn(1, 90, 64)
    t = z @ own.transpose(1, 2) + 4 * torch.randn(1, 90, 4)
    found = fitted(z, t, own, held=30)
    if found is not None:
        assert float((found.weights.float() - own).norm() / own.norm()) < 0.5
        assert found.after < found.before


def test_nothing_changes_where_nothing_does_clearly_better_on_held_out_rows() -> None:
    own, z = torch.randn(1, 3, 5), torch.randn(1, 400, 5)
    as_it_gives = z @ own.transpose(1, 2)
    assert fitted(z, as_it_gives, own) is None
    assert fitted(z, as_it_gives + torch.randn(1, 400, 3), own, intercept=True) is None


def test_what_the_fitted_rows_say_and_the_held_out_ones_do_not_is_left() -> None:
    own, z = torch.zeros(1, 2, 4), torch.randn(1, 300, 4)
    t = z @ torch.randn(1, 4, 2)
    t[:, -50:] *= -1
    assert fitted(z, t, own) is None


def test_an_intercept_takes_what_the_weights_cannot() -> None:
    own, z = torch.randn(1, 3, 5), 2 + torch.randn(1, 2000, 5)
    t = z @ own.transpose(1, 2) + torch.tensor([1.0, -2.0, 3.0])
    found = fitted(z, t, own, intercept=True)
    assert found is not None
    assert found.intercept is not None
    torch.testing.assert_close(found.intercept[0].float(), torch.tensor([1.0, -2.0, 3.0]), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(found.weights.float(), own, atol=1e-3, rtol=1e-3)
    without = fitted(z, t, own)
    assert without is not None
    assert without.after > 100 * found.after


def test_the_weights_may_stay_and_the_intercept_alone_be_new() -> None:
    own, z = torch.randn(1, 2, 8), torch.randn(1, 70, 8)
    t = z @ own.transpose(1, 2) + 10 + 2 * torch.randn(1, 70, 2)
    found = fitted(z, t, own, intercept=True)
    assert found is not None
    assert found.ridge == float("inf")
    assert torch.equal(found.weights.float(), own)


def test_groups_are_fitted_each_on_its_own() -> None:
    z, wanted = torch.randn(3, 2000, 4), torch.randn(3, 2, 4)
    z[1] *= 1e-3  # its ridge goes by its own regressors
    found = fitted(z, z @ wanted.transpose(1, 2), torch.zeros(3, 2, 4))
    assert found is not None
    torch.testing.assert_close(found.weights.float(), wanted, atol=1e-2, rtol=1e-2)


def test_regressors_that_are_all_zero_and_ones_that_are_one_do_not_break_it() -> None:
    z, wanted = torch.randn(1, 500, 4), torch.randn(1, 2, 4)
    z[..., 3], z[..., 2] = 0, z[..., 1]
    own = torch.zeros(1, 2, 4)
    found = fitted(z, z @ wanted.transpose(1, 2), own)
    assert found is not None
    assert torch.isfinite(found.weights).all()
    assert not found.weights[..., 3].any(), "of what says nothing the weights stay"
    assert fitted(torch.zeros(1, 500, 4), torch.zeros(1, 500, 2), own) is None


@pytest.mark.parametrize("place", ["fitted", "held out"])
@pytest.mark.parametrize("side", ["regressors", "targets"])
def test_nan_changes_nothing(place: str, side: str) -> None:
    z = torch.randn(1, 400, 4)
    t = z @ torch.randn(1, 4, 2)
    (z if side == "regressors" else t)[0, 0 if place == "fitted" else -1, 0] = float("nan")
    assert fitted(z, t, torch.zeros(1, 2, 4)) is None
    assert fitted(z, t, torch.zeros(1, 2, 4), intercept=True) is None


def test_regressors_far_from_zero_are_fitted_about_their_means() -> None:
    """Their squares hide how they vary: what the weights have to make up for is in the seventh digit."""
    z, wanted = 1000 + torch.randn(1, 2000, 6), torch.randn(1, 3, 6)
    found = fitted(z, (z - 1000) @ wanted.transpose(1, 2) + 5, torch.zeros(1, 3, 6), intercept=True)
    assert found is not None
    torch.testing.assert_close(found.weights.float(), wanted, atol=2e-2, rtol=2e-2)
    assert found.after < 1e-3


def test_of_fewer_rows_than_regressors_the_answer_is_the_same_and_no_matrix_as_wide_as_these_is_made() -> None:
    z, own = torch.randn(1, 90, 60), torch.randn(1, 4, 60)
    t = z @ (own + torch.randn(1, 4, 1) * torch.randn(1, 1, 60)).transpose(1, 2)
    few, many = slice(None, 40), slice(40, None)
    found = refit(RegressionRows(z[:, few], t[:, few]), RegressionRows(z[:, many], t[:, many]), own, intercept=False)
    assert found is not None
    rows, off = z[0, few].double(), (t - z @ own.transpose(1, 2))[0, few].double()
    ridge = found.ridge * rows.square().sum() / 60
    by_hand = torch.linalg.solve(rows.T @ rows + ridge * torch.eye(60), rows.T @ off).T
    torch.testing.assert_close(found.weights[0], own[0].double() + by_hand, atol=1e-5, rtol=1e-5)


def test_as_wide_a_layer_as_there_is_is_fitted_on_a_few_rows() -> None:
    """A matrix of its regressors would take 27 GiB."""
    z = torch.randn(1, 3, 1).expand(1, 3, 60_000).repeat(1, 4, 1)
    found = fitted(z, z[..., :2], torch.zeros(1, 2, 60_000), held=4)
    assert found is not None
    assert found.after < 0.01
