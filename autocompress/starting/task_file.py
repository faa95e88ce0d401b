"""The task file: what was chosen, as code that a user reads and changes."""

import json
import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autocompress.errors import UsageError, one_line
from autocompress.starting.choice import Answers, has_other_classes
from autocompress.starting.criteria import Criterion
from autocompress.starting.datasets import Arrays, ClassFolders, ImageFolders, SoundFolders
from autocompress.starting.inputs import array_values, image_values
from autocompress.starting.project import Project, relative
from autocompress.starting.source_code import DataSource
from autocompress.starting.splits import Dataset
from autocompress.starting.syntax import local_imports
from autocompress.starting.tables import ENCODING, NO_VALUE, Table
from autocompress.starting.targets import ONE_OF_TWO, criteria_for, target_code, target_shown, threshold_of

OWN_NAMES = {"task", "trained", "splits", "divided", "files_of", "table", "arrays", "Images", "Sounds", "Task"}
OWN_NAMES |= {"accuracy", "sized", "from_minus_one"}
PLAIN_WORDS = {"model", "best", "last", "final", "checkpoint", "weights", "net", "state", "dict", "epoch", "pytorch"}


@dataclass(frozen=True)
class TaskFile:
    """text: of the file. parts: what it is made of, in words. notes: what its reader should check."""

    text: str
    parts: dict[str, str]
    notes: tuple[str, ...]


def task_file(project: Project, chosen: Answers, out: Path) -> TaskFile:
    """Nothing is written. out: where the file will lie, which its paths start from."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    here = relative(project.folder, out.parent)
    targets, loss, metric = criteria_for(project, chosen)
    parts = _parts(project, chosen, loss, metric)
    chosen, loss, metric, roots, imports = _imported(project, chosen, loss, metric)
    data, notes = chosen.data, [*project.notes]
    values: dict[str, Any] = {
        "name": _name(project, chosen),
        "file": _in_words(shlex.quote(f"{out.name}:task")),
        "weights_shown": _in_words(relative(chosen.weights.path, project.folder)),
        "here": "" if here == "." else here,
        "roots": [root for root in roots if root != "." or here != "."],
        "imports": imports,
        "model": chosen.model.made,
        "weights": chosen.weights,
        "weights_path": relative(chosen.weights.path, project.folder),
        "safe": chosen.weights.path.suffix == ".safetensors",
        "loss": loss.text,
        "metric": metric.text,
        "lower": metric.lower,
        "data": data,
        "targets": targets,
        "target": target_code(chosen, targets),
        "target_shown": target_shown(chosen, targets),
        "threshold": threshold_of(targets, loss, metric),
        "template": data.template if isinstance(data, Dataset) else "source" if data else "by_hand",
        "splits": {n: relative(p, project.folder) for n, p in data.splits.items()} if isinstance(data, Dataset) else {},
    }
    if isinstance(data, ImageFolders):
        values |= image_values(project, chosen, data, notes)
    elif isinstance(data, Arrays):
        values |= array_values(project, chosen, data, notes)
    elif isinstance(data, Table):
        values |= {"target_name": _in_words(data.target_name), "encoding": ENCODING, "no_value": sorted(NO_VALUE)}
    notes += _notes(project, chosen, targets, loss, metric)
    environment = Environment(
        loader=PackageLoader("autocompress.starting"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # it is code
    )
    environment.filters["code"] = as_code
    text = environment.get_template("task.py.j2").render(values)
    return TaskFile(text, parts, tuple(dict.fromkeys(notes)))


def as_code(value: Any) -> str:
    """A word, a number, a list or a tuple as Python writes it, words between double quotes."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, (list, tuple)):
        inside = ", ".join(map(as_code, value))
        return f"[{inside}]" if isinstance(value, list) else f"({inside}{',' * (len(value) == 1)})"
    return repr(value)


def _in_words(text: str) -> str:
    """As it may stand in a comment or a docstring: what a folder's names hold is no code."""
    return "".join("_" if c in '"\\' else c for c in one_line(text, 100))


def write_new(text: str, out: Path) -> None:
    """Raises UsageError where there is a file already, which stays as it is."""
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{out} is there already and stays as it is: give another --out") from None
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror}") from error


def free_name(wanted: Path) -> Path:
    """The path, or the first of ``my_task_2.py``, ``my_task_3.py``, ... that is not there."""
    number, path = 2, wanted
    while path.exists():
        path, number = wanted.with_stem(f"{wanted.stem}_{number}"), number + 1
    return path


