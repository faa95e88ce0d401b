"""Images as a model's own preprocessing gives them to it, each when it is read."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.utils.data import Dataset

from autocompress.errors import UsageError, one_line
from autocompress_plugins.hubs.labelled_data import LabelledData


class PreparedExamples(Dataset[tuple[Any, Any]]):
    """rows: of one column of a split. prepare: what the model takes of one. targets: of each row."""

    def __init__(self, rows: Any, prepare: Callable[[Any], Any], targets: Sequence[Any] | Tensor) -> None:
        self._rows, self._prepare, self._targets = rows, prepare, targets

    def __len__(self) -> int:
        return len(self._targets)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self._prepare(self._rows[index]), self._targets[index]


class PreparedImage:
    """An image of PIL as ``pixel_values`` (C, H, W). processor: of transformers."""

    def __init__(self, processor: Any, column: str) -> None:
        self._processor, self._column = processor, column

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Tensor]:
        pixels: Tensor = self._processor(row[self._column].convert("RGB"), return_tensors="pt")["pixel_values"]
        return {"pixel_values": pixels[0]}


def image_inputs(folder: Path, model: nn.Module, data: LabelledData) -> Mapping[str, Any]:
    """Of each split its rows, and what the model takes of one. Raises UsageError."""
    from transformers import AutoImageProcessor

    columns = data.columns_of("Image")
    if len(columns) != 1:
        raise UsageError(f"an image classifier takes one column of images, and the data have {len(columns)}")
    try:
        processor = AutoImageProcessor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, backend="pil"
        )
    except Exception as error:  # transformers raises anything
        raise UsageError(
            f"there is no preprocessing of images in {folder} ({type(error).__name__}: {one_line(error, 80)}): "
            "save it there with processor.save_pretrained"
        ) from error
    return {name: (split, PreparedImage(processor, columns[0])) for name, split in data.splits.items()}
