"""Every sentence is made of figures: take any away, and what depends on it is gone, and not another sentence."""

import copy
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from autocompress.report import explain
from autocompress.report.explanation import explanation
from autocompress.report.readable import as_far_as_known
from autocompress.report.what_helps import what_would_help
from tests.report.pages import candidate, document

PRUNE, TEACH, TUNE = ("prune_channels", {"ratio": 0.5}), ("distill_logits", {}), ("finetune", {})
INT8 = {"strategy": "quantize_static", "params": {}, "variant": True}
Document = dict[str, Any]


def file(name: str, val: float, ratio: float, *steps: Any, int8: bool = False, **more: Any) -> Document:
    made = candidate(name, val, 0.8 * ratio, *steps)
    made["recipe"] += [INT8] if int8 else []
    made["latency_ms"] |= {"ratio_next_high": 1.03 * ratio, "next_high": 0.83 * ratio, "ratio_of_all": 1.3 * ratio}
    made["latency_ms"] |= {"sessions": 5, "statistic": 0.8 * ratio, "fidelity": 3}
    drop = {"answer": "met", "reason": "it loses 0.30 points"}
    verdicts = {**made["verdicts"], "drop": drop}
    own = {"loss": {"points": 100 * (0.934 - val), "error": 0.1}, "verdicts": verdicts, "train_seconds": 20.0}
    return made | own | more


def group(name: str, lost: float, *, surely: bool) -> Document:
    loss = {"points": lost, "error": 0.8}
    return {"name": name, "examples": 90, "reference": 0.93, "score": 0.9, "loss": loss, "surely": surely}


FEW_ROWS = {
    "examples": 251,
    "digest": "d",
    "whole_split": False,
    "few_rows": [{"layer": "head", "rows": 189, "regressors": 512}],
}


def whole(**changes: Any) -> Document:
    """A run of which there is something to say in every way."""
    made = document(
        candidates=[
            file("slow", 0.9330, 0.40, PRUNE, TEACH, beside={"fast": {"points": 0.1, "error": 0.06}}),
            file("int8", 0.9305, 0.20, int8=True, beside={"both": {"points": 0.2, "error": 0.05}}),
            file("untaught", 0.9250, 0.12, PRUNE, TUNE, int8=True, train_seconds=4.0),
            file("close", 0.9309, 0.124, PRUNE, TEACH, int8=True, on_front=False),
            file("both", 0.9310, 0.125, PRUNE, TEACH, int8=True, test=0.93, calibration=FEW_ROWS),
            file("fast", 0.9260, 0.05, PRUNE, TEACH, int8=True, on_front=True),
            file("sampled", 0.9340, 0.04, PRUNE, int8=True, feasible=False, on_front=False),
        ],
        rejected=[
            {
                "recipe": [{"strategy": "prune_channels", "params": {}}, INT8],
                "reason": "no faster than the float file it was made from (1.3 of its latency): Conv 0.1 -> 0.2 ms",
                "latency_ms": 0.2,
                "ratio": 0.3,
            }
        ],
        compressing=["prune_channels", "quantize_static"],
        by_class={"by": "class", "rows": [group("dog", 5.0, surely=True)], "too_few": ["owl"]},
        changed={
            "examples": 550,
            "sampled_of": 5000,
            "worse": 9,
            "better": 6,
            "most": [],
            "by_length": {"by": "length", "rows": [group("90 to 120", 4.0, surely=True)], "too_few": []},
        },
        operators={"reference": {"Conv": 0.5, "Gemm": 0.2}, "chosen": {"Conv": 0.05, "Gemm": 0.02}},
        rank_correlation=0.5,
        untrained_rank_correlation=0.6,
        environment={"int8_sums": "exact", "int8_strategies": ["quantize_static"]},
        minutes=2.0,
        full_epochs=60.0,
        call_overhead_ms=0.01,
        floor=None,
        scored_on=None,
    )
    made["budget"] = {"latency_ms": None, "speedup": 0.5, "statistic": "p90", "max_drop": 1.0, "max_class_drop": None}
    sampled = next(c for c in made["candidates"] if c["id"] == "sampled")
    sampled["score"]["sampled"] = 200
    smallest = next(c for c in made["candidates"] if c["id"] == "int8")
    smallest["compressed_bytes"] = 900_000
    return made | changes


