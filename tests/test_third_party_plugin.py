"""The example of a plug-in, as its wheel installs it, joins what is there and takes part in a search."""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import hatchling.build
import pytest

from autocompress import Task, search
from autocompress.candidate.preparation import prepare
from autocompress.cli import main
from autocompress.explore.policy import SearchPolicy
from autocompress.explore.space.space import Space
from autocompress.explore.space.space_file import load_space
from autocompress.plugin.contract import Runtime
from autocompress.plugin.loader import PluginSet, load_plugins
from autocompress.profile import HardwareProfile
from autocompress.storage.folder import RunFolder

EXAMPLE = Path(__file__).parent.parent / "examples" / "third_party_plugin"
MODULE = "autocompress_average_weights"
# Fine-tuning has no parameters, so one recipe alone does without the average, and of any two the other has it.
SPACE = """
name = "averaged"
strategies = ["average_weights", "finetune"]

[parameters]
"train.lr" = [0.002]
"train.batch_size" = [64]
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example's wheel unpacked in it, which is how pip installs one."""
    folder = tmp_path_factory.mktemp("third_party")
    shutil.copytree(EXAMPLE, folder / "source")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder / "source")
        wheel = hatchling.build.build_wheel(str(folder))
    with ZipFile(folder / wheel) as packed:
        packed.extractall(folder / "site")
    return folder / "site"


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The example is on the import path."""
    monkeypatch.syspath_prepend(str(site))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == MODULE]:
        del sys.modules[name]


@pytest.fixture
def found(installed: None, fake_runtime: Runtime) -> PluginSet:
    """What is found then, and the runtime ``fake``: no trial depends on how busy the machine is."""
    plugins = load_plugins()
    return replace(plugins, runtimes={**plugins.runtimes, "fake": fake_runtime})


def test_it_is_listed_with_its_distribution(
    installed: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["autocompress", "plugins", "--json"])
    with pytest.raises(SystemExit, match="0"):
        main()
    listed = json.loads(capsys.readouterr().out)
    assert listed["strategies"]["average_weights"]["from"] == "autocompress-average-weights 0.1.0"
    assert listed["strategies"]["average_weights"]["stages"] == ["train"]


def test_its_strategy_takes_part_in_a_search(found: PluginSet, tiny_task: Task, tmp_path: Path) -> None:
    (tmp_path / "space.toml").write_text(SPACE)
    (tmp_path / "fake.toml").write_text('name = "fake"\nruntime = "fake"\n')
    result = search(
        replace(tiny_task, train=tuple(part[:64] for part in tiny_task.train)),
        profile=str(tmp_path / "fake.toml"),
        space=str(tmp_path / "space.toml"),
        trials=2,
        minutes=60,
        out=tmp_path / "run",
        plugins=found,
        policy=SearchPolicy(compare_exporters=False, most_seen=2048),
        quiet=True,
    )
    recipes = [{step.strategy: step.values for step in file.recipe.steps} for file in result.candidates]
    averaged = [recipe["average_weights"] for recipe in recipes if "average_weights" in recipe]
    assert averaged, recipes
    assert {params["decay"] for params in averaged} <= {0.9, 0.97, 0.99, 0.997}


def test_its_strategy_joins_the_default_search(
    found: PluginSet, tiny_task: Task, fake_profile: HardwareProfile, tmp_path: Path
) -> None:
    _, ground = prepare(tiny_task, fake_profile, found, RunFolder(tmp_path))
    space = Space.of(load_space("default", found), ground.applicable, ground.refused)
    joined = {"average_weights", "average_weights.decay", "prune_channels", "distill_logits"}
    assert joined <= space.default_params().keys(), "each is on, or off"


def test_it_passes_its_own_tests(site: Path, installed: None) -> None:
    folder = site.parent / "source" / "tests"
    alone = ["-c", os.devnull, "--rootdir", str(folder), "-q", "--capture=no", "--import-mode=importlib"]
    assert pytest.main([*alone, "-pno:cacheprovider", "-pno:faulthandler", str(folder)]) == 0
