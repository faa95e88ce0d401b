"""The command as a user types it: exit codes, one-line errors, kills and resumes.

What is refused before a search begins is called in this process, but for a command that runs as one of its own.
Searches are processes of their own, on the profile ``fake``: whether a model meets a budget is arithmetic. They train
each family for seconds alone, each has one core for a worker, and is killed when a file of it appears. One is
interrupted, and the others go on with copies of it.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from autocompress.cli import main
from autocompress.testing.observer_conformance import events_of_a_search

TESTS = Path(__file__).parent
PATIENCE_S = 600.0  # for what ends by itself; the machine may be slow, and busy
COMMAND = [sys.executable, "-m", "autocompress"]
QUICK = """
from autocompress import api
from autocompress.cli import main
from autocompress.explore.policy import SearchPolicy

if __name__ == "__main__":
    api.search.__kwdefaults__["policy"] = SearchPolicy(compare_exporters=False, most_seen=10_000)
    main()
"""
TASK = """
import os
import torch
from torch import nn
from autocompress import Task

torch.set_num_threads(1)  # the same weights in every process

def data(n, seed):
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 3
    return torch.randn(n, 1, 8, 8, generator=g) + y[:, None, None, None], y

def task():
    print("opened", os.getpid(), flush=True)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, stride=2, padding=1), nn.ReLU(),
                        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 3))
    x, y = data(48, 0)
    opt = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(30):
        opt.zero_grad(); nn.functional.cross_entropy(net(x), y).backward(); opt.step()
    return Task(name="small", model=net, train=(x, y), val=data(40, 1), test=data(40, 2))

def number():
    return 3
"""
NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(1, 2, 3)
"""
SPACE = """
name = "small"
strategies = ["prune_channels", "distill_logits", "quantize_static"]

[parameters]
"prune_channels.ratio" = [0.3, 0.5]
"prune_channels.importance" = ["l1"]
"prune_channels.allocation" = ["uniform"]
"prune_channels.schedule" = ["at_once"]
"train.batch_size" = [64]
"""
CLOCK = """
from conftest import FakeRuntime
from autocompress.plugin.hooks import hookimpl

autocompress_api = 2

@hookimpl
def autocompress_runtimes():
    return [FakeRuntime()]
"""


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return with_task(tmp_path)


def with_task(folder: Path) -> Path:
    """The folder, with a task and a search space."""
    (folder / "my_task.py").write_text(TASK)
    (folder / "small.toml").write_text(SPACE)
    return folder


