"""Which technique, and why: what is said of a run, and that nothing is said whose figures are not there."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from autocompress.report.explanation import explanation
from tests.report.pages import candidate, document

PRUNE, INT8, TEACH = ("prune_channels", {"ratio": 0.5}), ("quantize_static", {}), ("distill_logits", {})
TUNE = ("finetune", {})
Document = dict[str, Any]


def file(name: str, val: float, ratio: float, *steps: Any, feasible: bool = True, error: float = 0.1) -> Document:
    made = candidate(name, val, 0.8 * ratio, *steps, feasible=feasible)
    made["latency_ms"] |= {"ratio": ratio, "ratio_low": 0.98 * ratio, "ratio_high": 1.02 * ratio}
    judged = {"answer": "met" if feasible else "not met", "reason": "measured"}
    loss = {"points": 100 * (0.934 - val), "error": error}
    beside = {"train_seconds": 20.0, "beside": {}}
    return made | beside | {"loss": loss, "keeps_lead": True, "verdicts": {"latency": judged}}


def run(*files: Document, recommended: str | None = None, **changes: Any) -> Document:
    chosen = recommended or files[-1]["id"]
    whole = document(**{"recommended": chosen if "nearest" not in changes else None, **changes})
    return whole | {"candidates": list(files), "compressing": ["prune_channels", "quantize_static"]}


def test_each_technique_alone_and_the_best_together_are_compared() -> None:
    found = explanation(
        run(
            file("slow", 0.930, 0.40, PRUNE, TEACH, feasible=False),
            file("int8", 0.910, 0.20, INT8),
            file("worse", 0.900, 0.15, INT8),
            file("both", 0.931, 0.125, PRUNE, TEACH, INT8),
        )
    )
    assert found["alone"] == [
        "prune_channels alone, trained by distill_logits: 93.00 % at 2.50x, which is not known to meet the budget.",
        "quantize_static alone: 91.00 % at 5.00x.",
    ]
    (together,) = found["together"]
    assert together.startswith(
        "The best combination: prune_channels + distill_logits + quantize_static, 93.10 % at 8.00x:"
    )
    assert "beside the best alone, quantize_static, 2.10 points better, give or take 0.28" in together
    assert found["without"] == [
        "What distill_logits brings is not known: no file with all but it was scored on all examples.",
        "Without prune_channels: 91.00 % at 5.00x (quantize_static): 2.10 points worse, give or take 0.28.",
        "Without quantize_static: 93.00 % at 2.50x, which is not known to meet the budget (prune_channels + "
        "distill_logits).",
    ]


def test_a_difference_within_the_error_is_a_tie() -> None:
    files = file("int8", 0.930, 0.20, INT8, error=0.3), file("both", 0.931, 0.125, PRUNE, INT8, error=0.3)
    (together,) = explanation(run(*files))["together"]
    assert "a tie in score: 0.10 points apart, give or take 0.83" in together
    (close,) = explanation(run(*files))["close"]
    assert close == (
        "Close: quantize_static, 93.00 % at 5.00x: a tie in score: 0.10 points apart, give or take 0.83. It is "
        "candidates/int8/."
    )


def test_without_a_budget_speed_is_compared() -> None:
    free = {"latency_ms": None, "speedup": None, "statistic": "p90", "max_drop": 1.0}
    files = file("int8", 0.930, 0.20, INT8), file("both", 0.929, 0.125, PRUNE, INT8)
    assert "quantize_static, 1.60 times as fast" in explanation(run(*files, budget=free))["together"][0]
    files = file("int8", 0.930, 0.127, INT8), file("both", 0.929, 0.125, PRUNE, INT8)
    assert "quantize_static, a tie in speed" in explanation(run(*files, budget=free))["together"][0]


def test_files_compared_on_the_same_examples_are_told_apart_where_their_losses_do_not_tell() -> None:
    int8 = file("int8", 0.930, 0.20, INT8, error=0.3) | {"beside": {"both": {"points": 0.1, "error": 0.05}}}
    (together,) = explanation(run(int8, file("both", 0.931, 0.125, PRUNE, INT8, error=0.3)))["together"]
    assert "beside the best alone, quantize_static, 0.10 points better, give or take 0.10" in together


def test_files_of_which_none_was_chosen_are_compared_on_the_same_examples_too() -> None:
    int8, fast = file("int8", 0.934, 0.50, INT8, error=0.3), file("fast", 0.900, 0.10, PRUNE, TEACH, INT8)
    both = file("both", 0.931, 0.20, PRUNE, INT8, error=0.3) | {"beside": {"int8": {"points": 0.3, "error": 0.05}}}
    (slowest, *_) = explanation(run(int8, both, fast, recommended="fast"))["along_the_front"]
    assert slowest.endswith("quantize_static): 0.30 points worse, give or take 0.10.")
    both["beside"] = {}
    (slowest, *_) = explanation(run(int8, both, fast, recommended="fast"))["along_the_front"]
    assert slowest.endswith("a tie in score: 0.30 points apart, give or take 0.83.")


def test_what_teaching_brings_is_told_by_what_was_trained_without_it() -> None:
    files = (
        file("untaught", 0.925, 0.12, PRUNE, TUNE) | {"train_seconds": 4.0},
        file("untrained", 0.930, 0.12, PRUNE, TUNE) | {"fidelity": 0},
        file("taught", 0.931, 0.125, PRUNE, TEACH),
    )
    assert explanation(run(*files))["without"] == [
        "Without distill_logits, with finetune in its place: 92.50 % at 8.33x (prune_channels + finetune, trained for "
        "4 s, the recommended one for 20 s): 0.60 points worse, give or take 0.28."
    ]


def test_what_lacks_two_steps_does_not_tell_what_one_brings() -> None:
    hints = ("distill_features", {})
    both, hinted = file("both", 0.931, 0.125, PRUNE, hints, TEACH), file("hinted", 0.920, 0.12, PRUNE, hints)
    found = explanation(run(file("tuned", 0.929, 0.12, PRUNE, TUNE), hinted, both))["without"]
    assert found[0] == "What distill_features brings is not known: no file with all but it was scored on all examples."
    assert found[1].startswith(
        "Without distill_logits: 92.00 % at 8.33x (prune_channels + distill_features): 1.10 points"
    )


def test_what_teaching_brings_is_told_in_score_without_a_budget_too() -> None:
    free = {"latency_ms": None, "speedup": None, "statistic": "p90", "max_drop": 1.0}
    files = file("tuned", 0.929, 0.125, PRUNE, TUNE), file("taught", 0.934, 0.125, PRUNE, TEACH)
    (found,) = explanation(run(*files, budget=free))["without"]
    assert "0.50 points worse" in found


def test_along_the_front_the_best_alone_stands_beside_the_best_combination() -> None:
    files = (
        file("int8", 0.934, 0.50, INT8),
        file("pruned", 0.925, 0.30, PRUNE, TUNE),
        file("both", 0.931, 0.20, PRUNE, TUNE, INT8),
        file("near", 0.9305, 0.19, PRUNE, TUNE, INT8),
        file("fast", 0.900, 0.10, PRUNE, TEACH, INT8),
    )
    files[1]["on_front"] = False
    assert explanation(run(*files, recommended="both"))["along_the_front"] == [
        "At least 2.00 times as fast, the best combination scores 93.10 % (prune_channels + finetune + "
        "quantize_static), beside the best single technique, 93.40 % (quantize_static): 0.30 points worse, give or "
        "take 0.28.",
        "At least 5.00 times as fast, the best combination scores 93.10 % (prune_channels + finetune + "
        "quantize_static); of single techniques nothing as fast was scored on all examples.",
        "At least 10.00 times as fast, the best combination scores 90.00 % (prune_channels + distill_logits + "
        "quantize_static); of single techniques nothing as fast was scored on all examples.",
    ]


def test_what_was_not_tried_is_said_to_be_so() -> None:
    found = explanation(run(file("both", 0.931, 0.125, PRUNE, INT8)))
    assert found["without"] == [
        "What prune_channels brings is not known: no file with all but it was scored on all examples.",
        "What quantize_static brings is not known: no file with all but it was scored on all examples.",
    ]
    assert "alone" not in found
    assert explanation(run(file("int8", 0.93, 0.2, INT8)))["together"] == [
        "No combination of techniques was scored on all examples."
    ]


def test_only_a_combination_meets_the_budget() -> None:
    files = file("int8", 0.930, 0.30, INT8, feasible=False), file("both", 0.931, 0.125, PRUNE, INT8)
    assert explanation(run(*files))["together"][0].endswith("No technique alone is known to meet the budget.")


def test_what_did_not_pay_and_what_does_not_apply_are_told_with_their_cause() -> None:
    variant = [{"strategy": "quantize_static", "params": {}, "variant": True}]
    reason = (
        "no faster than the float file it was made from (1.32 of its latency): its Conv take 0.2 ms in place of 0.1"
    )
    rejected = [{"recipe": variant, "reason": text, "latency_ms": 1.0, "ratio": 0.5} for text in (reason, reason)]
    refused = [{"strategy": "factorize", "reason": "nothing is large enough"}]
    found = explanation(run(file("both", 0.931, 0.125, PRUNE, INT8), rejected=rejected, refused=refused))
    assert found["slower"] == [
        "quantize_static made 2 files no faster than the float file (unchanged), of unchanged: its Conv take 0.2 ms in "
        "place of 0.1."
    ]
    assert found["not_here"] == ["factorize does not apply: nothing is large enough."]


def test_what_is_nearest_is_neither_what_lost_its_score_nor_what_is_fastest() -> None:
    ruined = file("ruined", 0.10, 0.03, PRUNE, feasible=False) | {"keeps_lead": False}
    slow, less = (
        file(name, val, ratio, PRUNE, feasible=False) for name, val, ratio in (("s", 0.92, 0.3), ("t", 0.9, 0.29))
    )
    for c in (ruined, slow, less):
        c["verdicts"] = {"latency": {"answer": "undecided", "reason": "close"}}
    (alone,) = explanation(run(ruined, slow, less, recommended=None, nearest="s"))["alone"]
    assert alone == "prune_channels alone: 92.00 % at 3.33x, which is not known to meet the budget."


def test_an_earlier_versions_run_is_not_explained() -> None:
    assert explanation(document()) == {}


def paths(value: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """To every leaf of a document."""
    if isinstance(value, (dict, list)):
        for key, inside in value.items() if isinstance(value, dict) else enumerate(value):
            yield from paths(inside, (*here, key))
    elif here:
        yield here


WHOLE = run(
    file("slow", 0.930, 0.40, PRUNE, TEACH, feasible=False),
    file("int8", 0.9305, 0.20, INT8) | {"beside": {"both": {"points": 0.2, "error": 0.05}}},
    file("untaught", 0.925, 0.12, PRUNE, TUNE, INT8) | {"train_seconds": 4.0},
    file("both", 0.931, 0.125, PRUNE, TEACH, INT8),
)


@pytest.mark.parametrize(
    "path", [p for p in paths(WHOLE) if isinstance(p[-1], str)], ids=lambda p: "-".join(map(str, p))
)
def test_a_sentence_whose_figure_is_missing_is_gone(path: tuple[Any, ...]) -> None:
    part = less = copy.deepcopy(WHOLE)
    for key in path[:-1]:
        part = part[key]
    del part[path[-1]]
    whole = {line for lines in explanation(WHOLE).values() for line in lines}
    assert {line for lines in explanation(less).values() for line in lines} <= whole


@pytest.mark.parametrize("path", [("candidates", 2, "elapsed_s"), ("seed",), ("reference", "params")])
def test_what_no_sentence_is_of_can_be_missing(path: tuple[Any, ...]) -> None:
    part = less = copy.deepcopy(WHOLE)
    for key in path[:-1]:
        part = part[key]
    del part[path[-1]]
    assert explanation(less) == explanation(WHOLE)
    assert {"alone", "together", "without", "along_the_front"} <= explanation(WHOLE).keys()
