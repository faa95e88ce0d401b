"""Losses and metrics of a folder: those it defines, and those of torch and torchmetrics that it makes."""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from autocompress.starting.syntax import (
    Classes,
    Outside,
    bases_of,
    dotted_name,
    imports_of,
    last_name,
    literal_arguments,
    method_of,
    qualified_name,
    required_arguments,
)

TARGETS = {"target", "targets", "label", "labels", "y", "y_true"}  # the second parameter of a loss or a metric
LOWER_IS_BETTER = ("error", "loss", "distance", "perplexity")
KNOWN_LOSSES = {"nn.CrossEntropyLoss()": '"cross_entropy"', "nn.MSELoss()": '"mse"'}


@dataclass(frozen=True)
class Criterion:
    """A loss or a metric: its name, which is imported from ``file``, or an expression of torch's or torchmetrics'.
    lower: whether the name says that lower is better. guessed: no code says it.
    """

    text: str
    file: Path | None = None
    imported: str = ""  # from what an expression needs, as ``from torchmetrics import F1Score``
    lower: bool = False
    guessed: bool = False


def own_criteria(trees: Mapping[Path, ast.Module], networks: Classes, kind: str) -> Iterator[Criterion]:
    """Losses and metrics that the folder defines: functions of outputs and targets, and objects with ``update``."""
    classes = [node for tree in trees.values() for node in tree.body if isinstance(node, ast.ClassDef)]
    here = Classes(
        {(file, n.name): n for file, tree in trees.items() for n in tree.body if isinstance(n, ast.ClassDef)},
        {file: imports_of(ast.walk(tree)) for file, tree in trees.items()},
    )
    for file, tree in trees.items():
        for node in tree.body:
            lower = any(word in getattr(node, "name", "").lower() for word in LOWER_IS_BETTER)
            if isinstance(node, ast.FunctionDef) and _takes_targets(node):
                returns = last_name(node.returns) if node.returns else ""
                is_loss = "loss" in node.name.lower() or (returns == "Tensor" and not node.name.startswith("_"))
                if is_loss == (kind == "loss") and (is_loss or returns == "float"):
                    yield Criterion(node.name, file, lower=lower and not is_loss)
            elif isinstance(node, ast.ClassDef) and kind == "metric" and (file, node.name) not in networks.nodes:
                update = method_of((file, node), "update", here)
                is_base = any(node.name in bases_of(other) for other in classes)
                arguments = required_arguments(method_of((file, node), "__init__", here))
                whole = method_of((file, node), "compute", here) is not None and not arguments and not is_base
                if update and whole and len(required_arguments(update)) == 2:
                    yield Criterion(f"{node.name}()", file, lower=lower)


def _takes_targets(function: ast.FunctionDef) -> bool:
    required = required_arguments(function)
    return len(required) == 2 and required[1].lower() in TARGETS


def library_criteria(elsewhere: Mapping[Path, Outside], library: str) -> Iterator[Criterion]:
    """Calls that make a loss of torch.nn or a metric of torchmetrics from numbers and words, each once. library: which
    of the two.
    """
    from torch import nn

    seen = set()
    for outside in elsewhere.values():
        for call in outside.calls:
            module, _, name = qualified_name(dotted_name(call.func), outside.imports).rpartition(".")
            is_loss = library == "torch.nn" == module and name.endswith("Loss") and hasattr(nn, name)
            is_metric = library == "torchmetrics" == module.partition(".")[0] and name[:1].isupper()
            arguments = literal_arguments(call, outside.constants) if is_loss or is_metric else None
            if arguments is None:
                continue
            made = f"{name}({arguments})" if is_metric else f"nn.{name}({arguments})"
            text = KNOWN_LOSSES.get(made, made)
            if text not in seen:
                seen.add(text)
                yield Criterion(text, imported=f"from {module} import {name}" if is_metric else "")
