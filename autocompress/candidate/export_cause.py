"""Why an exporter failed, in words for a user."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from autocompress.errors import UsageError, one_line

OPERATOR = re.compile(r"(?:operator|op=) ?'([\w.:]+)'")  # that an exporter does not know
# What exporters say of what has no form in ONNX, and what computes the same and has one.
WAYS_OUT = {
    "Expected more than 1 value per channel": (
        "a norm over the batch computes nothing of a single example: give a profile with a larger batch"
    ),
    "LSTMs? with projections": "ONNX has no LSTM with proj_size: take one without, and nn.Linear behind it",
    "prim::PackPadded|_pack_padded_sequence|_M_range_check": (
        "of packed sequences only what pad_packed_sequence gives can be exported: read the last states from there, "
        "y[torch.arange(len(y)), lengths - 1]"
    ),
}
PLACE = re.compile(r" \([^()]+, line \d+\)$")


def unexportable(causes: Mapping[str, str]) -> UsageError:
    """What to tell about a reference that no exporter takes, before any search. causes: of each exporter."""
    said = "; ".join(f"{exporter}: {cause}" for exporter, cause in causes.items())
    known = [way_out for pattern, way_out in WAYS_OUT.items() if re.search(pattern, said)]
    return branching(causes.get("dynamo", "")) or UsageError(
        f"the model cannot be exported to ONNX: {said}; "
        f"{known[0] if known else 'replace what is named there, or move it out of forward'}"
    )


def branching(cause: str, *, in_the_users_code: bool = False) -> UsageError | None:
    """What to tell about a reference on which torch.export failed, when that was for data-dependent control flow: a
    tracer follows one branch of it and says nothing, so it counts even though the trace succeeded. in_the_users_code:
    only where the line is known; without one it may be a size that the exporter could not settle.
    """
    if not re.search(r"data.dependent|bool\(\)|Dynamic control flow|GuardOnDataDependent", cause, re.IGNORECASE):
        return None
    place = PLACE.search(cause)
    if in_the_users_code and place is None:
        return None
    return UsageError(
        f"the model has data-dependent control flow{place[0] if place else f' ({cause})'}, which an ONNX graph "
        "cannot hold: replace the branch by torch.where, or move it out of forward"
    )


def cause_of(error: BaseException) -> str:
    """The useful line of an exporter's long error: the innermost cause, with the user's line when it is known."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    text = next((str(e) for e in reversed(chain) if "data-dependent" in str(e)), str(chain[-1]))
    operator = OPERATOR.search(text)
    if operator:
        return f"it has no ONNX form of the operator {operator[1]}"
    head = one_line(next((line for line in text.splitlines() if line.strip()), type(error).__name__), 200)
    place = next((p for e in chain for p in _places(e)), "")
    return head + place


def _places(error: BaseException) -> Iterator[str]:
    found = list(re.finditer(r'File "([^"]+)", line (\d+)', str(error)))
    user = [m for m in found if "site-packages" not in m[1] and "/autocompress/" not in m[1]]
    if user:
        yield f" ({Path(user[-1][1]).name}, line {user[-1][2]})"
    trace, last = error.__traceback__, None
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if (
            "site-packages" not in name
            and "/autocompress/" not in name
            and "importlib" not in name
            and not name.startswith("<")
        ):
            last = f" ({Path(name).name}, line {trace.tb_lineno})"
        trace = trace.tb_next
    if last:
        yield last
