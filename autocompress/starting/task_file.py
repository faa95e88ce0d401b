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
from autocompress.starting.project import Project, relative
from autocompress.starting.source_code import DataSource
from autocompress.starting.splits import Dataset
from autocompress.starting.syntax import local_imports
from autocompress.starting.tables import ENCODING, NO_VALUE, Table

DEFAULT_SIZE = (224, 224)  # of images that differ in size, where no transform says one
OWN_NAMES = {"task", "trained", "splits", "divided", "files_of", "table", "arrays", "Images", "Sounds", "Task"}
OWN_NAMES |= {"accuracy", "sized", "from_minus_one"}
CLASS_NUMBERS, NUMBERS, ONE_OF_TWO = (
    "labels",
    "numbers",
    "binary",
)  # what targets are; binary: 0.0 and 1.0 for one output
THRESHOLDS = {"nn.BCEWithLogitsLoss": 0, "nn.BCELoss": 0.5}  # above which an output stands for the second class
OF_NUMBERS = ('"mse"', "nn.MSELoss", "nn.L1Loss", "nn.SmoothL1Loss", "nn.HuberLoss")
OF_CLASSES = ('"cross_entropy"', "nn.CrossEntropyLoss", "nn.NLLLoss")
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
    targets, loss, metric = _criteria(project, chosen)
    parts = _parts(project, chosen, loss, metric)
    chosen, loss, metric, roots, imports = _imported(project, chosen, loss, metric)
    data, notes = chosen.data, [*project.notes]
    threshold = THRESHOLDS.get(_called(loss), 0) if targets == ONE_OF_TWO and metric.guessed else None
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
        "target": _target(chosen, targets),
        "target_shown": _target_shown(chosen, targets),
        "threshold": threshold,
        "template": data.template if isinstance(data, Dataset) else "source" if data else "by_hand",
        "splits": {n: relative(p, project.folder) for n, p in data.splits.items()} if isinstance(data, Dataset) else {},
    }
    if isinstance(data, ImageFolders):
        values |= _image_values(project, chosen, data, notes)
    elif isinstance(data, Arrays):
        values |= _array_values(project, chosen, data, notes)
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


def _criteria(project: Project, chosen: Answers) -> tuple[str, Criterion, Criterion]:
    """What targets are, the loss and the metric: of the model's own file first, then the only ones of the folder, else
    by the targets. A loss of classes is none of a single output.
    """
    one = chosen.weights.outputs == 1
    loss = _of(chosen, tuple(c for c in project.code.losses if not (one and _called(c) in OF_CLASSES)))
    targets = _targets(chosen, loss)
    by_targets = {
        CLASS_NUMBERS: ('"cross_entropy"', '"accuracy"'),
        NUMBERS: ('"mse"', '"rmse"'),
        ONE_OF_TWO: ("nn.BCEWithLogitsLoss()", "accuracy"),
    }
    guesses = [Criterion(text, guessed=True) for text in by_targets[targets]]
    return targets, loss or guesses[0], _of(chosen, project.code.metrics) or guesses[1]


def _called(criterion: Criterion) -> str:
    return criterion.text.partition("(")[0]


def _targets(chosen: Answers, loss: Criterion | None) -> str:
    """Of one output two classes as 0 and 1, or numbers, unless the files have words for more classes than that."""
    data, of_loss = chosen.data, _called(loss) if loss else ""
    if chosen.weights.outputs != 1:
        return NUMBERS if isinstance(data, Dataset) and data.numbers else CLASS_NUMBERS
    if not isinstance(data, Dataset):
        return ONE_OF_TWO if of_loss in THRESHOLDS else NUMBERS
    has_numbers = isinstance(data, Arrays) or data.numbers or (isinstance(data, Table) and data.numeric)
    has_two = len(data.classes) == 2 or (isinstance(data, Arrays) and bool(data.two))
    if has_two and not (has_numbers and of_loss in OF_NUMBERS):
        return ONE_OF_TWO
    return NUMBERS if has_numbers else CLASS_NUMBERS


def _target(chosen: Answers, targets: str) -> str:
    """The code of an example's target, or of all; as a column for a single output."""
    data, column = chosen.data, chosen.weights.outputs == 1
    if isinstance(data, Arrays):
        y = {
            CLASS_NUMBERS: "y.long()",
            NUMBERS: "y.float()",
            ONE_OF_TWO: f"(y == {max(data.two, default=1.0):g}).float()",
        }
        return y[targets] + (".reshape(len(y), -1)" if column else "")
    if isinstance(data, Table):
        value = {CLASS_NUMBERS: "CLASSES.index(row[TARGET])", NUMBERS: "float(row[TARGET])"}
        value[ONE_OF_TWO] = f"float({value[CLASS_NUMBERS]})"
        return f"torch.tensor([{value[targets]} for row in rows])" + ("[:, None]" if column else "")
    number = "CLASSES.index(path.parent.name)"
    return f"torch.tensor([float({number})])" if targets == ONE_OF_TWO else number


