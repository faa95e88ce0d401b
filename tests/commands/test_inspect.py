"""What ``inspect`` finds, and how it is shown."""

import io
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from torch import nn

from autocompress.commands import inspect as inspection
from autocompress.commands.inspect import FEWEST_OF_SLOW, inspect_task
from autocompress.explore.opening.reference import open_task
from autocompress.plugin.contract import (
    Context,
    Params,
    Plan,
    ShrinkableGroup,
    StructureStrategy,
    TrainHook,
    TrainingStrategy,
)
from autocompress.plugin.loader import PluginSet, load_plugins
from autocompress.profile import HardwareProfile
from autocompress.report.inspection import print_inspection
from autocompress.testing.tasks import cnn, lstm


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return inspect_task(lstm(), "cpu", sensitivity_s=3600)


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


def test_groups_come_with_how_much_of_them_can_go_after_repair(found: dict[str, Any]):
    told = found["sensitivity"]["prune_recurrent"]
    assert told["lost"] == 0.01
    assert told["scored"] == found["examples"]["val"]
    for group in told["groups"]:
        assert group["repaired"]
        assert group["can_go"] or group["cannot_go"]
        assert not group["can_go"] or (
            group["can_go"]["lost"] <= 0.01 and 0 < group["can_go"]["count"] < group["units"]
        )
        assert not group["cannot_go"] or group["cannot_go"]["lost"] > 0.01


def test_which_exporter_and_why(found: dict[str, Any]):
    assert found["export_note"].startswith(f"by {found['exporter']}")
    assert len(found["export_note"]) > len(f"by {found['exporter']}; ")


class Stubborn(StructureStrategy):
    """Applies to everything and fails at whatever it is asked."""

    name = "stubborn"

    def plan(self, model: nn.Module, params: Params, context: Context) -> Plan:
        raise NotImplementedError

    def apply(self, model: nn.Module, plan: Plan, context: Context) -> nn.Module:
        raise NotImplementedError

    def shrinkable_groups(self, context: Context) -> Sequence[ShrinkableGroup]:
        raise ValueError("no idea")

    def left_alone(self, context: Context) -> Mapping[str, str]:
        raise ValueError("nor of that")


class Choosy(TrainingStrategy):
    """Trains nothing of one output."""

    name = "choosy"

    def left_alone(self, context: Context) -> Mapping[str, str]:
        return {"answer": "no floating point"}

    def hook(self, params: Params, context: Context) -> TrainHook:
        return TrainHook()


