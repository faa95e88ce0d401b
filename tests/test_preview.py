"""What ``--dry-run`` says of a search before it begins, on a runtime whose clock is arithmetic."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from torch import nn

from autocompress.explore.policy import SearchPolicy
from autocompress.plugin.loader import PluginSet
from autocompress.preview import dry_run
from autocompress.report.dry_run import print_dry_run
from autocompress.task import Task

SPACE = """
name = "small"
strategies = ["prune_channels", "prune_recurrent", "distill_logits", "quantize_static"]
"""
QUICK = SearchPolicy(compare_exporters=False, most_seen=512)
IN_REACH, OUT_OF_REACH = 4, 1e6  # times as fast


@pytest.fixture(scope="module")
def found(
    trained_tiny: nn.Module,
    make_tiny_task: Callable[[nn.Module], Task],
    shared_plugins: PluginSet,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[float | None, dict[str, Any]]:
    """Of each speed-up what is said, and under "files" what lies in the working folder afterwards."""
    folder = tmp_path_factory.mktemp("here")
    (folder / "fake.toml").write_text('name = "fake"\nruntime = "fake"\n')
    (folder / "small.toml").write_text(SPACE)
    task, answers = make_tiny_task(trained_tiny), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for speedup, minutes in ((IN_REACH, 2), (OUT_OF_REACH, 1)):
            answers[speedup] = dry_run(
                task,
                speedup=speedup,
                minutes=minutes,
                profile="fake.toml",
                space="small.toml",
                plugins=shared_plugins,
                quiet=True,
                policy=QUICK,
            )
    return {**answers, None: {"files": sorted(path.name for path in folder.rglob("*"))}}


def shown(found: dict[str, Any]) -> str:
    out = io.StringIO()
    print_dry_run(Console(file=out, width=160), found)
    return out.getvalue()


def test_nothing_is_written_and_the_run_folder_is_named(found: dict[Any, dict[str, Any]]) -> None:
    assert found[None]["files"] == ["fake.toml", "small.toml"]
    assert Path(found[IN_REACH]["out"]) == Path("runs/tiny")
    assert "Nothing was written" in shown(found[IN_REACH])


def test_what_applies_and_what_does_not_is_said_with_the_reason(found: dict[Any, dict[str, Any]]) -> None:
    assert {"prune_channels", "distill_logits", "quantize_static"} <= found[IN_REACH]["applies"].keys()
    assert "recurrent" in found[IN_REACH]["does_not_apply"]["prune_recurrent"]
    assert "prune_recurrent" in shown(found[IN_REACH])


def test_every_step_is_timed_on_a_family_of_the_space(found: dict[Any, dict[str, Any]]) -> None:
    takes = found[IN_REACH]["takes_s"]
    assert takes["tried"] == "prune_channels+distill_logits"
    assert takes["batch"] > 0
    for step in ("opening", "structure", "comparison", "family", "training_step"):
        assert 0 < takes[step] < 120, step


def test_what_fits_is_trained_in_part_and_leaves_time_for_finishing(found: dict[Any, dict[str, Any]]) -> None:
    fits, takes = found[IN_REACH]["fits"], found[IN_REACH]["takes_s"]
    assert 0 < fits["trained"] <= fits["families"]
    each_s = takes["structure"] + takes["comparison"] + takes["family"]
    assert fits["families"] * each_s + fits["trained"] * fits["first_training"] < 120
    assert fits["first_epochs"] == pytest.approx(fits["first_training"] / takes["training_step"] * takes["batch"] / 256)


def test_a_budget_below_the_floor_is_out_of_reach(found: dict[Any, dict[str, Any]]) -> None:
    near, far = found[IN_REACH]["reach"], found[OUT_OF_REACH]["reach"]
    assert near["answer"] == "in reach"
    assert near["met_by"] or near["floor_speedup"] >= IN_REACH
    assert far["answer"] == "out of reach"
    assert 1 < far["floor_speedup"] < OUT_OF_REACH
    assert "no: the fastest model found takes" in shown(found[OUT_OF_REACH])
