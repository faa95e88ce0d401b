"""What an agent answers, and to whom: asked over HTTP, as another process."""

import hashlib
import io
import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from autocompress_agent.external_data import has_external_data

from .conftest import TOKEN, Served

HOW = {"threads": 1, "provider": "CPUExecutionProvider", "options": {}, "cold": False}
SESSION = {**HOW, "quiet": 6, "seconds": 0.1, "fewest": 6, "known_ms": 0.0, "nonce": "n"}


def product(path: Path, size: int = 8, external: bool = False, loops: int = 0) -> Path:
    """A file of one product with a square matrix of ones; with loops: as often again, for ever as it seems."""
    weights = numpy_helper.from_array(np.ones((size, size), np.float32), "w")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size]) for name in ("input", "output")]
    nodes = [helper.make_node("MatMul", ["input", "w"], ["output"])]
    starts = [weights]
    if loops:
        body = helper.make_graph(
            [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("MatMul", ["state", "w"], ["next"])],
            "body",
            [
                helper.make_tensor_value_info("number", TensorProto.INT64, []),
                helper.make_tensor_value_info("go", TensorProto.BOOL, []),
                helper.make_tensor_value_info("state", TensorProto.FLOAT, [1, size]),
            ],
            [
                helper.make_tensor_value_info("on", TensorProto.BOOL, []),
                helper.make_tensor_value_info("next", TensorProto.FLOAT, [1, size]),
            ],
        )
        nodes = [helper.make_node("Loop", ["times", "yes", "input"], ["output"], body=body)]
        starts += [
            numpy_helper.from_array(np.array(loops, np.int64), "times"),
            numpy_helper.from_array(np.array(True), "yes"),
        ]
    graph = helper.make_graph(nodes, "product", ends[:1], ends[1:], starts)
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(model, str(path), save_as_external_data=external, size_threshold=0, location="weights")
    return path


def inputs(size: int = 8) -> bytes:
    kept = io.BytesIO()
    np.savez(kept, **{"0/input": np.ones((1, size), np.float32)})
    return kept.getvalue()


def sent(agent: Served, content: bytes) -> str:
    digest = hashlib.sha256(content).hexdigest()
    answer = agent.ask("PUT", f"/v1/files/{digest}", content)
    assert answer.status == 200, answer.data
    return digest


def asked(agent: Served, job: str, **body: Any) -> tuple[int, dict[str, Any]]:
    answer = agent.ask("POST", f"/v1/{job}", json.dumps(body).encode())
    return answer.status, json.loads(answer.data)


def test_a_session_is_raw_times_and_conditions_and_says_of_what(agent: Served, tmp_path: Path):
    small, large = (sent(agent, product(tmp_path / f"{n}.onnx", n).read_bytes()) for n in (8, 64))
    of_small = sent(agent, inputs())
    status, answer = asked(agent, "compare", candidate=small, reference=small, inputs=of_small, **SESSION)
    assert status == 200, answer
    times = answer["blocks"]
    assert len(times["reference"]) == len(times["candidate"]) + 1 >= 7
    assert all(ms > 0 for block in times["candidate"] for ms in block)
    assert set(answer["conditions"]) == {"load", "stolen", "switches", "throttled", "gpu_throttled"}
    assert (answer["nonce"], answer["candidate"], answer["inputs"]) == ("n", small, of_small)
    status, answer = asked(agent, "compare", candidate=large, reference=small, inputs=of_small, **SESSION)
    assert (status, "does not run" in answer["error"]) == (422, True), "64 numbers are wanted and 8 given"


def test_what_a_file_gives_its_operators_and_its_memory(agent: Served, tmp_path: Path):
    file, given = sent(agent, product(tmp_path / "m.onnx").read_bytes()), sent(agent, inputs())
    status, answer = asked(agent, "outputs", file=file, inputs=given, **HOW)
    assert status == 200, answer
    with np.load(io.BytesIO(agent.ask("GET", f"/v1/files/{answer['outputs']}").data)) as found:
        assert found["0/output"].tolist() == [[8.0] * 8]
    (node,) = asked(agent, "operators", file=file, inputs=given, **HOW)[1]["operators"]
    assert node["operator"] == "MatMul"
    assert node["ms"] > 0
    large = sent(agent, product(tmp_path / "large.onnx", 480).read_bytes())
    of_large = sent(agent, inputs(480))
    took = asked(agent, "memory", file=large, inputs=of_large, **HOW)[1]["bytes"]
    assert took > 480 * 480 * 4, "its weights at least"


