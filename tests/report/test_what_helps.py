"""What a user is told where nothing is recommended: each reason with its figures, and none that does not hold."""

from typing import Any

import pytest

from autocompress.report.what_helps import what_would_help

Figures = dict[str, Any]
TRAIN = {"strategy": "train", "params": {}}


def timed(ratio: float, quiet: int = 3, sessions: int = 3) -> Figures:
    """Of a file that takes so much of the reference's time, 1 ms."""
    own = {"p90": ratio, "statistic": ratio, "low": 0.98 * ratio, "next_high": 1.05 * ratio}
    ratios = {"ratio": ratio, "ratio_low": 0.98 * ratio, "ratio_next_high": 1.05 * ratio}
    return {**own, **ratios, "quiet_sessions": quiet, "sessions": sessions}


def file(
    name: str,
    ratio: float,
    latency: str,
    score: float = 0.88,
    *,
    drop: str | None = None,
    lead: bool = True,
    error: float = 0.1,
    epochs: float = 60.0,
    seconds: float = 60.0,
    trains: bool = True,
    quiet: int = 3,
    reason: str = "",
) -> Figures:
    """A candidate. latency, drop: the answers of its verdicts. reason: of each. error: of its loss, in points."""
    own = [{"strategy": name, "params": {}}, *([TRAIN] if trains else [])]
    verdicts = {"latency": {"answer": latency, "reason": reason}, "drop": drop and {"answer": drop, "reason": reason}}
    return {
        "id": name,
        "recipe": own,
        "latency_ms": timed(ratio, quiet),
        "score": {"val": score, "sampled": None},
        "verdicts": verdicts,
        "loss": {"points": 100 * (0.9 - score), "error": error},
        "keeps_lead": lead,
        "fidelity": epochs,
        "train_seconds": seconds,
    }


def floor(ratio: float, *, over: bool) -> Figures:
    return {
        "recipe": [{"strategy": "tiny", "params": {}}],
        "latency_ms": timed(ratio),
        "over": over,
        "within": not over,
    }


def told(
    *files: Figures,
    speedup: float | None = 5,
    latency_ms: float | None = None,
    max_drop: float | None = None,
    **changes: Any,
) -> str:
    budget = {
        "latency_ms": latency_ms,
        "speedup": None if latency_ms else speedup,
        "statistic": "p90",
        "max_drop": max_drop,
    }
    document = {
        "metric": "accuracy",
        "budget": budget,
        "reference": {"latency_ms": timed(1.0), "score": {"val": 0.9}},
        "candidates": [{"id": "ref", "recipe": [], "latency_ms": timed(1.0)}, *files],
        "failed": [],
        "recommended": None,
        "nearest": files[0]["id"] if files else None,
        "minutes": 1.0,
        "full_epochs": 60.0,
        "call_overhead_ms": 0.01,
        "floor": floor(0.1, over=False),
    }
    return " ".join(what_would_help(document | changes))


@pytest.mark.parametrize("more", [{"recommended": "a"}, {"speedup": None}])
def test_nothing_is_said_where_a_file_is_recommended_or_nothing_was_asked(more: Figures) -> None:
    assert told(file("a", 0.1, "met"), **more) == ""


# -- the overhead of a call --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "limit"), [({"speedup": 4}, "0.25"), ({"latency_ms": 0.1}, "0.1"), ({"speedup": 2}, None)]
)
def test_a_budget_of_hardly_more_than_a_call_costs_is_bound_by_it(asked: Figures, limit: str | None) -> None:
    said = told(file("a", 0.8, "not met"), call_overhead_ms=0.2, **asked)
    bound = "bound by the overhead of a call: one of a file that computes nothing takes 0.2 ms here"
    assert (bound in said) is (limit is not None)
    if limit is not None:
        assert f"the budget is {limit} ms. A larger batch in the profile" in said
        assert "another runtime" in said


