"""Plug-ins are found by their entry points, in distributions written here; the core knows none of its own by name."""

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from importlib.metadata import EntryPoint, distributions
from pathlib import Path
from zipfile import ZipFile

import pytest

import autocompress
from autocompress.errors import UsageError
from autocompress.plugin.contract import Observer, Runtime, Stage, Strategy, stages_of
from autocompress.plugin.loader import PluginSet, load_plugins
from autocompress.task import Task

STRATEGY = """
from autocompress.plugin.contract import TrainHook, TrainingStrategy
from autocompress.plugin.hooks import hookimpl

autocompress_api = 2

class Sharpen(TrainingStrategy):
    name = "{name}"
    def hook(self, params, context):
        return TrainHook()

@hookimpl
def autocompress_strategies():
    return [Sharpen()]
"""

Install = Callable[..., None]
FIXTURES = Path(__file__).parent.parent / "fixtures"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    """A folder on the import path where distributions are installed."""
    sys.path.insert(0, str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    sys.path.remove(str(tmp_path))
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def install(site: Path) -> Install:
    """``install("my-dist", code)``: a distribution with one module and an entry point for it."""

    def install(name: str, code: str, *, version: str = "1.0", entry: str | None = None) -> None:
        module = name.replace("-", "_")
        (site / f"{module}.py").write_text(code)
        info = site / f"{module}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[autocompress]\n{module} = {entry or module}\n")

    return install


def points(site: Path) -> list[EntryPoint]:
    found = [p for d in distributions(path=[str(site)]) for p in d.entry_points if p.group == "autocompress"]
    assert found
    return found


def only_broken(plugins: PluginSet) -> str:
    (broken,) = plugins.broken
    return str(broken)


def test_installed_distribution_is_found(site: Path, install: Install):
    install("sharpening", STRATEGY.format(name="sharpen"), version="2.3")
    plugins = load_plugins(points(site))
    assert plugins.broken == ()
    assert plugins.origin == {"strategies:sharpen": "sharpening 2.3"}
    assert stages_of(plugins.strategy("sharpen")) == (Stage.TRAIN,)


def test_distribution_on_the_path_joins_what_is_installed(site: Path, install: Install):
    install("sharpening", STRATEGY.format(name="sharpen"))
    plugins = load_plugins()
    assert plugins.origin["strategies:sharpen"] == "sharpening 1.0"
    assert len(plugins.strategies) > 1


def test_one_plugin_may_bring_a_strategy_a_runtime_and_a_space(site: Path, install: Install):
    code = STRATEGY.format(name="sharpen") + (
        "from pathlib import Path\n"
        "from autocompress.plugin.contract import Runtime\n"
        "class Board(Runtime):\n"
        "    name = 'board'\n"
        "    def open(self, path, profile): ...\n"
        "@hookimpl\n"
        "def autocompress_runtimes(): return [Board()]\n"
        "@hookimpl\n"
        "def autocompress_search_spaces(): return [Path('some/gentle.toml')]\n"
    )
    install("everything", code)
    plugins = load_plugins(points(site))
    assert plugins.broken == ()
    assert sorted(plugins.origin) == ["runtimes:board", "spaces:gentle", "strategies:sharpen"]
    assert isinstance(plugins.runtime("board"), Runtime)
    assert plugins.spaces["gentle"] == Path("some/gentle.toml")


OBSERVER = """
from autocompress.plugin.contract import Observer
from autocompress.plugin.hooks import hookimpl

autocompress_api = 2

class Log(Observer):
    name = "log"
    def observe(self, event): ...

class Cloud(Log):
    name = "cloud"
    @classmethod
    def unavailable(cls):
        return "the package cloud is not installed: pip install cloud"

@hookimpl
def autocompress_observers():
    return [Log, Cloud]
"""


def test_each_search_has_an_observer_of_its_own(site: Path, install: Install):
    install("logging-plugin", OBSERVER)
    plugins = load_plugins(points(site))
    assert plugins.broken == ()
    assert sorted(plugins.origin) == ["observers:cloud", "observers:log"]
    one, other = plugins.observer("log"), plugins.observer("log")
    assert isinstance(one, Observer)
    assert one is not other


def test_an_observer_that_is_not_there_or_cannot_be_used_is_refused_with_what_helps(site: Path, install: Install):
    install("logging-plugin", OBSERVER)
    plugins = load_plugins(points(site))
    with pytest.raises(UsageError, match=r"unknown observer 'lgo': did you mean 'log'\?"):
        plugins.observer("lgo")
    with pytest.raises(UsageError, match="the observer cloud cannot be used here: the package cloud is not installed"):
        plugins.observer("cloud")


