"""What a search begins with: all that was found out of its task."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from autocompress.candidate.arithmetic import Arithmetic
from autocompress.candidate.preparation import Preparation
from autocompress.candidate.request import ModelFile
from autocompress.evaluation import Evaluation, Outcome
from autocompress.explore.pipeline.variants import Ratios, untimed
from autocompress.plugin.contract import Applicable, Refusal
from autocompress.recipe import Recipe


@dataclass(frozen=True)
class Opening:
    """All that a search needs to know of its task. reference_family: the reference's own graph variants. arithmetic:
    how training computes.
    """

    prepared: Preparation
    arithmetic: Arithmetic
    reference: Evaluation
    reference_family: Outcome
    warnings: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.prepared.name

    @property
    def metric(self) -> str:
        return self.prepared.metric

    @property
    def applicable(self) -> tuple[Applicable, ...]:
        return self.prepared.applicable

    @property
    def refused(self) -> tuple[Refusal, ...]:
        return self.prepared.refused

    def to_json(self) -> dict[str, Any]:
        """All but what the strategies say of themselves, which is asked anew."""
        prepared = {**asdict(self.prepared), "applicable": [], "reference": self.prepared.reference.digest}
        return {
            **asdict(self),
            "prepared": prepared,
            "reference": self.reference.to_json(),
            "reference_family": self.reference_family.to_json(),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any], reference: str) -> "Opening":
        """reference: the path of its file, from the run folder."""
        prepared = value["prepared"]
        return cls(
            prepared=Preparation(
                **{
                    **prepared,
                    "applicable": (),
                    "refused": tuple(Refusal(**r) for r in prepared["refused"]),
                    "warnings": tuple(prepared["warnings"]),
                    "reference": ModelFile(Recipe(), reference, prepared["reference"]),
                }
            ),
            arithmetic=Arithmetic(**value["arithmetic"]),
            reference=Evaluation.from_json(value["reference"]),
            reference_family=Outcome.from_json(value["reference_family"]),
            warnings=tuple(value["warnings"]),
        )

    def ratios(self, only: Sequence[str] | None) -> Ratios:
        """Graph variants with their latency ratio on the reference, the fastest first. One that was slower there is
        kept: shapes may change that.
        """
        ratios = {e.recipe.variant: e.latency.ratio for e in self.reference_family.evaluations}
        ratios |= {s.recipe.variant: s.ratio for s in self.reference_family.slower}
        found = [(step, ratios.get(step, math.inf)) for step, _ in untimed(self.applicable, only)]
        return tuple(sorted(found, key=lambda pair: pair[1]))
