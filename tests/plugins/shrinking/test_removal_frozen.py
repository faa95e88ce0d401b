"""What is frozen stays frozen when it is cut: a norm, an embedding, an attention that is exchanged."""

import torch
from torch import Tensor, nn

from autocompress_plugins.shrinking.prunable import prunable
from autocompress_plugins.shrinking.removal import remove_units

TOKENS = torch.arange(10).view(2, 5)


class Words(nn.Module):
    """(N, T) -> (N, 3), with a frozen embedding, norm and attention; the rest is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.norm = nn.Embedding(10, 16), nn.LayerNorm(16)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.up, self.head = nn.Linear(16, 24), nn.Linear(24, 3)
        for part in (self.embedding, self.norm, self.attention):
            part.requires_grad_(False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        x = self.norm(x + self.attention(x, x, x, need_weights=False)[0])
        return self.head(torch.relu(self.up(x)).mean(1))


def test_what_is_cut_or_exchanged_is_trained_no_more_than_before():
    model = Words().eval()
    prunable(model, TOKENS)
    smaller = remove_units(model, TOKENS, {"embedding": [0, 3], "up": [1, 2]})
    trained = {name for name, parameter in smaller.named_parameters() if parameter.requires_grad}
    assert trained == {"up.weight", "up.bias", "head.weight", "head.bias"}
    assert smaller.get_parameter("norm.weight").shape == (14,)
    assert smaller.get_parameter("up.weight").shape == (22, 14)
