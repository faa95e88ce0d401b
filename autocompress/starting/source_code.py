"""What the Python files of a folder define, read from their syntax trees: nothing of them is run."""

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from autocompress.starting.criteria import Criterion, library_criteria, own_criteria
from autocompress.starting.syntax import (
    Classes,
    Outside,
    all_bases,
    bases_of,
    is_literal,
    last_name,
    literal_arguments,
    method_of,
    required_arguments,
)

MODULES = ("Module", "Sequential", "ModuleList", "PreTrainedModel")  # the ends of names of classes of networks
DATA_NAMES = {"data", "dataset", "datasets", "splits", "loader", "loaders", "dataloader", "dataloaders"}
MODEL_NAMES = {"model", "net", "network"}
VERBS = ("", "get_", "load_", "make_", "build_", "create_", "read_", "prepare_")
REGISTERS = ("add_module", "register_module", "register_buffer", "register_parameter")
TRANSFORMS = ("Normalize", "CenterCrop", "Resize", "RandomResizedCrop", "RandomCrop")
SPLIT_WORDS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val", "test": "test"}


@dataclass(frozen=True)
class Named:
    """A name of a file, and in which way it is called: ``arguments`` as they are written there."""

    file: Path
    name: str
    arguments: str = ""

    @property
    def call(self) -> str:
        return f"{self.name}({self.arguments})"


@dataclass(frozen=True)
class ModelSource:
    """What makes a network: a class, or a function without arguments.

    attributes: what its parameters' names can begin with, in order; None of a function. required: arguments without a
    default, which ``arguments`` does not give. is_part: another network of the folder is made of it.
    """

    made: Named
    attributes: tuple[str, ...] | None = None
    is_sequence: bool = False
    required: tuple[str, ...] = ()
    is_part: bool = False


@dataclass(frozen=True)
class DataSource:
    """A function without arguments that gives the splits. keys: of the dict that it returns, or the places of the
    tuple, for each of "train", "val", "test".
    """

    made: Named
    keys: dict[str, str | int]


@dataclass(frozen=True)
class SourceCode:
    """Of a folder. images: what its transforms say of images: "mean", "std", "size"."""

    models: tuple[ModelSource, ...] = ()
    data: tuple[DataSource, ...] = ()
    losses: tuple[Criterion, ...] = ()
    metrics: tuple[Criterion, ...] = ()
    images: dict[str, tuple[float, ...]] = field(default_factory=dict)
    runs: frozenset[Path] = frozenset()  # files that compute when they are imported
    unread: tuple[str, ...] = ()


def read_source(files: Sequence[Path]) -> SourceCode:
    """Of the files that can be read; those that cannot are named in ``unread``."""
    trees, unread = {}, []
    for file in files:
        if not file.stem.isidentifier():
            unread.append(f"{file.name} was left out: no module is imported by such a name")
            continue
        try:
            trees[file] = ast.parse(file.read_bytes())
        except (OSError, SyntaxError, ValueError) as error:
            unread.append(f"{file.name} was left out: {type(error).__name__}")
    networks = _networks(trees)
    elsewhere = {file: Outside.of(tree, networks) for file, tree in trees.items()}
    return SourceCode(
        models=(*_models(networks, elsewhere), *_makers(trees)),
        data=tuple(source for file, tree in trees.items() for source in _data(file, tree)),
        losses=(*own_criteria(trees, networks, "loss"), *library_criteria(elsewhere, "torch.nn")),
        metrics=(*own_criteria(trees, networks, "metric"), *library_criteria(elsewhere, "torchmetrics")),
        images=_images(elsewhere),
        runs=frozenset(file for file, tree in trees.items() if _runs(tree)),
        unread=tuple(unread),
    )


def _networks(trees: Mapping[Path, ast.Module]) -> Classes:
    """Classes that are networks by their bases, those of the folder included."""
    classes = {
        node.name: (file, node) for file, tree in trees.items() for node in tree.body if isinstance(node, ast.ClassDef)
    }
    found: dict[str, tuple[Path, ast.ClassDef]] = {}
    while True:
        more = {
            name: (file, node)
            for name, (file, node) in classes.items()
            if name not in found
            and not name.endswith("Loss")
            and any(base.endswith(MODULES) or base in found for base in bases_of(node))
        }
        if not more:
            return found
        found |= more


def _models(networks: Classes, elsewhere: Mapping[Path, Outside]) -> Iterator[ModelSource]:
    named = {other: _names_in(tree) for other, (_, tree) in networks.items()}
    for name, (file, node) in networks.items():
        others = [other for other, names in named.items() if other != name and name in names]
        required = tuple(argument for argument in required_arguments(method_of(node, "__init__", networks)))
        arguments = _arguments_elsewhere(name, elsewhere)
        yield ModelSource(
            Named(file, name, arguments or ""),
            attributes=_attributes(node, networks),
            is_sequence=any(base == "Sequential" for base in all_bases(node, networks)),
            required=() if arguments else required,
            is_part=bool(others),
        )


