"""The command as a user types it: exit codes, one-line errors, kills and resumes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PATIENCE_S = 400.0  # for what ends by itself; the machine may be busy
COMMAND = [sys.executable, "-m", "autocompress"]
TASK = """
import torch
from torch import nn
from autocompress import Task

def data(n, seed):
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 3
    return torch.randn(n, 1, 8, 8, generator=g) + y[:, None, None, None], y

def task():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 96, 3, padding=1), nn.ReLU(), nn.Conv2d(96, 96, 3, padding=1), nn.ReLU(),
                        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, 3))
    x, y = data(300, 0)
    opt = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(40):
        opt.zero_grad(); nn.functional.cross_entropy(net(x), y).backward(); opt.step()
    return Task(name="small", model=net, train=(x[:120], y[:120]), val=data(90, 1), test=data(90, 2))

def number():
    return 3
"""


# A second distribution, whose runtime counts latencies: what a search finds is not up to the speed of this machine.
CLOCK = """
from autocompress.candidate.count import count
from autocompress.plugin.hooks import hookimpl
from autocompress_plugins.runtimes.onnxruntime import OnnxRuntime

class Counted(OnnxRuntime):
    name = "counted"

    def open(self, path, profile):
        session = super().open(path, profile)
        session.ms = 1e-5 * count(path)[1] * (0.5 if b"DequantizeLinear" in path.read_bytes() else 1.0)
        return session

    def clock(self, session, feed):
        return session.ms

@hookimpl
def autocompress_runtimes():
    return [Counted()]
"""
SPACE = 'name = "small"\nstrategies = ["prune_channels", "distill_logits", "quantize_static"]\n'
SEARCH = ["search", "my_task.py:task", "--profile", "counted.toml", "--speedup", "3", "--space", "small.toml"]


def run(*args: str, cwd: Path, seconds: float = PATIENCE_S) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *args], cwd=cwd, capture_output=True, text=True, timeout=seconds, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my_task.py").write_text(TASK)
    (tmp_path / "small.toml").write_text(SPACE)
    (tmp_path / "counted.toml").write_text('name = "counted"\nruntime = "counted"\n')
    (tmp_path / "counted_clock.py").write_text(CLOCK)
    info = tmp_path / "counted_clock-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: counted-clock\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[autocompress]\ncounted_clock = counted_clock\n")
    return tmp_path


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["search", "--budget-ms", "0"], "--budget-ms must be a number above 0"),
        (["search", "--budget-ms", "-1"], "--budget-ms must be a number above 0"),
        (["search", "--budget-ms", "nan"], "--budget-ms must be a finite number"),
        (["search", "--budget-ms", "fast"], "--budget-ms must be a number, not 'fast'"),
        (["search", "--budget-ms", "1", "--speedup", "2"], "exclude each other"),
        (["search", "missing.py:task"], "no task file missing.py"),
        (["search", "my_task.py:tusk"], "has no factory 'tusk': it has data, task, number"),
        (["search", "my_task.py:number"], "returned int, expected autocompress.Task"),
        (["search", "my_task.py", "--profile", "cpuu"], "did you mean 'cpu'"),
        (["search", "my_task.py", "--space", "defalt"], "did you mean 'default'"),
        (["search", "--no-such-option"], "No such option"),
        (["report", "nowhere"], "no run in nowhere"),
        (["measure", "my_task.py"], "is not an ONNX file"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(args: list[str], said: str, folder: Path) -> None:
    done = run(*args, cwd=folder)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert not list(folder.glob("runs/*/front.json")), "nothing was trained"


def test_help_imports_neither_torch_nor_optuna(folder: Path) -> None:
    code = """
import sys
from autocompress.cli import main
sys.argv = ["autocompress", "--help"]
try:
    main()
