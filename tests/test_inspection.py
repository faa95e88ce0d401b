import io
from typing import Any

import pytest
from rich.console import Console

from autocompress.inspection import inspect_task
from autocompress.plugin.loader import PluginSet
from autocompress.report.inspection import print_inspection


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return inspect_task("autocompress.testing.tasks:lstm", "cpu")


def test_time_by_operator_is_the_whole_time_slowest_first(found: dict[str, Any]):
    rows = found["operators"]
    assert sum(row["share"] for row in rows) == pytest.approx(1.0)
    assert [row["ms"] for row in rows] == sorted((row["ms"] for row in rows), reverse=True)
    assert "LSTM" in {row["operator"] for row in rows}


def test_every_installed_strategy_applies_or_has_a_reason(found: dict[str, Any], installed_plugins: PluginSet):
    assert found["applies"].keys() | found["does_not_apply"].keys() == installed_plugins.strategies.keys()
    assert not found["applies"].keys() & found["does_not_apply"].keys()
    assert all(found["does_not_apply"].values())
    assert "attention" in found["does_not_apply"]["prune_attention"]


def test_what_saves_size_only_is_said_and_measured_once(found: dict[str, Any]):
    assert found["applies"]["float16"]["size_only"]
    assert found["applies"]["prune_recurrent"]["size_only"] is None
    half = found["unchanged_weights"]["float16"]
    assert half["size_bytes"] < 0.75 * found["size_bytes"]  # though it may be slower


def test_groups_come_with_the_loss_they_cost_most_sensitive_first(found: dict[str, Any]):
    groups = found["sensitivity"]["prune_recurrent"]
    assert groups
    assert [g["loss"] for g in groups] == sorted((g["loss"] for g in groups), reverse=True)
    assert all(g["units"] > 1 and 0 < g["share"] < 1 for g in groups)


def test_which_exporter_and_why(found: dict[str, Any]):
    assert found["export_note"].startswith(f"by {found['exporter']}")
    assert len(found["export_note"]) > len(f"by {found['exporter']}; ")


def test_it_fits_a_narrow_terminal(found: dict[str, Any]):
    out = io.StringIO()
    print_inspection(Console(file=out, width=80), found)
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    for title in ("Reference of", "Time by operator", "Strategies", "The same weights", "Sensitivity: prune_recurrent"):
        assert any(line.startswith(title) for line in lines), title
