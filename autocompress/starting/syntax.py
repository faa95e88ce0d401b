"""What a syntax tree says: names, bases, methods, arguments that are numbers and words."""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

Classes = Mapping[str, tuple[Path, ast.ClassDef]]  # by name, each with its file


@dataclass(frozen=True)
class Outside:
    """What a file does outside of its networks: the constants it names, and its calls."""

    constants: Mapping[str, ast.expr]
    calls: tuple[ast.Call, ...]
    imported: Mapping[str, tuple[str, str]]  # names of torchmetrics' (module, name), as the file calls them

    @classmethod
    def of(cls, tree: ast.Module, networks: Classes) -> "Outside":
        statements = [s for s in tree.body if not (isinstance(s, ast.ClassDef) and s.name in networks)]
        nodes = [node for statement in statements for node in ast.walk(statement)]
        imported = {
            alias.asname or alias.name: (node.module or "", alias.name)
            for node in nodes
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("torchmetrics")
            for alias in node.names
        }
        return cls(constants_of(tree), tuple(node for node in nodes if isinstance(node, ast.Call)), imported)


def bases_of(node: ast.ClassDef) -> list[str]:
    return [last_name(base) for base in node.bases]


def last_name(node: ast.expr) -> str:
    """``Module`` of ``torch.nn.Module``, of a call what is called."""
    if isinstance(node, ast.Call):
        return last_name(node.func)
    if isinstance(node, ast.Subscript):
        return last_name(node.value)
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def all_bases(node: ast.ClassDef, networks: Classes) -> Iterator[str]:
    for base in bases_of(node):
        yield base
        if base in networks and networks[base][1] is not node:
            yield from all_bases(networks[base][1], networks)


def method_of(node: ast.ClassDef, name: str, networks: Classes) -> ast.FunctionDef | None:
    """A method of a class, or of the classes of the folder that it derives from."""
    own = next((child for child in node.body if isinstance(child, ast.FunctionDef) and child.name == name), None)
    inherited = (method_of(networks[base][1], name, networks) for base in bases_of(node) if base in networks)
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