def test_entry_point_may_be_an_object(site: Path, install: Install):
    code = STRATEGY.format(name="sharpen").replace("def autocompress_strategies()", "def autocompress_strategies(self)")
    code = code.replace("@hookimpl", "class Plugin:\n  @hookimpl").replace("\ndef auto", "\n  def auto")
    install(
        "holder",
        code.replace("    return [", "      return [") + "\nthe_plugin = Plugin()\nthe_plugin.autocompress_api = 2\n",
        entry="holder:the_plugin",
    )
    plugins = load_plugins(points(site))
    assert plugins.broken == ()
    assert list(plugins.strategies) == ["sharpen"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise ValueError('no\\nlicence')", "ValueError: no licence"),
        ("def broken(:", "SyntaxError: "),
        ("import cv2_.part", "needs the module cv2_, which is not installed: see what bb-broken 0.7 asks for"),
        ("autocompress_api = 3", "it was made for plug-in API 3; this autocompress has 2"),
        ("", "it was made for plug-in API 1, as it declares none; this autocompress has 2"),
        ("from autocompress.plugin.contract import Step", "made for another plug-in API, this autocompress has 2"),
        (
            "from autocompress.run.store import Store",
            "made for another plug-in API, this autocompress has 2: No module",
        ),
        ("from autocompress import Store", "made for another plug-in API, this autocompress has 2: cannot import name"),
        (STRATEGY.format(name="two words"), "TypeError: Sharpen.name must be an identifier, not 'two words'"),
        (STRATEGY.format(name="x").replace("[Sharpen()]", "3"), "TypeError: 'int' object is not iterable"),
        (STRATEGY.format(name="x").replace("return [", "raise KeyError('gone')\n    return ["), "KeyError: 'gone'"),
        (STRATEGY.format(name="x").replace("autocompress_strategies", "autocompress_strategy"), "unknown hook"),
    ],
    ids=[
        *("raises", "syntax", "module", "api 3", "no api", "name gone", "module gone", "name gone from the top"),
        *("name", "no list", "hook raises", "hook misspelt"),
    ],
)
def test_broken_plugin_is_left_out_with_its_reason_and_the_others_load(
    code: str, reason: str, site: Path, install: Install
):
    install("aa-sound", STRATEGY.format(name="one"))
    install("bb-broken", code, version="0.7")
    install("cc-sound", STRATEGY.format(name="two"))
    plugins = load_plugins(points(site))
    assert sorted(plugins.strategies) == ["one", "two"]
    told = only_broken(plugins)
    assert told.startswith("plug-in 'bb_broken' of bb-broken 0.7 was left out: ")
    assert reason in told
    assert "\n" not in told
    assert "pip install" not in told, "somebody else may hold the distribution of that name"


def test_plugin_that_an_earlier_version_loaded_is_left_out_and_the_others_load(site: Path, install: Install):
    with ZipFile(FIXTURES / "autocompress_average_weights-0.1.0-py3-none-any.whl") as wheel:
        wheel.extractall(site)
    install("sound", STRATEGY.format(name="one"))
    plugins = load_plugins(points(site))
    assert list(plugins.strategies) == ["one"]
    assert only_broken(plugins) == (
        "plug-in 'average_weights' of autocompress-average-weights 0.1.0 was left out: it was made for plug-in API 1, "
        "as it declares none; this autocompress has 2: install a version of it that sets autocompress_api = 2"
    )


def test_plugin_without_its_module_is_left_out(site: Path, install: Install):
    install("hollow", "", entry="hollow:missing")
    assert "AttributeError" in only_broken(load_plugins(points(site)))


def test_plugin_that_fails_halfway_contributes_nothing(site: Path, install: Install):
    code = STRATEGY.format(name="sharpen") + (
        "@hookimpl\ndef autocompress_runtimes():\n    raise RuntimeError('no driver')\n"
    )
    install("half", code)
    plugins = load_plugins(points(site))
    assert plugins.strategies == {}
    assert plugins.origin == {}
    assert "no driver" in only_broken(plugins)


def test_plugin_that_raises_our_own_error_is_left_out(site: Path, install: Install):
    install("ours", "from autocompress.errors import UsageError\nraise UsageError('set BOARD=...')")
    install("sound", STRATEGY.format(name="one"))
    try:
        plugins = load_plugins(points(site))
    except UsageError:
        pytest.fail("one broken plug-in kept all the others out")
    assert list(plugins.strategies) == ["one"]