# -- nothing is as fast ------------------------------------------------------------------------------------------------


def test_nothing_that_fast_is_in_the_space() -> None:
    said = told(file("quantize", 0.5, "not met"), floor=floor(0.25, over=True))
    assert said.startswith("Nothing in this space is that fast: the fastest, tiny, takes 0.25 ms, 4.0x.")
    assert told(file("prune", 0.2, "not met"), floor=floor(0.25, over=True)).startswith(
        "Nothing in this space is that fast: the fastest, prune, takes 0.2 ms, 5.0x."
    )
    assert told(file("quantize", 0.5, "not met"), floor=None).startswith("No file here is that fast")


def test_what_is_far_over_is_too_slow_on_however_busy_a_machine() -> None:
    said = told(file("quantize", 0.5, "undecided", quiet=0), latency_ms=0.01, floor=floor(0.25, over=True))
    assert "Nothing in this space is that fast" in said
    assert "could not be told" not in said


def test_structures_that_fast_were_not_scored_in_the_time() -> None:
    said = told(file("quantize", 0.5, "not met", trains=False, epochs=0), failed=[{}, {}])
    assert "A structure of this space is that fast (0.1 ms, 10.0x), but none was scored" in said
    assert "in the 1 minute given (2 failed)" in said
    assert "used up before anything was trained: --minutes 5 would be reasonable" in said
    said = told(file("quantize", 0.5, "not met", epochs=6, seconds=12))
    assert "About 2 minutes would train one such family in full, so --minutes 5 would be reasonable" in said


# -- fast enough, and too much lost ------------------------------------------------------------------------------------


def test_what_was_cut_short_says_how_long_a_training_in_full_takes() -> None:
    """6 of 60 epochs took 12 seconds: all take 120, and of the time that is added half is for training."""
    files = [file("a", 0.1, "met", 0.3, lead=False, epochs=3, seconds=9)]
    files += [file("b", 0.15, "met", 0.4, lead=False, epochs=6, seconds=12)]
    said = told(*files)
    assert said.startswith(
        "2 files are fast enough and lost too much score: the best, b, scores 40.00 %, less than half of what the "
        "reference is better than chance. It was trained for 6 of 60 epochs: about 2 minutes would train one such "
        "family in full, so --minutes 4.6 would be reasonable."
    )


@pytest.mark.parametrize(
    ("epochs", "seconds", "said"),
    [
        (6, 6, "about 60 seconds would"),
        (6, 600, "about 1.7 hours would"),
        (60, 60, "It was trained in full: more time alone may not help."),
        (0, 0, "The time was used up before anything was trained: --minutes 5 "),
    ],
)
def test_how_much_time_depends_on_what_it_had(epochs: float, seconds: float, said: str) -> None:
    assert said in told(file("a", 0.1, "met", 0.3, lead=False, epochs=epochs, seconds=seconds))


def test_an_untrained_file_goes_by_what_others_took() -> None:
    files = [
        file("a", 0.1, "met", 0.4, lead=False, epochs=0),
        file("b", 0.1, "met", 0.3, lead=False, epochs=6, seconds=12),
    ]
    assert "About 2 minutes would train one such family in full, so --minutes 5 " in told(*files)


def test_a_loss_that_was_not_allowed_is_told_in_points() -> None:
    said = told(file("a", 0.1, "met", 0.85, drop="not met", trains=False), max_drop=1)
    assert "One file is fast enough and lost too much score: it, a, loses 5.00 points, and 1 may be lost." in said
    assert "minutes" not in said, "nothing of it trains"


def test_of_those_that_are_known_to_be_fast_enough_the_best_is_named() -> None:
    may = file("a", 0.22, "undecided", 0.4, lead=False, quiet=0)
    assert told(may).startswith("One file may be fast enough and lost too much score: it, a, scores 40.00 %")
    known = file("b", 0.1, "met", 0.3, lead=False)
    assert told(may, known).startswith("One file is fast enough and lost too much score: it, b, scores 30.00 %")


