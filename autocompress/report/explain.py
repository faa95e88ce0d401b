"""Sentences: what was chosen and why, what binds, what a recipe does. Text only, from ``front.json``."""

import json
from collections.abc import Mapping
from typing import Any

from autocompress.budget import DEFAULT_DROP
from autocompress.explore.standings.rank_correlation import FEWEST_TRAINED_ON
from autocompress.operator_kinds import spent_on
from autocompress.recipe import TRAIN, Recipe
from autocompress.score_scale import POINTS, ScoreScale, give_or_take
from autocompress.storage.front import CANDIDATES, EXACT_SUMS, candidate_of

DIFFERENT = 0.1  # a ratio, that is said
BINDING, TIGHTER = 4.0, 1.25  # times faster than the reference, and than what was found: a budget that would bind
CLASSES_NAMED = 3  # classes or groups
NOT_LOOKED_AT = "there was no time to look"
PLURALS = {"class": "classes", "group": "groups", "tenth of the target": "tenths of the target"}

Document = dict[str, Any]
Candidate = dict[str, Any]


def techniques(candidate: Candidate) -> str:
    """``prune_channels + distill_logits``; the core's own training step is left out, and it is said when it did not
    train yet.
    """
    return Recipe.from_json(candidate["recipe"]).techniques(" + ") + (", untrained" if _is_untrained(candidate) else "")


def steps(candidate: Candidate) -> list[str]:
    """Each step with its parameters."""
    return [
        s["strategy"] + (f" ({', '.join(f'{k} {v}' for k, v in s['params'].items())})" if s["params"] else "")
        for s in candidate["recipe"]
    ] + (["repaired and not trained"] if _is_untrained(candidate) else [])


def _is_untrained(candidate: Candidate) -> bool:
    """Whether a recipe that trains was evaluated before its training."""
    return candidate.get("fidelity") == 0 and any(step["strategy"] == TRAIN for step in candidate["recipe"])


def shown_ms(point: Candidate, document: Document, percentile: str) -> float:
    """Milliseconds of a percentile: those of all files are to each other as their ratios; but the one that a budget of
    milliseconds bounds is the one that was judged.
    """
    latency, budget = point["latency_ms"], document["budget"]
    judged = budget["latency_ms"] is not None and percentile == budget["statistic"]
    if percentile in ("p50", "p90") and not judged:
        return float(latency[percentile])
    return float(latency.get("statistic", latency["p90"]))


def statistic_ms(point: Candidate, document: Document) -> float:
    """The latency that the profile's statistic tells."""
    return shown_ms(point, document, document["budget"]["statistic"])


def limit_ms(document: Document) -> float | None:
    """Milliseconds that the budget allows; of a speed-up, its share of the reference's latency."""
    budget = document["budget"]
    if budget["speedup"]:
        return statistic_ms(document["reference"], document) / float(budget["speedup"])
    return None if budget["latency_ms"] is None else float(budget["latency_ms"])


def budget_text(document: Document) -> str:
    budget = document["budget"]
    if budget["speedup"]:
        return f"{budget['speedup']:g}x faster than the reference"
    if budget["latency_ms"]:
        return f"{budget['latency_ms']:g} ms ({budget['statistic']})"
    return f"at most {ScoreScale.of(document).points(budget['max_drop'] or 0)} lost"