def test_who_does_not_show_the_token_learns_nothing(agent: Served):
    for given in ("", "Bearer ", "Bearer another", f"Basic {TOKEN}"):
        answer = agent.ask("GET", "/v1/about", Authorization=given)
        assert (answer.status, b"token" in answer.data) == (401, True)
    assert agent.ask("PUT", f"/v1/files/{'0' * 64}", b"x", Authorization="Bearer x").status == 401


def test_web_pages_are_not_answered_and_no_other_name(agent: Served):
    assert agent.ask("GET", "/v1/about", Origin="http://page.example").status == 403
    assert agent.ask("GET", "/v1/about", Host="rebound.example").status == 403
    assert agent.ask("GET", "/v1/about", Host=f"localhost:{agent.port}").status == 200


def test_files_are_named_by_what_they_are(agent: Served):
    zeros = "0" * 64
    assert agent.ask("PUT", f"/v1/files/{zeros}", b"another").status == 400
    assert agent.ask("PUT", "/v1/files/..%2Ftoken", b"x").status in (400, 404)
    assert agent.ask("GET", f"/v1/files/{zeros}").status == 404
    large = bytes((1 << 20) + 1)
    answer = agent.ask("PUT", f"/v1/files/{hashlib.sha256(large).hexdigest()}", large)
    assert (answer.status, b"--max-file" in answer.data) == (413, True)
    status, answer = asked(agent, "outputs", file=zeros, inputs="1" * 64, **HOW)
    assert (status, answer["missing"]) == (404, [zeros, "1" * 64])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"threads": 0}, "threads"),
        ({"threads": 4096}, "cores"),
        ({"threads": True}, "threads"),
        ({"provider": "NoSuchProvider"}, "no NoSuchProvider"),
        ({"options": {"a": []}}, "options"),
        ({"options": {"session.collect_node_memory_stats_to_file": "stats.csv"}}, "takes no option"),
        ({"seconds": -1}, "seconds"),
        ({"seconds": 1e300}, "seconds"),
        ({"quiet": "many"}, "quiet"),
        ({"candidate": 7}, "digest"),
        ({"candidate": "../../etc/passwd"}, "SHA-256"),
    ],
)
def test_nonsense_is_one_line(agent: Served, tmp_path: Path, changed: dict[str, Any], said: str):
    file, given = sent(agent, product(tmp_path / "m.onnx").read_bytes()), sent(agent, inputs())
    status, answer = asked(
        agent, "compare", **{"candidate": file, "reference": file, "inputs": given, **SESSION, **changed}
    )
    assert status in (400, 422)
    assert said in answer["error"]
    assert "\n" not in answer["error"]


def test_what_is_no_file_of_the_kind_costs_the_job_alone(agent: Served, tmp_path: Path):
    file, given, noise = (sent(agent, c) for c in (product(tmp_path / "m.onnx").read_bytes(), inputs(), b"noise" * 9))
    assert asked(agent, "outputs", file=noise, inputs=given, **HOW)[0] == 422
    assert asked(agent, "outputs", file=file, inputs=noise, **HOW)[0] == 422
    assert asked(agent, "outputs", file=file, inputs=given, **HOW)[0] == 200
    assert agent.ask("POST", "/v1/outputs", b"{").status == 400
    assert agent.ask("POST", "/v1/outputs", bytes((1 << 20) + 1)).status == 413


def test_weights_outside_the_file_are_refused(agent: Served, tmp_path: Path):
    outside = sent(agent, product(tmp_path / "outside.onnx", external=True).read_bytes())
    status, answer = asked(agent, "outputs", file=outside, inputs=sent(agent, inputs()), **HOW)
    assert (status, "outside itself" in answer["error"]) == (422, True)


def test_a_field_that_readers_take_differently_hides_no_weights(tmp_path: Path):
    """Keys of five bytes are cut off at 32 bits by some readers."""
    content = product(tmp_path / "outside.onnx", external=True).read_bytes()
    assert has_external_data(content)
    location, hidden = bytes([14 << 3, 1]), bytes([14 << 3 | 0x80, 0x80, 0x80, 0x80, 0x10, 1])
    assert location in content
    with pytest.raises(ValueError, match="a field that none can have"):
        has_external_data(hidden)
    assert not has_external_data(product(tmp_path / "whole.onnx").read_bytes())


