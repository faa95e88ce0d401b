"""What the Python files of a folder define, read from their syntax trees: nothing of them is run."""

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autocompress.starting.criteria import Criterion, library_criteria, own_criteria
from autocompress.starting.image_transforms import ImageTransforms, image_transforms
from autocompress.starting.splits import SPLITS
from autocompress.starting.syntax import (
    Classes,
    ClassIn,
    Outside,
    all_bases,
    bases_of,
    dotted_name,
    imports_of,
    last_name,
    literal_arguments,
    literal_values,
    method_of,
    qualified_name,
    required_arguments,
)

MODULES = ("Module", "Sequential", "ModuleList", "PreTrainedModel")  # the ends of names of classes of networks
DATA_NAMES = {"data", "dataset", "datasets", "splits", "loader", "loaders", "dataloader", "dataloaders"}
MODEL_NAMES = {"model", "net", "network"}
VERBS = ("", "get_", "load_", "make_", "build_", "create_", "read_", "prepare_")
REGISTERS = ("add_module", "register_module", "register_buffer", "register_parameter")


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
class LiteralCall:
    """How code makes a network of numbers and words. arguments: as they are written. values: by the parameters' names.
    in_tests: whether it is code that tests.
    """

    arguments: str
    values: Mapping[str | int, Any]
    in_tests: bool = False


@dataclass(frozen=True)
class ModelSource:
    """What makes a network: a class, or a function without arguments.

    attributes: what its parameters' names can begin with, in order; None of a function. required: arguments without a
    default. is_part: another network of the folder is made of it. calls: how the folder's code makes it.
    """

    made: Named
    attributes: tuple[str, ...] | None = None
    is_sequence: bool = False
    required: tuple[str, ...] = ()
    is_part: bool = False
    calls: tuple[LiteralCall, ...] = ()


@dataclass(frozen=True)
class DataSource:
    """A function without arguments that gives the splits. keys: of the dict that it returns, or the places of the
    tuple, for each of "train", "val", "test".
    """

    made: Named
    keys: dict[str, str | int]


@dataclass(frozen=True)
class SourceCode:
    """Of a folder. images: what its transforms do to them."""

    models: tuple[ModelSource, ...] = ()
    data: tuple[DataSource, ...] = ()
    losses: tuple[Criterion, ...] = ()
    metrics: tuple[Criterion, ...] = ()
    images: ImageTransforms = field(default_factory=ImageTransforms)
    runs: frozenset[Path] = frozenset()  # files that compute when they are imported
    unread: tuple[str, ...] = ()


def read_source(files: Sequence[Path]) -> SourceCode:
    """Of the files that can be read; those that cannot are named in ``unread``. Of a file that makes a task already the
    networks alone.
    """
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
    trees = {file: tree for file, tree in trees.items() if not _makes_task(tree)}
    elsewhere = {file: Outside.of(file, tree, networks) for file, tree in trees.items()}
    return SourceCode(
        models=(*_models(networks, elsewhere), *_makers(trees)),
        data=tuple(source for file, tree in trees.items() for source in _data(file, tree)),
        losses=(*own_criteria(trees, networks, "loss"), *library_criteria(elsewhere, "torch.nn")),
        metrics=(*own_criteria(trees, networks, "metric"), *library_criteria(elsewhere, "torchmetrics")),
        images=image_transforms(elsewhere.values()),
        runs=frozenset(file for file, tree in trees.items() if _runs(tree)),
        unread=tuple(unread),
    )


def _makes_task(tree: ast.Module) -> bool:
    nodes = list(ast.walk(tree))
    imports = imports_of(nodes)
    called = {qualified_name(dotted_name(node), imports) for node in nodes if isinstance(node, ast.Call)}
    return any(name.startswith("autocompress.") and name.endswith(".Task") for name in called)