def conclusion(document: Document) -> str:
    """One sentence: what was chosen and why, or that nothing meets the budget and what came nearest."""
    chosen = candidate_of(document, document["recommended"])
    scale, reference = ScoreScale.of(document), document["reference"]
    if chosen is None:
        if document["recommended"] is not None:
            return "What was recommended is not among the candidates that can be read."
        near = candidate_of(document, document["nearest"])
        if near is None:
            return "Nothing is recommended." if document["candidates"] else "Nothing could be measured."
        return (
            f"Nothing is known to meet the budget of {budget_text(document)}; nearest is "
            f"{techniques(near)}: {faster_by(near, document)}, validation {scale.text(near['score']['val'])}."
            f"{undecided(near)}{_class_lost(near)}{beside_others(near)}"
        )
    feasible = [c for c in document["candidates"] if c["feasible"] or c is chosen]
    best = max(scale.goodness(c["score"]["val"]) for c in feasible)
    if not (document["budget"]["speedup"] or document["budget"]["latency_ms"]):
        limited = "" if document["budget"].get("max_class_drop") is None else ", as far as classes were compared"
        why = (
            f"the fastest of {len(feasible)} that lose at most {scale.points(document['budget']['max_drop'])}{limited}"
        )
    elif scale.goodness(chosen["score"]["val"]) >= best:
        tied = sum(scale.goodness(c["score"]["val"]) >= best for c in feasible) > 1
        faster = ", faster than others as good" if tied else ""
        compared = document["budget"].get("max_class_drop") is not None
        why = (
            "the most accurate of those that meet the budget and were compared class by class"
            if compared
            else f"the most accurate of the {len(feasible)} that meet the budget{faster}"
            if len(feasible) > 1
            else "the only one that meets the budget"
        )
    else:
        why = "faster than the most accurate one that meets the budget, and as good within one standard error"
    test = (
        ""
        if chosen["score"]["test"] is None
        else (
            f", test {scale.text(chosen['score']['test'])} "
            f"({scale.change(reference['score']['test'], chosen['score']['test'])})"
        )
    )
    return (
        f"Recommended: {techniques(chosen)}, {why}: "
        f"{faster_by(chosen, document)}, validation {scale.text(chosen['score']['val'])} "
        f"({scale.change(reference['score']['val'], chosen['score']['val'])}){test}."
        f"{undecided(chosen)}{beside_others(chosen)}"
    )


def faster_by(candidate: Candidate, document: Document) -> str:
    """How fast a file is: the speed-up with the medians that it is of, and the percentile that the profile asks for."""
    own, reference = (shown_ms(point, document, "p50") for point in (candidate, document["reference"]))
    statistic, speed = document["budget"]["statistic"], 1 / candidate["latency_ms"]["ratio"]
    more = "" if statistic == "p50" else f", {statistic} {statistic_ms(candidate, document):.4g} ms"
    than = "faster than" if speed > 1 else "as fast as"
    return f"{speed:.2f}x {than} the reference (p50 {own:.4g} ms against {reference:.4g}){more}"


def reference_text(document: Document) -> str:
    """What every figure stands beside."""
    scale, reference = ScoreScale.of(document), document["reference"]
    test = "" if reference["score"]["test"] is None else f", test {scale.text(reference['score']['test'])}"
    percentiles = dict.fromkeys(("p50", document["budget"]["statistic"]))
    took = ", ".join(f"{name} {shown_ms(reference, document, name):.4g} ms" for name in percentiles)
    return f"reference: {scale.text(reference['score']['val'])}{test}, {took}"


def smallest(document: Document) -> str | None:
    """The smallest file that keeps enough score, when it is not the recommended one: at most ``max_drop`` points lost,
    or as many as are allowed by default when the budget does not say."""
    scale, reference = ScoreScale.of(document), document["reference"]
    allowed = document["budget"]["max_drop"]
    least = scale.goodness(reference["score"]["val"]) - (DEFAULT_DROP if allowed is None else allowed) / POINTS
    whole = [c for c in document["candidates"] if not c["score"]["sampled"]]
    whole = [c for c in whole if keeps_classes(c)]
    enough = [c for c in whole if scale.goodness(c["score"]["val"]) >= least - 1e-9]
    if not enough:
        return None
    found = min(enough, key=lambda c: (c["compressed_bytes"], -scale.goodness(c["score"]["val"])))
    if found["id"] == document["recommended"] or found["compressed_bytes"] >= reference["compressed_bytes"]:
        return None
    kilobytes = (found["compressed_bytes"] / 1e3, reference["compressed_bytes"] / 1e3)
    return (
        f"Smallest that keeps its score: {techniques(found)}, {kilobytes[0]:,.0f} kB deflated (the reference: "
        f"{kilobytes[1]:,.0f} kB), validation {scale.text(found['score']['val'])}, "
        f"{1 / found['latency_ms']['ratio']:.2f}x: {CANDIDATES}/{found['id']}/"
    )


