"""What is asked before a task is written: at most three questions, each with the answer that looking gave."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autocompress.errors import UsageError
from autocompress.starting.checkpoints import LEAST_FIT, FoundWeights
from autocompress.starting.project import Project, relative
from autocompress.starting.source_code import DataSource, ModelSource
from autocompress.starting.splits import Dataset
from autocompress.starting.tables import Table

BY_HAND = "none of these: splits() is left to be written"
MOST_CHOICES = 9
OUTPUT_ARGUMENTS = ("num_classes", "n_classes", "classes", "num_labels", "out_features", "output_dim", "outputs")
INPUT_ARGUMENTS = ("in_channels", "channels", "in_features", "input_dim", "n_features", "input_size", "inputs")

Ask = Callable[[str, Sequence[str]], int]  # a question and its answers, the likeliest first -> the number of one


@dataclass(frozen=True)
class Answers:
    """data: None where nothing was found, or nothing fits."""

    model: ModelSource
    weights: FoundWeights
    data: DataSource | Dataset | None


def choose(project: Project, ask: Ask) -> Answers:
    """Which network, which weights, which data. Raises UsageError where no weights go with the network."""
    models = [model for model, _ in project.fits][:MOST_CHOICES]
    number = ask("Which model is to be compressed?", [_model(model, project.folder) for model in models])
    model, fits = project.fits[number]
    weights = [checkpoint for fit, checkpoint in fits if fit >= LEAST_FIT][:MOST_CHOICES]
    if not weights:
        raise UsageError(
            f"no weights in {project.folder} have the names of {model.made.name}'s parameters: save its state_dict() "
            "there as .pt, .pth or .safetensors"
        )
    checkpoint = weights[ask("Which weights does it have?", [_weights(c, project.folder) for c in weights])]
    data = sorted(project.data, key=lambda source: has_other_classes(source, checkpoint))[: MOST_CHOICES - 1]
    answers = [*(_data(source, project.folder) for source in data), BY_HAND]
    number = ask("Which data does it learn and is it judged on?", answers)
    return Answers(_with_arguments(model, checkpoint, project.folder), checkpoint, (*data, None)[number])


def has_other_classes(data: DataSource | Dataset | None, weights: FoundWeights) -> bool:
    """Whether data is of another number of classes than the weights' last layer; one output is of two, or a number."""
    if not isinstance(data, Dataset) or not data.classes or weights.outputs is None:
        return False
    if weights.outputs == 1:
        return len(data.classes) != 2 and not (isinstance(data, Table) and data.numeric)
    return len(data.classes) != weights.outputs


def _with_arguments(model: ModelSource, weights: FoundWeights, folder: Path) -> ModelSource:
    """As code makes it that agrees with the weights, code that does not test first; else with what the weights say of
    required arguments. Raises UsageError where nothing says one.
    """
    inputs = weights.first_weight[1] if weights.first_weight else None
    known = dict.fromkeys(OUTPUT_ARGUMENTS, weights.outputs) | dict.fromkeys(INPUT_ARGUMENTS, inputs)
    unknown = [name for name in model.required if known.get(name) is None]
    calls = sorted(model.calls, key=lambda call: (_conflicts(call.values, known), call.in_tests))
    if calls and (unknown or not _conflicts(calls[0].values, known)):
        arguments = calls[0].arguments
    elif unknown:
        raise UsageError(
            f"{model.made.name} needs {', '.join(unknown)}, and no code in {folder} makes one from numbers: write a "
            "function without arguments there, def make_model(), that returns it"
        )
    else:
        arguments = ", ".join(f"{name}={known[name]}" for name in model.required)
    return replace(model, made=replace(model.made, arguments=arguments), required=())


def _conflicts(values: Mapping[str | int, Any], known: Mapping[str, int | None]) -> int:
    """Arguments that are other numbers than the weights say."""
    return sum(known.get(str(n)) not in (None, value) for n, value in values.items() if isinstance(value, int))


def _model(model: ModelSource, folder: Path) -> str:
    return f"{model.made.call} of {relative(model.made.file, folder)}"


def _weights(checkpoint: FoundWeights, folder: Path) -> str:
    name = relative(checkpoint.path, folder)
    return f"{name}[{checkpoint.entry!r}]" if checkpoint.entry else name


def _data(source: DataSource | Dataset, folder: Path) -> str:
    if isinstance(source, DataSource):
        return f"{source.made.call} of {relative(source.made.file, folder)}"
    parts = ", ".join(source.splits)
    return f"{source.template} in {relative(source.where, folder)} ({parts})"
