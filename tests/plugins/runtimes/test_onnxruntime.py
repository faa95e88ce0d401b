"""Where the time of a file goes, by ONNX Runtime's own profile."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from autocompress.candidate.export import export
from autocompress.errors import CandidateFailed
from autocompress.profile import PROCESSOR, HardwareProfile
from autocompress_plugins.runtimes import onnxruntime as own
from autocompress_plugins.runtimes.onnxruntime import OnnxRuntime
from tests.layouts import layout_of

PROFILE = HardwareProfile(name="cpu")


def test_the_layers_of_a_file_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64 * 256, 4)).eval()
    image = torch.randn(1, 3, 16, 16)
    export(model, layout_of(model, image), image, tmp_path / "m.onnx", "torchscript")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    rows = OnnxRuntime().operators(tmp_path / "m.onnx", PROFILE, [{"input": image.numpy()}])
    assert sum(row.share for row in rows) == pytest.approx(1.0)
    assert {"/model/model.3/Gemm", "/model/model.1/Relu"} <= {row.name for row in rows}, (
        "nothing appended by the profile"
    )
    assert sum(row.share for row in rows if row.operator in ("Conv", "FusedConv")) > 0.1
    assert not list(Path.cwd().iterdir()), "no profile is left behind"


def test_what_it_cannot_load_is_a_failure_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(CandidateFailed, match="ONNX Runtime cannot load the file"):
        OnnxRuntime().operators(tmp_path / "m.onnx", PROFILE, [{}])


def graph(path: Path, nodes: list[Any], inputs: list[Any], output: Any) -> Path:
    made = helper.make_graph(nodes, "g", inputs, [output])
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_a_bound_call_takes_inputs_of_any_layout_and_kind(tmp_path: Path) -> None:
    scalar = helper.make_tensor_value_info("rate", TensorProto.INT64, [])
    matrix = helper.make_tensor_value_info("x", TensorProto.INT64, [3, 2])
    output = helper.make_tensor_value_info("y", TensorProto.INT64, [3, 2])
    path = graph(tmp_path / "m.onnx", [helper.make_node("Mul", ["x", "rate"], ["y"])], [matrix, scalar], output)
    feed = {"x": np.arange(6).reshape(2, 3).T, "rate": np.array(16)}
    session = OnnxRuntime().open(path, PROFILE)
    session.bound(feed)()
    assert np.array_equal(session.run(feed)[0], feed["x"] * 16)


def test_a_bound_call_of_a_file_without_inputs_runs(tmp_path: Path) -> None:
    node = helper.make_node("Constant", [], ["y"], value_floats=[1.0, 2.0])
    path = graph(tmp_path / "c.onnx", [node], [], helper.make_tensor_value_info("y", TensorProto.FLOAT, [2]))
    OnnxRuntime().open(path, PROFILE).bound({})()


def test_a_provider_that_falls_back_to_another_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package for GPUs lists them where there is none, and computes on the processor."""
    model, x = nn.Linear(4, 4).eval(), torch.zeros(1, 4)
    export(model, layout_of(model, x), x, tmp_path / "m.onnx", "torchscript")
    monkeypatch.setattr(own.ort, "get_available_providers", lambda: ["CUDAExecutionProvider", PROCESSOR])
    cuda = PROFILE.model_copy(update={"provider": "CUDAExecutionProvider"})
    with pytest.raises(CandidateFailed, match="CUDAExecutionProvider does not work here"):
        OnnxRuntime().open(tmp_path / "m.onnx", cuda)
    assert "does not work here" in (OnnxRuntime().unavailable(cuda) or "")


def test_a_provider_that_is_not_there_is_said_with_its_install_line() -> None:
    cuda = PROFILE.model_copy(update={"provider": "CUDAExecutionProvider"})
    assert "pip install onnxruntime-gpu in place of onnxruntime" in (OnnxRuntime().unavailable(cuda) or "")
    assert OnnxRuntime().unavailable(PROFILE) is None


def test_options_are_entries_of_the_sessions_configuration() -> None:
    options = {"session.disable_prepacking": True, "session.intra_op.allow_spinning": 0}
    found = own._options(PROFILE.model_copy(update={"options": options}))
    assert found.get_session_config_entry("session.disable_prepacking") == "1"
    assert found.get_session_config_entry("session.intra_op.allow_spinning") == "0"


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="this system does not list threads")
def test_each_thread_of_the_pool_runs_where_it_is_told_to(tmp_path: Path) -> None:
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    path, three = graph(tmp_path / "m.onnx", nodes, ends[:1], ends[1]), PROFILE.model_copy(update={"threads": 3})
    allowed = sorted(os.sched_getaffinity(0))
    told = [allowed[-1], allowed[0]]
    options = OnnxRuntime().affinity(three, told)
    threads = Path("/proc/self/task")
    before = {thread.name for thread in threads.iterdir()}
    session = OnnxRuntime().open(path, three.model_copy(update={"options": options}))
    ends, pool = time.monotonic() + 30, []
    while sorted(pool) != sorted([processor] for processor in told) and time.monotonic() < ends:  # they begin by now
        new = {thread.name for thread in threads.iterdir()} - before
        pool = [sorted(os.sched_getaffinity(int(thread))) for thread in new]
    assert sorted(pool) == sorted([processor] for processor in told)
    del session


def test_where_a_profile_places_its_threads_nothing_else_does() -> None:
    placed = {"session.intra_op_thread_affinities": "3"}
    assert not OnnxRuntime().affinity(PROFILE.model_copy(update={"threads": 2, "options": placed}), [1])


def test_threads_that_have_nothing_to_do_soon_leave_the_processors_to_another_files() -> None:
    spins = "session.intra_op.spin_duration_us"
    two = PROFILE.model_copy(update={"threads": 2})
    assert 0 < int(own._options(two).get_session_config_entry(spins)) <= 1000
    asked = two.model_copy(update={"options": {spins: 7}})
    assert own._options(asked).get_session_config_entry(spins) == "7"
