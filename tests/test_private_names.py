"""What is private to a dependency may change in any release: the product uses what is listed here and nothing else of
it, and each still does what it is used for.
"""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torchmetrics import SumMetric
from torchmetrics.utilities import dim_zero_sum

ROOT = Path(__file__).parent.parent
FOLDERS = ("autocompress", "plugins", "search_spaces")
DOCUMENTED = {"_exit", "_replace"}  # of os, of named tuples: public for all their names


def counts_changes_in_place() -> bool:
    tensor = torch.zeros(2)
    before = tensor._version
    tensor.add(1)
    same = tensor._version == before
    return same and tensor.add_(1)._version > before


def knows_the_sizes_before_a_slice() -> bool:
    part = torch.zeros(2, 5, requires_grad=True)[:, 1:3]
    return tuple(part.grad_fn._saved_self_sym_sizes) == (2, 5)  # type: ignore[union-attr]


def holds_forward_hooks() -> bool:
    module = nn.Identity()
    before = len(module._forward_hooks)
    module.register_forward_hook(lambda *_: None)
    return (before, len(module._forward_hooks)) == (0, 1)


def holds_hooks_before_forward() -> bool:
    module = nn.Identity()
    before = len(module._forward_pre_hooks)
    module.register_forward_pre_hook(lambda *_: None)
    return (before, len(module._forward_pre_hooks)) == (0, 1)


def tells_how_states_are_reduced() -> bool:
    metric = SumMetric()
    return metric._reductions == {"sum_value": dim_zero_sum} and metric.metric_state.keys() == metric._reductions.keys()


def holds_what_was_compiled() -> bool:
    module = nn.Identity()
    compiled = torch.compile(module, backend="eager")
    return type(compiled).__name__ == "OptimizedModule" and compiled._orig_mod is module  # type: ignore[attr-defined]


def computes_past_a_function_mode() -> bool:
    seen: list[str] = []

    class Noted(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(func.__name__)
            return func(*args, **(kwargs or {}))

    with Noted(), torch._C.DisableTorchFunction():
        torch.zeros(2).add(1)
    return not seen


def turns_gradients_on_and_off_where_a_function_mode_sees_it() -> bool:
    seen: list[Any] = []

    class Noted(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(func)
            return func(*args, **(kwargs or {}))

    with Noted(), torch.no_grad():
        pass
    return torch._C._set_grad_enabled in seen


USED: dict[str, tuple[str, Callable[[], bool]]] = {
    "_version": ("the count of changes in place of a tensor", counts_changes_in_place),
    "_saved_self_sym_sizes": ("the sizes of a tensor before a slice of it", knows_the_sizes_before_a_slice),
    "_forward_hooks": ("the hooks on a module", holds_forward_hooks),
    "_orig_mod": ("the module inside of one that torch.compile gives", holds_what_was_compiled),
    "_reductions": ("how states of a metric of torchmetrics become one", tells_how_states_are_reduced),
    "_C": ("a way past a function mode", computes_past_a_function_mode),
    "_set_grad_enabled": ("what no_grad calls", turns_gradients_on_and_off_where_a_function_mode_sees_it),
    "_forward_pre_hooks": ("the hooks before a module", holds_hooks_before_forward),
}


def modules() -> Iterator[tuple[Path, ast.Module]]:
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT), ast.parse(path.read_text("utf-8"))


def private(name: str) -> bool:
    return re.match(r"_[^_]", name) is not None


def own_names(trees: list[ast.Module]) -> set[str]:
    """The names that the product itself defines or gives to something."""
    found: set[str] = set()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return found


def places_of_private_names() -> dict[str, list[str]]:
    """Each private name of a dependency that the product reads or imports, with where."""
    files = list(modules())
    assert len(files) > 100
    known = own_names([tree for _, tree in files]) - USED.keys() | DOCUMENTED
    found: dict[str, list[str]] = {}
    for path, tree in files:
        for node in ast.walk(tree):
            names: list[str] = []
            if isinstance(node, ast.Attribute):
                own = isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}
                names = [] if own or node.attr in known else [node.attr]
            elif isinstance(node, ast.Import):
                names = [part for alias in node.names for part in alias.name.split(".")]
            elif isinstance(node, ast.ImportFrom):
                names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            for name in filter(private, names):
                found.setdefault(name, []).append(f"{path}:{node.lineno}")
    return found


def test_no_other_private_name_is_used() -> None:
    others = {name: places for name, places in places_of_private_names().items() if name not in USED}
    assert others == {}, "find a public way, or add the name here with what it is used for"


@pytest.mark.parametrize("name", USED)
def test_a_private_name_does_what_it_is_used_for(name: str) -> None:
    what, works = USED[name]
    places = places_of_private_names().get(name)
    assert places, f"{name} is no longer used: take it off this list"
    gone = f"torch {torch.__version__} no longer gives {what} as {name}, which is used at {', '.join(places)}"
    try:
        assert works(), gone
    except AttributeError as error:
        raise AssertionError(gone) from error