def test_one_that_is_fast_enough_and_kept_its_score_is_not_said_to_have_lost_it() -> None:
    files = [file("a", 0.1, "met", 0.3, lead=False), file("b", 0.2, "undecided", 0.89)]
    assert "lost too much" not in told(*files)


# -- undecided ---------------------------------------------------------------------------------------------------------


def test_too_few_quiet_sessions_ask_for_a_quiet_machine_or_time() -> None:
    said = told(file("a", 0.19, "undecided", quiet=0))
    assert "Whether a is within the budget could not be told: none of its 3 timing sessions found enough quiet" in said
    assert "A quiet machine, or more time to wait for them (--minutes 2), would tell." in said
    assert "1 of its 3 timing sessions" in told(file("a", 0.21, "undecided", quiet=1))
    assert "could not be told" not in told(file("a", 0.2, "undecided", quiet=2)), "it is too close to tell"
    assert "could not be told" not in told(file("a", 0.19, "undecided", 0.3, lead=False, quiet=0))


def test_a_split_that_cannot_tell_the_loss_is_named() -> None:
    files = [file("a", 0.5, "not met", 0.9, drop="undecided", error=0.2)]
    files += [file("b", 0.4, "not met", 0.85, drop="not met", error=0.2)]
    said = told(*files, max_drop=0.01)
    assert "too small to tell a loss of 0.01 points from none: a loses 0.00, give or take 0.39." in said
    assert "More examples there" in said
    said = told(*files, max_drop=0.01, scored_on=600)
    assert "The 600 validation examples there was time for are too small" in said
    assert "A new search with more --minutes, which scores on more of them, or a larger --max-drop" in said
    assert "too small" not in told(*files, max_drop=2)
    near = file("a", 0.1, "met", 0.9, drop="undecided", error=0.2, reason="too close to tell")
    assert "too small" not in told(near, max_drop=0.01), "the sentence on the nearest says it"


# -- another budget ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "option"), [({"speedup": 5}, "--speedup 3.17"), ({"latency_ms": 0.2}, "--budget-ms 0.316")]
)
def test_the_tightest_budget_is_of_the_fastest_that_kept_its_score(asked: Figures, option: str) -> None:
    """It will be kept in the next session: rounded to the safe side."""
    files = [file("a", 0.3, "not met"), file("b", 0.5, "not met", 0.89), file("c", 0.25, "not met", 0.3, lead=False)]
    assert f"The tightest budget that can be met here: {option} (a, 88.00 %)." in told(*files, **asked)


def test_with_a_loss_allowed_either_limit_may_give() -> None:
    fast = file("a", 0.1, "met", 0.86, drop="not met")
    slow = file("b", 0.5, "not met", 0.9, drop="met")
    assert told(fast, slow, max_drop=1).endswith(
        "here: --speedup 1.9 (b, 90.00 %), or --max-drop 4.17 at the latency asked for (a, 86.00 %)."
    )
    worse = file("d", 0.1, "met", 0.8, drop="not met")
    assert told(worse, fast, slow, max_drop=1) == told(fast, slow, max_drop=1).replace(
        "One file is", "2 files are"
    ).replace("it, a", "the best, a")
    assert told(fast, max_drop=1).endswith("here: --max-drop 4.17 at the latency asked for (a, 86.00 %).")
    none = file("c", 0.5, "not met", 0.86, drop="not met")
    assert told(none, max_drop=1).endswith("here: --speedup 1.9 --max-drop 4.17 (c, 86.00 %).")


def test_no_budget_is_offered_that_asks_for_nothing_or_was_named_before() -> None:
    assert told(file("a", 0.99, "not met")).endswith(
        "No file here that keeps its score is known to be faster than the reference."
    )
    near = file("a", 0.2, "undecided", reason="too close to tell; --speedup 4.76 is known to be kept")
    assert told(near) == ""