def nothing_met() -> Document:
    made = whole(recommended=None, nearest="both", status="infeasible")
    made["budget"] |= {"speedup": 20.0, "max_drop": 0.1}
    for c in made["candidates"]:
        c["feasible"] = False
        c["verdicts"]["latency"] = {"answer": "not met", "reason": "at least 0.1 of the reference's time"}
    return made


def free() -> Document:
    made = whole()
    made["budget"]["speedup"] = None
    return made


def joined(tell: Callable[[Document], Any]) -> Callable[[Document], str | None]:
    """Sentences as one text."""

    def told(of: Document) -> str | None:
        said = tell(of)
        lines = [line for lines in said.values() for line in lines] if isinstance(said, dict) else said
        return "\n".join(lines) if isinstance(lines, list) else lines

    return told


SENTENCES: dict[str, Callable[[Document], Any]] = {
    "explanation": explanation,
    "what_would_help": what_would_help,
    **{
        name: getattr(explain, name)
        for name in (
            *("conclusion", "reference_text", "budget_text", "smallest", "slack", "where_time_goes", "scores_hold"),
            *("whom_it_hurts", "examples_that_changed", "rungs", "untrained_order", "few_rows"),
        )
    },
}
RUNS = {"bounded": whole, "infeasible": nothing_met, "free": free}


def paths(value: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """To every entry of a document by name, and to all that it holds."""
    if here and isinstance(here[-1], str):
        yield here
    if isinstance(value, (dict, list)):
        for key, inside in value.items() if isinstance(value, dict) else enumerate(value):
            yield from paths(inside, (*here, key))


def without(of: Document, path: tuple[Any, ...]) -> Document:
    part = less = copy.deepcopy(of)
    for key in path[:-1]:
        part = part[key]
    del part[path[-1]]
    return less


def sentences(text: str | None) -> set[str]:
    return {one.removesuffix(".") for one in re.split(r"(?<=[.:])\s+(?=[A-Z])|\n", text or "")} - {""}


OPTIONAL = {"beside", "changed", "by_class", "on_device", "by_length"}  # what a search may have had no time for


def may_be_absent(path: tuple[Any, ...]) -> bool:
    """Also of what holds as much as there is: files that were compared, kinds of operators."""
    return path[-1] in OPTIONAL or path[-2:-1] == ("beside",) or (path[0] == "operators" and len(path) == 3)


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("name", SENTENCES)
def test_what_depends_on_a_figure_that_is_not_there_is_not_said(name: str, run: str) -> None:
    of, tell = RUNS[run](), joined(SENTENCES[name])
    known, wrong = sentences(tell(of)), []
    for path in paths(of):
        if not may_be_absent(path):
            less = without(of, path)
            said = sentences(as_far_as_known(tell, less, None))
            wrong += [(path, sentence) for sentence in said - known]
    assert wrong == []


def test_each_of_these_sentences_is_said_of_some_run() -> None:
    """So that the test above takes something away."""
    made = {name: [joined(tell)(run()) for run in RUNS.values()] for name, tell in SENTENCES.items()}
    assert [name for name, said in made.items() if not any(said)] == []
    found = explanation(whole())
    assert {"alone", "together", "without", "along_the_front", "close", "slower", "not_here"} == set(found)


def test_no_sentence_of_a_document_is_left_out_here() -> None:
    """All that makes text of a document alone is among them, or part of one that is."""
    takes_document = {
        name
        for name, made in inspect.getmembers(explain, inspect.isfunction)
        if made.__module__ == explain.__name__ and list(inspect.signature(made).parameters) == ["document"]
    }
    parts = {"on_device", "int8_scores", "_fastest_within_a_point", "limit_ms"}
    assert takes_document - parts == set(SENTENCES) - {"explanation", "what_would_help"}
