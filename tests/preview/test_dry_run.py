"""What ``--dry-run`` says of a search before it begins, on a runtime whose clock is arithmetic."""

import inspect
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from torch import nn

from autocompress.api import search
from autocompress.budget import Budget
from autocompress.errors import UsageError
from autocompress.explore.opening.floor import Floor
from autocompress.explore.opening.identity import RECORD_SCHEMA, Settings, settings_json
from autocompress.explore.policy import SearchPolicy
from autocompress.explore.progress import Progress
from autocompress.explore.space.space_file import SpaceFile
from autocompress.latency import Latency
from autocompress.plugin.loader import PluginSet
from autocompress.preview.dry_run import dry_run
from autocompress.preview.earlier_search import earlier_search
from autocompress.preview.fits import what_fits
from autocompress.preview.reach import reach
from autocompress.preview.step_times import StepTimes
from autocompress.profile import HardwareProfile
from autocompress.recipe import Recipe
from autocompress.report.dry_run import print_dry_run
from autocompress.storage.record import open_record
from autocompress.task import Task

SPACE = """
name = "small"
strategies = ["prune_channels", "prune_recurrent", "distill_logits", "quantize_static"]
"""
QUICK = SearchPolicy(compare_exporters=False, most_seen=512)
IN_REACH, OUT_OF_REACH = 4, 1e6  # times as fast
SPENT_S = 60.0  # of two minutes, by a search that was stopped


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
    recorded(folder / "half", SPENT_S)
    task, answers = make_tiny_task(trained_tiny), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for speedup, minutes, out in ((IN_REACH, 2, "half"), (OUT_OF_REACH, 1, None)):
            answers[speedup] = dry_run(
                task,
                speedup=speedup,
                minutes=minutes,
                profile="fake.toml",
                space="small.toml",
                out=out,
                plugins=shared_plugins,
                quiet=True,
                policy=QUICK,
            )
    return {**answers, None: {"files": sorted(path.name for path in folder.rglob("*"))}}


def recorded(folder: Path, spent_s: float) -> None:
    """A run folder with a search that spent so much of its time."""
    folder.mkdir()
    record = open_record(folder / "study.db")
    Progress(record).keep_schema(RECORD_SCHEMA)
    Progress(record).keep_elapsed(spent_s)
    record.close()


def shown(found: dict[str, Any]) -> str:
    out = io.StringIO()
    print_dry_run(Console(file=out, width=160), found)
    return out.getvalue()


def test_nothing_is_written_and_the_run_folder_is_named(found: dict[Any, dict[str, Any]]) -> None:
    assert found[None]["files"] == ["fake.toml", "half", "small.toml", "study.db"]
    assert Path(found[OUT_OF_REACH]["out"]) == Path("runs/tiny")
    assert "Nothing was written" in shown(found[OUT_OF_REACH])


def test_what_applies_and_what_does_not_is_said_with_the_reason(found: dict[Any, dict[str, Any]]) -> None:
    assert {"prune_channels", "distill_logits", "quantize_static"} <= found[IN_REACH]["applies"].keys()
    assert "recurrent" in found[IN_REACH]["does_not_apply"]["prune_recurrent"]
    assert "prune_recurrent" in shown(found[IN_REACH])


def test_every_step_is_timed_on_a_family_of_the_space(found: dict[Any, dict[str, Any]]) -> None:
    takes = found[IN_REACH]["takes_s"]
    assert takes["tried"] == "prune_channels+distill_logits"
    assert takes["batch"] > 0
    for step in ("opening", "structure", "comparison", "family", "training_step"):
        assert takes[step] > 0, step


def test_what_fits_is_trained_in_part_and_leaves_time_for_finishing(found: dict[Any, dict[str, Any]]) -> None:
    fits, takes = found[IN_REACH]["fits"], found[IN_REACH]["takes_s"]
    assert fits["trained"] <= fits["families"], "of a slow machine none"
    each_s = takes["structure"] + takes["comparison"] + takes["family"]
    assert fits["families"] * each_s + fits["trained"] * fits["first_training"] <= 120 - SPENT_S
    assert fits["first_epochs"] == pytest.approx(fits["first_training"] / takes["training_step"] * takes["batch"] / 256)


