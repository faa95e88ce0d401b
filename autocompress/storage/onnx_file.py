"""ONNX files that hold all their own data. A tensor may name another file for it, which may lie anywhere."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto

from autocompress.errors import UsageError, one_line


def read_onnx(path: Path) -> onnx.ModelProto:
    """The model in a file. Raises UsageError when it is not an ONNX file or keeps data elsewhere."""
    try:
        model = onnx.load(str(path), load_external_data=False)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except Exception as error:  # protobuf raises its own kinds
        raise UsageError(f"{path} is not an ONNX file: {one_line(error, 120)}") from error
    if keeps_data_elsewhere(model):
        raise UsageError(
            f"{path} keeps its weights in other files, which may point anywhere: give a file that holds its own weights"
        )
    return model


def metadata(entries: Mapping[str, str]) -> bytes:
    """What is to be appended to an ONNX file so that it says this of itself: messages of protobuf that follow each
    other are one, so that graph and weights stay as they are, byte for byte (protobuf's encoding, "Last One Wins").
    """
    said = onnx.ModelProto()
    onnx.helper.set_model_props(said, dict(entries))
    return bytes(said.SerializeToString(deterministic=True))


def keeps_data_elsewhere(model: onnx.ModelProto) -> bool:
    """Whether any tensor's data is in another file: an initializer's, a sparse one's, an attribute's, in whichever
    subgraph or function.
    """
    return any(t.data_location == TensorProto.EXTERNAL or t.external_data for t in _tensors(model))


def _tensors(message: Any) -> Iterator[TensorProto]:
    """The tensors in a protobuf message, at any depth."""
    if isinstance(message, TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for part in value if isinstance(value, Sequence) else [value]:
                yield from _tensors(part)
