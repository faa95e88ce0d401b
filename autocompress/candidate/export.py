"""From a module to an ONNX file: two exporters, a numerical check against the module, constants folded.

"torchscript" traces (about 0.1 s); "dynamo" goes through torch.export (about a second, ten the first time). The
first is used unless it fails or the second one's file of the reference is clearly faster; the other stands in for a
candidate when it fails there.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn
from torch.jit import TracerWarning  # type: ignore[attr-defined]

from autocompress.candidate.export_cause import cause_of
from autocompress.candidate.folding import fold
from autocompress.candidate.silence import silent
from autocompress.data import (
    Axes,
    OutputLayout,
    PositionalModel,
    call,
    every_module_called,
    feed_of,
    named_inputs,
    resized,
)
from autocompress.errors import AutocompressError, CandidateFailed, one_line
from autocompress.nested import map_tensors
from autocompress.plain_model import scripted_part
from autocompress.plugin.contract import Session
from autocompress.storage.atomic import is_full, no_space, replacing
from autocompress.task import Inputs

EXPORTERS = ("torchscript", "dynamo")
OUTPUT_TOLERANCE = 1e-3  # of the output's range
LOGGERS = ("torch.onnx", "torch.export", "torch._export", "onnxscript", "onnx_ir", "torch.fx")
SCOPE = "/model/"  # before the names of the nodes that torchscript writes: the attribute of ``PositionalModel``


def export(
    model: nn.Module, layout: OutputLayout, inputs: Inputs, target: Path, exporter: str, opset: int | None = None
) -> str:
    """Write ``model`` as ``target`` with the shapes of ``inputs`` built in, but for the axes that vary
    (``OutputLayout.dynamic``); returns the exporter that worked. opset: the version of ONNX's operators; None: the
    exporter's own.

    Raises CandidateFailed when neither exporter takes the model.
    """

    def write(name: str) -> None:
        with replacing(target) as temporary:
            export_with(name, model, layout, inputs, temporary, opset)

    return _exported(exporter, write)


def export_checked(
    model: nn.Module,
    layout: OutputLayout,
    inputs: Sequence[Inputs],
    target: Path,
    exporter: str,
    open_file: Callable[[Path], Session],
    opset: int | None = None,
) -> str:
    """``export`` by the first exporter, beginning with the given one, whose file agrees with the module on ``inputs``.

    Raises CandidateFailed with the cause of each when none does.
    """
    return _exported(exporter, lambda name: export_right(name, model, layout, inputs, target, open_file, opset))


def _exported(exporter: str, write: Callable[[str], None]) -> str:
    worked, causes = first_that_works(exporter, write)
    if worked is None:
        raise CandidateFailed("export failed; " + "; ".join(f"{name}: {cause}" for name, cause in causes.items()))
    return worked


def export_right(
    exporter: str,
    model: nn.Module,
    layout: OutputLayout,
    inputs: Sequence[Inputs],
    target: Path,
    open_file: Callable[[Path], Session],
    opset: int | None = None,
) -> None:
    """Export by one exporter; the file takes its name once it agrees with the module on ``inputs``. Raises
    CandidateFailed.
    """
    with replacing(target) as temporary:
        export_with(exporter, model, layout, inputs[0], temporary, opset)
        session = open_file(temporary)
        several = [*inputs, *other_sizes(layout, inputs[0])]
        check(session, [feed_of(i, session.input_names) for i in several], model, layout, several)


def first_that_works(exporter: str, write: Callable[[str], None]) -> tuple[str | None, dict[str, str]]:
    """The first exporter, beginning with the given one, by which ``write`` does not fail, and the causes of those that
    were tried before it.
    """
    causes: dict[str, str] = {}
    for name in (exporter, *(other for other in EXPORTERS if other != exporter)):
        try:
            write(name)
            return name, causes
        except CandidateFailed as error:
            causes[name] = error.reason
    return None, causes


def export_with(
    exporter: str, model: nn.Module, layout: OutputLayout, inputs: Inputs, target: Path, opset: int | None = None
) -> None:
    """Export by one exporter, every delivered output by its name, and fold constants. Raises CandidateFailed with the
    exporter's cause.
    """
    inputs = _not_one(layout, inputs)
    wrapped, named = PositionalModel(model, inputs, layout.names).eval(), named_inputs(inputs)
    dynamo, outputs = exporter == "dynamo", layout.names_in_file({*named, *wrapped.state_dict()})
    raw = target.with_suffix(".raw.onnx")
    try:
        with silent(*LOGGERS), every_module_called(), torch.inference_mode(False), torch.no_grad():
            if not dynamo and scripted_part(model) is not None:  # the exporter takes them as parts of a trace alone
                wrapped = torch.jit.trace(wrapped, tuple(named.values()), check_trace=False)  # type: ignore[no-untyped-call]
            torch.onnx.export(
                wrapped,
                tuple(named.values()),
                str(raw),
                dynamo=dynamo,
                input_names=list(named),
                output_names=list(outputs.values()),
                verbose=False,
                external_data=False,
                opset_version=opset,
                **_free_axes(layout, named, outputs, dynamo=dynamo),
            )
        fold(raw, target)
        keep_inputs(target, inputs, layout.dynamic)
        keep_to_opset(target, opset)
    except AutocompressError:
        raise
    except Exception as error:  # exporters raise anything
        if isinstance(error, OSError) and is_full(error):
            raise no_space(target, error) from error
        raise CandidateFailed(cause_of(error)) from error
    finally:
        raw.unlink(missing_ok=True)


def keep_to_opset(path: Path, most: int | None) -> None:
    """Give a file the version of the format that belongs to its operators: what knows no newer operators knows no newer
    format. Raises CandidateFailed when it needs a newer version of ONNX's operators than the target knows.
    """
    if most is None:
        return
    model = onnx.load(str(path), load_external_data=False)
    own = [known for known in model.opset_import if known.domain in ("", "ai.onnx")]
    version = max((known.version for known in own), default=0)
    if version > most:
        raise CandidateFailed(f"the file is written in opset {version}, and the profile's target knows {most}")
    known_format = onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", most)])
    if model.ir_version > known_format:
        model.ir_version = known_format
        onnx.save(model, str(path))


def _free_axes(
    layout: OutputLayout, inputs: Iterable[str], outputs: Mapping[str, str], *, dynamo: bool
) -> dict[str, Any]:
    """The arguments that keep the axes free; none where all are fixed."""
    if not layout.dynamic:
        return {}
    if dynamo:  # what follows in the outputs it finds by itself
        sizes = {name: torch.export.Dim(name) for axes in layout.dynamic.values() for name in axes.values()}
        own = (layout.dynamic.get(name, {}) for name in inputs)
        return {"dynamic_shapes": [tuple({axis: sizes[name] for axis, name in axes.items()} for axes in own)]}
    varying = {outputs[name]: dict(axes) for name, axes in layout.varying.items()}
    return {"dynamic_axes": {name: dict(axes) for name, axes in layout.dynamic.items()} | varying}


def _not_one(layout: OutputLayout, inputs: Inputs) -> Inputs:
    """The inputs with two places along axes that vary and have one: an exporter takes one for a size that stays."""
    sizes = {
        name: tensor.shape[axis]
        for tensor, axes in ((t, layout.dynamic.get(n, {})) for n, t in named_inputs(inputs).items())
        for axis, name in axes.items()
    }
    return resized(inputs, layout.dynamic, {name: 2 for name, size in sizes.items() if size == 1})


def other_sizes(layout: OutputLayout, inputs: Inputs) -> list[Inputs]:
    """The same inputs at other sizes that the model takes, where their axes vary."""
    return [resized(inputs, layout.dynamic, sizes) for sizes in layout.sizes]


def decides_by_values(model: nn.Module, layout: OutputLayout, inputs: Inputs) -> bool:
    """Whether a trace of the model makes Python numbers of tensors, as a branch on what it computes does: the trace
    follows one branch and says no more of it. Comparisons of shapes make them too.
    """
    wrapped, values = PositionalModel(model, inputs, layout.names).eval(), tuple(named_inputs(inputs).values())
    with every_module_called(), torch.no_grad(), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", TracerWarning)
        try:
            torch.jit.trace(wrapped, values, check_trace=False)  # type: ignore[no-untyped-call]
        except Exception:  # what cannot be traced is exported otherwise
            return False
    return any(issubclass(w.category, TracerWarning) and "to a Python" in str(w.message) for w in said)


def keep_inputs(path: Path, inputs: Inputs, free: Axes) -> None:
    """Give a file every input of the model, in order: an exporter leaves out those that the model ignores, and who runs
    the file need not know.
    """
    model = onnx.load(str(path))
    found = {value.name: value for value in model.graph.input}
    values = named_inputs(inputs)
    if found.keys() == values.keys():
        return
    del model.graph.input[:]
    for name, tensor in values.items():
        kind = onnx.helper.np_dtype_to_tensor_dtype(tensor.numpy().dtype)
        shape = [free.get(name, {}).get(axis, size) for axis, size in enumerate(tensor.shape)]
        ignored = onnx.helper.make_tensor_value_info(name, kind, shape)
        model.graph.input.append(found.get(name, ignored))
    onnx.save(model, str(path))


def check(
    session: Session, feeds: Sequence[Any], model: nn.Module, layout: OutputLayout, inputs: Sequence[Inputs]
) -> float:
    """Largest difference between the file's and the module's outputs, as a share of the range of the output; of whole
    numbers the share of them that differ.

    Raises CandidateFailed above 1e-3, or when the file gives NaN where the module does not.
    """
    worst = 0.0
    model.eval()
    for feed, batch in zip(feeds, inputs, strict=True):
        expected = _expected(model, layout, batch)
        try:
            got = session.run(feed)
        except Exception as error:  # a runtime raises anything
            raise CandidateFailed(f"the exported file does not run: {one_line(error, 200)}") from error
        if len(got) != len(expected):
            raise CandidateFailed(f"the exported file gives {len(got)} outputs, the module {len(expected)}")
        for number, (name, wanted) in enumerate(expected.items()):
            which = f" as {name}" if len(expected) > 1 else ""
            found = np.asarray(got[number])
            if found.shape != wanted.shape:
                raise CandidateFailed(f"the exported file gives shape {found.shape}{which}, the module {wanted.shape}")
            if (~np.isfinite(found) & np.isfinite(wanted)).any():
                raise CandidateFailed(f"the exported file gives NaN or infinite outputs{which}")
            difference = _difference(found, wanted)
            worst = max(worst, difference)
            if difference > OUTPUT_TOLERANCE:
                if _difference(_expected(model, layout, batch)[name], wanted) > OUTPUT_TOLERANCE:
                    raise CandidateFailed(
                        "the module gives other outputs each time it is called: it draws numbers in evaluation mode, "
                        "or keeps something of earlier calls"
                    )
                raise CandidateFailed(
                    f"the exported file and the module disagree by {difference:.2g} of the output's range{which} "
                    f"(allowed {OUTPUT_TOLERANCE:g})"
                )
    return worst


def _expected(model: nn.Module, layout: OutputLayout, batch: Inputs) -> dict[str, Any]:
    with torch.no_grad():
        delivered = layout.delivered(call(model, map_tensors(torch.clone, batch)))
    return {name: tensor.numpy() for name, tensor in delivered.items()}


def _difference(found: Any, wanted: Any) -> float:
    """The largest, as a share of the range of what is wanted; of whole numbers how many differ, as a share."""
    if not wanted.size:
        return 0.0
    if not np.issubdtype(wanted.dtype, np.floating):
        return float((found != wanted).mean())
    finite = np.isfinite(wanted)
    if not finite.all():
        found, wanted = found[finite], wanted[finite]
        if not wanted.size:
            return 0.0
    span = max(float(np.ptp(wanted)), float(np.abs(wanted).max()), 1e-6)
    return float(np.abs(found.astype(np.float32) - wanted).max()) / span
