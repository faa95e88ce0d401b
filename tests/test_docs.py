"""What the documents show is run, so that it stays true."""

import re
import sys
from pathlib import Path

import pytest

from autocompress.plugin import contract, hooks
from autocompress.plugin.loader import PluginSet

ROOT = Path(__file__).parent.parent


def test_the_guides_example_is_a_working_strategy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "plugins.md").read_text(), re.DOTALL)[0]
    (tmp_path / "guide_example.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    import guide_example  # type: ignore[import-not-found]

    (strategy,) = guide_example.autocompress_strategies()
    assert contract.stages_of(strategy) == (contract.Stage.TRAIN,)
    import torch

    step = contract.Step(torch.zeros(2, 1), torch.zeros(2).long(), torch.zeros(2, 4), None, 0.5)
    term = strategy.hook({"weight": 0.1}, None).loss(step)
    assert float(term.value) == pytest.approx(1.3863, abs=1e-3)
    sys.modules.pop("guide_example")


def test_the_guide_names_what_exists() -> None:
    text = (ROOT / "docs" / "plugins.md").read_text()
    for name in re.findall(r"`(\w+Strategy)`", text):
        assert hasattr(contract, name)
    assert hooks.GROUP in text


def test_the_readme_lists_the_installed_strategies(installed_plugins: PluginSet) -> None:
    text = (ROOT / "README.md").read_text()
    table = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    own = {
        n
        for n, _ in installed_plugins.strategies.items()
        if installed_plugins.origin[f"strategies:{n}"].startswith("autocompress ")
    }
    assert table == own
