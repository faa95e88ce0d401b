"""From ``init`` to a model to deploy, as it is typed: of each kind of model that the ten minutes show, nothing is
edited but the loading of the data, and that only where it lies in no form that is known.
"""

import ast
import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from autocompress.plugin.loader import PluginSet
from tests.starting.conftest import save
from tests.tiny_setting import Command, tiny_setting

PAGE = (Path(__file__).parents[2] / "docs" / "ten-minutes.md").read_text("utf-8")
SIZES = {"train": 60, "val": 30, "test": 30}


@pytest.fixture(scope="module")
def command(installed_plugins: PluginSet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    with tiny_setting(installed_plugins, tmp_path_factory.mktemp("home")) as command:
        yield command


def project_of(kind: str, folder: Path) -> None:
    """The page's own code without its task, and weights of its network."""
    (code,) = re.findall(rf"```python\n# {kind}_task.py\n(.*?)```", PAGE, re.DOTALL)
    (task,) = (node for node in ast.parse(code).body if isinstance(node, ast.FunctionDef) and node.name == "task")
    lines = code.splitlines(keepends=True)
    text = "".join(lines[: task.lineno - 1]).replace("from autocompress import Task\n", "")
    (folder / "net.py").write_text(text)
    (name,) = re.findall(r"^(?:class|def) (\w+)(?:\(nn.Module\)|\(\) -> nn.Module)", text, re.MULTILINE)
    torch.manual_seed(0)
    save(folder, name, "net.py")


def pictures(folder: Path) -> None:
    for split, count in SIZES.items():
        for at in range(count):
            name = ("cat", "dog", "fox")[at % 3]
            (folder / "photos" / split / name).mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng((count, at)).integers(0, 255, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / split / name / f"{split}{at}.png")


def rows(folder: Path) -> None:
    for split, count in SIZES.items():
        x = np.random.default_rng(count).standard_normal((count, 12))
        with (folder / f"{split}.csv").open("w") as file:
            csv.writer(file).writerows([[*(f"x{i}" for i in range(12)), "target"], *(([*row, row.sum()]) for row in x)])


def by_hand(function: str) -> Callable[[Path], None]:
    """What a user writes into ``splits()``."""

    def write(folder: Path) -> None:
        file = folder / "my_task.py"
        text = file.read_text()
        (raised,) = re.findall(r"    raise NotImplementedError\(.*\n", text)
        own = f"    import net\n\n    return {{name: net.{function}(count) for name, count in {SIZES}.items()}}\n"
        file.write_text(text.replace(raised, own))

    return write


def nothing(folder: Path) -> None:
    """What needs no edit."""


@pytest.mark.parametrize(
    ("kind", "data", "edit"),
    [
        ("image", pictures, nothing),
        ("speech", nothing, by_hand("frames")),
        ("text", nothing, by_hand("texts")),
        ("table", rows, nothing),
    ],
)
def test_what_init_writes_is_searched_to_a_model_to_deploy(
    kind: str, data: Callable[[Path], None], edit: Callable[[Path], None], command: Command, tmp_path: Path
) -> None:
    project_of(kind, tmp_path)
    data(tmp_path)
    begun = command(tmp_path, "init", "--yes")
    assert begun.code == 0, begun.err
    edit(tmp_path)
    (following,) = re.findall(r"^Next: autocompress (.*) --dry-run$", begun.out, re.MULTILINE)
    done = command(tmp_path, *following.split())
    assert done.code == 0, done.err
    document = json.loads((tmp_path / "runs" / "my_task" / "front.json").read_text())
    chosen = next(c for c in document["candidates"] if c["id"] == document["recommended"])
    assert chosen["latency_ms"]["ratio"] <= 1 / 2
    assert (tmp_path / "runs" / "my_task" / "recommended" / "model.onnx").is_file()
    assert "To deploy: runs/my_task/recommended/model.onnx" in done.out
