"""Weights that were one are one after a removal, or it fails."""

import pytest
import torch
from torch import Tensor, nn

from autocompress.errors import CandidateFailed
from autocompress_plugins.shrinking.removal import remove_units, ties

TOKENS = torch.randint(9, (2, 5), generator=torch.Generator().manual_seed(1))


class Language(nn.Module):
    """``behind``: the output layer reads an inner width, not the embedding's."""

    def __init__(self, behind: bool) -> None:
        super().__init__()
        self.embed, self.inner, self.out = nn.Embedding(9, 8), nn.Linear(8, 8), nn.Linear(8, 9)
        self.out.weight, self.behind = self.embed.weight, behind

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        return self.out(self.inner(x) if self.behind else x + self.inner(x))


def test_tied_weights_stay_tied():
    model = remove_units(Language(behind=False).eval(), TOKENS, {"embed": [1, 2, 7]})
    assert model.out.weight is model.embed.weight
    assert model.embed.weight.shape == (9, 5)
    assert ties(model) == [["embed.weight", "out.weight"]]


def test_a_removal_that_would_untie_fails():
    with pytest.raises(CandidateFailed, match=r"embed\.weight and out\.weight are one weight"):
        remove_units(Language(behind=True).eval(), TOKENS, {"embed": [1, 2, 7]})


class HeldTwice(Language):
    """As T5: the model holds the embedding for others that it is not asked for."""

    def __init__(self) -> None:
        super().__init__(behind=False)
        self.shared = nn.Embedding(9, 8)
        self.shared.weight = self.embed.weight


def test_what_nothing_calls_follows_the_layer_that_it_is_tied_to():
    model = remove_units(HeldTwice().eval(), TOKENS, {"embed": [1, 2, 7]})
    assert ties(model) == [["embed.weight", "out.weight", "shared.weight"]]
    assert model.shared.weight.shape == (9, 5)


def test_a_model_without_ties_has_none():
    assert ties(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))) == []
