"""What would help a search under a budget that recommends nothing: more time, another budget, another target. Sentences
with figures, from the document of ``front.json`` alone.
"""

import math
from collections.abc import Sequence
from statistics import median

from autocompress.measure import MOSTLY
from autocompress.recipe import TRAIN
from autocompress.report.explain import Candidate, Document, keeps_classes, statistic_ms, techniques, undecided
from autocompress.score_scale import ScoreScale, give_or_take
from autocompress.storage.front import candidate_of
from autocompress.verdict import FAR_OVER, FEWEST_QUIET_SESSIONS, ONE_SIDED, at_least, at_most, too_small_a_split

NEARLY_IN_FULL = 0.75  # of a training in full
BESIDE_TRAINING = 2.0  # times the training that is missing: a search keeps half of its time for finishing
NOTHING_TRAINED = 5.0  # times as long, where the time was used up before any training
TO_FIND_QUIET = 2.0  # times as long, where too few sessions found quiet moments


LIMITS = {"size": ("size_bytes", "bytes"), "memory": ("memory_bytes", "bytes of memory")}  # verdicts, of what


def what_would_help(document: Document) -> list[str]:
    """For each reason why nothing is recommended one or two sentences, and the tightest budget that a file is known to
    meet that keeps half of the reference's lead over chance; nothing where a file is recommended.
    """
    budget = document["budget"]
    if document["recommended"] is not None or not (budget["speedup"] or budget["latency_ms"]):
        return []
    every = [c for c in document["candidates"] if c["recipe"]]
    files = [c for c in every if _fits(c)]
    if every and not files:
        return _none_fits(every, document)
    fast = [c for c in files if _may_be_within(c, document)]
    reasons = (
        _bound_by_overhead(document),
        _lost_too_much(fast, document) if fast else _none_is_fast(files, document),
        _not_told(fast, document),
        _one_class_loses(fast, document),
        _too_few_examples(files, document),
        _other_budgets(files, document),
    )
    return [reason for reason in reasons if reason]


def _fits(candidate: Candidate) -> bool:
    verdicts = [candidate["verdicts"].get(name) for name in LIMITS]
    return all(verdict is None or verdict["answer"] == "met" for verdict in verdicts)


def _none_fits(files: Sequence[Candidate], document: Document) -> list[str]:
    """Of each limit that no file keeps, or no file together with the other: the file that comes nearest."""
    said = []
    for name, (key, unit) in LIMITS.items():
        limit, known = document["budget"].get(f"max_{key}"), [c for c in files if c.get(key) is not None]
        if limit is None or not known:
            continue
        least = min(known, key=lambda c: int(c[key]))
        if least[key] > limit:
            more = " `--space smallest` has what saves size alone." if name == "size" else ""
            said.append(
                f"No file is within the {limit:,} {unit} of the target: the smallest, {techniques(least)}, "
                f"{'has' if name == 'size' else 'takes'} {least[key]:,}.{more}"
            )
    if not said and all((c["verdicts"].get("memory") or {}).get("answer") == "undecided" for c in files):
        return [
            "How much memory the files take could not be measured, so none is known to be within what the target has."
        ]
    return said or ["No file is within both the size and the memory of the target, though some are within each."]


def _bound_by_overhead(document: Document) -> str | None:
    overhead_ms, budget = document["call_overhead_ms"], document["budget"]
    limit_ms = budget["latency_ms"] or statistic_ms(document["reference"], document) / budget["speedup"]
    if limit_ms >= MOSTLY * overhead_ms:
        return None
    return (
        f"This target is bound by the overhead of a call: one of a file that computes nothing takes {overhead_ms:.3g} "
        f"ms here, and the budget is {limit_ms:.3g} ms. A larger batch in the profile, whose examples share it, or "
        "another runtime would be needed."
    )


def _none_is_fast(files: Sequence[Candidate], document: Document) -> str:
    floor = document["floor"]
    known = [*files, *([floor] if floor else [])]
    if not known:
        return f"Nothing could be timed in {_minutes(document['minutes'])}."
    fastest = min(known, key=lambda c: float(c["latency_ms"]["ratio"]))
    speed = f"{statistic_ms(fastest, document):.4g} ms, {1 / fastest['latency_ms']['ratio']:.1f}x"
    if floor and floor["within"]:
        failed = f" ({len(document['failed'])} failed)" if document["failed"] else ""
        return (
            f"A structure of this space is that fast ({speed}), but none was scored in "
            f"{_minutes(document['minutes'])}{failed}. {_time_in_full(None, files, document)}"
        )
    what = "Nothing in this space" if floor and floor["over"] else "No file here"
    return f"{what} is that fast: the fastest, {techniques(fastest)}, takes {speed}."


