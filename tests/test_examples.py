"""The examples' stored weights belong to their models. Their data, which is not in the repository, is not read."""

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file

from autocompress.errors import UsageError
from autocompress.task_source import load_task

EXAMPLES = Path(__file__).parent.parent / "examples"
MODELS = {"fashion_vit": "VisionTransformer", "fashion_mobilenet": "MobileNet"}


@pytest.fixture
def example(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The example's module, and an import path that is put back afterwards."""
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
    spec = importlib.util.spec_from_file_location(request.param, EXAMPLES / f"{request.param}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("fashion_mnist", None)


@pytest.mark.parametrize("example", MODELS, indirect=True)
def test_the_stored_weights_are_those_of_the_model(example: ModuleType) -> None:
    torch.manual_seed(0)
    model = getattr(example, MODELS[example.__name__])().eval()
    before = model(torch.randn(2, 1, 28, 28))
    model.load_state_dict(load_file(EXAMPLES / f"{example.__name__}.safetensors"))
    with torch.no_grad():
        outputs = model(torch.randn(64, 1, 28, 28))
    assert before.shape == (2, 10)
    assert outputs.isfinite().all()
    assert float(outputs.softmax(1).amax(1).mean()) > 0.3, "trained: it has an opinion"


@pytest.mark.parametrize("example", MODELS, indirect=True)
def test_the_readme_tells_their_sizes(example: ModuleType) -> None:
    text = (EXAMPLES / "README.md").read_text().split(f"**{example.__name__}.py**")[1]
    told = re.search(r"(\d+) k parameters", text)
    assert told is not None
    parameters = sum(p.numel() for p in getattr(example, MODELS[example.__name__])().parameters())
    assert round(parameters / 1000) == int(told[1])


@pytest.mark.parametrize("example", MODELS, indirect=True)
def test_without_the_data_the_task_says_where_it_comes_from(
    example: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FASHION_MNIST", str(tmp_path))
    with pytest.raises(UsageError, match="apt-get install dataset-fashion-mnist"):
        load_task(f"{EXAMPLES / example.__name__}.py:task")
