"""``hf:MODEL --data DATA``: a classifier that transformers saved, with its own tokenizer or preprocessing.

MODEL is a folder, or a name in the cache of Hugging Face; it is downloaded only where it is neither. DATA is what
datasets reads. Classes, loss and metric are those of the model's configuration; smaller models of its type and
vocabulary, beside the folder or in the cache, are its students. No code that a model brings is run.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autocompress.errors import UsageError, one_line
from autocompress.plugin.contract import Hub, HubRequest
from autocompress.plugin.hooks import hookimpl
from autocompress.task import Task
from autocompress_plugins.hubs.checkpoint_file import read_weights
from autocompress_plugins.hubs.class_labels import ClassNames
from autocompress_plugins.hubs.classifier_kinds import ClassifierKind, classifier_kind
from autocompress_plugins.hubs.hub_cache import cached_models, cached_snapshot, require, snapshot, weights_in
from autocompress_plugins.hubs.image_inputs import PreparedExamples
from autocompress_plugins.hubs.labelled_data import LabelledData, is_on_disk, labelled_data
from autocompress_plugins.hubs.pretrained import FamilyMember, PretrainedStudents, learning_rates_of, students_of
from autocompress_plugins.hubs.text_inputs import same_vocabulary

autocompress_api = 2

ONE_NUMBER, SEVERAL_LABELS = "regression", "multi_label_classification"  # problem_type of a configuration
METRIC_AND_LOSS: dict[str, tuple[str, str | nn.Module]] = {
    "": ("accuracy", "cross_entropy"),
    ONE_NUMBER: ("mae", "mse"),
    SEVERAL_LABELS: ("average_precision", nn.BCEWithLogitsLoss()),
}
SEQUENCE = "sequence"


class HuggingFace(Hub):
    name = "hf"
    summary = "text, image and audio classifiers of transformers, with data that datasets reads"

    def task(self, request: HubRequest) -> Task:
        require(self.name, "transformers", "datasets")
        import transformers

        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        folder = _folder(request.model)
        config = _config(folder, request.model)
        kind = classifier_kind(config, request.model)
        model = _loaded(kind, folder, request.checkpoint)
        data = labelled_data(request.data)
        problem = _problem(config, data)
        metric, loss = METRIC_AND_LOSS[problem]
        labels = ClassNames([config.id2label[i] for i in range(config.num_labels)], data.class_names)
        targets = _all_targets(problem, labels, data.labels)
        inputs = kind.inputs(folder, model, data)
        splits = {name: _split(inputs[name], targets[name]) for name in data.splits}
        free = {name: {1: SEQUENCE} for name in inputs["train"]} if kind.title == "text" else None
        return Task(
            name=request.name,
            model=model,
            train=splits["train"],
            val=splits["val"],
            test=splits.get("test"),
            metric=metric,
            loss=loss,
            dynamic=free,
            labels=None if problem else labels.shown,
            learning_rates=learning_rates_of(model),
            student=_students(kind, folder, config),
        )

    def files(self, request: HubRequest) -> Sequence[Path]:
        require(self.name, "huggingface_hub")
        folder = _on_disk(request.model)
        if folder is None or not is_on_disk(request.data):
            return []
        weights = weights_in(folder) if request.checkpoint is None else [Path(request.checkpoint)]
        return [*weights, *sorted(folder.glob("*.json"))]


def _on_disk(model: str) -> Path | None:
    """The folder of a saved model; None where it would have to be downloaded."""
    path = Path(model).expanduser()
    return path if path.is_dir() else cached_snapshot(model)


def _folder(model: str) -> Path:
    """Of a saved model. Raises UsageError."""
    if (found := _on_disk(model)) is not None:
        return found
    if Path(model).expanduser().is_absolute() or model.startswith((".", "~")):
        raise UsageError(f"there is no folder {model}: give one that save_pretrained wrote, or a name as owner/name")
    return snapshot(model, "model")


def _config(folder: Path, model: str) -> Any:
    from transformers import AutoConfig

    if not (folder / "config.json").is_file():
        raise UsageError(f"{model} has no config.json: give a folder that save_pretrained wrote")
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises anything
        raise UsageError(
            f"{model}/config.json is of no model that transformers knows: {one_line(error, 120)}"
        ) from error


def _loaded(
    kind: ClassifierKind, folder: Path, checkpoint: str | None = None, fresh_head: bool = False, **options: Any
) -> nn.Module:
    """A classifier with its weights, whose outputs are logits alone. fresh_head: whether what the folder has no weights
    for may be drawn at random. Raises UsageError.
    """
    import transformers

    if not weights_in(folder):
        raise UsageError(f"{folder} has no weights: it needs model.safetensors, as save_pretrained writes it")
    try:
        model, found = getattr(transformers, kind.auto).from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, output_loading_info=True, **options
        )
    except Exception as error:  # transformers raises anything
        raise UsageError(f"{folder} cannot be loaded: {type(error).__name__}: {one_line(error, 200)}") from error
    if (missing := sorted(found["missing_keys"])) and checkpoint is None and not fresh_head:
        raise UsageError(
            f"{folder} has no weights for {one_line(', '.join(missing), 100)}, of {len(missing)} in all: train it for "
            "these classes first, or give all weights by --checkpoint FILE"
        )
    for part in model.modules():
        if isinstance(part, transformers.PreTrainedModel):
            part.name_or_path = ""  # wherever it lies, it is the same model
    model.config.update({"output_hidden_states": False, "output_attentions": False, "use_cache": False})
    if checkpoint is not None:
        _put(checkpoint, model)
    loaded: nn.Module = model
    return loaded


def _put(checkpoint: str, model: nn.Module) -> None:
    """The weights of a file. Raises UsageError."""
    try:
        model.load_state_dict(read_weights(Path(checkpoint)))
    except Exception as error:  # of either library
        cause = f"{type(error).__name__}: {one_line(error, 160)}"
        raise UsageError(f"the checkpoint {checkpoint} is not of this model: {cause}") from error


def _problem(config: Any, data: LabelledData) -> str:
    """What the model is for, where it is no plain classification."""
    if config.problem_type in (ONE_NUMBER, SEVERAL_LABELS):
        return str(config.problem_type)
    if config.num_labels == 1:
        return ONE_NUMBER
    return SEVERAL_LABELS if isinstance(data.labels["train"][0], list) else ""


def _all_targets(problem: str, labels: ClassNames, given: Mapping[str, Sequence[Any]]) -> dict[str, Tensor]:
    """Of each split. Raises UsageError."""
    if problem == SEVERAL_LABELS and _have_a_number_each(labels, [row for values in given.values() for row in values]):
        return {name: _numbers_of_classes(len(labels.model), name, values) for name, values in given.items()}
    return {name: _targets(problem, labels, name, values) for name, values in given.items()}


def _have_a_number_each(labels: ClassNames, rows: Sequence[Any]) -> bool:
    """Whether rows are a number for each class and not the classes themselves: where there are floats among them, or
    all are as long as there are classes, of 0 and 1 alone.
    """
    if labels.data is not None or not all(isinstance(row, list) for row in rows):
        return False
    if any(isinstance(value, float) for row in rows for value in row):
        return True
    return all(len(row) == len(labels.model) and set(row) <= {0, 1} for row in rows)


def _numbers_of_classes(classes: int, split: str, rows: Sequence[Any]) -> Tensor:
    """(N, C) as it is. Raises UsageError."""
    for row in rows:
        if len(row) != classes or not all(value is not None and 0 <= value <= 1 for value in row):
            raise UsageError(
                f"the {split} data have the label {one_line(str(row), 60)} and the model has {classes} classes: give a "
                "number from 0 to 1 for each of them, or the list of those that apply"
            )
    return torch.tensor(rows, dtype=torch.float32)


def _targets(problem: str, labels: ClassNames, split: str, values: Sequence[Any]) -> Tensor:
    """Numbers of classes (N,), numbers (N,), or ones where a class is among an example's (N, C). Raises UsageError."""
    if any(value is None for value in values):
        raise UsageError(f"the {split} data have examples without a label: leave them out")
    if problem == ONE_NUMBER:
        if labels.data is not None:
            raise UsageError("the model gives one number, and the data have classes: give numbers as labels")
        return torch.tensor(values, dtype=torch.float32)
    if problem == SEVERAL_LABELS:
        listed = [value if isinstance(value, list) else [value] for value in values]
        found = torch.zeros(len(listed), len(labels.model))
        for row, own in enumerate(_numbered(labels, split, [name for names in listed for name in names], listed)):
            found[row, own] = 1.0
        return found
    return torch.tensor([own[0] for own in _numbered(labels, split, values, [[value] for value in values])])