def _lost_too_much(fast: Sequence[Candidate], document: Document) -> str | None:
    """Where every file that is fast enough lost too much."""
    allowed, scale = document["budget"]["max_drop"], ScoreScale.of(document)
    if not all(_lost(c, document) for c in fast):
        return None
    known = [c for c in fast if c["verdicts"]["latency"]["answer"] == "met"]
    best = max(known or fast, key=lambda c: scale.goodness(c["score"]["val"]))
    how = (
        f"scores {scale.text(best['score']['val'])}, less than half of what the reference is better than chance"
        if allowed is None
        else f"loses {scale.points(best['loss']['points'], '.2f')}, and {allowed:g} may be lost"
    )
    count = len(known or fast)
    files, which = ("One file", "it") if count == 1 else (f"{count} files", "the best")
    verb = "may be" if not known else "is" if count == 1 else "are"
    time = f" {_time_in_full(best, fast, document)}" if _trains(best) else ""
    return f"{files} {verb} fast enough and lost too much score: {which}, {techniques(best)}, {how}.{time}"


def _not_told(fast: Sequence[Candidate], document: Document) -> str | None:
    """Where too few sessions were quiet to tell whether a file that keeps its score is within the budget."""
    few = [
        c
        for c in fast
        if c["verdicts"]["latency"]["answer"] == "undecided"
        and c["latency_ms"]["quiet_sessions"] < FEWEST_QUIET_SESSIONS
        and not _lost(c, document)
    ]
    if not few:
        return None
    best = max(few, key=lambda c: ScoreScale.of(document).goodness(c["score"]["val"]))
    quiet, all_ = best["latency_ms"]["quiet_sessions"], best["latency_ms"]["sessions"]
    return (
        f"Whether {techniques(best)} is within the budget could not be told: {quiet or 'none'} of its {all_} timing "
        f"sessions found enough quiet moments. A quiet machine, or more time to wait for them (--minutes "
        f"{_option(TO_FIND_QUIET * document['minutes'])}), would tell."
    )


def _one_class_loses(fast: Sequence[Candidate], document: Document) -> str | None:
    """Where files that are fast enough and keep their score lose too much in one class."""
    known = [c for c in fast if c["verdicts"]["latency"]["answer"] == "met"]
    lost = [c for c in known if not _lost(c, document) and not keeps_classes(c)]
    if not lost:
        return None
    best = max(lost, key=lambda c: ScoreScale.of(document).goodness(c["score"]["val"]))
    return (
        f"What is fast enough and keeps its score loses too much in one class: the best, {techniques(best)}: "
        f"{best['verdicts']['class_drop']['reason']}. A larger --max-class-drop would be needed, or more training."
    )


def _too_few_examples(files: Sequence[Candidate], document: Document) -> str | None:
    """Where the validation split is too small to tell what may be lost from nothing; the sentence on the nearest file
    says so of that one.
    """
    allowed, near = document["budget"]["max_drop"], candidate_of(document, document["nearest"])
    untold = [c for c in files if allowed is not None and c["verdicts"]["drop"]["answer"] == "undecided"]
    if any(c["verdicts"]["drop"]["answer"] == "met" for c in files if untold) or not untold:
        return None
    best = min(untold, key=_surely_lost)
    if not too_small_a_split(best["loss"]["error"], allowed) or (near is not None and undecided(near)):
        return None
    loss, part = ScoreScale.of(document).points(allowed), document.get("scored_on")
    few = "The validation split is" if part is None else f"The {part:,} validation examples there was time for are"
    more = "More examples there" if part is None else "A new search with more --minutes, which scores on more of them"
    return (
        f"{few} too small to tell a loss of {loss} from none: {techniques(best)} loses "
        f"{best['loss']['points']:.2f}, {give_or_take(best['loss']['error'])}. {more}, or "
        "a larger --max-drop, would be needed."
    )


