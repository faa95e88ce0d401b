"""What an agent adds to a comparison, and what a search loses while a device elsewhere measures.

    python benchmarks/devices.py overhead [--pairs 20]
    python benchmarks/devices.py training TASK [--minutes 2] [--seeds 1]

overhead: sessions of the same seconds by an agent at loopback and in a fork of this process, in turn; how much longer
each takes than the session itself, with the file sent before and sent anew.

training: the same search beside a device that replays block times and takes as long for a session as one that measures,
and beside one that answers at once; the trainings, and the share of the time in which the workers computed.

Prints each, and writes benchmarks/results/devices.json.
"""

import argparse
import hashlib
import io
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import results

NAME = "devices"
AGENT = Path(__file__).parents[1] / "agent"
SECONDS = 0.5  # of a session
OPENING_S = 0.3  # that a device takes for a session beside its seconds


def overhead(pairs: int) -> dict[str, Any]:
    """Seconds beside a session's own, of each pair."""
    import numpy as np

    from autocompress.machine.blocks import BlockLimits
    from autocompress.measure import Sessions
    from autocompress.plugin.loader import load_plugins
    from autocompress.profile import HardwareProfile

    limits = BlockLimits(quiet=sys.maxsize, seconds=SECONDS)
    feeds = [{"input": np.ones((1, 256), np.float32)}]
    found: dict[str, list[float]] = {"fork": [], "agent": [], "agent, file sent anew": []}
    with tempfile.TemporaryDirectory() as folder:
        root, port = Path(folder), free_port()
        reference, candidate = (layers(root / f"{count}.onnx", count) for count in (6, 3))
        agent = subprocess.Popen(
            [sys.executable, "-m", "autocompress_agent", "--port", str(port), "--token-file", str(root / "token")],
            env={**os.environ, "PYTHONPATH": str(AGENT)},
        )
        try:
            wait_for(port)
            board = HardwareProfile(
                name="board", device=f"http://127.0.0.1:{port}", token_file=str(root / "token"), machine="as it is"
            )
            cpu = HardwareProfile(name="cpu", machine="as it is")
            there = Sessions(load_plugins().runtime_of(board), board, reference, feeds)
            here = Sessions(load_plugins().runtime_of(cpu), cpu, reference, feeds, forks=True)
            for sessions in (here, there):
                sessions.record(candidate, limits)
            for number in range(pairs):
                new = root / f"new-{number}.onnx"
                new.write_bytes(candidate.read_bytes() + note(number))
                for name, sessions, file in (
                    ("fork", here, candidate),
                    ("agent", there, candidate),
                    ("agent, file sent anew", there, new),
                ):
                    began = time.monotonic()
                    sessions.record(file, limits)
                    found[name].append(time.monotonic() - began - SECONDS)
        finally:
            agent.terminate()
            agent.wait()
    return found


