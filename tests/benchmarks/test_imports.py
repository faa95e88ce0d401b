"""What a benchmark imports of the product is there, also what it imports only once it runs."""

import ast
import importlib
from pathlib import Path

import pytest

BENCHMARKS = sorted((Path(__file__).parents[2] / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_every_name_that_is_imported_of_the_product_is_there(path: Path) -> None:
    nodes = ast.walk(ast.parse(path.read_text("utf-8")))
    imports = [n for n in nodes if isinstance(n, ast.ImportFrom) and (n.module or "").startswith("autocompress")]
    missing = [
        f"{node.module}.{alias.name}"
        for node in imports
        for alias in node.names
        if not hasattr(importlib.import_module(str(node.module)), alias.name)
    ]
    assert not missing
