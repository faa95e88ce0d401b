"""What a worker is declared to know of a task before the reference is evaluated."""

from collections.abc import Sequence

from autocompress.candidate.preparation import KnownTask, Preparation
from autocompress.candidate.request import ModelFile
from autocompress.plugin.contract import Refusal
from autocompress.recipe import Recipe

from .kinds import Kind

EXPORTERS = ("torchscript", "dynamo")


def preparation(kind: Kind, known: KnownTask | None, only: Sequence[str] | None) -> Preparation:
    """Without what an earlier process knows, the strategies that are found ``later`` do not apply yet."""
    later = () if known else kind.later
    exporter = known.exporter if known else EXPORTERS[0]
    return Preparation(
        name=kind.name,
        fingerprint=kind.name,
        metric="accuracy",
        chance=None,
        train_examples=kind.train_examples,
        val_examples=kind.val_examples,
        test_examples=kind.test_examples,
        applicable=tuple(a for a in kind.applicable if a.name not in later and (only is None or a.name in only)),
        refused=(*kind.refused, *(Refusal(name, "these examples do not tell") for name in later)),
        exporter=exporter,
        export_note=known.export_note if known else f"by {exporter}",
        exported=known is None,
        reference=ModelFile(Recipe(), "reference/model.onnx", "reference", f"{Recipe()} None"),
        feeds="feeds",
        warnings=kind.warnings,
        versions={},
    )
