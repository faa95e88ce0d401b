"""Where the time of a file goes, by ONNX Runtime's own profile."""

from typing import Any

import pytest

from autocompress.machine.onnx_session import profiled

Event = dict[str, Any]


def a_call(start: int, nodes: list[tuple[str, str, int]]) -> list[Event]:
    """The events of one call, in the order in which ONNX Runtime writes them: the whole after its parts."""
    ran = [
        {"cat": "Node", "name": f"{name}_kernel_time", "ts": start + at, "dur": took, "args": {"op_name": operator}}
        for at, (name, operator, took) in enumerate(nodes, 1)
    ]
    return [*ran, {"cat": "Session", "name": "model_run", "ts": start, "dur": 50, "args": {}}]


def test_calls_to_warm_up_do_not_count_and_a_disturbed_one_changes_nothing() -> None:
    lasting = [90_000, 300, 300, 80_000, 300]
    events = [e for n, us in enumerate(lasting) for e in a_call(100 * n, [("a", "Conv", us), ("b", "Gemm", 100)])]
    assert profiled(events, warm_up=1) == {("a", "Conv"): pytest.approx(0.3), ("b", "Gemm"): pytest.approx(0.1)}


def test_a_node_in_a_loop_counts_each_time_and_the_loop_not_again() -> None:
    nodes = [("body", "MatMul", 20), ("body", "MatMul", 30), ("loop", "Loop", 60), ("end", "Relu", 50)]
    found = profiled([e for n in range(3) for e in a_call(100 * n, nodes)], warm_up=1)
    assert found == {("body", "MatMul"): pytest.approx(0.05), ("end", "Relu"): pytest.approx(0.05)}