def test_a_budget_below_the_floor_is_out_of_reach(found: dict[Any, dict[str, Any]]) -> None:
    near, far = found[IN_REACH]["reach"], found[OUT_OF_REACH]["reach"]
    assert near["answer"] == "in reach"
    assert near["met_by"] or near["floor_speedup"] >= IN_REACH
    assert far["answer"] == "out of reach"
    assert 1 < far["floor_speedup"] < OUT_OF_REACH
    assert "no: the fastest model found takes" in shown(found[OUT_OF_REACH])


def opened(floor: Floor, reference: Latency) -> Any:
    """A task of 6,400 examples as it is opened."""
    unchanged = SimpleNamespace(latency=reference, recipe=Recipe())
    family, prepared = SimpleNamespace(evaluations=()), SimpleNamespace(train_examples=6400)
    opening = SimpleNamespace(reference=unchanged, reference_family=family, prepared=prepared)
    return SimpleNamespace(floor=floor, opening=opening, policy=SearchPolicy())


@pytest.mark.parametrize(
    ("quiet", "cut_off", "answer"),
    [(True, False, "out of reach"), (True, True, "not known"), (False, False, "not known")],
    ids=["looked at all", "no time to look at all", "a busy machine"],
)
def test_out_of_reach_is_said_of_what_was_looked_at_in_full(
    quiet: bool, cut_off: bool, answer: str, make_latency: Callable[..., Latency]
) -> None:
    budget, found = Budget(speedup=4), (Recipe(), make_latency(ratio=0.5, quiet=quiet))
    reached = reach(opened(Floor(budget, found, cut_off=cut_off), make_latency(ratio=1.0)), budget)
    assert reached["answer"] == answer
    assert reached["complete"] is not cut_off


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    profile, space = HardwareProfile(name="cpu"), SpaceFile(name="all")
    return Settings(Budget(speedup=4), 10, None, 0, profile, space, tmp_path / "run")


def test_what_an_earlier_search_spent_is_no_time_for_families(
    settings: Settings, make_latency: Callable[..., Latency]
) -> None:
    floor = Floor(settings.budget, (Recipe(), make_latency(ratio=0.2)))
    times = StepTimes(1.0, "carve", structure=0.5, comparison=0.5, family=1.0, training_step=0.01, batch=64)
    counts = []
    for spent_s in (0.0, 200.0, 600.0, 900.0):
        fits = what_fits(opened(floor, make_latency(ratio=1.0)), settings, times, spent_s)
        assert fits is not None
        assert 0 <= fits.trained <= fits.families
        assert fits.finishing <= max(0.0, 600 - spent_s)
        counts.append(fits.families)
    assert counts[0] > counts[1] > counts[2] == counts[3] == 0


def test_a_finished_run_is_known_by_what_was_asked_of_it(settings: Settings, tmp_path: Path) -> None:
    assert earlier_search(settings, tmp_path / "copies").spent_s == 0
    recorded(settings.out, SPENT_S)
    record = open_record(settings.out / "study.db")
    Progress(record).keep_finished(settings_json(settings))
    record.close()
    (settings.out / "front.json").write_text("{}")
    before = (settings.out / "study.db").read_bytes()
    found = earlier_search(settings, tmp_path / "first")
    assert (found.spent_s, found.finished) == (SPENT_S, True)
    assert not earlier_search(replace(settings, minutes=20), tmp_path / "second").finished
    assert (settings.out / "study.db").read_bytes() == before


def test_a_folder_of_another_version_is_refused_by_its_own_path(settings: Settings, tmp_path: Path) -> None:
    recorded(settings.out, SPENT_S)
    record = open_record(settings.out / "study.db")
    Progress(record).keep_schema(RECORD_SCHEMA - 1)
    record.close()
    with pytest.raises(UsageError, match=r"^.*/run/study\.db was written by another version of autocompress"):
        earlier_search(settings, tmp_path / "copies")


def test_it_is_given_what_a_search_is_given() -> None:
    assert inspect.signature(dry_run).parameters == inspect.signature(search).parameters


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"out": "theirs"}, r"theirs holds what this command did not make \(thesis\.txt\)"),
        ({"workers": 1000}, "--workers must be from 1 to the number of cores"),
        ({"observe": ["nobody"]}, "unknown observer 'nobody'"),
    ],
)
def test_what_a_search_refuses_a_dry_run_refuses(
    options: dict[str, Any],
    said: str,
    tiny_task: Task,
    shared_plugins: PluginSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis.txt").write_text("mine")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=said):
        dry_run(tiny_task, plugins=shared_plugins, quiet=True, **options)
