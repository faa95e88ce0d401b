"""The weights of a checkpoint that a user gives: safetensors, or what torch.save wrote. No code in it is run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# What training programs call weights, averages first.
NAMES_OF_WEIGHTS = ("state_dict_ema", "model_ema", "state_dict", "model")
WRAPPED = ("_orig_mod.", "module.")  # by torch.compile and DistributedDataParallel, either inside of the other


def read_weights(path: Path) -> dict[str, Tensor]:
    """By the names that the model itself has for them. Raises what either library does, and ValueError for a file
    without weights.
    """
    from safetensors.torch import load_file

    held: Any = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    for name in NAMES_OF_WEIGHTS:
        if isinstance(held, Mapping) and isinstance(held.get(name), Mapping):
            held = held[name]
            break
    if not isinstance(held, Mapping) or not held:
        raise ValueError("it holds no weights by name")
    weights = dict(held)
    while prefix := next((own for own in WRAPPED if all(name.startswith(own) for name in weights)), None):
        weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    return weights