def _imported(
    project: Project, chosen: Answers, loss: Criterion, metric: Criterion
) -> tuple[Answers, Criterion, Criterion, list[str], list[str]]:
    """What is named, by the names it has in the file; the folders that its imports start from; the imports."""
    roots: list[str] = []
    modules: dict[str, set[str]] = {}

    def imported(file: Path, name: str) -> str:
        root, module = import_of(file, project.folder)
        own = f"{module.rpartition('.')[2]}_{name}" if name in OWN_NAMES else name
        roots.append(relative(root, project.folder))
        modules.setdefault(module, set()).add(name if own == name else f"{name} as {own}")
        return own

    def criterion(found: Criterion) -> Criterion:
        name, bracket, rest = found.text.partition("(")
        return replace(found, text=imported(found.file, name) + bracket + rest) if found.file else found

    model = replace(
        chosen.model, made=replace(chosen.model.made, name=imported(chosen.model.made.file, chosen.model.made.name))
    )
    data = chosen.data
    if isinstance(data, DataSource):
        data = replace(data, made=replace(data.made, name=imported(data.made.file, data.made.name)))
    loss, metric = criterion(loss), criterion(metric)
    lines = {f"from {module} import {', '.join(sorted(names))}" for module, names in modules.items()}
    lines |= set(filter(None, (loss.imported, metric.imported)))
    return replace(chosen, model=model, data=data), loss, metric, list(dict.fromkeys(roots)), sorted(lines)


def import_of(file: Path, project: Path) -> tuple[Path, str]:
    """(folder that the import starts from, name of the module), as the file's own imports of its neighbours need it."""
    root = file.parent
    while (root / "__init__.py").is_file() and root != project:
        root = root.parent
    names = local_imports(file)
    for folder in (file.parent, *file.parent.parents):
        if any((folder / f"{name}.py").is_file() or (folder / name).is_dir() for name in names):
            root = folder if not (folder / "__init__.py").is_file() else root
            break
        if folder == project:
            break
    parts = file.relative_to(root).with_suffix("").parts
    return (root, ".".join(parts)) if all(map(str.isidentifier, parts)) else (file.parent, file.stem)


def _name(project: Project, chosen: Answers) -> str:
    stem = chosen.weights.path.stem
    says_nothing = all(word in PLAIN_WORDS or word.isdigit() for word in re.split("[-_.=]", stem.lower()))
    own = project.folder.resolve().name if says_nothing else stem
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in own) or "task"


def _notes(project: Project, chosen: Answers, targets: str, loss: Criterion, metric: Criterion) -> list[str]:
    """What looking could not say, or says that a reader has to mend."""
    data, said = chosen.data, []
    for made in (chosen.model.made, *([data.made] if isinstance(data, DataSource) else [])):
        if made.file in project.code.runs:
            said.append(f'{made.file.name} runs a loop when it is imported: put that under if __name__ == "__main__":')
    if isinstance(data, Dataset) and "all" in data.splits:
        said.append(
            "which examples the model was trained on is not known: they are divided at random, and a score on "
            "examples that it knows says too much; divide them as training did"
        )
    if isinstance(data, Dataset):
        said += data.notes
    if isinstance(data, Dataset) and has_other_classes(data, chosen.weights):
        said.append(
            f"the data has {len(data.classes)} classes and the weights {chosen.weights.outputs} outputs: check CLASSES"
        )
    if isinstance(data, Table) and chosen.weights.first_weight[1:] not in ((), (len(data.features),)):
        said.append(f"the data has {len(data.features)} features and the model's first weight takes another number")
    if isinstance(data, (Table, SoundFolders)):
        said.append(f"what training did to its inputs beyond reading them belongs into {_reader(data)}")
    if data is None:
        said.append("splits() is left to be written: it raises until it gives the data")
    if targets == ONE_OF_TWO and isinstance(data, (ClassFolders, Table)):
        said.append(f"one output is for two classes: 1 stands for {_in_words(data.classes[1])}")
    for kind, criterion, found in (("loss", loss, project.code.losses), ("metric", metric, project.code.metrics)):
        if criterion.guessed:
            why = f"of {len(found)} in the code none is the model's" if found else "no code says one"
            said.append(f"the {kind} is {_shown(criterion)} by the targets, as {why}")
    return said


def _reader(data: Dataset) -> str:
    return "table()" if isinstance(data, Table) else "Sounds"


def _parts(project: Project, chosen: Answers, loss: Criterion, metric: Criterion) -> dict[str, str]:
    folder, data = project.folder, chosen.data
    where = "to be written"
    if isinstance(data, DataSource):
        where = f"{data.made.call} of {relative(data.made.file, folder)}"
    elif data is not None:
        where = f"{data.template} of {relative(data.where, folder)}"
    return {
        "model": f"{chosen.model.made.call} of {relative(chosen.model.made.file, folder)}",
        "weights": relative(chosen.weights.path, folder),
        "data": where,
        "loss": _shown(loss),
        "metric": _shown(metric) + (", lower is better" if metric.lower else ""),
    }


def _shown(criterion: Criterion) -> str:
    return criterion.text.strip('"')
