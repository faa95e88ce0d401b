"""Constants of an exported file folded, once and for all that is made of it."""

from collections.abc import Mapping
from pathlib import Path

import onnx
import onnxruntime as ort

from autocompress.candidate.folded_norms import fold_batch_norms
from autocompress.candidate.parallel_branches import merge_parallel_branches
from autocompress.errors import CandidateFailed
from autocompress.storage.onnx_file import keeps_data_elsewhere


def fold(source: Path, target: Path) -> None:
    """Fold constants and fuse what every runtime fuses (batch norm into convolution), by ONNX Runtime's basic level,
    and what none does, parallel convolutions, and batch norms beside matrix products.

    Without it a recurrent layer's weights stay behind Slice nodes and dynamic quantization finds none of them. What is
    folded gets names of its own: whoever loads the file optimizes it again, and invents the same ones.
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 4
    ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    folded = onnx.load(str(target), load_external_data=False)
    if keeps_data_elsewhere(folded):
        raise CandidateFailed("the model is over 2 GiB, which one ONNX file cannot hold")
    known = _value_names(onnx.load(str(source), load_external_data=False).graph)
    renamed = {own.name: f"folded/{own.name}" for own in folded.graph.initializer if own.name not in known}
    _rename_initializers(folded.graph, renamed)
    merged = merge_parallel_branches(folded) + fold_batch_norms(folded)
    if renamed or merged:
        onnx.save(folded, str(target))


def _value_names(graph: onnx.GraphProto) -> set[str]:
    nodes = {name for node in graph.node for name in (*node.input, *node.output)}
    return nodes | {own.name for own in graph.initializer} | {own.name for own in graph.input}


def _rename_initializers(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Wherever they are read, in the bodies of loops and branches too."""
    for own in graph.initializer:
        own.name = names.get(own.name, own.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                _rename_initializers(body, names)
