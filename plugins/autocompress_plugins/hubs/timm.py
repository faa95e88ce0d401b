"""``timm:NAME --data FOLDER``: an image classifier of timm, with the preprocessing of its own data configuration.

FOLDER holds a folder of images for each class, or such folders under train and val (and test). The weights are those of
--checkpoint FILE, else timm's own, from the cache of Hugging Face; they are downloaded only where they are not in it.
Smaller models of the family whose weights are in the cache are its students: those whose names differ in one part, as
vit_tiny_patch16_224 from vit_small_patch16_224.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autocompress.errors import UsageError, one_line, unknown
from autocompress.plugin.contract import Hub, HubRequest
from autocompress.plugin.hooks import hookimpl
from autocompress.task import Task
from autocompress_plugins.hubs.checkpoint_file import read_weights
from autocompress_plugins.hubs.hub_cache import cached_snapshot, require, snapshot, weights_in
from autocompress_plugins.hubs.image_inputs import PreparedExamples
from autocompress_plugins.hubs.pretrained import FamilyMember, PretrainedStudents, learning_rates_of, students_of
from autocompress_plugins.hubs.splitting import divided, named_split

autocompress_api = 2

SIZE_IN_NAME = re.compile(
    r"pico|femto|atto|nano|xx?small|tiny|small|medium|base|large|xlarge|huge|xx?s|s|m|x?l|[a-z]*\d+"
)
LEAST_IMAGES = 3  # in all, where val and test come from one folder


class Timm(Hub):
    name = "timm"
    summary = "image classifiers of timm, with a folder of images for each class"

    def task(self, request: HubRequest) -> Task:
        require(self.name, "timm", "torchvision", "PIL")
        import timm

        classes, found = read_folder(Path(request.data).expanduser())
        _refuse_unknown(request.model)
        model = _trained(request, len(classes))
        config = timm.data.resolve_model_data_config(model)
        prepare = PreparedFile(timm.data.create_transform(**config, is_training=False))
        splits = {
            name: PreparedExamples([path for path, _ in rows], prepare, torch.tensor([label for _, label in rows]))
            for name, rows in found.items()
        }
        return Task(
            name=request.name,
            model=model,
            train=splits["train"],
            val=splits["val"],
            test=splits.get("test"),
            labels=classes,
            learning_rates=learning_rates_of(model),
            student=_family_students(request.model, model, len(classes)),
        )

    def files(self, request: HubRequest) -> Sequence[Path]:
        if request.checkpoint is None:
            require(self.name, "timm", "torchvision")
        found = _weights_on_disk(request)
        return [] if found is None else [found]


class PreparedFile:
    """An image file as the model takes it (C, H, W)."""

    def __init__(self, transform: Any) -> None:
        self._transform = transform

    def __call__(self, path: str) -> Tensor:
        from PIL import Image

        with Image.open(path) as image:
            prepared: Tensor = self._transform(image.convert("RGB"))
        return prepared


def read_folder(folder: Path) -> tuple[list[str], dict[str, list[tuple[str, int]]]]:
    """The names of the classes, numbered as ImageFolder of torchvision does it, sorted as text (10 before 2), and
    (file, class) of each image by split. Raises UsageError.
    """
    from timm.data.readers.reader_image_folder import find_images_and_targets

    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}: give one that holds a folder of images for each class")
    inside = {split: path for path in sorted(folder.iterdir()) if path.is_dir() and (split := named_split(path.name))}
    wholes = inside if "train" in inside else {"train": folder}
    read = {split: find_images_and_targets(str(path)) for split, path in wholes.items()}
    images, numbers = read["train"]
    of_classes = {name for name in numbers if name not in ("", ".")}
    if not images or len(numbers) != len(of_classes) or len(of_classes) < 2:
        raise UsageError(f"{folder} has no classes: put the images of each class into a folder of its own")
    for split, (_, others) in read.items():
        if others != numbers and set(others) - set(numbers):
            raise UsageError(f"{wholes[split]} has classes that train has not: {', '.join(set(others) - set(numbers))}")
    names = sorted(numbers)
    rows = {
        split: [(path, names.index(own[label])) for path, label in found]
        for split, (found, others) in read.items()
        for own in [{number: name for name, number in others.items()}]
    }
    if len(images) < LEAST_IMAGES:
        raise UsageError(f"{folder} has {len(images)} images: too few to train and to validate on")
    chosen = divided({split: len(found) for split, found in rows.items()})
    splits = {split: [rows[whole][row] for row in taken] for split, (whole, taken) in chosen.items()}
    return names, splits


def _weights_on_disk(request: HubRequest) -> Path | None:
    """The file with the model's weights; None where it would have to be downloaded, or is nowhere."""
    if request.checkpoint is not None:
        return Path(request.checkpoint) if Path(request.checkpoint).is_file() else None
    repository = _repository(request.model)
    folder = None if repository is None else cached_snapshot(repository)
    return None if folder is None else weights_in(folder)[0]


