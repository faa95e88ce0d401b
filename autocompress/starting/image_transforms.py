"""What a folder's transforms of torchvision do to an image before a network sees it, as evaluation does it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from autocompress.starting.syntax import Outside, last_name, literal_values

PARAMETERS = {"Normalize": ("mean", "std")}  # of the others the first is the size
AT_RANDOM = ("RandomResizedCrop", "RandomCrop")

Size = tuple[int, int]


@dataclass(frozen=True)
class ImageTransforms:
    """mean, std: of each channel, of pixels from 0 to 1; empty where no code says them. scaled: pixels of the shorter
    side, or (height, width). cropped: (height, width) of the centre that is taken. at_random: of a piece that training
    takes anywhere. several: names of those that the code makes in more than one way, of which the first counts.
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    scaled: int | Size | None = None
    cropped: Size | None = None
    at_random: Size | None = None
    several: tuple[str, ...] = ()


def image_transforms(files: Iterable[Outside]) -> ImageTransforms:
    """Of all calls whose arguments are numbers, by place or by keyword."""
    found: dict[str, list[Any]] = {}
    for outside in files:
        for call in outside.calls:
            name = last_name(call.func)
            if name in ("Normalize", "Resize", "CenterCrop", *AT_RANDOM):
                values = literal_values(call, outside.constants, PARAMETERS.get(name, ("size",)))
                read = _normalize(values) if name == "Normalize" else _size(values)
                if read is not None and read not in found.setdefault(name, []):
                    found[name].append(read)
    first = {name: made[0] for name, made in found.items() if made}
    mean, std = first.get("Normalize", ((), ()))
    at_random = next((first[name] for name in AT_RANDOM if name in first), None)
    return ImageTransforms(
        mean,
        std,
        scaled=first.get("Resize"),
        cropped=_both(first.get("CenterCrop")),
        at_random=_both(at_random),
        several=tuple(name for name, made in found.items() if len(made) > 1 and name not in AT_RANDOM),
    )


def _normalize(values: dict[str | int, Any]) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    mean, std = (_numbers(values.get(name)) for name in ("mean", "std"))
    return (mean, std) if mean and std else None


def _numbers(value: Any) -> tuple[float, ...]:
    each = value if isinstance(value, (list, tuple)) else (value,)
    return tuple(map(float, each)) if all(isinstance(v, (int, float)) for v in each) else ()


def _size(values: dict[str | int, Any]) -> int | Size | None:
    """A number, or (height, width)."""
    size = values.get("size", (values.get("height"), values.get("width")))
    sides = tuple(size) if isinstance(size, (list, tuple)) else (size,)
    if not sides or len(sides) > 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        return None
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])


def _both(size: int | Size | None) -> Size | None:
    return (size, size) if isinstance(size, int) else size