def test_plugin_that_exits_on_import_is_left_out(site: Path, install: Install):
    install("leaver", "import sys\nsys.exit('needs a licence')")
    install("sound", STRATEGY.format(name="one"))
    try:
        plugins = load_plugins(points(site))
    except SystemExit:
        pytest.fail("one broken plug-in ended the program")
    assert list(plugins.strategies) == ["one"]


def test_two_plugins_of_one_name_are_an_error_naming_both(site: Path, install: Install):
    install("first-maker", STRATEGY.format(name="sharpen"), version="1.1")
    install("second-maker", STRATEGY.format(name="sharpen"), version="2.2")
    with pytest.raises(UsageError) as caught:
        load_plugins(points(site))
    for word in ("strategy 'sharpen'", "first-maker 1.1", "second-maker 2.2", "uninstall one"):
        assert word in str(caught.value)


def test_loading_order_does_not_depend_on_the_order_found(site: Path, install: Install):
    for name in ("zz", "aa", "mm"):
        install(f"{name}-dist", STRATEGY.format(name=f"strategy_{name}"))
    found = points(site)
    orders = [list(load_plugins(order).strategies) for order in (found, found[::-1])]
    assert orders[0] == orders[1] == ["strategy_aa", "strategy_mm", "strategy_zz"]


def test_asking_for_an_unknown_name_suggests_the_nearest(installed_plugins: PluginSet):
    with pytest.raises(UsageError, match=r"unknown strategy 'prune_chanels': did you mean 'prune_channels'\?"):
        installed_plugins.strategy("prune_chanels")
    with pytest.raises(UsageError, match=r"unknown runtime 'onnxrutime': did you mean 'onnxruntime'\?"):
        installed_plugins.runtime("onnxrutime")


# -- the core and its own plug-ins -------------------------------------------------------------------------------------


def test_first_party_plugins_enter_by_the_same_door(installed_plugins: PluginSet):
    assert installed_plugins.broken == ()
    assert {origin.split()[0] for key, origin in installed_plugins.origin.items()} >= {"autocompress"}
    assert installed_plugins.strategies
    assert all(
        isinstance(strategy, Strategy) and stages_of(strategy) for strategy in installed_plugins.strategies.values()
    )


def test_importing_the_whole_core_imports_no_strategy_and_only_the_kit_needs_pytest():
    code = """
import importlib, pkgutil, sys
sys.modules["pytest"] = None
import autocompress
names = [m.name for m in pkgutil.iter_modules(autocompress.__path__, "autocompress.")]
names.remove("autocompress.__main__")  # it runs the command line
names.remove("autocompress.testing")
for name in names:
    module = importlib.import_module(name)
    names += [m.name for m in pkgutil.iter_modules(getattr(module, "__path__", ()), name + ".")]
del sys.modules["pytest"]
for name in ("autocompress.testing", "autocompress.testing.lab"):
    importlib.import_module(name)
found = [m for m in sys.modules if m.split(".")[0] in ("autocompress_plugins", "autocompress_spaces", "torch_pruning")]
print(len(names), found)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    number, _, found = done.stdout.strip().splitlines()[-1].partition(" ")
    assert int(number) > 60
    assert found == "[]"


def words_of_code(source: str) -> set[str]:
    """Identifiers, and words of strings that are no docstring."""
    tree = ast.parse(source)
    docstrings = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            docstrings.add(node.body[0].value)
    words: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings:
            words |= set("".join(c if c.isidentifier() or c.isdigit() else " " for c in node.value).split())
        elif isinstance(node, ast.Name):
            words.add(node.id)
        elif isinstance(node, ast.Attribute):
            words.add(node.attr)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            words |= {part for alias in node.names for part in alias.name.split(".")}
            words |= set((getattr(node, "module", None) or "").split("."))
    return words


def test_no_core_file_names_a_first_party_strategy(installed_plugins: PluginSet):
    own = {
        name.split(":")[1] for name, origin in installed_plugins.origin.items() if origin.startswith("autocompress ")
    }
    strategies = (own & set(installed_plugins.strategies)) - {
        f.name for f in fields(Task)
    }  # `student` is a field of Task
    strategies -= {"float16"}  # the name of a number format as well, which profiles list
    assert len(strategies) >= 4
    root = Path(autocompress.__file__).parent
    named = {
        str(path.relative_to(root)): found
        for path in root.rglob("*.py")
        if (found := words_of_code(path.read_text()) & {*strategies, "autocompress_plugins", "torch_pruning"})
    }
    assert named == {}
