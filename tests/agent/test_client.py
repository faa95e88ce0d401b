"""A session on a device with an agent, from here: what it gives, and what an agent may not answer."""

import json
import math
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest

from autocompress.errors import AutocompressError, CandidateFailed, UsageError
from autocompress.machine.blocks import BlockLimits
from autocompress.measure import (
    DeviceLost,
    DeviceSession,
    Sessions,
    agent_device,
    check_place,
    device_kind,
    operators_of,
)
from autocompress.measure import agent as own
from autocompress.measure.agent_device import agent_of, check_devices
from autocompress.measure.memory_taken import memory_taken
from autocompress.profile import HardwareProfile

from .conftest import Served, free_port
from .test_server import product

FEEDS = [{"input": np.ones((1, 64), np.float32)}]
LIMITS = BlockLimits(seconds=0.1, fewest=6)
KIND = {"processor": "P", "cores": 2, "instructions": ["avx2"], "onnxruntime": "1.0"}
SOUND = {
    "kind": KIND,
    "blocks": {"reference": [2.0] * 9, "candidate": [[1.0, 1.0]] * 8},
    "conditions": {"load": 0.5, "weather": 1.0},  # a newer agent may know more
}
ABOUT = {"kind": KIND, "providers": ["CPUExecutionProvider"]}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return product(tmp_path / "reference.onnx", 64), product(tmp_path / "candidate.onnx", 64, loops=300)


def session(profile: HardwareProfile, files: tuple[Path, Path], candidate: Path | None = None) -> Any:
    return Sessions(None, profile, files[0], FEEDS).record(candidate or files[1], LIMITS)  # type: ignore[arg-type]


def test_a_session_on_a_device_is_like_one_here(agent: Served, files: tuple[Path, Path]):
    found, blocks = session(agent.profile, files)
    assert math.exp(found.log_ratio) > 3, "300 products to one"
    assert len(blocks.candidate) >= 6
    assert found.reference > 0


def test_a_device_is_told_in_words_and_refused_before_a_search(agent: Served):
    check_place(agent.profile)
    assert " cores, " in device_kind(agent.profile)
    assert ", onnxruntime " in device_kind(agent.profile)
    with pytest.raises(UsageError, match=r"has .* cores"):
        check_place(agent.profile.model_copy(update={"threads": 1000}))
    with pytest.raises(UsageError, match="has no CUDAExecutionProvider"):
        check_place(agent.profile.model_copy(update={"provider": "CUDAExecutionProvider"}))


def test_a_token_that_is_missing_or_wrong_is_said_by_its_file(agent: Served, tmp_path: Path, files: tuple[Path, Path]):
    wrong = tmp_path / "wrong"
    for token_file in (wrong, tmp_path / "none"):
        wrong.write_text("another\n")
        profile = agent.profile.model_copy(update={"token_file": str(token_file)})
        with pytest.raises(UsageError, match=token_file.name):
            check_place(profile)
        with pytest.raises(UsageError, match=token_file.name):
            session(profile, files)


def test_what_a_device_cannot_run_fails_its_candidate_alone(agent: Served, tmp_path: Path, files: tuple[Path, Path]):
    noise = tmp_path / "noise.onnx"
    noise.write_bytes(b"noise" * 100)
    large = tmp_path / "large.onnx"
    large.write_bytes(bytes(2 << 20))
    for file, said in ((noise, "ONNX"), (large, "--max-file")):
        with pytest.raises(CandidateFailed, match=said):
            session(agent.profile, files, file)
    session(agent.profile, files)


def test_after_a_restart_it_goes_on_and_meanwhile_the_command_to_look_is_said(
    serve: Callable[..., Served], files: tuple[Path, Path]
):
    agent = serve()
    session(agent.profile, files)
    agent.kill()
    with pytest.raises(DeviceLost, match=r"does not answer .*curl .*token.*/v1/about"):
        session(agent.profile, files)
    with pytest.raises(UsageError, match="curl"):
        check_place(agent.profile)
    agent.start()  # without the files that it was sent
    session(agent.profile, files)


