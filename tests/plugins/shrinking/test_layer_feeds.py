"""Which layers feed which inside a module."""

import torch
from torch import Tensor, nn

from autocompress_plugins.model_runs import ModuleCall
from autocompress_plugins.shrinking.layer_feeds import feeding

X = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))


class Mixing(nn.Module):
    def __init__(self, causal: bool = False) -> None:
        super().__init__()
        self.causal = causal
        self.q, self.v, self.o, self.up, self.down = (nn.Linear(8, 8) for _ in range(5))

    def forward(self, x: Tensor) -> Tensor:
        self.kept = scores = self.q(x) @ x.transpose(1, 2)
        if self.causal:
            scores = scores.masked_fill(torch.ones(5, 5).triu(1).bool(), -1e9)
        x = x + self.o(scores.softmax(-1) @ self.v(x))
        return x + self.down(self.up(x).relu())


def test_what_feeds_a_layer_and_whether_places_meet_on_the_way():
    for causal in (False, True):
        own = Mixing(causal)
        with torch.no_grad():
            call = ModuleCall((X,), {}, own(X))
        found = feeding(own, call, [own.q, own.v, own.o, own.up, own.down])
        assert {layer: (fed.layers, fed.places_meet) for layer, fed in found.items()} == {
            own.q: ((), False),
            own.v: ((), False),
            own.o: ((own.q, own.v), True),
            own.up: ((own.o,), False),
            own.down: ((own.up,), False),
        }


def test_a_layer_that_is_called_twice_feeds_none_and_the_module_stays_as_it_is():
    own = Mixing()
    own.down = own.up
    with torch.no_grad():
        call = ModuleCall((X,), {}, own(X))
    found = feeding(own, call, [own.q, own.v, own.o, own.up])
    assert own.up not in found
    assert found[own.o].layers == (own.q, own.v)
    assert not own.up._forward_hooks
    assert own.kept.grad_fn is None, "what it keeps of a call can still be copied"
