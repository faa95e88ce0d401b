"""What is relied on of torch-pruning and of autograd beyond what they document: this tells when it changes."""

import torch
import torch_pruning as tp
from torch import Tensor, nn

from autocompress_plugins.shrinking.dependency_graph import knows_places, trace

VECTORS = torch.randn(2, 8, generator=torch.Generator().manual_seed(1))


class Halved(nn.Module):
    """The two halves of the channels go their own ways between two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(8, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        return self.head(torch.cat([x[:, :6].tanh(), x[:, 6:]], 1))


def test_autograd_knows_the_sizes_of_what_was_sliced():
    """By them the last states of a recurrent layer are followed."""
    sliced = torch.ones(2, 5, requires_grad=True)[:, 1:4:2]
    assert sliced.grad_fn is not None
    assert tuple(sliced.grad_fn._saved_self_sym_sizes) == (2, 5)


def test_nodes_have_a_type_and_say_whether_the_graph_knows_places():
    plain, halved = trace(nn.Sequential(nn.Linear(8, 4), nn.ReLU()), VECTORS), trace(Halved(), VECTORS)
    assert {tp.ops.OPTYPE.LINEAR, tp.ops.OPTYPE.OUTPUT} <= {node.type for node in plain.module2node.values()}
    assert {tp.ops.OPTYPE.SLICE, tp.ops.OPTYPE.CONCAT} <= {node.type for node in halved.module2node.values()}


def test_of_a_group_it_is_told_whether_the_graph_knows_where_its_channels_lie():
    model = Halved()
    graph = trace(model, VECTORS)
    group = graph.get_pruning_group(model.first, graph.get_pruner_of_module(model.first).prune_out_channels, [0, 6])
    assert knows_places(group)
    plain = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    graph = trace(plain, VECTORS)
    group = graph.get_pruning_group(plain[0], graph.get_pruner_of_module(plain[0]).prune_out_channels, [0])
    assert not knows_places(group)


def test_the_parts_of_a_group_say_what_they_do_to_which_channels():
    model = nn.Sequential(nn.Linear(8, 4), nn.Flatten(), nn.Linear(4, 2))
    graph = trace(model, VECTORS)
    prune_outputs = graph.get_pruner_of_module(model[0]).prune_out_channels
    parts = {
        part.dep.target.module: (graph.is_out_channel_pruning_fn(part.dep.handler), part.idxs, part.root_idxs)
        for part in graph.get_pruning_group(model[0], prune_outputs, [1, 3])
    }
    assert parts[model[0]] == (True, [1, 3], [1, 3])
    assert parts[model[2]] == (False, [1, 3], [1, 3])
