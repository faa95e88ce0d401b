"""What a context keeps for the strategies of a task: found out once, whoever asks, and for this opening of it alone."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from autocompress.candidate.reading import read_task
from autocompress.plugin.contract import Context
from autocompress.profile import HardwareProfile
from autocompress.task import Task
from autocompress_plugins.runtimes.onnxruntime import OnnxRuntime


@pytest.fixture
def open_task(tmp_path: Path, fake_profile: HardwareProfile) -> Callable[[Task], Context]:
    return lambda task: read_task(task, fake_profile, OnnxRuntime(), tmp_path / "reference.onnx", 0).context


def test_what_was_found_out_once_serves_every_context_of_the_task(
    open_task: Callable[[Task], Context], tiny_task: Task
):
    context, asked = open_task(tiny_task), []
    several = context, context.for_timing(), replace(context, learned={"other": {}})
    assert [each.once("order", lambda: asked.append("order") or len(asked)) for each in several] == [1, 1, 1]
    assert context.once("losses", lambda: asked.append("losses") or len(asked)) == 2
    assert asked == ["order", "losses"]


def test_another_opening_of_the_task_starts_with_nothing(open_task: Callable[[Task], Context], tiny_task: Task):
    first, second = open_task(tiny_task), open_task(tiny_task)
    assert (first.once("order", lambda: 1), second.once("order", lambda: 2)) == (1, 2)


def test_what_failed_is_tried_again(open_task: Callable[[Task], Context], tiny_task: Task):
    context = open_task(tiny_task)
    with pytest.raises(ZeroDivisionError):
        context.once("order", lambda: 1 / 0)
    assert context.once("order", lambda: "found") == "found"