def _target_shown(chosen: Answers, targets: str) -> str:
    if isinstance(chosen.data, Table):
        return "targets (N, 1)" if chosen.weights.outputs == 1 else "targets (N,)"
    return "0.0 or 1.0 for its class (1,)" if targets == ONE_OF_TWO else "number of its class"


def _of(chosen: Answers, found: tuple[Criterion, ...]) -> Criterion | None:
    near = [criterion for criterion in found if criterion.file == chosen.model.made.file]
    near = near or [criterion for criterion in found if criterion.file is None] or list(found)
    return near[0] if len(near) == 1 else None


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


def _image_values(project: Project, chosen: Answers, data: ImageFolders, notes: list[str]) -> dict[str, Any]:
    """How an image becomes a tensor: as the folder's transforms say, else in 0 to 1."""
    first, said = chosen.weights.first_weight, project.code.images
    channels = first[1] if len(first) == 4 and first[1] in (1, 3) else 3
    resize, shape = said.scaled, data.size
    if said.cropped or resize:
        size = said.cropped or (resize if isinstance(resize, tuple) else (resize, resize))
    elif shape and (not said.at_random or shape == said.at_random):
        size = shape
    else:
        size = said.at_random or DEFAULT_SIZE
        resize = min(size)
        why = "code says how training crops images at random" if said.at_random else "no code says how large images are"
        notes.append(f"{why}: the centre of {size[0]} x {size[1]} in the file, its shorter side scaled to {resize}")
    if isinstance(resize, tuple):
        scaled: tuple[int, int] | None = resize
    elif resize and shape:
        scaled = (resize * shape[0] // min(shape), resize * shape[1] // min(shape))
    else:
        scaled = None if resize else shape
    if not said.mean:
        notes.append("no code says how pixels are scaled: from 0 to 1 in the file")
    if said.several:
        notes.append(f"code makes {' and '.join(said.several)} in several ways: the first is in the file")
    return {
        "channels": channels,
        "size": size,
        "resize": None if scaled == shape and shape else resize,
        "cropped": scaled != size,
        "mean": (said.mean or (0.0,))[:channels],
        "std": (said.std or (1.0,))[:channels],
    }


def _array_values(project: Project, chosen: Answers, data: Arrays, notes: list[str]) -> dict[str, Any]:
    """What makes the model's inputs of an array: floats, channels where a convolution wants them, bytes as the folder's
    transforms scale pixels.
    """
    shape, first, said = data.inputs.shape, chosen.weights.first_weight, project.code.images
    images, tokens = len(first) == 4, len(shape) == 2 and data.inputs.kind in "iu" and chosen.weights.takes_tokens
    if tokens:
        return {"steps": ".long()", "mean": None, "std": None}
    steps = ".float() / 255" if data.inputs.kind == "u" else ".float()"
    if images and len(shape) == 4 and shape[3] == first[1] != shape[1]:
        steps = f".permute(0, 3, 1, 2){steps}"
    elif (images and len(shape) == 3) or (len(first) == 3 and len(shape) == 2):
        steps = f".unsqueeze(1){steps}"
    mean: Any = None
    std: Any = None
    if data.inputs.kind == "u" and images and len(said.mean) in (1, first[1]):
        mean, std = list(said.mean), list(said.std)
    elif data.inputs.kind == "u" and len(said.mean) == 1:
        mean, std = said.mean[0], said.std[0]
    if mean is not None:
        notes.append("bytes are taken for pixels: arrays() scales them as the code's Normalize says")
    elif data.inputs.kind == "u":
        why = "the code's Normalize is of other channels" if said.mean else "no code says how bytes are scaled"
        notes.append(f"{why}: from 0 to 1 in the file; what else training did to its inputs belongs into arrays()")
    else:
        notes.append("arrays are taken as they are: what training did to its inputs belongs into arrays()")
    if images and len(shape) >= 3 and (said.scaled or said.cropped):
        notes.append("code scales or crops images, and arrays() does not")
    return {"steps": steps, "mean": mean, "std": std}


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