def answers(candidate: Candidate) -> list[str]:
    """Of its verdicts; of a file of an earlier version none."""
    return [verdict["answer"] for verdict in (candidate.get("verdicts") or {}).values() if verdict]


def is_quiet(candidate: Candidate) -> bool:
    """Whether its latency is of a quiet machine. Earlier versions said whether a measurement was reliable."""
    latency = candidate["latency_ms"]
    return bool(latency.get("quiet_sessions", latency.get("reliable", True)))


def undecided(candidate: Candidate) -> str:
    """Why a verdict could not be reached, said after a sentence; nothing of a file of which the other limit is not
    kept.
    """
    verdicts = (candidate.get("verdicts") or {}).values()
    if "not met" in answers(candidate):
        return ""
    return "".join(
        f" Undecided: {verdict['reason']}." for verdict in verdicts if verdict and verdict["answer"] == "undecided"
    )


def keeps_classes(candidate: Candidate) -> bool:
    """Whether no class is known to lose more than was allowed."""
    verdict = (candidate.get("verdicts") or {}).get("class_drop")
    return verdict is None or verdict["answer"] != "not met"


def _class_lost(candidate: Candidate) -> str:
    """Said of a file that loses too much in one class."""
    verdict = (candidate.get("verdicts") or {}).get("class_drop")
    return (
        f" In one class it loses too much: {verdict['reason']}." if verdict and verdict["answer"] == "not met" else ""
    )


def beside_others(candidate: Candidate) -> str:
    """What a machine as busy as this one makes of a file, where that is another speed."""
    latency = candidate["latency_ms"]
    ratio, busy = latency["ratio"], latency.get("ratio_of_all", latency["ratio"])
    if abs(busy / ratio - 1) <= DIFFERENT:
        return ""
    return f" Beside what else ran on this machine it was {1 / busy:.2f}x."


def slack(document: Document) -> str | None:
    """Said when the reference itself meets the budget: the budget binds nothing, and one that would."""
    budget, reference = document["budget"], document["reference"]
    now = statistic_ms(reference, document)
    free = (budget["latency_ms"] and now <= budget["latency_ms"]) or (budget["speedup"] and budget["speedup"] <= 1)
    if not free:
        return None
    chosen = candidate_of(document, document["recommended"])
    faster = 1 / chosen["latency_ms"]["ratio"] if chosen is not None else 1.0
    binding = max(BINDING, TIGHTER * faster)  # times faster than the reference
    option = f"--budget-ms {now / binding:.2g}" if budget["latency_ms"] else f"--speedup {binding:.2g}"
    said = f"This budget binds nothing: the reference itself takes {now:.4g} ms. One that would: {option}"
    fast = _fastest_within_a_point(document)
    return said if fast is None else f"{said}. {fast}"


def _fastest_within_a_point(document: Document) -> str | None:
    """The file of the front that is faster than the recommended one at the price of no more than a point, by what was
    found; None where that is the recommended one.
    """
    chosen = candidate_of(document, document["recommended"])
    front = [c for c in document["candidates"] if c["on_front"]]
    if not all(c.get("loss") for c in front):
        return None
    near = [c for c in front if c["loss"]["points"] <= DEFAULT_DROP]
    fastest = min(near, key=lambda c: float(c["latency_ms"]["ratio"]), default=None)
    if chosen is None or fastest is None or fastest["latency_ms"]["ratio_high"] >= chosen["latency_ms"]["ratio_low"]:
        return None
    points = fastest["loss"]["points"]
    change = f"{'loses' if points >= 0 else 'gains'} {ScoreScale.of(document).points(abs(points), '.2f')}"
    return (
        f"The fastest on the front that loses at most a point: {techniques(fastest)}, "
        f"{1 / fastest['latency_ms']['ratio']:.2f}x, {change}, {give_or_take(fastest['loss']['error'])}: "
        f"{fastest['artifact']}"
    )


