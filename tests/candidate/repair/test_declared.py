"""A declaration that does not fit the changed model fails the candidate, and the reason names the layer."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from autocompress.candidate.repair.declared import check_declared, narrowed_layers
from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Counterpart, Counterparts


class Net(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.embed, self.conv = nn.Embedding(9, width), nn.Conv1d(width, width, 3)
        self.norm, self.layer_norm = nn.BatchNorm1d(width), nn.LayerNorm(width)
        self.groups, self.rnn = nn.GroupNorm(1, width), nn.LSTM(width, hidden, bidirectional=True)
        self.gru = nn.GRU(width, hidden, bidirectional=True)
        self.cell, self.other = nn.LSTMCell(width, hidden), nn.GRUCell(width, hidden)
        self.head, self.act = nn.Linear(2 * hidden, 3), nn.ReLU()


KEPT, STATES = (0, 2, 5), (0, 3, 4, 6)  # of six channels; of two directions of four units each
SOUND = (
    Counterpart("embed", "embed", KEPT),
    Counterpart("conv", "conv", KEPT, KEPT),
    Counterpart("norm", "norm", KEPT),
    Counterpart("layer_norm", "layer_norm", KEPT, KEPT),
    Counterpart("groups", "groups", KEPT),
    Counterpart("rnn", "rnn", STATES, KEPT),
    Counterpart("head", "head", (2, 0, 1), STATES),
)


def check(*layers: Counterpart) -> None:
    check_declared(Counterparts(Net(6, 4), layers), Net(3, 2))


def test_what_fits_passes() -> None:
    check(*SOUND)
    check()
    check(Counterpart("act", "act", (99,)), Counterpart("head", "embed", (0, 1, 2)))


conv, rnn, head, embed = SOUND[1], SOUND[5], SOUND[6], SOUND[0]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (replace(conv, layer="conv9"), "the layer conv9: the changed model has no such layer"),
        (replace(conv, original="conv9"), "the layer conv: the model before has no layer conv9"),
        (replace(conv, outputs=(0, 2)), "the layer conv: 2 outputs are declared, and it has 3"),
        (replace(conv, inputs=tuple(range(6))), "the layer conv: 6 inputs are declared, and it has 3"),
        (replace(conv, outputs=(0, 2, 6)), "the layer conv: 6 is among its outputs, and conv has 6 of them, from 0"),
        (replace(conv, inputs=(0, 2, -1)), "the layer conv: -1 is among its inputs"),
        (replace(conv, outputs=(0, 2, 2)), "the layer conv: 2 is twice among its outputs"),
        (replace(conv, inputs=(2, 2, 1)), "the layer conv: 2 is twice among its inputs"),
        (replace(embed, inputs=(0, 1, 2)), "the layer embed: 3 inputs are declared, and it has 0"),
        (replace(SOUND[2], outputs=KEPT[:2]), "the layer norm: 2 outputs"),
        (replace(SOUND[3], outputs=KEPT[:2]), "the layer layer_norm: 2 outputs"),
        (replace(SOUND[4], outputs=KEPT[:2]), "the layer groups: 2 outputs"),
        (replace(head, inputs=STATES[:3]), "the layer head: 3 inputs are declared, and it has 4"),
        (replace(rnn, outputs=(0, 3, 6)), "the layer rnn: 3 outputs are declared, and it has 4"),
        (replace(rnn, outputs=(0, 1, 3, 6)), "the layer rnn: its outputs must be 2 of the one direction, then 2 of"),
        (replace(rnn, outputs=(4, 6, 0, 3)), "the layer rnn: its outputs must be 2 of the one direction, then 2 of"),
        (replace(rnn, original="gru"), "the layer rnn: gru is no recurrent layer of the same kind"),
        (Counterpart("cell", "cell", (0, 1, 2), KEPT), "the layer cell: 3 outputs are declared, and it has 2"),
        (Counterpart("cell", "other", (0, 1), KEPT), "the layer cell: other is no recurrent layer of the same kind"),
        (replace(rnn, original="conv"), "the layer rnn: conv is no recurrent layer of the same kind"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_fit_fails_with_the_layer(wrong: Counterpart, says: str) -> None:
    others = [own for own in SOUND if own.layer != wrong.layer]
    with pytest.raises(CandidateFailed) as error:
        check(*others, wrong)
    assert says in error.value.reason


def test_a_layer_is_named_once() -> None:
    with pytest.raises(CandidateFailed, match="the layer conv: it is named twice"):
        check(*SOUND, conv)


def test_a_model_that_is_a_layer_itself_has_no_name() -> None:
    whole, changed = nn.Linear(3, 4), nn.Linear(3, 2)
    check_declared(Counterparts(whole, (Counterpart("", "", (0, 1), (0, 1, 2)),)), changed)
    with pytest.raises(CandidateFailed, match="the layer that is the model: 3 outputs"):
        check_declared(Counterparts(whole, (Counterpart("", "", (0, 1, 2)),)), changed)


def test_of_a_layer_that_is_in_the_model_twice_both_names_are_known() -> None:
    layer = nn.Linear(2, 2)
    both = nn.Sequential(layer, layer)
    layers = tuple(Counterpart(name, name, (0, 1), (0, 1)) for name in ("0", "1"))
    check_declared(Counterparts(both, layers), both)
    assert torch.equal(both[0].weight, both[1].weight)


def test_the_layers_that_lost_channels_are_told_from_those_behind() -> None:
    layers = nn.Conv1d(4, 6, 1), nn.BatchNorm1d(6), nn.Conv1d(6, 5, 1), nn.BatchNorm1d(5), nn.Conv1d(5, 3, 1)
    four, five, six, three = (tuple(range(count)) for count in (4, 5, 6, 3))
    narrowed = Counterpart("0", "0", four, four), Counterpart("1", "1", four), Counterpart("2", "2", five, four)
    behind = Counterpart("3", "3", five), Counterpart("4", "4", three, five)
    found = narrowed_layers(Counterparts(nn.Sequential(*layers), (*narrowed, *behind)))
    assert [own.layer for own in found.layers] == ["0", "1", "2", "3"], "norms follow everywhere"
    whole = Counterparts(nn.Sequential(*layers), (Counterpart("2", "2", five, six), *behind))
    assert narrowed_layers(whole) == whole, "where none lost any, all are"