def _networks(trees: Mapping[Path, ast.Module]) -> Classes:
    """Classes that are networks by their bases, those of the folder included."""
    nodes = {(file, n.name): n for file, tree in trees.items() for n in tree.body if isinstance(n, ast.ClassDef)}
    imports = {file: imports_of(ast.walk(tree)) for file, tree in trees.items()}
    found = Classes({}, imports)
    while True:
        more = {
            (file, name): node
            for (file, name), node in nodes.items()
            if (file, name) not in found.nodes
            and not name.endswith("Loss")
            and (any(base.endswith(MODULES) for base in bases_of(node)) or any(found.parents((file, node))))
        }
        if not more:
            return found
        found = Classes({**found.nodes, **more}, imports)


def _models(networks: Classes, elsewhere: Mapping[Path, Outside]) -> Iterator[ModelSource]:
    parts = set()
    for (file, name), node in networks.nodes.items():
        made_of = (networks.find(other, file) for other in _names_in(node) if other != name)
        parts |= {(found[0], found[1].name) for found in made_of if found}
    for (file, name), node in networks.nodes.items():
        yield ModelSource(
            Named(file, name),
            attributes=_attributes((file, node), networks),
            is_sequence=any(base == "Sequential" for base in all_bases((file, node), networks)),
            required=tuple(required_arguments(method_of((file, node), "__init__", networks))),
            is_part=(file, name) in parts,
            calls=tuple(_calls_of((file, node), networks, elsewhere)),
        )


def _names_in(node: ast.ClassDef) -> set[str]:
    return {last_name(child) for child in ast.walk(node) if isinstance(child, (ast.Name, ast.Attribute))}


def _attributes(found_class: ClassIn, networks: Classes) -> tuple[str, ...]:
    """What is set on ``self`` in any method, and by name in ``register_buffer`` and its like, in the file's order, what
    is inherited first.
    """
    found: list[tuple[int, int, str]] = []
    for child in ast.walk(found_class[1]):
        if isinstance(child, ast.Attribute) and isinstance(child.ctx, ast.Store):
            if getattr(child.value, "id", "") == "self":
                found.append((child.lineno, child.col_offset, child.attr))
        elif isinstance(child, ast.Call) and last_name(child.func) in REGISTERS:
            found += [(child.lineno, 0, str(a.value)) for a in child.args[:1] if isinstance(a, ast.Constant)]
    inherited = [name for parent in networks.parents(found_class) for name in _attributes(parent, networks)]
    return tuple(dict.fromkeys([*inherited, *(name for *_, name in sorted(found))]))


def _calls_of(made: ClassIn, networks: Classes, elsewhere: Mapping[Path, Outside]) -> Iterator[LiteralCall]:
    """How the folder's code makes a network, where it says so in numbers and words."""
    start = method_of(made, "__init__", networks)
    parameters = tuple(a.arg for a in (*start.args.posonlyargs, *start.args.args))[1:] if start else ()
    for file, outside in elsewhere.items():
        in_tests = "test" in file.stem.split("_") or "tests" in (file.parent.name, file.stem)
        for call in outside.calls:
            if last_name(call.func) == made[1].name and networks.find(dotted_name(call.func), file) == made:
                arguments = literal_arguments(call, outside.constants)
                if arguments is not None:
                    values = literal_values(call, outside.constants, parameters)
                    yield LiteralCall(arguments, values, in_tests)


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
        found = {SPLITS[word.lower()]: word for word in words if word.lower() in SPLITS}
    elif isinstance(value, ast.Tuple):
        for place, item in enumerate(value.elts):
            parts = [SPLITS[word] for word in last_name(item).lower().split("_") if word in SPLITS]
            found |= dict.fromkeys(parts[:1], place)
        if len(found) != len(value.elts):
            return {}
    if "val" not in found and "test" in found:  # the only other split is what training was judged by
        found["val"] = found.pop("test")
    return found


def _runs(tree: ast.Module) -> bool:
    """Whether importing a file runs a loop of it."""
    return any(isinstance(node, (ast.For, ast.While, ast.With)) for node in tree.body)