def where_time_goes(document: Document) -> str | None:
    """The operators on which what was chosen spends its time, beside the reference's."""
    chosen = candidate_of(document, document["recommended"] or document["nearest"])
    if "operators" not in document or chosen is None:  # of an earlier version, or of none that was measured
        return None
    found = document["operators"]
    if not found:
        return f"Where its time goes is not known: {NOT_LOOKED_AT}, or the target does not tell."
    return f"Where its time goes: {spent_on(found['reference'], found['chosen'])}."


def scores_hold(document: Document) -> str | None:
    """Where the score of what was chosen holds: on the device that it was run on, else, for int8 files, on which
    processors.
    """
    return on_device(document) or int8_scores(document)


def on_device(document: Document) -> str | None:
    """How what was chosen did on the device elsewhere, beside this machine."""
    chosen = candidate_of(document, document["recommended"] or document["nearest"])
    found = None if chosen is None else chosen.get("on_device")
    if found is None:
        return None
    if found["failed"]:
        return f"On the device it cannot be used: {found['failed']}."
    scale, examples, difference = ScoreScale.of(document), found["examples"], found["score_difference"]
    lost = 0.0 if difference is None else -scale.goodness(difference)
    if found["scored_there"] and difference is None:
        return "It was scored on the device: its validation score and loss are those there, its test score is not."
    if found["scored_there"]:
        return (
            f"On the device it scores {scale.points(POINTS * lost, '.2f')} lower than here on the same {examples} "
            "examples, so it was scored there: its validation score and loss are the device's, its test score is not."
        )
    change = f"it scores {scale.points(POINTS * abs(lost), '.2f')} {'lower' if lost > 0 else 'higher'}"
    differ = f"differ from those here by at most {100 * found['output_difference']:.2g} % of the largest"
    outputs = differ if found["output_difference"] else "are the very same as here"
    return (
        f"On the device {'it scores the same' if lost == 0 else change} on {examples} examples, and its outputs "
        f"{outputs}."
    )


def int8_scores(document: Document) -> str | None:
    """Said when an int8 file is on the front or chosen: for which processors its score holds."""
    environment, chosen = document["environment"], (document["recommended"], document["nearest"])
    shown = [c for c in document["candidates"] if c["on_front"] or c["id"] in chosen]
    variants = {recipe.variant.strategy for c in shown if (recipe := Recipe.from_json(c["recipe"])).variant}
    if not variants & set(environment.get("int8_strategies", ())) or "int8_sums" not in environment:
        return None
    if (environment.get("profile") or {}).get("device"):
        return (
            "Scores of int8 files are of this machine: the device's own kernels may give others, and nobody has looked."
        )
    if environment["int8_sums"] == EXACT_SUMS:
        return (
            "Scores of int8 files hold for processors that sum int8 products exactly, as this one does; where sums are "
            "cut off at 16 bits (x86 without VNNI) outputs differ, and a search there makes other files."
        )
    return (
        "Scores of int8 files hold for processors that cut off sums of int8 products at 16 bits (x86 without VNNI), as "
        "this one does."
    )


def whom_it_hurts(document: Document) -> str | None:
    """In which classes or groups what was chosen loses more than its average says; said also where none does."""
    return _groups_hurt(document.get("by_class"), ScoreScale.of(document))


