"""``report``, ``verify`` and ``apply`` on a run folder: of an earlier version, cut off by a kill, made by somebody with
bad intentions; and what they never write over.
"""

import json
import math
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from autocompress.candidate.count import count
from autocompress.cli import explain_command, main, report_command
from autocompress.commands import apply, verify
from autocompress.commands.apply import apply_recipe
from autocompress.commands.measure import measure_file
from autocompress.commands.verify import verify_run
from autocompress.comparison import TimingSession
from autocompress.errors import UsageError
from autocompress.explore.opening.identity import RECORD_SCHEMA
from autocompress.explore.opening.reference import open_task
from autocompress.plugin.contract import Runtime
from autocompress.plugin.loader import PluginSet
from autocompress.recipe import RecipeFile

Act = Callable[[Path], object]


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions that need no measuring, of the ratio that the run holds."""
    session = TimingSession(math.log(0.6), math.log(0.6), 0.1, 0.1, 0.1, 0.1, 1.0, 20, 20)
    monkeypatch.setattr(verify, "recorder", lambda *given: lambda: session)


@pytest.fixture(params=["report", "explain", "verify", "apply"])
def command(request: pytest.FixtureRequest, verified: None, small_task: str, tmp_path: Path) -> Act:
    """Each command, on the recommended model of a run."""
    done: dict[str, Act] = {
        "report": lambda run: report_command([run]),
        "explain": explain_command,
        "verify": verify_run,
        "apply": lambda run: apply_recipe(run / "recommended" / "recipe.toml", small_task, tmp_path / "made", False),
    }
    return done[request.param]


def rewrite(path: Path, change: Callable[[Any], None]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def everything(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def test_verify_tells_whether_an_earlier_run_still_holds(verified: None, earlier: Path) -> None:
    assert verify_run(earlier)["holds"]


def test_verify_opens_both_files_of_an_earlier_run_and_times_them(
    earlier: Path, plugins: PluginSet, fake_runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "load_plugins", lambda: replace(plugins, runtimes={"onnxruntime": fake_runtime}))
    files = [earlier / folder / "model.onnx" for folder in ("recommended", "reference")]
    ours, theirs = (count(path)[1] for path in files)
    found = verify_run(earlier)
    assert found["ratio"] == pytest.approx(ours / theirs)
    assert (found["sessions"], found["busy_sessions"]) == (4, 0)


def test_report_of_an_earlier_run_shows_what_it_found(earlier: Path) -> None:
    report_command([earlier])
    page = (earlier / "report.html").read_text()
    assert "the most accurate of the 5 that meet the budget: 1.66x faster than the reference" in page
    assert "(p50 0.02499 ms against 0.04238), p90 0.0275 ms" in page
    assert '<span class="count">6 ×</span> over the budget before training' in page, "for one reason"


def test_explain_says_what_was_chosen_and_of_later_runs_why(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    explain_command(finished)
    (said,) = capsys.readouterr().out.splitlines()
    assert said.startswith("Recommended: student + distill_logits, the most accurate of the 5 that meet the budget")

    def written_later(document: dict[str, Any]) -> None:
        document["compressing"] = ["student", "prune_channels"]
        for candidate in document["candidates"]:
            candidate["score"]["sampled"] = None

    rewrite(finished / "front.json", written_later)
    explain_command(finished)
    assert "student alone, trained by distill_logits: " in capsys.readouterr().out
    explain_command(finished, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["conclusion"] == said
    assert found["alone"][0].startswith("prune_channels alone, trained by ")


def test_recipe_of_an_earlier_run_is_trained_anew(
    earlier: Path,
    small_task: str,
    tmp_path: Path,
    plugins: PluginSet,
    fake_runtime: Runtime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clocked = replace(plugins, runtimes={"onnxruntime": fake_runtime})
    monkeypatch.setattr(apply, "load_plugins", lambda: clocked)
    monkeypatch.setattr(apply, "open_task", partial(open_task, compare_exporters=False))  # the other takes long
    recipe = earlier / "recommended" / "recipe.toml"
    told = apply_recipe(recipe, small_task, tmp_path / "made", redo=True)
    found = re.search(r"trained anew from .*: validation (0\.\d+) \(stored: (0\.\d+)\)", told)
    assert found is not None
    assert float(found[1]) > 0.7, "one in four is right by chance"
    stored, made = RecipeFile.read(recipe), RecipeFile.read(tmp_path / "made" / "recipe.toml")
    assert made.recipe == stored.recipe
    assert sorted(everything(tmp_path / "made")) == [
        ".autocompress-applied",
        "model.onnx",
        "recipe.toml",
        "weights.safetensors",
    ]


def test_search_on_an_earlier_run_is_refused_in_one_line_and_touches_nothing(
    earlier: Path, small_task: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = everything(earlier)
    command = ["autocompress", "search", small_task, "--speedup", "1.5", "--space", "structured", "--trials", "2"]
    monkeypatch.setattr(sys, "argv", [*command, "--minutes", "2.5", "--out", str(earlier)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        f"autocompress: {earlier}/study.db was written by another version of autocompress (record 4, this one writes "
        f"{RECORD_SCHEMA}): finish it with that version, or give another --out"
    ]
    after = everything(earlier)
    del before[".lock"]  # which names the process that holds it
    assert {name: after[name] for name in before} == before


def test_pair_that_a_kill_cut_off_is_whole_after_any_command(command: Act, finished: Path) -> None:
    before = everything(finished / "recommended")
    (finished / "recommended" / "model.onnx").write_bytes(b"of the run before")
    (finished / "recommended" / "recipe.toml").unlink()
    command(finished)
    assert everything(finished / "recommended") == before


@pytest.mark.parametrize("name", ["/etc/hostname", "../secret", "candidates/linked"])
def test_artifact_outside_the_run_folder_is_refused(name: str, command: Act, finished: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("mine")
    (finished / "candidates" / "linked").symlink_to(tmp_path / "secret")
    rewrite(finished / "front.json", lambda document: document["candidates"][1].update(artifact=name))
    before = everything(tmp_path)
    with pytest.raises(UsageError, match=rf"front.json names '{name}', which is not a file of .*run: put the file"):
        command(finished)
    assert everything(tmp_path) == before


OUTSIDE = ("/etc/hostname", "../../secret", "../store/weights-84e71893ccf0a78e2c9a.safetensors", "linked")


def naming(recipe: Path, weights: str) -> Path:
    """A recipe that names other weights than its own."""
    recipe.write_text(recipe.read_text().replace("weights.safetensors", weights))
    (recipe.parent / "linked").symlink_to(recipe.parent.parent.parent / "secret")
    (recipe.parent.parent.parent / "secret").write_text("mine")
    return recipe


@pytest.mark.parametrize("name", OUTSIDE)
def test_weights_outside_the_run_folder_are_refused(name: str, command: Act, earlier: Path, tmp_path: Path) -> None:
    naming(earlier / "recommended" / "recipe.toml", name)
    before = everything(tmp_path)
    with pytest.raises(
        UsageError, match=rf"recipe.toml names '{name}', which is not a file of {earlier}/recommended: put the file"
    ):
        command(earlier)
    assert everything(tmp_path) == before


def test_weights_whose_name_stands_for_another_file_are_refused(command: Act, earlier: Path, tmp_path: Path) -> None:
    recipe = naming(earlier / "recommended" / "recipe.toml", "notes.txt")
    recipe.with_name("notes.txt").write_text("hi")
    (tmp_path / "secret.safetensors").write_bytes((earlier / "recommended" / "weights.safetensors").read_bytes())
    recipe.with_name("notes.safetensors").symlink_to(tmp_path / "secret.safetensors")
    before = everything(tmp_path)
    with pytest.raises(UsageError, match=r"recipe.toml names 'notes.txt' as its weights, which is no .safetensors fi"):
        command(earlier)
    assert everything(tmp_path) == before


@pytest.mark.parametrize("name", [*OUTSIDE, "../other/weights.safetensors"])
def test_weights_outside_the_folder_of_a_recipe_that_stands_alone_are_refused(
    name: str, earlier: Path, small_task: str, tmp_path: Path
) -> None:
    alone = shutil.copytree(earlier / "recommended", tmp_path / "theirs" / "alone")
    shutil.copytree(alone, alone.with_name("other"))
    recipe = naming(alone / "recipe.toml", name)
    with pytest.raises(UsageError, match=rf"recipe.toml names '{name}', which is not a file of {alone}: put the file"):
        apply_recipe(recipe, small_task, tmp_path / "made", redo=False)
    assert not (tmp_path / "made").exists()


def test_recipe_of_a_candidate_may_name_the_store_of_its_run(earlier: Path, small_task: str, tmp_path: Path) -> None:
    recipe = earlier / "candidates" / "e7a632244c-0" / "recipe.toml"
    assert "../../store/" in recipe.read_text()
    assert "at most" in apply_recipe(recipe, small_task, tmp_path / "made", redo=False)
    alone = shutil.copytree(recipe.parent, tmp_path / "alone" / "here" / "recipe")
    with pytest.raises(UsageError, match=r"names '../../store/weights-.*which is not a file of .*recipe: put the file"):
        apply_recipe(alone / "recipe.toml", small_task, tmp_path / "other", redo=False)


def with_data_elsewhere(path: Path) -> None:
    """Hide a constant whose data is in another file in a branch of the model."""
    held = numpy_helper.from_array(np.ones(1, dtype=np.float32), "w")
    onnx.external_data_helper.set_external_data(held, "../../secret.bin")
    held.ClearField("raw_data")
    inner = helper.make_graph([helper.make_node("Constant", [], ["c"], value=held)], "b", [], [])
    model = onnx.load(str(path))
    model.graph.node.append(helper.make_node("If", ["x"], ["never"], then_branch=inner, else_branch=inner))
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize("which", ["recommended", "reference"])
def test_data_elsewhere_is_refused_by_verify(which: str, earlier: Path) -> None:
    with_data_elsewhere(earlier / which / "model.onnx")
    with pytest.raises(UsageError, match=rf"{which}/model.onnx keeps its weights in other files"):
        verify_run(earlier)


def test_data_elsewhere_is_refused_by_apply_and_measure(earlier: Path, small_task: str, tmp_path: Path) -> None:
    model = earlier / "recommended" / "model.onnx"
    with_data_elsewhere(model)
    with pytest.raises(UsageError, match="keeps its weights in other files"):
        apply_recipe(model.with_name("recipe.toml"), small_task, tmp_path / "made", redo=False)
    assert not (tmp_path / "made").exists()
    with pytest.raises(UsageError, match="keeps its weights in other files"):
        measure_file(model, "cpu")


@pytest.mark.parametrize("redo", [False, True])
def test_apply_refuses_a_folder_that_is_not_its_own_before_it_reads_the_task(
    redo: bool, earlier: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model.onnx").write_text("mine")
    before = everything(tmp_path)
    for out in (tmp_path / "mine", earlier, earlier / "recommended"):
        with pytest.raises(UsageError, match=r"holds what this command did not make \(.*\): choose another --out"):
            apply_recipe(earlier / "recommended" / "recipe.toml", "no_such_task.py:task", out, redo)
    file = tmp_path / "mine" / "model.onnx"
    for out in (file, file / "deeper"):
        with pytest.raises(UsageError, match=rf"^{file} is no folder: choose another --out"):
            apply_recipe(earlier / "recommended" / "recipe.toml", "no_such_task.py:task", out, redo)
    assert everything(tmp_path) == before


def test_apply_finds_a_folder_of_its_own_and_takes_it_again(
    earlier: Path, small_task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    theirs = tmp_path / "applied" / "2116d3c012" / "model.onnx"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("mine")
    for _ in range(2):
        told = apply_recipe(earlier / "recommended" / "recipe.toml", small_task, None, redo=False)
        assert told.startswith("applied/2116d3c012-2/model.onnx made from ")
    assert theirs.read_text() == "mine"
    assert sorted(path.name for path in (tmp_path / "applied").iterdir()) == ["2116d3c012", "2116d3c012-2"]


def test_what_is_in_the_way_of_a_search_hinders_no_other_command(command: Act, finished: Path) -> None:
    (finished / "recommended" / "recipe.toml").unlink()
    theirs = finished / "nearest" / "model.onnx"
    theirs.parent.mkdir()
    theirs.write_text("mine")
    command(finished)
    assert theirs.read_text() == "mine"
    assert (finished / "recommended" / "recipe.toml").exists()


def test_report_writes_over_no_page_but_its_own(earlier: Path) -> None:
    page = earlier / "report.html"
    page.write_text("<!doctype html><title>My notes</title>")
    with pytest.raises(UsageError, match=r"report.html is no report of autocompress: move it away and run the same"):
        report_command([earlier])
    assert "My notes" in page.read_text()
    page.unlink()
    page.symlink_to("not-there-yet.html")
    with pytest.raises(UsageError, match=r"report.html is no report of autocompress: move it away and run the same"):
        report_command([earlier])
    page.unlink()
    for _ in range(2):
        report_command([earlier])
    assert "stripes" in page.read_text()