def test_a_cold_call_takes_longer_than_one_that_finds_all_in_the_caches(agent: Served, tmp_path: Path):
    file, given = sent(agent, product(tmp_path / "m.onnx", 400).read_bytes()), sent(agent, inputs(400))
    times = {}
    for cold in (False, True):
        of_both = {"candidate": file, "reference": file, "inputs": given}
        status, answer = asked(agent, "compare", **of_both, **{**SESSION, "cold": cold})
        assert status == 200, answer
        times[cold] = np.median([ms for block in answer["blocks"]["candidate"] for ms in block])
    assert times[True] > times[False]


def test_inputs_of_several_shapes_are_weighed(agent: Served, tmp_path: Path):
    model, kept = onnx.load(str(product(tmp_path / "m.onnx", 64))), io.BytesIO()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "rows"
    np.savez(kept, **{f"{number}/input": np.ones((rows, 64), np.float32) for number, rows in enumerate((1, 4000))})
    file = sent(agent, model.SerializeToString())
    of_both = {"candidate": file, "reference": file, "inputs": sent(agent, kept.getvalue())}
    times = []
    for weights in ([1000, 1], [1, 1000]):
        status, answer = asked(agent, "compare", **of_both, **{**SESSION, "weights": weights})
        assert status == 200, answer
        times.append(np.median(answer["blocks"]["reference"]))
    assert times[1] > 10 * times[0], "that of the one row, and that of 4,000"
    for weights, status, said in (
        ([1, 1, 1], 422, "fewer inputs than weights"),
        ([1, 0], 400, "numbers above 0"),
        ([], 400, "numbers above 0"),
        ([float("inf")], 400, "numbers above 0"),
        ("much", 400, "numbers above 0"),
    ):
        found, answer = asked(agent, "compare", **of_both, **{**SESSION, "weights": weights})
        assert found == status, answer
        assert said in str(answer)


def test_a_job_ends_with_an_agent_that_is_killed(serve: Callable[..., Served], tmp_path: Path):
    agent = serve()
    endless = sent(agent, product(tmp_path / "endless.onnx", 64, loops=1 << 60).read_bytes())
    body = json.dumps({"file": endless, "inputs": sent(agent, inputs(64)), **HOW}).encode()
    Thread(target=lambda: suppressed(lambda: agent.ask("POST", "/v1/outputs", body)), daemon=True).start()
    assert until(lambda: len(agent.processes()) >= 4), "the agent, two of its fork server, and the job"
    processes = agent.processes()
    agent.kill()
    assert until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes))


def suppressed(call: Callable[[], object]) -> None:
    with suppress(Exception):
        call()


def until(holds: Callable[[], bool], seconds: float = 30.0) -> bool:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if holds():
            return True
        time.sleep(0.05)
    return False


def test_a_job_that_takes_too_long_is_ended_and_the_next_one_runs(serve: Callable[..., Served], tmp_path: Path):
    agent = serve("--max-seconds", "1")
    endless = sent(agent, product(tmp_path / "endless.onnx", 64, loops=1 << 60).read_bytes())
    given = sent(agent, inputs(64))
    status, answer = asked(agent, "outputs", file=endless, inputs=given, **HOW)
    assert (status, "longer than 1 s" in answer["error"]) == (504, True)
    sound = sent(agent, product(tmp_path / "sound.onnx", 64).read_bytes())
    agent_answers = asked(agent, "memory", file=sound, inputs=given, **HOW)
    assert agent_answers[0] == 200, agent_answers


def test_a_job_that_takes_too_much_memory_is_ended(serve: Callable[..., Served], tmp_path: Path):
    agent = serve("--max-memory", "1")
    endless = sent(agent, product(tmp_path / "endless.onnx", 64, loops=1 << 60).read_bytes())
    status, answer = asked(agent, "outputs", file=endless, inputs=sent(agent, inputs(64)), **HOW)
    assert (status, "--max-memory" in answer["error"]) == (413, True)


def test_what_was_not_used_for_longest_goes_when_there_is_too_much(serve: Callable[..., Served]):
    agent = serve("--max-file", "1", "--max-files", "3")
    first, *others = (sent(agent, bytes([n]) * 900_000) for n in range(4))
    assert agent.ask("GET", f"/v1/files/{first}").status == 404
    assert {agent.ask("GET", f"/v1/files/{digest}").status for digest in others} == {200}
