"""What the documents show is run, so that it stays true."""

import builtins
import inspect
import math
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import pluggy
import pytest
import torch
import typer

from autocompress import SearchResult, cli, errors, testing
from autocompress.data import ScoredSet, call, read_data
from autocompress.explore.space.space_file import load_space
from autocompress.plugin import contract, hooks
from autocompress.plugin.loader import PluginSet
from autocompress.task_source import load_task
from autocompress.testing import checks

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "docs" / "plugins.md").read_text()
PYTHON_API = (ROOT / "docs" / "python-api.md").read_text()
OVERRIDDEN = (
    contract.Strategy,
    contract.StructureStrategy,
    contract.TrainingStrategy,
    contract.GraphStrategy,
    contract.TrainHook,
    contract.Runtime,
    contract.Session,
    contract.Observer,
    contract.Hub,
    checks.Checks,
)
EVENTS = [kind for kind in vars(contract).values() if isinstance(kind, type) and issubclass(kind, contract.SearchEvent)]
HELD = (contract.Context, contract.TrainStep, contract.LossTerm, *EVENTS)


def test_the_guides_example_is_a_working_strategy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)[0]
    (tmp_path / "guide_example.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    import guide_example  # type: ignore[import-not-found]

    (strategy,) = guide_example.autocompress_strategies()
    assert contract.stages_of(strategy) == (contract.Stage.TRAIN,)
    import torch

    step = contract.TrainStep(torch.zeros(2, 1), torch.zeros(2).long(), torch.zeros(2, 4), None, 0.5)
    term = strategy.hook({"weight": 0.1}, None).loss(step)
    assert float(term.value) == pytest.approx(1.3863, abs=1e-3)
    sys.modules.pop("guide_example")


def names_of(kind: type) -> set[str]:
    """Public attributes, annotated ones included; of the kit its settings alone."""
    found = set(vars(kind)) | set(inspect.get_annotations(kind))
    return {n for n in found if not n.startswith(("_", "test_"))} - {"lab", "structure", "training", "graph"}


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The guide's files, each under the name in its first line, on the import path."""
    for name, code in re.findall(r"```(?:python|toml)\n# (\S+)\n(.*?)```", GUIDE, re.DOTALL):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [n for n in sys.modules if n.split(".")[0] == "my_package"]:
        del sys.modules[name]


def test_the_guides_strategies_pass_the_kit_the_way_the_guide_runs_it(written: Path) -> None:
    named = set(re.findall(r"^class (\w+)\(.*Strategy\):", GUIDE, re.MULTILINE))
    tested = set(re.findall(r"^    strategy = (\w+)\(\)", GUIDE, re.MULTILINE))
    assert len(named) >= 4
    assert named == tested
    alone = ["-c", os.devnull, "--rootdir", str(written), "-q", "--capture=no", "--import-mode=importlib"]
    assert pytest.main([*alone, "-pno:cacheprovider", "-pno:faulthandler", str(written / "tests")]) == 0


def test_the_guides_search_space_and_package_can_be_read(written: Path, installed_plugins: PluginSet) -> None:
    from my_package import entropy_penalty  # type: ignore[import-not-found]

    (own,) = entropy_penalty.autocompress_strategies()
    plugins = replace(installed_plugins, strategies={**installed_plugins.strategies, own.name: own})
    space = load_space(str(written / "my_space.toml"), plugins)
    (weight,) = own.parameters(None)
    assert set(space.parameters["entropy_penalty.weight"]) <= set(weight.choices)
    project = tomllib.loads((written / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["autocompress"] == {own.name: entropy_penalty.__name__}


def test_the_guide_has_every_hook_and_everything_an_author_may_override() -> None:
    code = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`\n]+)`", GUIDE))))
    manager = pluggy.PluginManager(hooks.GROUP)
    manager.add_hookspecs(hooks)
    wanted = {name for name in vars(manager.hook) if name.startswith("autocompress_")}
    assert len(wanted) == 5
    wanted |= {name for kind in (*OVERRIDDEN, *HELD) for name in names_of(kind)} - {"strategy"}
    assert wanted - code == set()


def test_the_guide_names_only_what_exists() -> None:
    """In its text: classes of the contract, their attributes, and the arguments of their methods."""
    text = re.sub(r"```.*?```", "", GUIDE, flags=re.DOTALL)
    classes = {name: value for m in (contract, errors, testing) for name, value in vars(m).items()}
    arguments: dict[str, list[list[str]]] = {}
    for kind in OVERRIDDEN:
        for name in names_of(kind):
            if inspect.isfunction(getattr(kind, name, None)):
                own = [a for a in inspect.signature(getattr(kind, name)).parameters if a != "self"]
                arguments.setdefault(name, []).append(own or [""])
    checked = set()
    for quoted in re.findall(r"`([^`\n]+)`", text):
        for name, attribute in re.findall(r"(?<![\w./])([A-Z][a-z]\w+)(?:\.(\w+))?", quoted):
            assert name in classes or hasattr(builtins, name), quoted
            assert not attribute or attribute in names_of(classes[name]), quoted
            checked.add(name)
        for owner, attribute in re.findall(r"\b(context|step)\.(\w+)", quoted):
            assert attribute in names_of({"context": contract.Context, "step": contract.TrainStep}[owner]), quoted
        call = re.fullmatch(r"([a-z]\w+)\(([\w, ]*)\)", quoted)
        if call:
            assert call[2].split(", ") in arguments.get(call[1], []), quoted
            checked.add(call[1])
    assert {"StructureStrategy", "TrainHook", "plan", "after_step", "shrinkable_groups"} <= checked


def test_the_guides_commands_and_options_exist() -> None:
    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    found = re.findall(r"^autocompress (\w+)([^#\n]*)", GUIDE, re.MULTILINE)
    found += re.findall(r"`autocompress (\w+)([^`]*)`", GUIDE)
    assert len(found) >= 4
    for command, rest in found:
        options = {option for parameter in commands[command].params for option in parameter.opts}
        assert set(re.findall(r"--[\w-]+", rest)) <= options, command


def test_every_event_is_described_with_its_keys_for_programs_and_for_authors_of_observers() -> None:
    kinds = {kind.event: kind for kind in EVENTS if kind is not contract.SearchEvent}
    assert len(kinds) == 7
    section = PYTHON_API.split("## What happens, as JSON")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| (.*) \|$", section, re.MULTILINE)
    assert sorted(name for name, _ in rows) == sorted(kinds)
    for name, keys in rows:
        own = {field.name for field in fields(kinds[name])} - {"elapsed_s"}
        assert own == set(re.findall(r"`(\w+)`", keys.split(":")[0])), name


def test_the_page_on_the_python_api_names_what_a_result_and_a_file_have() -> None:
    section = PYTHON_API.split("## What a search returns")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]*`) \|", section, re.MULTILINE)
    named = set(re.findall(r"`(\w+)[`(]", " ".join(rows)))
    assert named == {name for name in vars(SearchResult) if not name.startswith("_")} | {"folder", "document"}
    code = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`\n]+)`", section))))
    assert names_of(contract.MeasuredFile) - {"of"} <= code


PAGES = [ROOT / "README.md", ROOT / "examples" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("name", ["image", "speech", "text", "table"])
def test_a_task_of_the_ten_minutes_runs_as_it_stands(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "docs" / "ten-minutes.md").read_text("utf-8")
    (code,) = re.findall(rf"```python\n# {name}_task.py\n(.*?)```", text, re.DOTALL)
    (tmp_path / f"{name}_task.py").write_text(code)
    monkeypatch.setattr(sys, "path", [*sys.path])
    task = load_task(f"{tmp_path / name}_task.py:task")
    sys.modules.pop(f"{name}_task")
    data, model = read_data(task), task.copy_of_model()
    batch = data.splits["train"].take(torch.arange(4))
    returned = call(model, batch.inputs)
    task.loss_fn(returned, batch.targets).backward()
    val = ScoredSet(task, data.splits["val"], data.layout)
    with torch.no_grad():
        pieces = [(data.layout.rows_of(call(model, b.inputs)), b.targets) for b in val.split.batches(64)]
    assert math.isfinite(val.value(val.kept(pieces)))


def slug(heading: str) -> str:
    """What a section is linked by."""
    plain = re.sub(r"[`*]|\[([^]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", plain.strip().lower()))


