"""How many examples files are scored on, where scoring all of them would take much of the search."""

from dataclasses import replace
from pathlib import Path

import pytest

from autocompress.candidate.open_task import OpenTask
from autocompress.candidate.policy import TrainingPolicy
from autocompress.candidate.preparation import FEWEST_SCORED, KnownTask, Preparation, prepare
from autocompress.plugin.loader import PluginSet
from autocompress.profile import HardwareProfile
from autocompress.storage.folder import RunFolder
from autocompress.task import Task
from tests.conftest import make_examples

SIZE = 2 * FEWEST_SCORED


@pytest.fixture
def many(tiny_task: Task) -> Task:
    return replace(tiny_task, val=make_examples(SIZE, 5), test=make_examples(SIZE, 6))


def prepared(
    task: Task,
    scoring_s: float,
    plugins: PluginSet,
    profile: HardwareProfile,
    folder: Path,
    known: KnownTask | None = None,
) -> tuple[OpenTask, Preparation]:
    folder.mkdir(exist_ok=True)
    policy = TrainingPolicy(scoring_s=scoring_s)
    return prepare(task, profile, plugins, RunFolder(folder), known=known, only=[], policy=policy)


def test_a_short_search_scores_on_as_many_as_there_is_time_for_and_says_so(
    many: Task, plugins: PluginSet, fake_profile: HardwareProfile, tmp_path: Path
) -> None:
    opened, found = prepared(many, 1e-9, plugins, fake_profile, tmp_path)
    assert opened.test is not None
    assert len(opened.val) == len(opened.test) == found.val_examples == found.test_examples == FEWEST_SCORED
    said = [warning for warning in found.warnings if "to score the reference on" in warning]
    assert [f"scored on {FEWEST_SCORED} of its {SIZE} examples" in line for line in said] == [True, True]
    again, same = prepared(many, 1e9, plugins, fake_profile, tmp_path, known=found)
    assert len(again.val) == same.val_examples == FEWEST_SCORED, "scores are compared with those that there are"


def test_where_there_is_time_all_are_scored_on(
    many: Task, plugins: PluginSet, fake_profile: HardwareProfile, tmp_path: Path
) -> None:
    opened, found = prepared(many, 1e9, plugins, fake_profile, tmp_path)
    assert (found.scored_on, found.tested_on, len(opened.val)) == (None, None, SIZE)
    assert not any("to score" in warning for warning in found.warnings)