except SystemExit:
    print([m for m in ("torch", "optuna", "onnx", "onnxruntime") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_plugins_lists_every_strategy_with_its_distribution(folder: Path) -> None:
    listed = json.loads(run("plugins", "--json", cwd=folder).stdout)
    expected = {"prune_channels", "student", "finetune", "distill_logits", "quantize_static", "quantize_dynamic"}
    assert expected <= listed["strategies"].keys()
    assert all(s["from"].startswith("autocompress ") for n, s in listed["strategies"].items() if n in expected)


def test_every_command_and_option_in_the_readme_exists(folder: Path) -> None:
    text = (ROOT / "README.md").read_text()
    help_of = {}
    for command, rest in re.findall(
        r"autocompress (search|inspect|measure|verify|apply|report|plugins|profiles|spaces)\b([^\n`]*)", text
    ):
        if command not in help_of:
            help_of[command] = run(command, "--help", cwd=folder).stdout
            assert "Usage" in help_of[command]
        for option in re.findall(r"--[a-z-]+", rest.split("#")[0]):
            assert option in help_of[command], f"{command} {option}"
    for option in re.findall(r"^\| `(--[a-z-]+)", text, re.MULTILINE):
        assert option in help_of["search"]


def test_a_killed_search_resumes_and_its_recipe_gives_the_same_model(folder: Path) -> None:
    args = [*SEARCH, "--out", "a run #1?", "--minutes", "4", "--trials", "3"]
    out = folder / "a run #1?"
    child = subprocess.Popen([*COMMAND, *args], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while not list(out.glob("store/weights-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    kept = {path: path.read_bytes() for path in out.glob("store/weights-*.safetensors")}
    assert kept, "the kill came after a training"

    second = run(*args, cwd=folder)
    assert second.returncode == 0, second.stderr
    front = json.loads((out / "front.json").read_text())
    chosen = next(c for c in front["candidates"] if c["id"] == front["recommended"])
    assert chosen["latency_ms"]["ratio"] <= 1 / 3
    assert not list(out.glob("**/.*.onnx")), "no temporary file is left"

    made = run("apply", str(out / "recommended" / "recipe.toml"), "my_task.py:task", "--out", "made", cwd=folder)
    assert made.returncode == 0, made.stderr
    said = re.search(r"differ from .* by at most ([\d.e+-]+)", made.stdout)
    assert said is not None
    assert float(said[1]) <= 1e-4
    (folder / "my_task.py").write_text(TASK.replace("manual_seed(0)", "manual_seed(9)"))
    other = run("apply", str(out / "recommended" / "recipe.toml"), "my_task.py:task", "--out", "made", cwd=folder)
    assert other.returncode == 2
    assert "was made for another task" in other.stderr


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(folder: Path) -> None:
    args = [*SEARCH, "--out", "run"]
    child = subprocess.Popen([*COMMAND, *args], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 200
    while not list(folder.glob("run/store/weights-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=PATIENCE_S)
    assert child.returncode == 130
    assert f"to go on: autocompress {' '.join(args)}" in errors
    assert json.loads((folder / "run" / "front.json").read_text())["candidates"]


def test_settings_of_the_folder_are_used(folder: Path) -> None:
    (folder / "pyproject.toml").write_text('[tool.autocompress]\ntask = "my_task.py:number"\nspeedup = 2\n')
    done = run("search", cwd=folder)
    assert done.returncode == 2
    assert "my_task.py:number() returned int" in done.stderr


def children_of(pid: int) -> list[int]:
    """Processes that ``pid`` started and that still run."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = status.read_text().rpartition(")")
        except OSError:  # it ended meanwhile
            continue
        state, parent = rest.split()[:2]
        if int(parent) == pid and state != "Z":
            found.append(int(name.partition(" ")[0]))
    return found


def test_two_workers_search_side_by_side_and_one_that_is_killed_is_replaced(folder: Path) -> None:
    (folder / "my_task.py").write_text(TASK.replace("def task():", "def task():\n    print('opened', flush=True)"))
    command = [*COMMAND, *SEARCH, "--out", "run", "--minutes", "4", "--trials", "5", "--workers", "2"]
    child = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 200
    while not list(folder.glob("run/store/weights-*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    workers = children_of(child.pid)
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    said, _ = child.communicate(timeout=PATIENCE_S)
    assert child.returncode == 0, said
    front = json.loads((folder / "run" / "front.json").read_text())
    assert front["recommended"]
    opened = (folder / "run" / "worker.log").read_text().splitlines().count("opened")
    assert opened >= 3, "on a busy machine a call may end at its limit, and its worker is replaced too"
    assert not any("SIGKILL" in failed["reason"] for failed in front["failed"]), "its candidate was tried again"
    assert all(not children_of(pid) for pid in (child.pid, *workers))


def test_more_workers_than_cores_are_refused(folder: Path) -> None:
    done = run("search", "my_task.py:task", "--workers", "1000", cwd=folder)
    assert done.returncode == 2
    assert re.search(r"--workers must be from 1 to the number of cores, which is \d+ here, not 1000", done.stderr)
    assert not list(folder.glob("runs/*"))
