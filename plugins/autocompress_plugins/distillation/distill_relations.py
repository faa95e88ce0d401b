"""Relational distillation: what inner layers of the student say about a batch is drawn to what the reference's say.

Changes: the weights. Needs: inner layers with one name and, beside their channels, one output size in both models; no
adapters. Follows, by ``kind``: "similarity", which examples of the batch are alike (Tung & Mori,
"Similarity-Preserving Knowledge Distillation", ICCV 2019); "attention", which places of an image or a sequence are
active (Zagoruyko & Komodakis, "Paying More Attention to Attention", ICLR 2017).
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from autocompress.plugin.contract import Context, LossTerm, Parameter, Params, Strategy, TrainHook, TrainStep
from autocompress.plugin.hooks import hookimpl
from autocompress_plugins.distillation.distillation import InnerDistillation, InnerHook
from autocompress_plugins.distillation.layer_pairs import inner_layers

autocompress_api = 2


def similarity(features: Tensor, axis: int) -> Tensor:
    """(N, ...) -> (N, N): each example's products with all."""
    flat = features.flatten(1)
    return flat @ flat.T


def attention(features: Tensor, axis: int) -> Tensor:
    """(N, ...) -> (N, places): the energy of all channels at each place."""
    return features.square().sum(axis).flatten(1)


RELATIONS = {"similarity": similarity, "attention": attention}


class Relations(InnerHook):
    """The mean squared distance between an example's relations in the two models, each scaled to length 1: 0 when they
    are the same, 2 when they have nothing in common.
    """

    def __init__(self, weight: float, kind: str, context: Context) -> None:
        super().__init__(weight, context, maps=kind == "attention")
        self._kind = kind

    def loss(self, step: TrainStep) -> LossTerm:
        relation = RELATIONS[self._kind]
        values = []
        for pair in self._pairs:
            student, teacher = (
                F.normalize(relation(features[pair.name], pair.axis))
                for features in (step.features, step.teacher_features)
            )
            values.append((student - teacher).square().sum(1).mean())
        return LossTerm(torch.stack(values).mean(), self._weight)


class DistillRelations(InnerDistillation):
    name = "distill_relations"
    summary = "train inner layers to relate examples or places as the reference's do"
    weights = (0.3, 1.0, 3.0, 10.0)

    def parameters(self, context: Context) -> Sequence[Parameter]:
        kinds = tuple(RELATIONS) if inner_layers(context, maps=True) else ("similarity",)
        return Parameter("kind", kinds, "similarity"), self.weight

    def hook(self, params: Params, context: Context) -> TrainHook:
        return Relations(float(params["weight"]), str(params["kind"]), context)


@hookimpl
def autocompress_strategies() -> list[Strategy]:
    return [DistillRelations()]