Answers = Callable[[str, dict[str, Any]], tuple[int, Any]]


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Callable[[Answers], HardwareProfile]]:
    """``answering(answers)``: the profile of what answers every request so, to its path and body."""
    servers: list[HTTPServer] = []

    def start(answers: Answers) -> HardwareProfile:
        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                status, said = answers(self.path, json.loads(body) if self.command == "POST" else {})
                content = said if isinstance(said, bytes) else json.dumps(said).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = answer  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        servers.append(HTTPServer(("127.0.0.1", 0), Handler))
        servers[-1].handle_error = lambda *_: None  # type: ignore[method-assign]  # who asked has gone
        Thread(target=servers[-1].serve_forever, daemon=True).start()
        token = tmp_path / "token"
        token.write_text("t")
        address = f"http://127.0.0.1:{servers[-1].server_address[1]}"
        return HardwareProfile(name="board", device=address, token_file=str(token))

    yield start
    for server in servers:
        server.shutdown()


def of_session(**changed: Any) -> Answers:
    """Answers each question for a session with what it asked, and so changed."""

    def answers(path: str, asked: dict[str, Any]) -> tuple[int, Any]:
        named = {name: asked.get(name) for name in ("candidate", "reference", "inputs", "nonce")}
        return 200, {**SOUND, **named, **changed}

    return answers


@pytest.mark.parametrize(
    "changed",
    [
        {"blocks": {"reference": [2.0, 2.0], "candidate": [[-1.0]]}},
        {"blocks": {"reference": [2.0, float("nan")], "candidate": [[1.0]]}},
        {"blocks": {"reference": [2.0], "candidate": [[1.0]]}},
        {"blocks": {"reference": [2.0, 2.0], "candidate": [[]]}},
        {"blocks": {"reference": [1e-300, 1e-300], "candidate": [[1e300]]}},
        {"blocks": {"reference": [2.0, 2.0], "candidate": [[10**400]]}},
        {"blocks": "soon"},
        {"blocks": None},
        {"conditions": {"load": "high"}},
        {"conditions": {"load": float("nan")}},
        {"conditions": {"load": float("inf")}},
        {"conditions": {"stolen": -1.0}},
        {"nonce": "of an answer before"},
        {"candidate": "0" * 64},
        {"inputs": None},
    ],
)
def test_an_agent_that_lies_is_one_line_and_costs_a_candidate(
    answering: Callable[[Answers], HardwareProfile], files: tuple[Path, Path], changed: dict[str, Any]
):
    with pytest.raises(CandidateFailed) as error:
        session(answering(of_session(**changed)), files)
    assert "\n" not in str(error.value)


def test_what_it_says_is_taken_when_it_answers_the_question(
    answering: Callable[[Answers], HardwareProfile], files: tuple[Path, Path]
):
    found, _ = session(answering(of_session()), files)
    assert math.exp(found.log_ratio) == pytest.approx(0.5)
    assert found.conditions.load == 0.5


@pytest.mark.parametrize(
    ("status", "said", "error"),
    [
        (200, b"<html>", CandidateFailed),
        (200, [1], CandidateFailed),
        (404, {"error": "gone", "missing": ["f" * 64]}, CandidateFailed),
        (404, {"error": "no such page"}, CandidateFailed),
        (200, b"[" * 100_000, CandidateFailed),
        (422, {"error": "it does\nnot run"}, CandidateFailed),
        (500, b"", CandidateFailed),
        (503, b"", DeviceLost),
        (507, {"error": "no space is left"}, DeviceLost),
        (302, b"", DeviceLost),
        (200, b"0" * (own.ANSWER_BYTES + 1), CandidateFailed),
    ],
)
def test_other_answers_lose_the_device_or_the_candidate(
    answering: Callable[[Answers], HardwareProfile],
    files: tuple[Path, Path],
    status: int,
    said: Any,
    error: type[AutocompressError],
):
    with pytest.raises(error) as raised:
        session(answering(lambda *_: (status, said)), files)
    assert "\n" not in str(raised.value)


