"""The agent's answers over HTTP: every request with the token, one job at a time.

    GET  /v1/about                what the device is
    PUT  /v1/files/DIGEST         take a file in (ONNX, or .npz of inputs), by the SHA-256 of its content
    GET  /v1/files/DIGEST         a file that a job made
    POST /v1/compare              one session of two files; the raw times of its blocks, and the conditions
    POST /v1/outputs              what a file gives for inputs: the digest of an .npz file
    POST /v1/operators            the time of each node of a file
    POST /v1/memory               the bytes that a file takes

A body is JSON; what it asks for by digest and its ``nonce`` come back with the answer. What is refused is
``{"error": one line, "missing": [digests that have to be sent first]}``.
"""

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import onnxruntime
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from autocompress_agent import __version__, jobs
from autocompress_agent.child import Children
from autocompress_agent.files import Files
from autocompress_agent.limits import Limits
from autocompress_agent.machine.conditions import machine
from autocompress_agent.refusal import Refused

BODY_BYTES = 1 << 20  # of a request that is no file
# Entries of a session's configuration that name no file and load no library.
OPTIONS = frozenset(
    {
        "mlas.enable_gemm_fastmath_arm64_bfloat16",
        "optimization.enable_gelu_approximation",
        "session.disable_double_qdq_remover",
        "session.disable_prepacking",
        "session.disable_quant_qdq",
        "session.dynamic_block_base",
        "session.enable_quant_qdq_cleanup",
        "session.force_spinning_stop",
        "session.inter_op.allow_spinning",
        "session.intra_op.allow_spinning",
        "session.qdqisint8allowed",
        "session.set_denormal_as_zero",
        "session.x64quantprecision",
    }
)
MOST = {"quiet": 1 << 63, "fewest": 1000}  # blocks

Endpoint = Callable[[Request], Awaitable[Response]]


class Agent:
    """names: by which it may be called, as a Host header has them, without the port."""

    def __init__(self, files: Files, children: Children, limits: Limits, token: str, names: frozenset[str]) -> None:
        self._files = files
        self._children = children
        self._limits = limits
        self._token = token
        self._names = names
        self._turn: asyncio.Lock | None = None  # belongs to the loop that first asks
        self.app = Starlette(
            routes=[
                Route("/v1/about", self._checked(self._about), methods=["GET"]),
                Route("/v1/files/{digest}", self._checked(self._keep), methods=["PUT"]),
                Route("/v1/files/{digest}", self._checked(self._give), methods=["GET"]),
                Route("/v1/compare", self._checked(self._compare), methods=["POST"]),
                *(
                    Route(f"/v1/{name}", self._checked(partial(self._of_one_file, job)), methods=["POST"])
                    for name, job in (("outputs", jobs.outputs), ("operators", jobs.operators), ("memory", jobs.memory))
                ),
            ],
        )

    def _checked(self, endpoint: Endpoint) -> Endpoint:
        """Who may ask, and what is refused."""

        async def answer(request: Request) -> Response:
            try:
                self._check(request)
                return await endpoint(request)
            except Refused as refused:
                said: dict[str, Any] = {"error": refused.reason}
                if refused.missing:
                    said["missing"] = refused.missing
                return JSONResponse(said, refused.status)

        return answer

    def _check(self, request: Request) -> None:
        host = request.headers.get("host", "").lower()
        name = host[1:].partition("]")[0] if host.startswith("[") else host.rpartition(":")[0] or host
        if name not in self._names:
            raise Refused(403, f"this agent is not called {name!r} (--name)")
        if "origin" in request.headers:
            raise Refused(403, "requests of web pages are not answered")
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self._token.encode()):
            raise Refused(401, "the token is missing or another one (--token-file)")

    async def _about(self, request: Request) -> Response:
        return JSONResponse(
            {
                "agent": __version__,
                "kind": kind(),
                "machine": asdict(machine()),
                "providers": onnxruntime.get_available_providers(),
                "options": sorted(OPTIONS),
                "weighs": True,  # inputs of several shapes
                "limits": asdict(self._limits),
            }
        )

    async def _keep(self, request: Request) -> Response:
        await self._files.keep(request.path_params["digest"], request.stream())
        return JSONResponse({"kept": request.path_params["digest"]})

    async def _give(self, request: Request) -> Response:
        (path,) = self._files.paths([request.path_params["digest"]])
        return FileResponse(path, media_type="application/octet-stream")

    async def _compare(self, request: Request) -> Response:
        asked = await _body(request, ("candidate", "reference", "inputs"))
        limits = _limits(asked)
        how, names = _how(asked), ("candidate", "reference", "inputs")
        found = await self._job(request, jobs.compare, [asked[name] for name in names], how, limits)
        return _answer(asked, {**found, "kind": kind()}, *names)

    async def _of_one_file(self, job: Callable[..., Any], request: Request) -> Response:
        asked = await _body(request, ("file", "inputs"))
        found = await self._job(request, job, [asked["file"], asked["inputs"]], _how(asked))
        if isinstance(found, bytes):
            found = {"outputs": await asyncio.to_thread(self._files.add, found)}
        return _answer(asked, found, "file", "inputs")

    async def _job(self, request: Request, job: Callable[..., Any], digests: Sequence[str], *arguments: Any) -> Any:
        """One at a time: what else runs on the device would be in the way."""
        if self._turn is None:
            self._turn = asyncio.Lock()
        async with self._turn:
            if await request.is_disconnected():
                raise Refused(499, "who asked has gone")
            with self._files.using(digests) as paths:
                return await asyncio.to_thread(self._children.run, job, *paths, *arguments)