def test_links_of_the_pages_lead_somewhere_in_the_repository() -> None:
    count = 0
    for page in PAGES:
        text = re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"\w+:", link):
                continue
            path, _, section = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), f"{page.name}: {link}"
            if section:
                headings = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE)
                assert section in map(slug, headings), f"{page.name}: {link}"
            count += 1
    assert count >= 60


def test_the_site_has_every_page_and_fetches_nothing() -> None:
    configured = (ROOT / "mkdocs.yml").read_text("utf-8")
    pages = re.findall(r"^ +- [^:\n]+: (\S+\.md)$", configured.split("\nnav:\n")[1], re.MULTILINE)
    assert sorted(pages) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))
    assert re.search(r"^  font: false\b", configured, re.MULTILINE)


def options_of_the_cli() -> dict[str, set[str]]:
    """The options of each command that are not hidden, and under "" those that go before a command."""
    group = typer.main.get_command(cli.app)
    every = {"": group, **group.commands}  # type: ignore[attr-defined]
    shown = {name: [p for p in command.params if not getattr(p, "hidden", False)] for name, command in every.items()}
    return {name: {o for p in params for o in p.opts if o.startswith("--")} for name, params in shown.items()}


def code_of(page: str) -> list[str]:
    """What stands in backticks, and the lines of the blocks of commands, without comments."""
    text = (ROOT / page).read_text()
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    commands = [line.split("#")[0] for language, block in blocks if not language for line in block.splitlines()]
    return commands + re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))


def test_the_page_on_commands_and_options_has_none_that_there_is_not() -> None:
    known, code = options_of_the_cli(), code_of("docs/commands.md")
    called = [found for line in code for found in re.findall(r"\bautocompress (\w+)([^&|]*)", line)]
    assert len({command for command, _ in called}) >= 6
    for command, rest in called:
        assert command in known, f"autocompress {command}"
        assert set(re.findall(r"--[\w-]+", rest)) <= known[command] | known[""], f"autocompress {command}{rest}"
    alone = {option for line in code if "autocompress" not in line for option in re.findall(r"--[\w-]+", line)}
    assert len(alone) >= 8
    assert alone <= known["search"] | known[""], "an option that is named alone is one of search"


def test_the_page_on_commands_names_every_one_and_every_option_of_search() -> None:
    known, code = options_of_the_cli(), "\n".join(code_of("docs/commands.md"))
    assert {c for c in known if c and not re.search(rf"\bautocompress {c}\b", code)} == set()
    assert len(known["search"]) >= 10
    assert known["search"] - set(re.findall(r"--[\w-]+", code)) == set()


def test_the_page_on_strategies_lists_those_that_are_installed(installed_plugins: PluginSet) -> None:
    section = (ROOT / "docs" / "strategies.md").read_text()
    table = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\|[^|]*\|([^|]*)\|", section, re.MULTILINE))))
    own = {
        n
        for n, _ in installed_plugins.strategies.items()
        if installed_plugins.origin[f"strategies:{n}"].startswith("autocompress ")
    }
    assert table == own
