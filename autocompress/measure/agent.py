"""An agent on a device elsewhere (``agent/``), asked over HTTP: what it is, and jobs on files that it is sent once.

A device that does not answer raises DeviceLost; one that answers anything but what was asked for fails the candidate.
"""

import hashlib
import io
import json
import secrets
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import urllib3

from autocompress.errors import AutocompressError, CandidateFailed, UsageError, one_line

CONNECT_S = 10.0  # also to take in the next piece of a file
ANSWER_S = 30.0  # for what is no job
SEND_S = 300.0  # a file
PIECE = 1 << 16
ANSWER_BYTES = 64 << 20  # of an answer
CANNOT = 400, 413, 422  # of this device and this file, whenever it is asked
ASKED_WRONGLY = 404, 500, 504  # it may be otherwise another time, and waiting does not help
FORBIDDEN = 401, 403
MISSING = 404


class DeviceLost(AutocompressError):
    """A device elsewhere does not answer. What was asked of it can be asked again."""


class DeviceRefused(CandidateFailed):
    """A device elsewhere cannot run a file, or gives what is none of its outputs."""


@dataclass(frozen=True)
class Response:
    """status: of HTTP."""

    status: int
    data: bytes


@dataclass(frozen=True)
class Agent:
    """address: ``http://HOST:PORT`` or https. token_file: holds what it wants to see. ca_file: that its certificate is
    checked by; the system's authorities when it is empty.
    """

    address: str
    token_file: str
    ca_file: str = ""

    def about(self) -> dict[str, Any]:
        """What the device is: ``kind``, ``machine``, ``providers``, ``limits``. Raises UsageError for a token that it
        does not take, and DeviceLost.
        """
        try:
            found = self._json(self._request("GET", "/v1/about", limit_s=ANSWER_S))
        except CandidateFailed:
            found = {}
        if not isinstance(found.get("kind"), dict) or not isinstance(found.get("providers"), list):
            raise UsageError(f"what answers at {self.address} is no agent of autocompress, or one of another version")
        return found

    def ask(self, job: str, files: Mapping[str, Path | bytes], asked: Mapping[str, Any], limit_s: float) -> Any:
        """What a job gives; files that the device does not have are sent first. Raises CandidateFailed when the device
        cannot do it, or answers something else.
        """
        contents = {name: given if isinstance(given, bytes) else given.read_bytes() for name, given in files.items()}
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
        body = {**asked, **digests, "nonce": secrets.token_hex(16)}
        answer = self._request("POST", f"/v1/{job}", json.dumps(body).encode(), limit_s)
        if answer.status == MISSING:
            by_digest = {digest: contents[name] for name, digest in digests.items()}
            for digest in self._missing(answer, by_digest):
                self._checked(self._request("PUT", f"/v1/files/{digest}", by_digest[digest], SEND_S))
            answer = self._request("POST", f"/v1/{job}", json.dumps(body).encode(), limit_s)
        found = self._json(answer)
        if any(found.get(name) != value for name, value in {**digests, "nonce": body["nonce"]}.items()):
            raise CandidateFailed(f"the agent at {self.address} answered another question than it was asked")
        return found

    def file(self, digest: str) -> bytes:
        """One that a job made. Raises CandidateFailed when it is another one."""
        answer = self._request("GET", f"/v1/files/{digest}", limit_s=SEND_S)
        self._checked(answer)
        if hashlib.sha256(answer.data).hexdigest() != digest:
            raise CandidateFailed(f"the agent at {self.address} gave another file than it was asked for")
        return answer.data

    @property
    def how_to_look(self) -> str:
        """The command that shows what is wrong with the connection."""
        trusted = ["--cacert", str(Path(self.ca_file).expanduser())] if self.ca_file else []
        token_file = shlex.quote(str(Path(self.token_file).expanduser()))
        token = f'-H "Authorization: Bearer $(cat {token_file})"'
        return f"curl -sS {token} {shlex.join([*trusted, self.address + '/v1/about'])}"

    def _missing(self, answer: Response, known: Mapping[str, bytes]) -> list[str]:
        """The digests that have to be sent first."""
        try:
            missing = [str(digest) for digest in json.loads(answer.data)["missing"]]
        except (ValueError, KeyError, TypeError, RecursionError):
            missing = []
        if not missing or not all(digest in known for digest in missing):
            self._checked(answer)
        return missing

    def _request(self, method: str, path: str, body: bytes = b"", limit_s: float = ANSWER_S) -> Response:
        headers = {"Authorization": f"Bearer {self._token()}"}
        if method != "GET":
            headers["Content-Length"] = str(len(body))
        try:
            answer = _connections(self.ca_file).request(
                method,
                self.address + path,
                body=io.BytesIO(body) if method != "GET" else None,
                headers=headers,
                timeout=urllib3.Timeout(connect=CONNECT_S, read=limit_s),
                retries=False,
                redirect=False,
                preload_content=False,
            )
            with answer:
                return Response(answer.status, self._read(answer, time.monotonic() + limit_s))
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._lost(error) from error

    def _read(self, answer: urllib3.BaseHTTPResponse, until_s: float) -> bytes:
        data = bytearray()
        while piece := answer.read(PIECE, decode_content=False):
            data += piece
            if len(data) > ANSWER_BYTES:
                raise CandidateFailed(f"the agent at {self.address} answered more than {ANSWER_BYTES >> 20} MiB")
            if time.monotonic() > until_s:
                raise self._lost("its answer does not end")
        return bytes(data)

    def _json(self, answer: Response) -> dict[str, Any]:
        self._checked(answer)
        try:
            found = json.loads(answer.data)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise CandidateFailed(f"the agent at {self.address} answered what is no JSON object")
        return found

    def _checked(self, answer: Response) -> None:
        """Raises what an answer that is none of the wanted ones means."""
        if 200 <= answer.status < 300:
            return
        try:
            said = one_line(json.loads(answer.data)["error"], 300)
        except (ValueError, KeyError, TypeError, RecursionError):
            said = f"status {answer.status}"
        if answer.status in FORBIDDEN:
            raise UsageError(f"the agent at {self.address} does not answer this profile: {said} ({self.token_file})")
        if answer.status in CANNOT:
            raise DeviceRefused(f"the device at {self.address}: {said}")
        if answer.status in ASKED_WRONGLY:
            raise CandidateFailed(f"the device at {self.address}: {said}")
        raise self._lost(said)

    def _lost(self, why: object) -> DeviceLost:
        return DeviceLost(f"the device at {self.address} does not answer ({one_line(why, 160)}): {self.how_to_look}")

    def _token(self) -> str:
        try:
            token = Path(self.token_file).expanduser().read_text("utf-8").strip()
        except UnicodeDecodeError:
            token = ""
        except OSError as error:
            raise UsageError(
                f"cannot read the token file {self.token_file}: {error.strerror}; copy the one that the agent was "
                "started with (profile: token_file)"
            ) from error
        if not token.isascii() or token.split() != [token]:
            raise UsageError(f"{self.token_file} holds no token of an agent: one word")
        return token


@cache
def _connections(ca_file: str) -> urllib3.PoolManager:
    return urllib3.PoolManager(ca_certs=str(Path(ca_file).expanduser()) if ca_file else None, maxsize=1)