def layers(path: Path, count: int) -> Path:
    """A file of so many matrix products of 256 x 256."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 256]) for name in ("input", "output")]
    names = ["input", *(f"h{n}" for n in range(1, count)), "output"]
    random = np.random.default_rng(0)
    weights = [numpy_helper.from_array(random.normal(0, 0.05, (256, 256)).astype("f4"), f"w{n}") for n in range(count)]
    nodes = [helper.make_node("MatMul", [names[n], f"w{n}"], [names[n + 1]]) for n in range(count)]
    graph = helper.make_graph(nodes, "layers", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), str(path))
    return path


def note(number: int) -> bytes:
    """Appended to an ONNX file, which it leaves what it was: its field ``doc_string``."""
    text = f"{number:06d}".encode()
    return bytes([6 << 3 | 2, len(text)]) + text


class Replaying(BaseHTTPRequestHandler):
    """An agent that has block times for every file, by its size, and computes outputs of one input. takes_s: beside a
    session's seconds; None to answer at once.
    """

    takes_s: float | None = OPENING_S
    contents: dict[str, bytes] = {}  # noqa: RUF012  # by digest
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if "/files/" in self.path:
            self.send(200, self.contents[self.path.rpartition("/")[2]])
            return
        kind = {"processor": "replayed", "cores": 4, "instructions": [], "onnxruntime": "0"}
        self.answer(200, {"kind": kind, "providers": ["CPUExecutionProvider"], "options": []})

    def do_PUT(self) -> None:
        self.contents[self.path.rpartition("/")[2]] = self.body()
        self.answer(200, {})

    def do_POST(self) -> None:
        asked = json.loads(self.body())
        named = {name: asked[name] for name in ("candidate", "reference", "inputs", "file") if name in asked}
        if missing := [digest for digest in named.values() if digest not in self.contents]:
            self.answer(404, {"error": "missing", "missing": missing})
            return
        if self.path.endswith("outputs"):
            self.answer(200, {"outputs": self.outputs_of(asked), "nonce": asked["nonce"], **named})
            return
        if not self.path.endswith("compare"):
            self.answer(422, {"error": "this device tells no more than times and outputs"})
            return
        if self.takes_s is not None:
            time.sleep(self.takes_s + asked["seconds"])
        ratio = len(self.contents[asked["candidate"]]) / len(self.contents[asked["reference"]])
        wobble = int(hashlib.sha256(asked["nonce"].encode()).hexdigest()[:4], 16) / 65535 - 0.5
        blocks = {"reference": [1.0] * 21, "candidate": [[ratio * (1 + 0.01 * wobble)] * 4] * 20}
        kind = {"processor": "replayed"}
        self.answer(200, {"blocks": blocks, "conditions": {}, "kind": kind, "nonce": asked["nonce"], **named})

    def outputs_of(self, asked: dict[str, Any]) -> str:
        """The digest of what a file gives."""
        import numpy as np
        import onnxruntime

        session, found = onnxruntime.InferenceSession(self.contents[asked["file"]]), {}
        with np.load(io.BytesIO(self.contents[asked["inputs"]])) as inputs:
            for key in inputs.files:
                number, _, name = key.partition("/")
                for output, value in zip(session.get_outputs(), session.run(None, {name: inputs[key]}), strict=True):
                    found[f"{number}/{output.name}"] = value
        kept = io.BytesIO()
        np.savez(kept, **found)
        digest = hashlib.sha256(kept.getvalue()).hexdigest()
        self.contents[digest] = kept.getvalue()
        return digest

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers["content-length"]))

    def answer(self, status: int, said: Any) -> None:
        self.send(status, json.dumps(said).encode())

    def send(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


def training(task: str, minutes: float, seed: int, takes_s: float | None) -> dict[str, Any]:
    """One search beside such a device."""
    handler = type("Handler", (Replaying,), {"takes_s": takes_s, "contents": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "token").write_text("t")
        profile = root / "replayed.toml"
        profile.write_text(
            f'name = "replayed"\ndevice = "http://127.0.0.1:{server.server_address[1]}"\n'
            f'token_file = "{root / "token"}"\n'
        )
        named = [] if task == "digits" else [task]
        command = [*named, "--minutes", f"{minutes:g}", "--seed", str(seed), "--profile", str(profile)]
        subprocess.run(
            [sys.executable, "-m", "autocompress", "search", *command, "--out", str(root / "run")],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        document = json.loads((root / "run" / "front.json").read_text())
    server.shutdown()
    spent, wall_s = document["spent_seconds"], document["wall_seconds"]
    computed_s = sum(s for name, s in spent.items() if name not in ("driver", "measure", "measure_beside", "wait"))
    trained = {
        (json.dumps([s for s in c["recipe"] if not s.get("variant")]), c["fidelity"]): c for c in document["candidates"]
    }
    return {
        "computing": computed_s / wall_s,
        "train_seconds": spent.get("train", 0.0),
        "trainings": sum(1 for _, epochs in trained if epochs),
        "files": len(document["candidates"]),
        "measured_seconds": spent.get("measure", 0.0) + spent.get("measure_beside", 0.0),
        "wall_seconds": wall_s,
    }


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for(port: int) -> None:
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("overhead", "training"))
    parser.add_argument("task", nargs="?", default="digits", help="digits, or my_task.py:factory")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    path = results.FOLDER / f"{NAME}.json"
    document = results.read(NAME) if path.exists() else {}
    document.pop("machine", None)
    if options.what == "overhead":
        document["overhead_s"] = overhead(options.pairs)
        for name, seconds in document["overhead_s"].items():
            print(f"{name:24} median {statistics.median(seconds):.3f} s, most {max(seconds):.3f} s beside the session")
    else:
        rows = document.setdefault("training", [])
        for seed in range(options.seeds):
            for device, takes_s in (("measures", OPENING_S), ("answers at once", None)):
                found = training(options.task, options.minutes, seed, takes_s)
                rows.append({"task": options.task, "minutes": options.minutes, "seed": seed, "device": device, **found})
                print(rows[-1], flush=True)
    results.write(NAME, document)


if __name__ == "__main__":
    main()