def _names_in(node: ast.ClassDef) -> set[str]:
    return {last_name(child) for child in ast.walk(node) if isinstance(child, (ast.Name, ast.Attribute))}


def _attributes(node: ast.ClassDef, networks: Classes) -> tuple[str, ...]:
    """What is set on ``self`` in any method, and by name in ``register_buffer`` and its like, in the file's order, what
    is inherited first.
    """
    found: list[tuple[int, int, str]] = []
    for child in ast.walk(node):
        if isinstance(child, ast.Attribute) and isinstance(child.ctx, ast.Store):
            if getattr(child.value, "id", "") == "self":
                found.append((child.lineno, child.col_offset, child.attr))
        elif isinstance(child, ast.Call) and last_name(child.func) in REGISTERS:
            found += [(child.lineno, 0, str(a.value)) for a in child.args[:1] if isinstance(a, ast.Constant)]
    inherited = [
        name
        for base in bases_of(node)
        if base in networks and networks[base][1] is not node
        for name in _attributes(networks[base][1], networks)
    ]
    return tuple(dict.fromkeys([*inherited, *(name for *_, name in sorted(found))]))


def _arguments_elsewhere(name: str, elsewhere: Mapping[Path, Outside]) -> str | None:
    """How the folder's code makes one, where it says so in numbers and words."""
    for outside in elsewhere.values():
        for call in outside.calls:
            if last_name(call.func) == name and (found := literal_arguments(call, outside.constants)):
                return found
    return None


def _makers(trees: Mapping[Path, ast.Module]) -> Iterator[ModelSource]:
    """Functions without arguments that are called like a network."""
    for file, tree in trees.items():
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and _is_named(node.name, MODEL_NAMES) and not required_arguments(node):
                yield ModelSource(Named(file, node.name))


def _is_named(name: str, names: set[str]) -> bool:
    return any(name == verb + noun for verb in VERBS for noun in names)


def _data(file: Path, tree: ast.Module) -> Iterator[DataSource]:
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef) or required_arguments(node) or not _is_named(node.name, DATA_NAMES):
            continue
        for child in ast.walk(node):
            keys = _keys(child.value) if isinstance(child, ast.Return) else {}
            if {"train", "val"} <= keys.keys():
                yield DataSource(Named(file, node.name), keys)
                break


def _keys(value: ast.expr | None) -> dict[str, str | int]:
    """Which part of what is returned is which split, by keys or by the names of variables."""
    found: dict[str, str | int] = {}
    if isinstance(value, ast.Dict):
        words = [k.value for k in value.keys if isinstance(k, ast.Constant) and isinstance(k.value, str)]
        found = {SPLIT_WORDS[word.lower()]: word for word in words if word.lower() in SPLIT_WORDS}
    elif isinstance(value, ast.Tuple):
        for place, item in enumerate(value.elts):
            parts = [SPLIT_WORDS[word] for word in last_name(item).lower().split("_") if word in SPLIT_WORDS]
            found |= dict.fromkeys(parts[:1], place)
        if len(found) != len(value.elts):
            return {}
    if "val" not in found and "test" in found:  # the only other split is what training was judged by
        found["val"] = found.pop("test")
    return found


def _images(elsewhere: Mapping[Path, Outside]) -> dict[str, tuple[float, ...]]:
    """What the first transforms of torchvision say that have numbers: ``Normalize``, ``Resize`` and its like."""
    found: dict[str, tuple[float, ...]] = {}
    for outside in elsewhere.values():
        for call in outside.calls:
            name = last_name(call.func)
            if name not in TRANSFORMS or not all(map(is_literal, call.args)):
                continue
            values = [ast.literal_eval(a) for a in call.args]
            if name == "Normalize" and len(values) >= 2 and all(isinstance(v, (list, tuple)) for v in values[:2]):
                found.setdefault("mean", tuple(map(float, values[0])))
                found.setdefault("std", tuple(map(float, values[1])))
            elif name != "Normalize" and values:
                size = values[0] if isinstance(values[0], (list, tuple)) else (values[0], values[0])
                if len(size) == 2 and all(isinstance(side, int) for side in size):
                    found["size"] = tuple(size)
    return found


def _runs(tree: ast.Module) -> bool:
    """Whether importing a file runs a loop of it."""
    return any(isinstance(node, (ast.For, ast.While, ast.With)) for node in tree.body)
