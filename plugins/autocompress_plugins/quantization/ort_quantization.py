"""What the strategies share that use ONNX Runtime's quantization tools."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx


@contextmanager
def without_advice() -> Iterator[None]:
    """The tools advise pre-processing on the root logger at every call; it has been done."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def has_constant_weights(path: Path, operators: set[str]) -> bool:
    """Whether one of ``operators`` in the file takes a constant, which is what can be quantized ahead."""
    graph = onnx.load(str(path)).graph
    constants = {tensor.name for tensor in graph.initializer}
    return any(node.op_type in operators and constants & set(node.input) for node in graph.node)