def _weights(request: HubRequest) -> Path:
    """The file with the model's weights. Raises UsageError."""
    if request.checkpoint is not None:
        path = Path(request.checkpoint)
        if not path.is_file():
            raise UsageError(f"there is no checkpoint {path}")
        return path
    repository = _repository(request.model)
    if repository is None:
        raise UsageError(f"timm has no trained weights of {request.model}: give yours by --checkpoint FILE")
    try:
        folder = snapshot(repository, "model")
    except UsageError as error:
        raise UsageError(f"{error}; or give your weights by --checkpoint FILE") from error
    if not weights_in(folder):
        raise UsageError(f"{folder} has no weights of {request.model}: give yours by --checkpoint FILE")
    return weights_in(folder)[0]


def _refuse_unknown(name: str) -> None:
    """Raises UsageError for no model of timm."""
    import timm

    if not timm.is_model(name):
        raise unknown("model of timm", name, timm.list_models())


def _repository(name: str) -> str | None:
    """Where its weights are on the Hugging Face Hub; None where there are none."""
    import timm

    config = timm.get_pretrained_cfg(name)
    return None if config is None else config.hf_hub_id or None


def _trained(request: HubRequest, classes: int) -> nn.Module:
    """With its weights, for so many classes. Raises UsageError, also where it has others."""
    import timm

    if request.checkpoint is None:
        own = timm.get_pretrained_cfg(request.model)
        if own is not None and own.num_classes != classes:
            raise UsageError(
                f"the data have {classes} classes and {request.model} has {own.num_classes}: give by --checkpoint FILE "
                "the weights of one that was trained on these"
            )
        return _made(request.model, _weights(request), classes)
    weights = _weights(request)
    model: nn.Module = timm.create_model(request.model, num_classes=classes)
    try:
        state = read_weights(weights)
        head = _head(model)
        if head in state and len(state[head]) != classes:
            raise UsageError(
                f"the data have {classes} classes and the model of {weights} has {len(state[head])}: give data with "
                "its classes, or a model that was trained on these"
            )
        model.load_state_dict(state)
    except UsageError:
        raise
    except Exception as error:  # a file of any kind
        raise UsageError(
            f"the checkpoint {weights} is not of {request.model}: {type(error).__name__}: {one_line(error, 160)}"
        ) from error
    return model


def _head(model: nn.Module) -> str:
    """The weight whose rows are the classes."""
    config: Mapping[str, Any] = model.pretrained_cfg  # type: ignore[assignment]
    name = config.get("classifier") or "head"
    return f"{name if isinstance(name, str) else name[0]}.weight"


def _made(name: str, weights: Path, classes: int) -> nn.Module:
    """With timm's own weights; a head for another number of classes is fresh."""
    import timm

    overlay = {"state_dict": read_weights(weights)}
    model: nn.Module = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=classes)
    config: dict[str, Any] = model.pretrained_cfg  # type: ignore[assignment]
    config.pop("state_dict", None)  # the model has them by now
    return model


def _family_students(name: str, model: nn.Module, classes: int) -> PretrainedStudents | None:
    """Of the smaller models of the family whose weights are in the cache."""
    members = dict(_cached_family(name))
    sizes = [FamilyMember(member, _parameters(member, classes)) for member in members]
    whole = sum(parameter.numel() for parameter in model.parameters())
    return students_of(whole, sizes, partial(_member, tuple(members.items()), classes))


def _cached_family(name: str) -> Iterator[tuple[str, str]]:
    """The models that take the same images and whose names differ in a size alone, with the files of their weights."""
    import timm
    from huggingface_hub import try_to_load_from_cache

    bare, config = name.partition(".")[0], timm.get_pretrained_cfg(name)
    for other in timm.list_models():
        if not is_of_family(bare, other):
            continue
        found = timm.get_pretrained_cfg(other)
        if found is None or not found.hf_hub_id or (config and found.input_size != config.input_size):
            continue
        path = try_to_load_from_cache(found.hf_hub_id, "model.safetensors")
        if isinstance(path, str):
            yield other, path


def is_of_family(name: str, other: str) -> bool:
    """Whether two names differ in one part alone, which is a size in both: ``small`` and ``tiny``, ``resnet50`` and
    ``resnet18``.
    """
    own, parts = name.split("_"), other.split("_")
    if len(own) != len(parts):
        return False
    apart = [pair for pair in zip(own, parts, strict=True) if pair[0] != pair[1]]
    if len(apart) != 1:
        return False
    (one, two), *_ = apart
    stems = [re.sub(r"\d+$", "", part) for part in (one, two)]
    numbered = one != stems[0] and two != stems[1]
    return bool(SIZE_IN_NAME.fullmatch(one) and SIZE_IN_NAME.fullmatch(two)) and (not numbered or stems[0] == stems[1])


def _parameters(name: str, classes: int) -> int:
    import timm

    with torch.device("meta"):
        return sum(parameter.numel() for parameter in timm.create_model(name, num_classes=classes).parameters())


def _member(members: Sequence[tuple[str, str]], classes: int, name: str) -> nn.Module:
    """Raises UsageError."""
    weights = dict(members).get(name)
    if weights is None:
        raise UsageError(f"the weights of {name}, a student of this search, are not in the cache any more")
    return _made(name, Path(weights), classes)


@hookimpl
def autocompress_hubs() -> list[Hub]:
    return [Timm()]
