"""Which nodes of an exported file compute what ``Task.keep`` names: those stay in float."""

import re
from collections.abc import Collection, Set
from itertools import pairwise
from pathlib import Path

import onnx

from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Context
from autocompress_plugins.layer_kinds import MATRIX_LAYERS

HELD_AS = "model"  # how the exported module holds the user's
AGAIN = re.compile(r"_\d+$")  # behind the name of a module that is called once more


def kept_nodes(source: Path, context: Context) -> list[str]:
    """Their names. Raises CandidateFailed where the file does not tell which they are, as that of the dynamo exporter
    does not. A norm that is kept may be part of a convolution by now.
    """
    keep = context.task.keep
    if not keep:
        return []
    known = {name for name, _ in context.model.named_modules() if name}
    modules = {node.name: _modules_of(node.name, known) for node in onnx.load(str(source)).graph.node}
    for name in keep:
        whole = context.model.get_submodule(name)
        is_computed = any(isinstance(inside, MATRIX_LAYERS) for inside in whole.modules())
        if is_computed and not any(_is_within(own, [name]) for own in modules.values()):
            raise CandidateFailed(f"the exported file does not tell which of its nodes are of {name} (Task.keep)")
    return [node for node, own in modules.items() if _is_within(own, keep)]


def _is_within(modules: Collection[str], names: Collection[str]) -> bool:
    return any(own == name or own.startswith(f"{name}.") for own in modules for name in names)


def _modules_of(node: str, known: Set[str]) -> Set[str]:
    """Names of the modules that a node may be of.

    ``/model/stem/stem.0/Conv`` is of ``stem.0``, since what an ``nn.Sequential`` holds repeats its name, and
    ``/model/head_1/Gemm`` of ``head``, called once more. What is reached past the module that holds it has the end of
    its name alone.
    """
    parts = [part for part in node.split("/") if part]
    if len(parts) < 2 or parts[0] != HELD_AS:
        return set()
    inside = parts[1:-1]
    repeated = {at for at, (one, other) in enumerate(pairwise(inside)) if other.startswith(f"{one}.")}
    inside = [part for at, part in enumerate(inside) if at not in repeated]
    for path in (".".join(inside), ".".join(AGAIN.sub("", part) for part in inside)):
        if found := {name for name in known if name == path} or {n for n in known if path and n.endswith(f".{path}")}:
            return found
    return set()
