"""A run folder with candidates, as a search leaves one, without the search."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autocompress.recipe import Recipe, RecipeFile, Step
from autocompress.storage.folder import RunFolder

Document = dict[str, Any]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """Two candidates that were trained, ``aa-0`` and ``bb-0``, and ``cc-0``, which was not; none of them delivered."""
    folder = RunFolder(tmp_path / "run")
    folder.claim()
    for name in ("aa", "bb", "cc"):
        model = folder.candidate(f"{name}-0")
        model.parent.mkdir(parents=True)
        model.write_bytes(f"model {name}".encode())
        weights = None if name == "cc" else f"../../store/weights-{name * 10}.safetensors"
        recipe = Recipe((Step.of("train", lr=0.1),) if weights else ())
        stored = RecipeFile(recipe, "t", "f", "cpu", 0, "torchscript", weights=weights)
        model.with_name("recipe.toml").write_text(stored.to_toml())
        if weights:
            (model.parent / weights).resolve().parent.mkdir(exist_ok=True)
            (model.parent / weights).resolve().write_bytes(f"weights {name}".encode())
    folder.release()
    return folder


@pytest.fixture(scope="session")
def front() -> Callable[..., Document]:
    """``front(recommended="aa-0")``: the document of a run with those candidates."""

    def make(**chosen: str | None) -> Document:
        candidates = [{"id": f"{n}-0", "artifact": f"candidates/{n}-0/model.onnx"} for n in ("aa", "bb", "cc")]
        reference = {"artifact": "reference/model.onnx"}
        known = {"schema": 1, "task": "ünï", "reference": reference, "candidates": candidates}
        return {**known, "recommended": None, "nearest": None, **chosen}

    return make
