"""The benchmark of models: a task is probed to its end, a failure costs its own step, and a run goes on."""

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TASKS = """
import torch
from torch import nn
from autocompress import Task


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.head = nn.Linear(8, 16), nn.Linear(16, 3)

    def forward(self, x):
        if self.training and self.up.out_features == 16:
            raise ValueError("not while it trains")
        return self.head(torch.relu(self.up(x)))


def made(name):
    torch.manual_seed(0)
    x, y = torch.randn(48, 8), torch.arange(48) % 3
    return Task(name, Net().eval(), (x[:32], y[:32]), (x[32:], y[32:]))


def some():
    return made("some")


def none():
    raise OSError("no weights here")
"""


@pytest.fixture
def zoo(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("zoo")


def test_every_step_is_told_and_what_is_kept_is_not_probed_again(
    zoo: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models.py").write_text(TASKS)
    targets = [f"{tmp_path}/models.py:{name}" for name in ("some", "none")]
    out = tmp_path / "out.json"
    assert zoo.main([*targets, "--json", str(out)]) == 1
    rows = {row["task"].rpartition(":")[2]: row for row in json.loads(out.read_text())}
    some = {step["name"]: step for step in rows["some"]["steps"]}
    assert {"open", "prune_channels", "prune_channels at its strongest", "finetune"} <= some.keys()
    assert "not while it trains" in some["finetune"]["failed"]
    assert not some["open"]["failed"]
    assert not some["prune_channels"]["failed"], "that is narrower"
    assert zoo.pruned_to(rows["some"]) < 0.5
    assert some["prune_channels"]["structure_s"] is not None
    assert len(zoo.failures(rows["none"])) == 1
    assert "no weights here" in zoo.failures(rows["none"])[0]
    said = capsys.readouterr().out
    assert "of 2: 0 without a failed step" in said
    monkeypatch.setattr(zoo, "probed", lambda *_: pytest.fail("it is probed again"))
    assert zoo.main([*targets, "--json", str(out)]) == 1
    assert "of 2: 0 without a failed step" in capsys.readouterr().out
