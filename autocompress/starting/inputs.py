"""How images and arrays become what a model takes: as the folder's transforms say, and what they do not say."""

from typing import Any

from autocompress.starting.choice import Answers
from autocompress.starting.datasets import Arrays, ImageFolders
from autocompress.starting.project import Project

DEFAULT_SIZE = (224, 224)  # of images that differ in size, where no transform says one


def image_values(project: Project, chosen: Answers, data: ImageFolders, notes: list[str]) -> dict[str, Any]:
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


def array_values(project: Project, chosen: Answers, data: Arrays, notes: list[str]) -> dict[str, Any]:
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
