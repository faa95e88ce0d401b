"""The weights worth sharing or zeroing: matrices and kernels of layers, without biases, norms, the user's own
parameters and layers that stay as they are.
"""

from torch import nn

from autocompress.kept_parts import why_kept
from autocompress_plugins.layer_kinds import MATRIX_LAYERS

EXTRA_ROWS = ("bias_k", "bias_v")  # of nn.MultiheadAttention: one more key and value


def matrices(model: nn.Module, kinds: tuple[type[nn.Module], ...] = MATRIX_LAYERS) -> dict[str, nn.Parameter]:
    """Parameters of more than one dimension of the layers of these kinds, each once, by name."""
    found: dict[int, tuple[str, nn.Parameter]] = {}
    kept = {id(p) for layer in model.modules() if why_kept(layer) for p in layer.parameters(recurse=False)}
    for path, layer in model.named_modules():
        if isinstance(layer, kinds):
            for name, parameter in layer.named_parameters(path, recurse=False):
                if id(parameter) in kept or not parameter.requires_grad:
                    continue
                if parameter.dim() > 1 and name.rpartition(".")[2] not in EXTRA_ROWS:
                    found.setdefault(id(parameter), (name, parameter))
    return dict(found.values())