def _numbered(labels: ClassNames, split: str, every: Sequence[Any], rows: Sequence[Sequence[Any]]) -> list[list[int]]:
    """The classes of each example as numbers of the model's. every: all that occur."""
    numbers = None if labels.data is None else labels.numbers()
    if numbers is None or not any(isinstance(value, str) for value in every):
        if odd := [value for value in every if not _is_whole(value)]:
            raise UsageError(
                f"the {split} data have the label {one_line(str(odd[0]), 60)}, which is no class: give whole "
                'numbers, or a model whose config.json has the problem_type "regression"'
            )
        ordered = None if numbers is None else [numbers[name] for name in labels.data or ()]
        labels.check_numbers({split: [int(value) for value in every]})
        return [[int(value) if ordered is None else ordered[int(value)] for value in row] for row in rows]
    return [[numbers[str(value)] for value in row] for row in rows]


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) or (isinstance(value, float) and value.is_integer())


def _split(inputs: Any, targets: Tensor) -> Any:
    """Of tensors, or of what is prepared when it is read."""
    if isinstance(inputs, dict):
        return inputs, targets
    rows, prepare = inputs
    return PreparedExamples(rows, prepare, targets)


def _students(kind: ClassifierKind, folder: Path, config: Any) -> PretrainedStudents | None:
    """Smaller models of the same type that take the same inputs."""
    family = [
        FamilyMember(str(other), _bytes(other))
        for other in _others(folder)
        if weights_in(other) and _is_alike(kind, config, folder, other)
    ]
    build = partial(_student, kind, tuple(sorted(config.id2label.items())))
    return students_of(_bytes(folder), family, build)