def _other_budgets(files: Sequence[Candidate], document: Document) -> str | None:
    """As their options are typed; nothing where the sentence on the nearest file says the same."""
    asked, scale = document["budget"]["max_drop"], ScoreScale.of(document)
    worth = [c for c in files if c["keeps_lead"] and not c["score"]["sampled"]]
    if document["budget"].get("max_class_drop") is not None:  # what was not compared is no offer
        worth = [c for c in worth if (c["verdicts"]["class_drop"] or {}).get("answer") == "met"]
        if not worth:
            return None
    kept = [c for c in worth if asked is None or c["verdicts"]["drop"]["answer"] == "met"]
    within = [c for c in worth if c["verdicts"]["latency"]["answer"] == "met"] if asked is not None else []
    offers: list[tuple[str, Candidate]] = []
    faster = [c for c in kept or ([] if within else worth) if c["latency_ms"]["ratio_next_high"] < 1]
    if faster:
        fastest = min(faster, key=lambda c: _next_high(c, document))
        offers.append((_latency_option(fastest, document) + ("" if kept else f" {_drop_option(fastest)}"), fastest))
    if within:
        offers.append((f"{_drop_option(least := min(within, key=_surely_lost))} at the latency asked for", least))
    near = candidate_of(document, document["nearest"])
    if not offers:
        return "No file here that keeps its score is known to be faster than the reference."
    if near is not None and any(option in undecided(near) for option, _ in offers):
        return None
    shown = [f"{option} ({techniques(c)}, {scale.text(c['score']['val'])})" for option, c in offers]
    return f"The tightest budget that can be met here: {', or '.join(shown)}."


def _time_in_full(best: Candidate | None, files: Sequence[Candidate], document: Document) -> str:
    """How long one family trains in full, by how long others or ``best`` did, and how much time that asks for."""
    full, given = document["full_epochs"], document["minutes"]
    had = best["fidelity"] if best is not None else 0.0
    if had >= NEARLY_IN_FULL * full:
        return "It was trained in full: more time alone may not help."
    trained = [best] if best is not None and had else files
    paces = [c["train_seconds"] / c["fidelity"] for c in trained if c["fidelity"] and c["train_seconds"]]
    if not paces:
        return (
            f"The time was used up before anything was trained: --minutes {_option(NOTHING_TRAINED * given)} would be "
            "reasonable."
        )
    in_full_s = full * median(paces)
    more = BESIDE_TRAINING * (1 - had / full) * in_full_s / 60
    what = f"It was trained for {had:.2g} of {full:g} epochs: " if had else ""
    said = (
        f"{what}about {_duration(in_full_s)} would train one such family in full, so --minutes {_option(given + more)}"
    )
    return f"{said[0].upper()}{said[1:]} would be reasonable."


def _may_be_within(candidate: Candidate, document: Document) -> bool:
    """Whether it is within the budget of latency, or that is undecided and it is not far over it."""
    latency, budget, answer = candidate["latency_ms"], document["budget"], candidate["verdicts"]["latency"]["answer"]
    if answer != "undecided":
        return bool(answer == "met")
    low = latency["ratio_low"] * budget["speedup"] if budget["speedup"] else latency["low"] / budget["latency_ms"]
    return bool(low <= FAR_OVER)


def _lost(candidate: Candidate, document: Document) -> bool:
    if document["budget"]["max_drop"] is None:
        return not candidate["keeps_lead"]
    return bool(candidate["verdicts"]["drop"]["answer"] == "not met")


def _trains(candidate: Candidate) -> bool:
    return any(step["strategy"] == TRAIN for step in candidate["recipe"])


def _next_high(candidate: Candidate, document: Document) -> float:
    key = "ratio_next_high" if document["budget"]["speedup"] else "next_high"
    return float(candidate["latency_ms"][key])


def _latency_option(candidate: Candidate, document: Document) -> str:
    """The tightest budget of the kind that was asked that its next session will find kept."""
    high = _next_high(candidate, document)
    return f"--speedup {at_most(1 / high)}" if document["budget"]["speedup"] else f"--budget-ms {at_least(high)}"


def _surely_lost(candidate: Candidate) -> float:
    """Points of score that it surely does not lose more than."""
    return max(0.0, float(candidate["loss"]["points"] + ONE_SIDED * candidate["loss"]["error"]))


def _drop_option(candidate: Candidate) -> str:
    return f"--max-drop {at_least(_surely_lost(candidate))}"


def _option(minutes: float) -> str:
    """As it is typed, rounded up."""
    return f"{math.ceil(minutes) if minutes > 10 else math.ceil(10 * minutes - 1e-9) / 10:g}"


def _minutes(given: float) -> str:
    return f"the {given:g} minute{'' if given == 1 else 's'} given"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, seconds):.0f} seconds"
    value, unit = (seconds / 60, "minutes") if seconds < 90 * 60 else (seconds / 3600, "hours")
    return f"{value:.2g} {unit}" if value < 99.5 else f"{value:.0f} {unit}"
