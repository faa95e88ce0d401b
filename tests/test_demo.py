"""The bundled task: its network is trained once on a machine."""

from pathlib import Path

import pytest
from torch import nn

from autocompress.demo import digits


def test_network_is_trained_once_also_where_no_cache_was_made_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    trained: list[nn.Module] = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home" / "cache"))
    monkeypatch.setattr(digits, "_train", lambda model, x, y: trained.append(model))
    digits.task()
    digits.task()
    assert len(trained) == 1
