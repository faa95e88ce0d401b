"""The pictures of docs/architecture.md are the ones that the imports make, and what the page names exists."""

import ast
import inspect
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from itertools import combinations
from pathlib import Path

import grimp
import pytest

from autocompress.compute.operations import Operations

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
PRODUCT = ("autocompress", "plugins", "search_spaces")
PACKAGES = ("autocompress", "autocompress_plugins", "autocompress_spaces")
DOORS = ("autocompress.data", "autocompress.measure")
COLUMNS = 80
AROUND = {
    "concurrency",
    "families",
    "opened",
    "sharing",
    "spent",
}  # of Operations: about whoever computes; nothing is computed
ELSEWHERE = re.compile(r"merge_channels|remote")  # files of the worked examples


@dataclass(frozen=True)
class Layer:
    """independent: its packages do not import each other."""

    names: frozenset[str]
    independent: bool

    @classmethod
    def of(cls, text: str) -> "Layer":
        """``a | b`` of independent ones, ``a : b`` of others, as import-linter writes them."""
        return cls(frozenset(name.strip() for name in re.split("[|:]", text)), independent=":" not in text)


def block(kind: str) -> list[str]:
    """The lines of the page's one fenced block of this kind, without comments; an indented line goes on from the one
    before.
    """
    (text,) = re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    lines = re.sub(r" *#.*", "", text)
    return re.sub(r"\n +", " ", lines).splitlines()


LAYERS = [Layer.of(line) for line in block("layers")]
SHOWN = {"autocompress": LAYERS, "autocompress.explore": [Layer.of(line) for line in block("explore")]}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(*PACKAGES, cache_dir=None)


def imports_of(graph: grimp.ImportGraph, importer: str, package: str = "autocompress") -> set[str]:
    """What a package or module imports of ``package``, by their names in it, itself left out."""
    own = {importer} | graph.find_descendants(importer)
    found = {imported for module in own for imported in graph.find_modules_directly_imported_by(module)} - own
    inside = f"{package}."
    return {imported.removeprefix(inside).split(".")[0] for imported in found if imported.startswith(inside)}


@pytest.mark.parametrize("package", SHOWN)
def test_the_layers_shown_are_those_that_lint_imports_holds(package: str) -> None:
    configured = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    (contract,) = (c for c in configured["contracts"] if c.get("containers") == [package])
    assert [Layer.of(line) for line in contract["layers"]] == SHOWN[package]


@pytest.mark.parametrize("package", SHOWN)
def test_every_package_is_shown_once_and_nothing_else(graph: grimp.ImportGraph, package: str) -> None:
    shown = [name for layer in SHOWN[package] for name in layer.names]
    there = {module.rpartition(".")[2] for module in graph.find_children(package)} - {"__main__"}
    assert sorted(shown) == sorted(there)


@pytest.mark.parametrize("package", SHOWN)
def test_no_import_goes_up_the_layers_shown(graph: grimp.ImportGraph, package: str) -> None:
    layers = SHOWN[package]
    at = {name: number for number, layer in enumerate(layers) for name in layer.names}
    imports = {name: imports_of(graph, f"{package}.{name}", package) for name in at}
    assert sum(map(len, imports.values())) > 2 * len(layers), "hardly an import was found"
    up = [f"{one} imports {other}" for one in at for other in imports[one] & at.keys() if at[other] < at[one]]
    apart = [sorted(layer.names) for layer in layers if layer.independent]
    beside = [
        f"{a} and {b}" for names in apart for a, b in combinations(names, 2) if {a, b} & (imports[a] | imports[b])
    ]
    assert up + beside == []


def test_what_stands_beside_the_layers_imports_what_is_shown(graph: grimp.ImportGraph) -> None:
    beside = {
        one.strip(): set(re.split(", *", other.strip())) for one, other in (x.split("->") for x in block("imports"))
    }
    assert beside.keys() >= set(PACKAGES) - {"autocompress"}
    for importer, shown in beside.items():
        imported = imports_of(graph, importer)
        assert {"nouns" if name in LAYERS[-1].names else name for name in imported} == shown, importer


@pytest.mark.parametrize("door", DOORS)
def test_a_door_lists_exactly_what_it_lets_through(door: str) -> None:
    module = import_module(door)
    tree = ast.parse(inspect.getsource(module))
    bound = {name for statement in tree.body for name in names_bound(statement)}
    assert sorted(module.__all__) == sorted(bound - {"__all__"})
    assert [name for name in module.__all__ if not hasattr(module, name)] == []


def names_bound(statement: ast.stmt) -> Iterable[str]:
    """The names that a statement of a module gives to it."""
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        return [alias.asname or alias.name for alias in statement.names]
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [statement.name]
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", statement)]
    nodes = [node for target in targets for node in ast.walk(target)]
    return [node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]


def test_the_page_lists_every_operation_and_no_other() -> None:
    section = PAGE.split("\n## Operations\n")[1].split("\n## ")[0]
    listed = re.findall(r"^\| `(\w+)` ", section, re.MULTILINE)
    methods = {name for name in vars(Operations) if not name.startswith("_")} - AROUND
    assert sorted(listed) == sorted(methods)


def test_the_files_and_folders_that_the_page_names_exist() -> None:
    named = set(re.findall(r"`((?:autocompress|plugins|search_spaces|benchmarks|tests)/[\w./]*)`", PAGE))
    named |= {f"autocompress/{path}" for path in re.findall(r"\b(?:explore|compute|measure)(?:/\w+)+\.py", PAGE)}
    assert len(named) >= 30
    missing = [path for path in named if not ELSEWHERE.search(path) and not (ROOT / path).exists()]
    assert sorted(missing) == []


def test_the_files_and_folders_that_the_flow_passes_through_exist() -> None:
    (flow,) = re.findall(r"^```text\n( what happens .*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    header, *lines = flow.splitlines()
    named = {path for line in lines for path in re.findall(r"[\w/]+(?:/|\.py)", line[header.index("where") :])}
    assert len(named) >= 15
    places = (ROOT / "autocompress" / "explore", ROOT / "autocompress")
    assert sorted(path for path in named if not any((place / path).exists() for place in places)) == []


def test_the_pictures_can_be_read_at_80_columns() -> None:
    pictures = re.findall(r"^```\w*\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert len(pictures) >= 4
    assert [line for picture in pictures for line in picture.splitlines() if len(line) > COLUMNS] == []


def test_a_public_name_of_a_module_means_one_thing() -> None:
    """Plug-ins alone define the same names: those of the hooks."""
    places: dict[str, list[str]] = {}
    for path in sorted(path for folder in PRODUCT for path in (ROOT / folder).rglob("*.py")):
        for name in {name for statement in defining(path) for name in names_bound(statement)}:
            places.setdefault(name, []).append(path.relative_to(ROOT).as_posix())
    assert len(places) > 500
    public = {name: where for name, where in places.items() if not re.match(r"_|autocompress_|T$", name)}
    assert {name: where for name, where in public.items() if len(where) > 1} == {}


def defining(path: Path) -> list[ast.stmt]:
    """The statements of a module that define what is its own."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
    return [statement for statement in ast.parse(path.read_text("utf-8")).body if isinstance(statement, kinds)]
