"""What a search begins with: all that was found out of its task."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from autocompress.candidate.preparation import EarlierPreparation, Preparation
from autocompress.evaluation import Chance, Evaluation, Outcome
from autocompress.explore.pipeline.variants import Ratios, untimed
from autocompress.plugin.contract import Applicable, Refusal
from autocompress.score_scale import ScoreScale


@dataclass(frozen=True)
class Opening:
    """All that a search needs to know of its task. reference_family: the reference's own graph variants. chance: of
    the metric; None where it is not known.
    """

    prepared: Preparation
    reference: Evaluation
    reference_family: Outcome
    warnings: tuple[str, ...]
    chance: Chance | None = None

    @property
    def name(self) -> str:
        return self.prepared.name

    @property
    def metric(self) -> str:
        return self.prepared.metric

    @property
    def scale(self) -> ScoreScale:
        return ScoreScale(self.prepared.metric, self.prepared.maximize)

    @property
    def applicable(self) -> tuple[Applicable, ...]:
        return self.prepared.applicable

    @property
    def refused(self) -> tuple[Refusal, ...]:
        return self.prepared.refused

    def ratios(self, only: Sequence[str] | None) -> Ratios:
        """Graph variants with their latency ratio on the reference, the fastest first. One that was slower there is
        kept: shapes may change that.
        """
        ratios = {e.recipe.variant: e.latency.ratio for e in self.reference_family.evaluations}
        ratios |= {s.recipe.variant: s.ratio for s in self.reference_family.slower}
        found = [(step, ratios.get(step, math.inf)) for step, _ in untimed(self.applicable, only)]
        return tuple(sorted(found, key=lambda pair: pair[1]))


@dataclass(frozen=True)
class EarlierOpening:
    """What is kept of an opening for a resume, which finds out the rest anew."""

    prepared: EarlierPreparation
    reference: Evaluation
    reference_family: Outcome
    chance: Chance | None = None

    @classmethod
    def of(cls, opening: Opening) -> "EarlierOpening":
        prepared = opening.prepared
        earlier = EarlierPreparation(
            prepared.fingerprint,
            prepared.exporter,
            prepared.export_note,
            prepared.scored_on,
            prepared.tested_on,
            prepared.stream_head,
            dict(prepared.parts),
            prepared.students,
        )
        return cls(earlier, opening.reference, opening.reference_family, opening.chance)

    def to_json(self) -> dict[str, Any]:
        return {
            "prepared": asdict(self.prepared),
            "reference": self.reference.to_json(),
            "reference_family": self.reference_family.to_json(),
            "chance": self.chance and asdict(self.chance),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "EarlierOpening":
        return cls(
            prepared=EarlierPreparation.from_json(value["prepared"]),
            reference=Evaluation.from_json(value["reference"]),
            reference_family=Outcome.from_json(value["reference_family"]),
            chance=value["chance"] and Chance(**value["chance"]),
        )