def _others(folder: Path) -> Iterator[Path]:
    """The saved models beside the folder and in the cache, each once."""
    beside = sorted(path.parent for path in folder.parent.glob("*/config.json"))
    found = {path.resolve(): path for path in (*beside, *cached_models()) if (path / "config.json").is_file()}
    yield from (path for real, path in found.items() if real != folder.resolve())


def _is_alike(kind: ClassifierKind, config: Any, folder: Path, other: Path) -> bool:
    try:
        found = _config(other, str(other))
    except UsageError:
        return False
    own = config.model_type
    if found.model_type not in (own, f"distil{own}"):
        return False
    if any(getattr(found, name, None) != getattr(config, name, None) for name in kind.alike):
        return False
    return kind.title != "text" or same_vocabulary(folder, other)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in weights_in(folder))


def _student(kind: ClassifierKind, classes: tuple[tuple[int, str], ...], folder: str) -> nn.Module:
    """With the weights it comes with, and a head for the classes."""
    names = dict(classes)
    options: dict[str, Any] = {"num_labels": len(names), "id2label": names, "ignore_mismatched_sizes": True}
    return _loaded(kind, Path(folder), fresh_head=True, **options)


@hookimpl
def autocompress_hubs() -> list[Hub]:
    return [HuggingFace()]
