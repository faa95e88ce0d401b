"""What a syntax tree says: names, bases, methods, arguments that are numbers and words."""

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

ClassIn = tuple[Path, ast.ClassDef]  # a class with its file


@dataclass(frozen=True)
class Classes:
    """By file and name: two files may have classes of one name. imports: of each file, see ``imports_of``."""

    nodes: Mapping[tuple[Path, str], ast.ClassDef]
    imports: Mapping[Path, Mapping[str, str]]

    @cached_property
    def _by_name(self) -> Mapping[str, list[tuple[Path, str]]]:
        found: dict[str, list[tuple[Path, str]]] = {}
        for key in self.nodes:
            found.setdefault(key[1], []).append(key)
        return found

    def find(self, name: str, file: Path) -> ClassIn | None:
        """The class that a name means in a file: its own, one of the module that it is imported from, or the first that
        is called so.
        """
        if (file, name) in self.nodes:
            return file, self.nodes[file, name]
        module, _, own = qualified_name(name, self.imports[file]).rpartition(".")
        called = self._by_name.get(own, ())
        of_module = [key for key in called if module.rpartition(".")[2] in (key[0].stem, key[0].parent.name)]
        key = next(iter((*of_module, *called)), None)
        return key and (key[0], self.nodes[key])

    def parents(self, found: ClassIn) -> Iterator[ClassIn]:
        """The classes of the folder that one derives from."""
        file, node = found
        for base in node.bases:
            parent = self.find(dotted_name(base), file)
            if parent is not None and parent[1] is not node:
                yield parent


@dataclass(frozen=True)
class Outside:
    """What a file does outside of its networks: the constants it names, its calls, and its imports."""

    constants: Mapping[str, ast.expr]
    calls: tuple[ast.Call, ...]
    imports: Mapping[str, str]

    @classmethod
    def of(cls, file: Path, tree: ast.Module, networks: Classes) -> "Outside":
        statements = [s for s in tree.body if not (isinstance(s, ast.ClassDef) and (file, s.name) in networks.nodes)]
        nodes = [node for statement in statements for node in ast.walk(statement)]
        calls = tuple(node for node in nodes if isinstance(node, ast.Call))
        return cls(constants_of(tree), calls, imports_of(nodes))


def imports_of(nodes: Iterable[ast.AST]) -> dict[str, str]:
    """What each imported name stands for, with dots: ``nn`` for ``torch.nn``."""
    found: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                found |= {alias.asname: alias.name} if alias.asname else {first: first}
        elif isinstance(node, ast.ImportFrom):
            found |= {a.asname or a.name: f"{node.module}.{a.name}" if node.module else a.name for a in node.names}
    return found


def qualified_name(name: str, imports: Mapping[str, str]) -> str:
    """``torch.nn.Linear`` of ``nn.Linear``; of what is not imported the name itself."""
    first, dot, rest = name.partition(".")
    return f"{imports.get(first, first)}{dot}{rest}"


def bases_of(node: ast.ClassDef) -> list[str]:
    return [last_name(base) for base in node.bases]


def dotted_name(node: ast.expr) -> str:
    """``nn.Module`` as it is written, of a call what is called."""
    if isinstance(node, ast.Call):
        return dotted_name(node.func)
    if isinstance(node, ast.Subscript):
        return dotted_name(node.value)
    return f"{dotted_name(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def last_name(node: ast.expr) -> str:
    """``Module`` of ``torch.nn.Module``, of a call what is called."""
    return dotted_name(node).rpartition(".")[2]


def all_bases(found: ClassIn, networks: Classes) -> Iterator[str]:
    yield from bases_of(found[1])
    for parent in networks.parents(found):
        yield from all_bases(parent, networks)


def method_of(found: ClassIn, name: str, classes: Classes) -> ast.FunctionDef | None:
    """A method of a class, or of the classes of the folder that it derives from."""
    own = next((child for child in found[1].body if isinstance(child, ast.FunctionDef) and child.name == name), None)
    inherited = (method_of(parent, name, classes) for parent in classes.parents(found))
    return own or next((method for method in inherited if method), None)


def required_arguments(function: ast.FunctionDef | None) -> list[str]:
    """Names of the arguments without a default; ``self`` is none."""
    if function is None:
        return []
    given = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
    given = given[: len(given) - len(function.args.defaults)]
    alone = zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
    return [name for name in given if name != "self"] + [a.arg for a, default in alone if default is None]


def constants_of(tree: ast.Module) -> dict[str, ast.expr]:
    """Names that a file gives to numbers, words and tuples of them."""
    found: dict[str, ast.expr] = {}
    for node in tree.body:
        if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
            continue
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            pairs = [(target, node.value)]
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = list(zip(target.elts, node.value.elts, strict=False))
            found |= {t.id: v for t, v in pairs if isinstance(t, ast.Name) and is_literal(v)}
    return found


def is_literal(node: ast.expr | None) -> bool:
    if node is None:
        return False
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


def literal_values(
    call: ast.Call, constants: Mapping[str, ast.expr], parameters: tuple[str, ...] = ()
) -> dict[str | int, Any]:
    """The arguments that are numbers, words and lists of them, a constant's name as its value: by keyword; those given
    by place by the name of their parameter, else by place.
    """
    named: dict[str | int, ast.expr] = {}
    for place, value in enumerate(call.args):
        named[parameters[place] if place < len(parameters) else place] = value
    named |= {k.arg: k.value for k in call.keywords if k.arg}
    known = {name: constants.get(v.id, v) if isinstance(v, ast.Name) else v for name, v in named.items()}
    return {name: ast.literal_eval(value) for name, value in known.items() if is_literal(value)}


def literal_arguments(call: ast.Call, constants: Mapping[str, ast.expr]) -> str | None:
    """The arguments as text, a constant's name as its value; None where one is neither."""
    words = []
    given = [("", a) for a in call.args] + [(f"{k.arg}=", k.value) for k in call.keywords]
    for prefix, argument in given:
        value = constants.get(argument.id) if isinstance(argument, ast.Name) else argument
        if prefix == "None=" or not is_literal(value):
            return None
        assert value is not None
        words.append(prefix + ast.unparse(value))
    return ", ".join(words)


def local_imports(file: Path) -> set[str]:
    """The first parts of the names of modules that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.split(".")[0])
    return found
