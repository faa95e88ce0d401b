"""How many validation examples the files of a family are scored on."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from autocompress.candidate.request import ModelFile, NotScored, Sample, Scored
from autocompress.evaluation import Evaluation, Score
from autocompress.explore.pipeline.scoring import Stands, anything_stands, sample_of, score_each
from autocompress.latency import Latency
from autocompress.recipe import Recipe

SAMPLE = Sample(1000, "val-reference", Score(0.9, 0.89, 0.91))


@dataclass
class DeclaredScores:
    """Scores of files on a sample and on the whole split. asked: the names of each call, and on how many examples."""

    scores: dict[str, tuple[float | None, float | None]]
    asked: list[tuple[list[str], int | None]] = field(default_factory=list)

    async def score(
        self, files: Sequence[ModelFile], sample: Sample | None = None, *, limit_s: float
    ) -> tuple[Scored | NotScored, ...]:
        self.asked.append(([file.path for file in files], sample.examples if sample else None))
        return tuple(self._scored(file.path, sample) for file in files)

    def _scored(self, name: str, sample: Sample | None) -> Scored | NotScored:
        value = self.scores[name][sample is None]
        if value is None:
            return NotScored(None, "the model gives NaN or infinite outputs on the validation split")
        own = Score(value, value - 0.01, value + 0.01, sampled=sample.examples if sample else None)
        return Scored(own, 10, 8, 5, 7, f"val-{name}")


@pytest.fixture
def score_family(make_latency: Callable[..., Latency]) -> Callable[..., dict[str, Any]]:
    """``score_family(operations, {"name": ratio})``: by name the score that each file got, None for one that failed."""

    def score(
        operations: Any,
        ratios: dict[str, float],
        stands: Stands = anything_stands,
        sample: Sample | None = SAMPLE,
        for_size: str = "",
    ) -> dict[str, Any]:
        files = [
            (ModelFile(Recipe(), name, f"digest {name}", f"graph {name}"), make_latency(ratio))
            for name, ratio in ratios.items()
        ]

        async def asked_for(files: Any, sample: Any, limit_s: float) -> Any:
            return await operations.score([file for file, _ in files], sample, limit_s=limit_s)

        asked = score_each(asked_for, sample, stands, lambda file: file.path == for_size, lambda: 9.0, files)
        found = asyncio.run(asked)
        return {
            name: answer.score if isinstance(answer, Scored) else None
            for name, answer in zip(ratios, found, strict=True)
        }

    return score


def test_only_what_would_be_on_the_front_is_scored_on_all_examples(score_family: Any) -> None:
    """The float file is slower than the integer one and no better, so a sample of it is enough."""
    operations = DeclaredScores({"float": (0.88, 0.881), "int8": (0.88, 0.879)})
    found = score_family(operations, {"float": 0.5, "int8": 0.25})
    assert operations.asked == [(["float", "int8"], 1000), (["int8"], None)]
    assert (found["int8"].val, found["int8"].whole) == (0.879, True)
    assert (found["float"].val, found["float"].sampled) == (0.88, 1000)


def test_a_slower_file_that_scores_more_is_on_the_front_too(score_family: Any) -> None:
    operations = DeclaredScores({"float": (0.9, 0.9), "int8": (0.87, 0.871)})
    assert all(score.whole for score in score_family(operations, {"float": 0.5, "int8": 0.25}).values())


def test_files_of_a_family_are_compared_on_the_same_examples(score_family: Any) -> None:
    """What was lucky for one was so for the other."""
    operations = DeclaredScores({"float": (0.88, 0.87), "int8": (0.89, 0.875)})
    found = score_family(operations, {"float": 0.5, "int8": 0.25})
    assert [score.sampled for score in found.values()] == [1000, None]


def test_what_the_front_dominates_is_not_scored_further(score_family: Any) -> None:
    operations = DeclaredScores({"float": (0.9, 0.9), "int8": (0.87, 0.871)})
    found = score_family(operations, {"float": 0.5, "int8": 0.25}, stands=lambda score, ratio: False)
    assert operations.asked == [(["float", "int8"], 1000)]
    assert not any(score.whole for score in found.values())


def test_what_is_made_for_its_size_is_scored_on_all_examples_whatever_its_speed(score_family: Any) -> None:
    operations = DeclaredScores({"float": (0.88, 0.881), "small": (0.88, 0.882), "int8": (0.88, 0.879)})
    found = score_family(operations, {"float": 0.5, "small": 0.6, "int8": 0.25}, for_size="small")
    assert [score.sampled for score in found.values()] == [1000, None, None]


def test_a_file_that_fails_costs_itself_alone(score_family: Any) -> None:
    sampled = DeclaredScores({"float": (0.88, 0.881), "int8": (None, None)})
    assert score_family(sampled, {"float": 0.5, "int8": 0.25})["float"].val == 0.881
    whole = DeclaredScores({"float": (0.88, 0.881), "int8": (0.89, None)})
    found = score_family(whole, {"float": 0.5, "int8": 0.25})
    assert found["int8"] is None
    assert found["float"].val == 0.881, "nothing that failed stands before it"


def test_without_a_sample_everything_is_scored_once(score_family: Any) -> None:
    operations = DeclaredScores({"float": (0.0, 0.9), "int8": (0.0, 0.87)})
    found = score_family(operations, {"float": 0.5, "int8": 0.25}, sample=None)
    assert operations.asked == [(["float", "int8"], None)]
    assert [score.val for score in found.values()] == [0.9, 0.87]


@pytest.mark.parametrize(
    ("examples", "batch", "ms", "limit_s", "sampled"),
    [
        (5000, 1, 0.5, 600, 1000),
        (1999, 1, 0.5, 600, None),
        (2000, 1, 0.5, 600, 1000),
        (5000, 1, 10.0, 600, 300),
        (5000, 4, 10.0, 600, 1000),
        (5000, 1, 10.0, 60, 200),
        (399, 1, 10.0, 60, None),
    ],
)
def test_the_sample_follows_from_what_a_call_takes(
    examples: int,
    batch: int,
    ms: float,
    limit_s: float,
    sampled: int | None,
    make_latency: Callable[..., Latency],
) -> None:
    latency = make_latency(1.0, p50=ms)
    reference = Evaluation("reference", Recipe(), 0.0, 0, SAMPLE.score, latency, 1, 1, 1, 1, "a", "d", "g", "val-own")
    found = sample_of(reference, examples, batch, limit_s)
    assert (found.examples if found else None) == sampled
    if found:
        assert (found.outputs, found.score) == (reference.outputs, reference.score)
