"""``measure``: which of two ONNX files is faster, and what cannot be compared."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from autocompress.cli import app
from autocompress.commands.measure import compare_files, random_feeds
from autocompress.errors import AutocompressError, UsageError
from autocompress.profile import HardwareProfile


def write(path: Path, layers: int, width: int = 64, kind: str = "Relu", element: int = TensorProto.FLOAT) -> Path:
    """Multiplications of a row of 64 numbers with square matrices, one after another."""
    random, nodes, weights = np.random.default_rng(0), [], []
    for layer in range(layers):
        weights.append(numpy_helper.from_array(random.standard_normal((width, width)).astype("float32"), f"w{layer}"))
        nodes.append(helper.make_node("MatMul", [f"x{layer}", f"w{layer}"], [f"m{layer}"]))
        nodes.append(helper.make_node(kind, [f"m{layer}"], [f"x{layer + 1}"]))
    inputs = helper.make_tensor_value_info("x0", element, [1, width])
    outputs = helper.make_tensor_value_info(f"x{layers}", TensorProto.FLOAT, [1, width])
    graph = helper.make_graph(nodes, "rows", [inputs], [outputs], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_twenty_times_the_work_is_slower_and_the_numbers_say_by_how_much(tmp_path: Path):
    small, large = write(tmp_path / "small.onnx", 2), write(tmp_path / "large.onnx", 40)
    called = CliRunner().invoke(app, ["measure", str(large), "--against", str(small), "--json"])
    found = json.loads(called.stdout)
    assert found["verdict"] == "slower"
    assert 1 < found["ratio_low"] < found["ratio"] < found["ratio_high"]
    assert found["next_low"] < found["ratio_low"]
    assert found["ratio_high"] < found["next_high"]
    assert found["sessions"] in (4, 8)
    assert compare_files(small, large, "cpu", 0.03)["verdict"] == "faster"


def test_files_with_other_inputs_are_not_compared(tmp_path: Path):
    one, other = write(tmp_path / "one.onnx", 2), write(tmp_path / "other.onnx", 2, width=32)
    with pytest.raises(UsageError, match=r"float32 \[1, 64\] and .* float32 \[1, 32\]: only files with the same"):
        compare_files(one, other, "cpu", 0.03)


def test_a_file_that_does_not_run_is_said(tmp_path: Path):
    runs, broken = write(tmp_path / "runs.onnx", 2), write(tmp_path / "broken.onnx", 2, kind="NoSuchOperator")
    with pytest.raises(AutocompressError, match="ONNX Runtime cannot load the file"):
        compare_files(broken, runs, "cpu", 0.03)


@pytest.mark.parametrize("within", [0.0, -0.1, 0.01, 1.0, float("nan")])
def test_what_counts_as_the_same_is_a_share(within: float, tmp_path: Path):
    model = write(tmp_path / "model.onnx", 2)
    with pytest.raises(UsageError, match=r"--within is a share from 0\.015 to 1"):
        compare_files(model, model, "cpu", within)


def test_free_axes_have_the_sizes_of_each_of_the_profiles_shapes(tmp_path: Path):
    model = onnx.load(str(write(tmp_path / "model.onnx", 2)))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "rows"
    onnx.save(model, tmp_path / "model.onnx")
    profile = HardwareProfile(name="mixed", shapes=({"rows": 3}, {"rows": 5, "weight": 2}))  # type: ignore[arg-type]
    feeds = random_feeds(tmp_path / "model.onnx", profile)
    assert [feed["x0"].shape[0] for feed in feeds] == [3, 5] * (len(feeds) // 2)


def test_a_check_tells_the_machine_and_what_it_did_meanwhile(tmp_path: Path):
    model = write(tmp_path / "model.onnx", 2)
    found = json.loads(CliRunner().invoke(app, ["measure", str(model), "--check", "--json"]).stdout)
    assert found["sessions"] == 8
    assert found["machine"]["cores"] >= 1
    assert 0 <= found["quiet_blocks"] <= 1
    assert found["conditions"]["load"] >= 0
    assert all(isinstance(line, str) for line in found["advice"])
