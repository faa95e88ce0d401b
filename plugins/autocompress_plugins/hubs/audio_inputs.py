"""Sounds as a model's own feature extractor gives them to it, each when it is read."""

import io
from collections.abc import Mapping, Sequence
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn.functional import pad

from autocompress.errors import UsageError, one_line
from autocompress_plugins.hubs.hub_cache import require
from autocompress_plugins.hubs.labelled_data import SOUND, LabelledData

LONGEST_SOUND_S = 30.0  # of a sound; what is behind is cut off


class PreparedSound:
    """A sound file as what its extractor gives, without the axis of examples. seconds: every sound is cut to it; what
    is given of a shorter one is padded to what is given of one as long, with the extractor's own value.
    """

    def __init__(self, extractor: Any, column: str, seconds: float) -> None:
        self._extractor, self._column = extractor, column
        self._samples = round(seconds * extractor.sampling_rate)
        self._shapes = {name: value.shape for name, value in self._given(np.zeros(self._samples, "float32")).items()}

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Tensor]:
        rate = self._extractor.sampling_rate
        sound = _read(row[self._column], rate)[: self._samples]
        value = float(getattr(self._extractor, "padding_value", 0.0))
        return {name: _padded(given, self._shapes[name], value) for name, given in self._given(sound).items()}

    def _given(self, sound: Any) -> dict[str, Tensor]:
        found = self._extractor(sound, sampling_rate=self._extractor.sampling_rate, return_tensors="pt")
        return {name: value[0] for name, value in found.items() if name != "attention_mask"}


def audio_inputs(folder: Path, model: nn.Module, data: LabelledData) -> Mapping[str, Any]:
    """Of each split its rows, and what the model takes of one: all sounds are as long as the longest. Raises
    UsageError.
    """
    from datasets import Audio
    from transformers import AutoFeatureExtractor

    require("hf", "soundfile")
    decoded = data.columns_of("Audio")
    columns = decoded or [name for name in data.columns_of("string") if name == SOUND]
    if len(columns) != 1:
        raise UsageError(f"an audio classifier takes one column of sounds, and the data have {len(columns)}")
    try:
        extractor = AutoFeatureExtractor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises anything
        raise UsageError(
            f"there is no feature extractor in {folder} ({type(error).__name__}: {one_line(error, 80)}): "
            "save it there with extractor.save_pretrained"
        ) from error
    (column,) = columns
    undecoded = dict(data.splits)
    if decoded:
        undecoded = {name: split.cast_column(column, Audio(decode=False)) for name, split in undecoded.items()}
    seconds = max(_seconds(row[column]) for split in undecoded.values() for row in split)
    prepare = PreparedSound(extractor, column, min(seconds, LONGEST_SOUND_S))
    return {name: (split, prepare) for name, split in undecoded.items()}


def _file(value: Any) -> Any:
    """A path, or what can be read as a file: of a path alone, or of datasets' undecoded sound."""
    if isinstance(value, str):
        return value
    return io.BytesIO(value["bytes"]) if value.get("bytes") is not None else value["path"]


def _seconds(value: Any) -> float:
    import soundfile

    return float(soundfile.info(_file(value)).duration)


def _read(value: Any, rate: int) -> Any:
    """Samples of one channel at that rate."""
    import soundfile
    from scipy.signal import resample_poly

    sound, own = soundfile.read(_file(value), dtype="float32", always_2d=True)
    mono, common = sound.mean(1), gcd(own, rate)
    return mono if own == rate else resample_poly(mono, rate // common, own // common).astype("float32")


def _padded(given: Tensor, shape: Sequence[int], value: float) -> Tensor:
    """At the end of each axis."""
    missing = [size - own for size, own in zip(shape, given.shape, strict=True)]
    return pad(given, [places for more in reversed(missing) for places in (0, more)], value=value)
