"""Which layers an int8 file computes in float, and why, for ``inspect``."""

from collections.abc import Mapping

from torch import nn

from autocompress.kept_parts import KEPT_BY_NAME, why_kept
from autocompress_plugins.layer_kinds import CONVOLUTIONS, MATRIX_LAYERS

Reasons = Mapping[type[nn.Module], str]  # by kind of layer

WITHOUT_STATIC_FORM: Reasons = {nn.RNNBase: "a recurrent layer has no static int8 form"}
WITHOUT_DYNAMIC_FORM: Reasons = {
    **dict.fromkeys(CONVOLUTIONS, "a convolution is slower in dynamic int8 than in float"),
    nn.GRU: "there is no int8 kernel for a GRU",
    nn.RNN: "there is no int8 kernel for a plain recurrent layer",
}


def left_in_float(model: nn.Module, without_form: Reasons) -> dict[str, str]:
    """The reason by the name of the layer; of the task's own wish first."""
    found = {}
    for name, module in model.named_modules():
        if not isinstance(module, MATRIX_LAYERS):
            continue
        if (kept := why_kept(module)) == KEPT_BY_NAME:
            found[name] = kept
            continue
        reason = next((own for kind, own in without_form.items() if isinstance(module, kind)), None)
        if reason is not None:
            found[name] = reason
    return found