def test_what_fails_when_asked_is_a_warning_and_the_rest_is_told(
    plugins: PluginSet, fake_profile: HardwareProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> None:
        raise KeyError("clock")

    monkeypatch.setattr(plugins.runtime("fake"), "operators", broken)
    few = replace(plugins, strategies={"stubborn": Stubborn(), "choosy": Choosy()})
    monkeypatch.setattr(inspection, "load_plugins", lambda: few)
    monkeypatch.setattr(inspection, "load_profile", lambda name: fake_profile)
    told: list[str] = []
    found = inspect_task(
        cnn(),
        "fake",
        lambda text, fraction: told.append(text),
        score_on=40,
        clock=lambda: 0.0,
    )
    assert found["warnings"][-4:] == [
        "fake cannot tell time by operator: KeyError: 'clock'",
        "stubborn cannot tell what it leaves alone: ValueError: nor of that",
        "stubborn cannot tell what it leaves to compute: NotImplementedError:",
        "stubborn cannot tell its groups: ValueError: no idea",
    ]
    assert (found["operators"], found["sensitivity"], found["left_alone"]) == (
        [],
        {},
        {"choosy": {"answer": "no floating point"}},
    )
    assert {"read the data", "export the reference (dynamo)", "groups: stubborn"} <= set(told)
    assert found["scored"] == 40
    shown = printed(found)
    assert "on 40 of 96 examples" in shown
    assert "warning: stubborn cannot tell" in shown


def test_layers_that_stay_as_they_are_have_a_reason_also_where_the_strategy_applies(
    plugins: PluginSet, fake_profile: HardwareProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "open_task", partial(open_task, compare_exporters=False))
    few = {name: plugins.strategy(name) for name in ("prune_channels", "prune_recurrent", "factorize", "finetune")}
    monkeypatch.setattr(inspection, "load_plugins", lambda: replace(plugins, strategies=few))
    monkeypatch.setattr(inspection, "load_profile", lambda name: fake_profile)
    found = inspect_task(cnn(), "fake", clock=lambda: 0.0)
    assert {"prune_channels", "factorize"} <= found["applies"].keys()
    left = found["left_alone"]
    assert left.keys() == {"prune_channels", "factorize"}
    assert left["prune_channels"] == {"head": "its units are the model's output"}
    assert len(left["factorize"]) == 6, "more than a refusal names"
    assert set(left["factorize"].values()) == {"a side of its matrix is under 32"}
    shown = " ".join(printed(found).split())
    assert "prune_channels its units are the model's output: head (" in shown
    assert f"head ({found['places']['head']})" in shown
    assert re.fullmatch(r"autocompress/testing/\w+\.py:\d+", found["places"]["head"])
    assert found["places"].keys() == left["prune_channels"].keys() | left["factorize"].keys()


def test_a_refused_strategy_tells_all_its_reasons(found: dict[str, Any]) -> None:
    assert {"factorize", "prune_channels"} <= found["does_not_apply"].keys()
    assert found["left_alone"]["factorize"]["rnn"] == "a recurrent layer computes its own products"
    assert found["left_alone"]["prune_channels"] == {"head": "its units are the model's output"}


def test_what_each_structural_strategy_can_do_is_told_at_its_strongest(found: dict[str, Any]) -> None:
    reached = found["reach"]["prune_recurrent"]
    assert "rnn" in reached["layers"]
    assert 0 < reached["macs"] < 0.5
    assert reached["of"] >= len(reached["layers"])
    assert f"{reached['macs']:.0%}" in printed(found)


def test_layers_that_differ_in_a_number_alone_are_shown_as_one(found: dict[str, Any]) -> None:
    names = [*(f"blocks.{n}.mlp.fc1" for n in range(12)), "head", "blocks.0.norm", "blocks.4.norm", ""]
    shown = " ".join(printed({**found, "left_alone": {"thin": dict.fromkeys(names, "tied")}, "places": {}}).split())
    assert "tied: blocks.0-11.mlp.fc1, head, blocks.0,4.norm, the model itself" in shown
    places = {name: f"model.py:{10 if 'mlp' in name else 20}" for name in names}
    shown = " ".join(printed({**found, "left_alone": {"thin": dict.fromkeys(names, "tied")}, "places": places}).split())
    assert "blocks.0-11.mlp.fc1 (model.py:10), head (model.py:20)" in shown


class JumpingClock:
    """Reads 0 until it was read so often, and then far more."""

    def __init__(self, readings: int) -> None:
        self.left = readings

    def __call__(self) -> float:
        self.left -= 1
        return 0.0 if self.left >= 0 else 1e6


def test_what_there_is_no_time_for_is_listed(
    plugins: PluginSet, fake_profile: HardwareProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {name: plugins.strategy(name) for name in ("prune_channels", "finetune", "quantize_dynamic")}
    monkeypatch.setattr(inspection, "load_plugins", lambda: replace(plugins, strategies=few))
    monkeypatch.setattr(inspection, "load_profile", lambda name: fake_profile)
    found = inspect_task(cnn(), "fake", clock=JumpingClock(1))
    assert found["not_looked_at"] == [
        "the file of the other exporter than torchscript",
        "the same weights in other files",
        "its time by operator",
        "what finetune leaves alone",
        "what prune_channels leaves alone",
        "what quantize_dynamic leaves alone",
        "what prune_channels leaves to compute",
        "the groups of prune_channels",
    ]
    assert found["scored"] == FEWEST_OF_SLOW
    assert found["applies"].keys() == few.keys(), "what it is for stays"
    assert (found["reach"], found["sensitivity"], found["left_alone"]) == ({}, {}, {})
    assert found["unchanged_weights"] == {}
    assert "not looked at in 60 s: the file of the other exporter" in " ".join(printed(found).split())


SLEEPY = """
import time
from autocompress.plugin.contract import StructureStrategy
from autocompress.plugin.hooks import hookimpl

autocompress_api = 2

class Sleepy(StructureStrategy):
    name = "sleepy"
    summary = "plans for ever"

    def plan(self, model, params, context):
        while True:
            time.sleep(3600)

    def apply(self, model, plan, context):
        return model

@hookimpl
def autocompress_strategies():
    return [Sleepy()]
"""


class Patient:
    """A clock that stands still until a strategy is waited for, and then has nearly reached the end."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def tell(self, text: str, fraction: float | None) -> None:
        if text == "what is left: sleepy":
            self.now = 59.9
        elif self.now and not text:  # it is waited for
            self.now = 1e6


def test_a_strategy_whose_planning_never_ends_is_cut_off_and_the_rest_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sleepy.py").write_text(SLEEPY)
    installed = tmp_path / "sleepy-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: sleepy\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[autocompress]\nsleepy = sleepy\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(inspection, "open_task", partial(open_task, compare_exporters=False))
    every = load_plugins()
    few = {name: every.strategy(name) for name in ("sleepy", "finetune")}
    monkeypatch.setattr(inspection, "load_plugins", lambda: replace(every, strategies=few))
    clock = Patient()
    found = inspect_task("autocompress.testing.tasks:cnn", "cpu", clock.tell, score_on=40, clock=clock)
    assert found["cut_off"] == [
        "sleepy, what it leaves to compute: cut off after 0 s; --seconds 85 leaves it twice as long"
    ]
    assert "sleepy, what it leaves to compute: cut off" in " ".join(printed(found).split())
    assert found["not_looked_at"] == ["the groups of sleepy"]
    assert found["score"]["accuracy"] > 0
    assert found["applies"].keys() == {"sleepy", "finetune"}


def test_equal_reasons_are_shown_once(found: dict[str, Any]) -> None:
    reasons = {f"layer{n}": "too narrow" for n in range(7)} | {"other": "tied"}
    lines = printed(
        {**found, "left_alone": {"thin": reasons, "fat": {"last": "the output"}}, "places": {}}
    ).splitlines()
    rows = [line.strip().split(maxsplit=1) for line in lines[lines.index("Left as they are") + 2 :]][:3]
    assert rows == [
        ["thin", "too narrow: layer0, layer1, layer2, layer3 and 3 more"],
        ["tied:", "other"],
        ["fat", "the output: last"],
    ]


def removal(count: int, lost: float | None = 0.004) -> dict[str, Any]:
    return {"count": count, "lost": lost, "error": None if lost is None else 0.003}


def row(group: str, **others: Any) -> dict[str, Any]:
    """Of a group that was not looked at, but for what is said otherwise."""
    nothing = {"can_go": None, "cannot_go": None, "repaired": bool(others), "calibration": {}, "failed": None}
    return {"group": group, "units": 32, **nothing, **others}


def told(*groups: dict[str, Any]) -> dict[str, Any]:
    return {"lost": 0.01, "scored": 1000, "groups": list(groups)}


def test_what_can_go_is_shown_the_least_first_with_what_it_costs_and_what_more_would(found: dict[str, Any]) -> None:
    groups = told(
        row("much", can_go=removal(24), cannot_go=removal(26, 0.0316)),
        row("more", can_go=removal(30)),
        row("half", can_go=removal(16), cannot_go=removal(18, None), repaired=False),
        row("little", cannot_go=removal(2, 0.25)),
        row("block", units=1, cannot_go=removal(1, 0.25)),
        row("other", units=1, can_go=removal(1)),
        row("odd", failed="not today"),
        *(row(f"late{n}") for n in range(6)),
    )
    shown = printed({**found, "sensitivity": {"cut": groups}})
    section = shown[shown.index("Sensitivity: cut") : shown.index("Left as they are")]
    assert "repaired and not trained, on 1,000 examples." in " ".join(section.split())
    lines = [" ".join(line.split()) for line in section.splitlines()]
    lines = lines[lines.index("can go lost beyond group") + 1 :]
    assert lines[:7] == [
        "< 6 % (2 of 32) - 2: 25.0 ± 0.3 little",
        "0 % (0 of 1) - 1: 25.0 ± 0.3 block",
        "50 % (16 of 32) 0.4 ± 0.3 18: no number half (not repaired)",
        "75 % (24 of 32) 0.4 ± 0.3 26: 3.2 ± 0.3 much",
        "≥ 94 % (30 of 32) 0.4 ± 0.3 - more",
        "100 % (1 of 1) 0.4 ± 0.3 - other",
        "- - - odd: not today",
    ]
    assert "no time for 6 more: late0, late1, late2, late3, ..." in " ".join(lines[7:])


def test_it_is_said_when_nothing_was_repaired_and_in_which_unit(found: dict[str, Any]) -> None:
    score = {"overlap": 0.5, "low": 0.4, "high": 0.6}
    groups = told(row("only", can_go=removal(16), repaired=False))
    words = " ".join(printed({**found, "score": score, "sensitivity": {"cut": groups}}).split())
    assert "before 0.01 of overlap is lost, neither repaired nor trained, on 1,000 examples." in words
    assert "≥ 50 % (16 of 32) 0.004 ± 0.003 - only" in words


def test_layers_that_were_repaired_on_few_rows_are_named_once_with_the_fewest(found: dict[str, Any]) -> None:
    def on(*few: tuple[str, int, int]) -> dict[str, Any]:
        layers = [{"layer": name, "rows": rows, "regressors": wide} for name, rows, wide in few]
        return {"calibration": {"examples": 37, "digest": "d", "whole_split": True, "few_rows": layers}}

    groups = told(
        row("one", can_go=removal(16), **on(("last", 28, 16), ("head", 28, 8))),
        row("other", can_go=removal(8), **on(("last", 28, 24))),
        row("plain", can_go=removal(8)),
    )
    words = " ".join(printed({**found, "sensitivity": {"cut": groups}}).split())
    named = "last (28 rows for 24 regressors), head (28 rows for 8 regressors)"
    help_ = "More training examples in the task would help."
    assert f"Layers repaired on few rows for their width: {named}. {help_}" in words
    assert words.count("few rows") == 1
    assert "few rows" not in printed({**found, "sensitivity": {"cut": told(row("plain", can_go=removal(8)))}})


def test_long_lists_end_with_how_many_are_left_out(found: dict[str, Any]) -> None:
    operators = [{"name": f"layer\x1b[2J {n}", "operator": "Gemm", "ms": 0.1, "share": 1 / 14} for n in range(14)]
    groups = [row(f"group {n}", can_go=removal(n + 1), cannot_go=removal(n + 2, 0.02)) for n in range(15)]
    shown = printed({**found, "operators": operators, "sensitivity": {"prune_channels": told(*groups)}})
    assert "4 others" in shown
    assert "3 more: 41 % or more can go" in shown
    assert "\x1b" not in shown, "a name from a file does not command the terminal"


def test_a_variant_that_was_left_out_says_why_beside_its_speed(found: dict[str, Any]) -> None:
    variants = {
        "quick": {"accuracy": 0.5, "speedup": 2.0, "size_bytes": 1000, "compressed_bytes": 900},
        "slow": {"speedup": 0.25, "left_out": "slower than the float file"},
        "broken": {"left_out": "no kernel"},
    }
    lines = printed({**found, "unchanged_weights": variants}).splitlines()
    rows = [line.split() for line in lines if line.rstrip().endswith(("quick", "float file", "no kernel"))]
    assert rows == [
        ["50.00", "%", "2.00x", "1", "1", "quick"],
        ["-", "0.25x", "-", "-", "slow:", "slower", "than", "the", "float", "file"],
        ["-", "-", "-", "-", "broken:", "no", "kernel"],
    ]


def printed(found: dict[str, Any], width: int = 80) -> str:
    out = io.StringIO()
    print_inspection(Console(file=out, width=width), found)
    return out.getvalue()


def test_it_fits_a_narrow_terminal(found: dict[str, Any]):
    shown = printed(found)
    lines = shown.splitlines()
    assert "…" not in shown, "nothing is cut off"
    words = " ".join(shown.split())
    assert all(reason.split()[0] in words for reason in found["does_not_apply"].values())
    titles = (
        "Reference of",
        "Time by operator",
        "Strategies that apply",
        "Strategies that save size only",
        "Strategies that do not apply",
        "The same weights",
        "Sensitivity: prune_recurrent",
        "Left as they are",
    )
    for title in titles:
        assert any(line.startswith(title) for line in lines), title