def _groups_hurt(found: dict[str, Any] | None, scale: ScoreScale) -> str | None:
    if not found or not found["rows"]:
        return None
    by, rows = found["by"], found["rows"]

    def lost(row: dict[str, Any]) -> str:
        points = row["loss"]["points"]
        change = f"{'loses' if points >= 0 else 'gains'} {scale.points(abs(points), '.2f')}"
        return f"{row['name']} {change} ({give_or_take(row['loss']['error'])}, {row['examples']:,} examples)"

    surely = [row for row in rows if row["surely"]]
    few = f" Too few examples to say: {_some(found['too_few'])}." if found["too_few"] else ""
    if surely:
        named = "; ".join(map(lost, surely[:CLASSES_NAMED]))
        more = f", and {len(surely) - CLASSES_NAMED} more" if len(surely) > CLASSES_NAMED else ""
        return f"The average hides whom it hurts: {by} {named}{more}.{few}"
    count = f"{len(rows)} {by if len(rows) == 1 else PLURALS.get(by, by)}"
    return f"Of {count} none surely loses a point more than the average; most: {by} {lost(rows[0])}.{few}"


def examples_that_changed(document: Document) -> str | None:
    """On how many examples what was chosen scores worse than the reference, and which lengths surely lose more."""
    chosen = candidate_of(document, document["recommended"] or document["nearest"])
    if "changed" not in document or chosen is None or not chosen["recipe"]:
        return None
    found = document["changed"]
    if not found:
        return (
            f"On which examples it does worse is not known: {NOT_LOOKED_AT}, or the metric says nothing of one example."
        )
    of_all = "" if found["sampled_of"] is None else f", sampled from {found['sampled_of']:,},"
    of = f"Of {found['examples']:,} validation examples{of_all} {found['worse']:,} score worse than with the reference"
    by_length = found["by_length"]
    hurt = any(row["surely"] for row in by_length["rows"]) if by_length else False
    lengths = f" {_groups_hurt(by_length, ScoreScale.of(document))}" if hurt else ""
    return f"{of}, {found['better']:,} better.{lengths}"


def _some(names: list[str]) -> str:
    """The first of them, and how many more there are."""
    return ", ".join(names[:CLASSES_NAMED]) + (
        f" and {len(names) - CLASSES_NAMED} more" if len(names) > CLASSES_NAMED else ""
    )


def few_rows(document: Document) -> str | None:
    """Which layers of what was chosen were repaired on few rows, and what would help."""
    chosen = candidate_of(document, document["recommended"] or document["nearest"])
    if chosen is None:
        return None
    return few_rows_text(chosen.get("calibration") or {}, trained=chosen["fidelity"] > 0)


def few_rows_text(calibration: Mapping[str, Any], *, trained: bool = False) -> str | None:
    """Said of a structure with layers that the calibration examples gave few rows for their width; nothing where none
    had, and of an earlier version. calibration: as a recipe records it. trained: since it was repaired.
    """
    layers = calibration.get("few_rows")
    if not layers:
        return None
    named = [f"{row['layer']} ({row['rows']:,} rows for {row['regressors']:,} regressors)" for row in layers]
    said = f"Layers repaired on few rows for their width: {_some(named)}."
    if trained:
        return f"{said} Training went on from there."
    if calibration["whole_split"]:
        return f"{said} More training examples in the task would help."
    if calibration.get("reconstructed_on"):
        return f"{said} A reconstruction on more of them went on from there."
    return f"{said} Training would make up for it."


def rungs(document: Document) -> str | None:
    """How well the order of families after their first training foretold the order after their last."""
    correlation = document.get("rank_correlation")
    if correlation is None:
        return None
    lengths: dict[str, set[float]] = {}
    for c in document["candidates"]:
        family = json.dumps([step for step in c["recipe"] if not step.get("variant")])
        lengths.setdefault(family, set()).update({c["fidelity"]} - {0})
    trained_on = sum(1 for of in lengths.values() if len(of) > 1)
    few = ", too few to say much" if trained_on < FEWEST_TRAINED_ON else ""
    return f"rank correlation {correlation:.2f} of the {trained_on} families trained on{few}"


def untrained_order(document: Document) -> str | None:
    """How well the order of families before any training foretold the order after their last."""
    correlation = document.get("untrained_rank_correlation")
    return None if correlation is None else f"rank correlation {correlation:.2f}"