def test_a_device_that_hangs_is_lost_after_its_time(
    answering: Callable[[Answers], HardwareProfile], files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(agent_device, "MORE_S", 0.2)
    ended = Event()
    profile = answering(lambda *_: (int(ended.wait(10)), b""))
    with pytest.raises(DeviceLost, match="timed out"):
        session(profile, files)
    ended.set()


def test_devices_of_different_kinds_are_no_pool(answering: Callable[[Answers], HardwareProfile]):
    other = {**ABOUT, "kind": {**KIND, "processor": "Q"}}
    one, two, three = (answering(lambda *_, said=said: (200, said)) for said in (ABOUT, ABOUT, other))
    pool = one.model_copy(update={"device": (*one.agents, *two.agents)})
    check_place(pool)
    assert device_kind(pool) == "P, 2 cores, avx2, onnxruntime 1.0"
    mixed = one.model_copy(update={"device": (*one.agents, *three.agents)})
    with pytest.raises(UsageError, match=r"different kinds: processor is P at .* and Q at"):
        check_place(mixed)


def test_what_is_no_agent_is_said_before_a_search(answering: Callable[[Answers], HardwareProfile]):
    for said in (
        b"<html>",
        {},
        {"kind": "board", "providers": []},
        {**ABOUT, "kind": {"cores": 2}},
        {**ABOUT, "kind": {**KIND, "instructions": 5}},
    ):
        with pytest.raises(UsageError, match="agent"):
            check_place(answering(lambda *_, said=said: (200, said)))


def test_another_device_behind_the_same_address_is_refused(
    answering: Callable[[Answers], HardwareProfile], files: tuple[Path, Path]
):
    kinds = iter([KIND, KIND, {**KIND, "onnxruntime": "1.1"}])
    profile = answering(lambda path, asked: of_session(kind=next(kinds))(path, asked))
    sessions = Sessions(None, profile, files[0], FEEDS)  # type: ignore[arg-type]
    for _ in range(2):
        sessions.record(files[1], LIMITS)
    with pytest.raises(UsageError, match="another one than before"):
        sessions.record(files[1], LIMITS)


def test_a_token_of_more_than_a_word_is_not_sent(agent: Served, tmp_path: Path):
    for content in (b"two words", b"two\nlines", b"\xff", b""):
        (tmp_path / "token").write_bytes(content)
        with pytest.raises(UsageError, match="holds no token"):
            check_place(agent.profile.model_copy(update={"token_file": str(tmp_path / "token")}))


def test_a_file_on_a_device_gives_what_it_gives_here_however_many_calls(agent: Served, files: tuple[Path, Path]):
    feeds = [{"input": np.full((1, 64), number, np.float32)} for number in range(9)]
    found = list(DeviceSession(agent.profile, files[0]).run_all(feeds))
    assert [float(output[0][0, 0]) for output in found] == [64.0 * number for number in range(9)]


def test_where_one_device_of_several_is_gone_another_answers(agent: Served, files: tuple[Path, Path]):
    pool = agent.profile.model_copy(update={"device": (f"http://127.0.0.1:{free_port()}", agent.address)})
    assert DeviceSession(pool, files[0]).run(FEEDS[0])[0].shape == (1, 64)


def test_the_time_of_a_device_by_operator_and_its_memory(agent: Served, files: tuple[Path, Path]):
    rows = operators_of(None, agent.profile, files[0], FEEDS)  # type: ignore[arg-type]
    assert [(row.operator, row.share) for row in rows] == [("MatMul", 1.0)]
    assert memory_taken(None, agent.profile, files[0], FEEDS) > 64 * 64 * 4  # type: ignore[arg-type]


def test_an_older_agent_that_weighs_no_shapes_is_refused(
    answering: Callable[[Answers], HardwareProfile], agent: Served
):
    about = agent_of(agent.profile, agent.address).about()
    assert about.pop("weighs") is True
    profile = answering(lambda path, asked: (200, about)).model_dump() | {"shapes": [{"rows": 1}, {"rows": 2}]}
    with pytest.raises(UsageError, match="weighs no shapes: it is an older version"):
        check_devices(HardwareProfile.model_validate(profile))


@pytest.mark.parametrize("said", [None, -1, 1.5, True, "much"])
def test_memory_that_is_no_number_of_bytes_is_not_taken(
    answering: Callable[[Answers], HardwareProfile], files: tuple[Path, Path], said: object
):
    def answers(path: str, asked: dict[str, Any]) -> tuple[int, Any]:
        return 200, {**{name: asked.get(name) for name in ("file", "inputs", "nonce")}, "bytes": said}

    with pytest.raises(CandidateFailed, match="no number of bytes"):
        memory_taken(None, answering(answers), files[0], FEEDS)  # type: ignore[arg-type]
