"""The example of a plug-in, installed by pip as a user installs it, joins what is there and takes part in a search."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

EXAMPLE = Path(__file__).parent.parent / "examples" / "third_party_plugin"
# Fine-tuning has no parameters, so one recipe alone does without the average, and of any two the other has it.
SPACE = """
name = "averaged"
strategies = ["average_weights", "finetune"]

[parameters]
"train.lr" = [0.002]
"train.batch_size" = [64]
"""
TASK = """
from dataclasses import replace
from autocompress.testing import tasks

def task():
    cnn = tasks.cnn()
    return replace(cnn, train=[t[:64] for t in cnn.train], val=[t[:64] for t in cnn.val])
"""
CLOCK = """
from conftest import FakeRuntime
from autocompress.plugin.hooks import hookimpl

@hookimpl
def autocompress_runtimes():
    return [FakeRuntime()]
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example installed in it."""
    folder = tmp_path_factory.mktemp("third_party")
    shutil.copytree(EXAMPLE, folder / "source")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet", "install"]
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--target", str(folder / "site")]
    subprocess.run([*pip, *offline, str(folder / "source")], check=True, timeout=400)
    return folder / "site"


@pytest.fixture(scope="module")
def clock(site: Path) -> str:
    """The name of a profile whose latencies are counted, by a second plug-in: no trial depends on how busy we are."""
    (site / "fake_clock.py").write_text(CLOCK)
    info = site / "fake_clock-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-clock\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[autocompress]\nfake_clock = fake_clock\n")
    profile = site / "fake.toml"
    profile.write_text('name = "fake"\nruntime = "fake"\n')
    return str(profile)


def run(site: Path, *command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    path = {"PYTHONPATH": os.pathsep.join([str(site), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=cwd, env={**os.environ, **path}, capture_output=True, text=True,
        timeout=400, check=False,
    )  # fmt: skip


def test_it_is_listed_with_its_distribution(site: Path, tmp_path: Path) -> None:
    done = run(site, "autocompress", "plugins", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    listed = json.loads(done.stdout)
    assert listed["strategies"]["average_weights"]["from"] == "autocompress-average-weights 0.1.0"
    assert listed["strategies"]["average_weights"]["stages"] == ["train"]


def test_its_strategy_takes_part_in_a_search(site: Path, clock: str, tmp_path: Path) -> None:
    (tmp_path / "space.toml").write_text(SPACE)
    (tmp_path / "my_task.py").write_text(TASK)
    options = ["--profile", clock, "--space", "space.toml", "--trials", "2", "--minutes", "1", "--out", "run"]
    done = run(site, "autocompress", "search", "my_task.py:task", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    candidates = json.loads((tmp_path / "run" / "front.json").read_text())["candidates"]
    recipes = [{step["strategy"]: step["params"] for step in c["recipe"]} for c in candidates]
    averaged = [recipe for recipe in recipes if "average_weights" in recipe]
    assert averaged, recipes
    assert all(recipe["average_weights"]["decay"] in (0.9, 0.97, 0.99, 0.997) for recipe in averaged)


def test_its_strategy_joins_the_default_search(site: Path, clock: str, tmp_path: Path) -> None:
    (tmp_path / "my_task.py").write_text(TASK)
    options = ["--profile", clock, "--trials", "1", "--minutes", "2", "--out", "run"]
    done = run(site, "autocompress", "search", "my_task.py:task", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (name,) = optuna.get_all_study_names(f"sqlite:///{tmp_path}/run/study.db")
    (trial,) = optuna.load_study(study_name=name, storage=f"sqlite:///{tmp_path}/run/study.db").trials
    assert {"average_weights", "prune_channels", "distill_logits"} <= trial.params.keys(), "each is on, or off"


def test_it_passes_its_own_tests(site: Path) -> None:
    done = run(site, "pytest", "-q", "-p", "no:cacheprovider", "tests", cwd=site.parent / "source")
    assert done.returncode == 0, done.stdout
