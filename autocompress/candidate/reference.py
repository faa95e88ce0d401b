"""The unchanged model as a file, by either exporter."""

from contextlib import suppress
from pathlib import Path

from autocompress.candidate.export import EXPORTERS, decides_by_values, export_right, first_that_works
from autocompress.candidate.export_cause import branching, unexportable
from autocompress.candidate.make import CHECKED_BATCHES, discard, file_of
from autocompress.candidate.open_task import OpenTask
from autocompress.candidate.request import ModelFile
from autocompress.data import profile_inputs
from autocompress.errors import CandidateFailed
from autocompress.recipe import Recipe


def first_reference(first: str, opened: OpenTask) -> tuple[str, str]:
    """Export the reference by an exporter, or by the other one if that gives no right file: which one, and why. Raises
    UsageError when neither does, and when what a tracer wrote may be one branch of several and the other exporter finds
    that it is.
    """
    worked, causes = first_that_works(first, lambda name: export_reference(opened, name, opened.folder.reference))
    if worked is None:
        raise unexportable(causes)
    tracer, other = EXPORTERS
    example = next(profile_inputs(opened.val.split, opened.profile, opened.context.layout, 1))
    if (
        worked == tracer
        and other not in causes
        and decides_by_values(opened.context.model, opened.context.layout, example)
    ):
        with suppress(CandidateFailed):
            discard(opened.folder.root / other_reference(opened, other).path)
    return worked, f"by {worked}" + "".join(f"; {other} failed: {why}" for other, why in causes.items())


def export_reference(opened: OpenTask, exporter: str, path: Path) -> None:
    """Write the reference as ``path``. Raises CandidateFailed when it cannot be exported, or the file is not right."""
    inputs = list(profile_inputs(opened.val.split, opened.profile, opened.context.layout, CHECKED_BATCHES))
    with opened.supervisor.during("export", f"export the reference ({exporter})"):
        export_right(
            exporter, opened.context.model, opened.context.layout, inputs, path, opened.open, opened.profile.opset
        )


def other_reference(opened: OpenTask, exporter: str) -> ModelFile:
    """The reference by another exporter, for comparison with the first one's file. Raises CandidateFailed, and
    UsageError when it finds that the model cannot be held by a graph.
    """
    path = opened.folder.scratch / f"reference-{exporter}.onnx"
    try:
        export_reference(opened, exporter, path)
    except CandidateFailed as error:
        if refusal := branching(error.reason, in_the_users_code=True):
            raise refusal from error
        raise
    return file_of(opened, Recipe(), path)
