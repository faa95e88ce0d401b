"""What a saved model of transformers classifies: texts, images or sounds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from autocompress.errors import UsageError
from autocompress_plugins.hubs.audio_inputs import audio_inputs
from autocompress_plugins.hubs.image_inputs import image_inputs
from autocompress_plugins.hubs.labelled_data import LabelledData
from autocompress_plugins.hubs.text_inputs import text_inputs

Prepared = Callable[[Path, nn.Module, LabelledData], Mapping[str, Any]]


@dataclass(frozen=True)
class ClassifierKind:
    """auto: the class of transformers that loads one. names: of transformers' table of these. inputs: what a model
    takes of the examples of each split, of a folder, its model and data: tensors by name, or a Dataset of such
    dicts. alike: what two models of one family share of their configurations.
    """

    title: str
    auto: str
    names: str
    inputs: Prepared
    alike: tuple[str, ...]


CLASSIFIER_KINDS = (
    ClassifierKind(
        "text",
        "AutoModelForSequenceClassification",
        "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
        text_inputs,
        ("vocab_size",),
    ),
    ClassifierKind(
        "image",
        "AutoModelForImageClassification",
        "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",
        image_inputs,
        ("image_size", "num_channels"),
    ),
    ClassifierKind(
        "audio",
        "AutoModelForAudioClassification",
        "MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES",
        audio_inputs,
        ("num_mel_bins", "max_length"),
    ),
)


def classifier_kind(config: Any, model: str) -> ClassifierKind:
    """Raises UsageError for a model that is no classifier of these."""
    from transformers.models.auto import modeling_auto

    (architecture, *_) = getattr(config, "architectures", None) or ["model of no known class"]
    for kind in CLASSIFIER_KINDS:
        known = getattr(modeling_auto, kind.names).get(config.model_type, ())
        if architecture in ((known,) if isinstance(known, str) else known):
            return kind
    raise UsageError(
        f"{model} is a {architecture}, and hf: takes classifiers of texts, images and sounds "
        "(...ForSequenceClassification, ...ForImageClassification, ...ForAudioClassification): give one, or write a "
        "task file for this model"
    )
