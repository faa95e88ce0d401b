"""Which nodes of an exported file compute what ``Task.keep`` names: those stay in float."""

from collections.abc import Collection
from itertools import pairwise

import onnx

from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Context

HELD_AS = "model"  # how the exported module holds the user's


def kept_nodes(model: onnx.ModelProto, context: Context) -> list[str]:
    """Their names. Raises CandidateFailed where the file does not tell, as that of the dynamo exporter does not."""
    keep = context.task.keep
    if not keep:
        return []
    found = [node.name for node in model.graph.node if _is_within(_module_of(node.name), keep)]
    if not found:
        raise CandidateFailed(f"the exported file does not tell which of its nodes are {', '.join(keep)} (Task.keep)")
    return found


def _is_within(module: str, names: Collection[str]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in names)


def _module_of(node: str) -> str:
    """The name of the module that a node is of: ``/model/stem/stem.0/Conv`` is of ``stem.0``, since what an
    ``nn.Sequential`` holds repeats its name.
    """
    parts = [part for part in node.split("/") if part]
    if len(parts) < 2 or parts[0] != HELD_AS:
        return ""
    inside = parts[1:-1]
    repeated = {at for at, (one, other) in enumerate(pairwise(inside)) if other.startswith(f"{one}.")}
    return ".".join(part for at, part in enumerate(inside) if at not in repeated)