@pytest.fixture
def command(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """``command("search", "--trials", "3")``, called in this process and in ``folder``."""
    monkeypatch.chdir(folder)

    def called(*args: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["autocompress", *args])
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return Done(ended.value.code, *capsys.readouterr())

    return called


def process(*args: str, cwd: Path) -> Done:
    """The same as a process of its own."""
    done = subprocess.run([*COMMAND, *args], cwd=cwd, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


def refused(done: Done, said: str, folder: Path) -> None:
    assert done.code == 2
    assert said in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert "Traceback" not in done.err
    assert not (folder / "runs").exists() or not list((folder / "runs").iterdir()), "nothing was begun"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["search", "--budget-ms", "0"], "--budget-ms must be a number above 0"),
        (["search", "--budget-ms", "nan"], "--budget-ms must be a finite number"),
        (["search", "--budget-ms", "fast"], "--budget-ms must be a number, not 'fast'"),
        (["retarget", "run", "--profile", "cpu", "--minutes", "long"], "--minutes must be a number, not 'long'"),
        (["search", "--budget-ms", "1", "--speedup", "2"], "exclude each other"),
        (["search", "my_task.py", "--profile", "cpuu"], "did you mean 'cpu'"),
        (["search", "my_task.py", "--space", "defalt"], "did you mean 'default'"),
        (["search", "my_task.py", "--observe", "nobody"], "unknown observer 'nobody'"),
        (["search", "--no-such-option"], "No such option"),
        (["search", "--dry-run", "--json-lines"], "--dry-run makes none: give --json"),
        (["search", "my_task.py", "--dry-run", "--observe", "nobody"], "unknown observer 'nobody'"),
        (["retarget", "runs/x", "--profile", "cpu", "--json", "--json-lines"], "exclude each other"),
        (["report", "nowhere"], "no run in nowhere"),
        (["measure", "my_task.py"], "is not an ONNX file"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    args: list[str], said: str, command: Callable[..., Done], folder: Path
) -> None:
    refused(command(*args), said, folder)


def test_more_workers_than_cores_are_refused(command: Callable[..., Done], folder: Path) -> None:
    done = command("search", "my_task.py:task", "--workers", "1000")
    refused(done, "--workers must be from 1 to the number of cores, which is ", folder)
    assert re.search(r"which is \d+ here, not 1000", done.err)


def test_a_process_ends_with_the_same_line_and_code(folder: Path) -> None:
    refused(process("search", "--budget-ms", "-1", cwd=folder), "--budget-ms must be a number above 0", folder)


def test_settings_of_the_folder_are_used_and_what_its_task_file_gives_is_looked_at(
    command: Callable[..., Done], folder: Path
) -> None:
    (folder / "pyproject.toml").write_text('[tool.autocompress]\ntask = "my_task.py:number"\nspeedup = 2\n')
    done = command("search", "--quiet", "--json-lines")
    refused(done, "my_task.py:number() returned int, expected autocompress.Task", folder)
    started, phase, finished = map(json.loads, done.out.splitlines())
    assert (started["event"], started["task"], started["budget"]["speedup"]) == ("started", "my_task.py:number", 2)
    assert (phase["event"], phase["phase"]) == ("phase", "open")
    assert (finished["event"], finished["status"], finished["front_json"]) == ("finished", "failed", None)
    assert "returned int, expected autocompress.Task" in finished["reason"], "a program reads it too"


@pytest.mark.parametrize("several", [False, True])
def test_with_json_lines_nothing_else_is_at_stdout(
    several: bool, command: Callable[..., Done], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def search(*asked: Any, observe: Any, console: Any, **options: Any) -> Any:
        console.print("for people")
        print("of a plug-in")
        for event in events_of_a_search(tmp_path / options.get("profile", "cpu")):
            observe[-1].observe(event)
        return SimpleNamespace(recommended=None)

    monkeypatch.setattr("autocompress.api.search", search)
    monkeypatch.setattr("autocompress.several_targets.search", search)
    monkeypatch.setattr("autocompress.several_targets.retarget", search)
    profiles = ["cpu", "cpu-batch32"] if several else ["cpu"]
    options = [word for name in profiles for word in ("--profile", name)]
    done = command("search", "my_task.py:task", "--json-lines", *options)
    assert done.code == 3, "no file was recommended"
    events = [json.loads(line)["event"] for line in done.out.splitlines()]
    assert (events[0], events[-1]) == ("started", "finished")
    assert events.count("started") == len(profiles)
    assert done.err.count("for people") == done.err.count("of a plug-in") == len(profiles)


def test_retarget_prints_its_front_as_json_and_nothing_else(
    command: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    def retarget(*asked: Any, console: Any, **options: Any) -> Any:
        console.print("for people")
        return SimpleNamespace(recommended="a", document={"recommended": "a"})

    monkeypatch.setattr("autocompress.api.retarget", retarget)
    done = command("retarget", "runs/x", "--profile", "cpu", "--json")
    assert (done.code, json.loads(done.out)) == (0, {"recommended": "a"})
    assert "for people" in done.err


def test_help_imports_neither_torch_nor_optuna() -> None:
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


def test_plugins_lists_every_strategy_with_its_distribution(command: Callable[..., Done]) -> None:
    listed = json.loads(command("plugins", "--json").out)
    expected = {"prune_channels", "student", "finetune", "distill_logits", "quantize_static", "quantize_dynamic"}
    assert expected <= listed["strategies"].keys()
    assert all(s["from"].startswith("autocompress ") for n, s in listed["strategies"].items() if n in expected)


def test_init_says_what_it_took_and_writes_a_task_that_is_never_replaced(
    command: Callable[..., Done], tmp_path: Path
) -> None:
    (tmp_path / "net.py").write_text(NET)
    weights = {"conv.weight": np.zeros((2, 1, 3), np.float32), "conv.bias": np.zeros(2, np.float32)}
    save_file(weights, tmp_path / "net.safetensors")
    (tmp_path / "my_task.py").unlink()
    done = command("init", ".", "--yes")
    assert done.code == 0
    assert "Written: my_task.py" in done.out
    assert "Net() of net.py" in done.out
    assert "Which data does it learn and is it judged on? none of these" in done.err
    written = (tmp_path / "my_task.py").read_text()
    refused(command("init", ".", "--yes", "--out", "my_task.py"), "is there already and stays as it is", tmp_path)
    assert (tmp_path / "my_task.py").read_text() == written
    again = json.loads(command("init", ".", "--yes", "--json").out)
    assert again["file"] == "my_task_2.py"
    assert any("Net() of net.py" in part for part in again["parts"].values())
    said = "raised NotImplementedError (line "
    refused(command("search", "my_task.py:task", "--dry-run"), said, tmp_path)


# -- searches as processes ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where a distribution with the runtime ``fake`` is installed, a profile that names it, and the command,
    whose searches train for seconds.
    """
    folder = tmp_path_factory.mktemp("site")
    (folder / "__main__.py").write_text(QUICK)
    (folder / "fake_clock.py").write_text(CLOCK)
    info = folder / "fake_clock-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-clock\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[autocompress]\nfake_clock = fake_clock\n")
    (folder / "fake.toml").write_text('name = "fake"\nruntime = "fake"\n')
    return folder


def begin(folder: Path, site: Path, *options: str, workers: int = 1) -> "subprocess.Popen[str]":
    """A search of the task begins. One of more workers has a core for each."""
    args = ["search", "my_task.py:task", "--space", "small.toml", "--profile", str(site / "fake.toml"), *options]
    path = os.pathsep.join([str(site), str(TESTS), os.environ.get("PYTHONPATH", "")])
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(cores)[-workers:])
    try:
        return subprocess.Popen(
            [sys.executable, str(site / "__main__.py"), *args, "--workers", str(workers)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    finally:
        os.sched_setaffinity(0, cores)


@dataclass(frozen=True)
class Interrupted:
    """A search that ended at Ctrl-C, once it had trained one family."""

    folder: Path
    options: tuple[str, ...]
    command: str
    code: int
    said: str

    def copied_to(self, out: Path) -> None:
        """Its run folder as ``out``, without what its workers wrote down."""
        shutil.copytree(self.folder / "run", out, ignore=shutil.ignore_patterns("worker.log"))


@pytest.fixture(scope="module")
def interrupted(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Interrupted:
    folder, options = with_task(tmp_path_factory.mktemp("interrupted")), ("--speedup", "3", "--minutes", "60")
    child = begin(folder, site, *options, "--out", "run")
    wait_for(1, child, folder / "run")
    child.send_signal(signal.SIGINT)
    code, said = ended(child)
    return Interrupted(folder, options, " ".join(map(str, child.args[2:])), code, said)  # type: ignore


def trained(out: Path) -> list[Path]:
    """The stored weights, in the order of their trainings."""
    return sorted(out.glob("store/weights-*.safetensors"), key=lambda path: path.stat().st_mtime_ns)


def wait_for(trainings: int, child: "subprocess.Popen[str]", out: Path) -> None:
    """Until the weights of so many trainings are stored."""
    wait_until(lambda: len(trained(out)) >= trainings, child)


def wait_until(reached: Callable[[], bool], child: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not reached():
        assert child.poll() is None, child.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ended(child: "subprocess.Popen[str]") -> tuple[int, str]:
    said, _ = child.communicate(timeout=PATIENCE_S)
    return child.returncode, said


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(interrupted: Interrupted) -> None:
    assert interrupted.code == 130
    assert f"to go on: autocompress {interrupted.command}" in interrupted.said
    assert json.loads((interrupted.folder / "run" / "front.json").read_text())["candidates"]


def test_a_killed_search_resumes_and_its_recipe_gives_the_same_model(
    interrupted: Interrupted,
    command: Callable[..., Done],
    folder: Path,
    site: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = folder / "a run #1?"
    interrupted.copied_to(out)
    options = [*interrupted.options, "--trials", "2", "--out", out.name]
    child = begin(folder, site, *options)
    wait_for(2, child, out)
    first = trained(out)[0]  # of a family that is recorded
    written = first.stat().st_ino
    child.kill()
    ended(child)

    code, said = ended(begin(folder, site, *options))
    assert code == 0, said
    front = json.loads((out / "front.json").read_text())
    chosen = next(c for c in front["candidates"] if c["id"] == front["recommended"])
    assert chosen["latency_ms"]["ratio"] <= 1 / 3
    assert first.stat().st_ino == written, "what was trained is not trained again"
    assert not list(out.glob("**/.*.onnx")), "no temporary file is left"

    for place in (TESTS, site):
        monkeypatch.syspath_prepend(str(place))
    recipe = str(out / "recommended" / "recipe.toml")
    made = command("apply", recipe, "my_task.py:task", "--out", "made")
    assert made.code == 0, made.err
    differs = re.search(r"differ from .* by at most ([\d.e+-]+)", made.out)
    assert differs is not None
    assert float(differs[1]) <= 1e-4
    (folder / "my_task.py").write_text(TASK.replace("manual_seed(0)", "manual_seed(9)"))
    other = command("apply", recipe, "my_task.py:task", "--out", "made")
    assert other.code == 2
    assert "was made for another task" in other.err


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


def opened_by(run: Path) -> list[int]:
    """The processes that opened the task, the first one first."""
    log = (run / "worker.log").read_text().splitlines() if (run / "worker.log").exists() else []
    return [int(line.removeprefix("opened ")) for line in log if line.startswith("opened ")]


def test_two_workers_search_side_by_side_and_one_that_is_killed_is_replaced(
    interrupted: Interrupted, folder: Path, site: Path
) -> None:
    interrupted.copied_to(folder / "run")
    child = begin(folder, site, *interrupted.options, "--trials", "6", "--out", "run", workers=2)
    wait_until(lambda: len(opened_by(folder / "run")) == 2, child)  # the second one opens while the first computes
    children = children_of(child.pid)
    assert len(children) == 3, "two that compute, and one that times files"
    os.kill(opened_by(folder / "run")[0], signal.SIGKILL)
    code, said = ended(child)
    assert code == 0, said
    front = json.loads((folder / "run" / "front.json").read_text())
    assert front["recommended"]
    assert len(opened_by(folder / "run")) >= 3, (
        "on a busy machine a call may end at its limit, and its worker is replaced too"
    )
    assert not any("SIGKILL" in failed["reason"] for failed in front["failed"]), "its candidate was tried again"
    assert all(not children_of(pid) for pid in (child.pid, *children))