def kind() -> dict[str, Any]:
    """What devices of one kind agree in."""
    found = machine()
    return {
        "processor": found.processor,
        "cores": found.cores,
        "instructions": list(found.instructions),
        "onnxruntime": onnxruntime.__version__,
    }


async def _body(request: Request, names: tuple[str, ...]) -> dict[str, Any]:
    """A request's JSON, with the digests that it has to name."""
    raw = b""
    async for part in request.stream():
        raw += part
        if len(raw) > BODY_BYTES:
            raise Refused(413, "the request is too long")
    try:
        asked = json.loads(raw)
    except ValueError as error:
        raise Refused(400, "the request is no JSON") from error
    if not isinstance(asked, dict) or not all(isinstance(asked.get(name), str) for name in names):
        raise Refused(400, f"a request names {', '.join(names)}, each by its digest")
    return asked


def _how(asked: Mapping[str, Any]) -> dict[str, Any]:
    """How files are run: ``threads``, ``provider``, ``options``, ``cold``, and ``weights`` of the shapes that inputs
    come in, one after another.
    """
    threads, provider, options = (asked.get(name) for name in ("threads", "provider", "options"))
    cores = machine().cores
    if type(threads) is not int or not 1 <= threads <= cores:
        raise Refused(422, f"threads is a whole number up to the device's {cores} cores")
    if provider not in onnxruntime.get_available_providers():
        known = ", ".join(onnxruntime.get_available_providers())
        raise Refused(422, f"the device's onnxruntime has no {provider}: it has {known}")
    if not isinstance(options, dict) or not all(
        isinstance(value, str | bool | int | float) for value in options.values()
    ):
        raise Refused(400, "options are names with a text or a number each")
    if unknown := sorted(set(options) - OPTIONS):  # some name files to read or write
        raise Refused(422, f"this agent takes no option {unknown[0][:80]}: it takes {', '.join(sorted(OPTIONS))}")
    weights = asked.get("weights", [1])
    if (
        not isinstance(weights, list)
        or not weights
        or not all(type(w) in (int, float) and 0 < w < float("inf") for w in weights)
    ):
        raise Refused(400, "weights are numbers above 0")
    how = {"threads": threads, "provider": provider, "options": options, "weights": weights}
    return {**how, "cold": asked.get("cold") is True}


def _limits(asked: Mapping[str, Any]) -> dict[str, Any]:
    """When a session ends."""
    found: dict[str, Any] = {name: asked.get(name) for name in ("quiet", "seconds", "fewest", "known_ms")}
    whole = all(type(found[name]) is int and 1 <= found[name] <= MOST[name] for name in MOST)
    if (
        not whole
        or not _is_number(found["seconds"])
        or not (found["known_ms"] is None or _is_number(found["known_ms"]))
    ):
        raise Refused(400, "a session is asked for with quiet, seconds, fewest and known_ms")
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9


def _answer(asked: Mapping[str, Any], found: Mapping[str, Any], *names: str) -> Response:
    """With what it answers."""
    return JSONResponse({**found, "nonce": asked.get("nonce"), **{name: asked[name] for name in names}})
