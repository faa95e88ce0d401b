"""Which technique, and why: what each reached alone and all together, what leaving one out costs, what else was close.

Everything is said from ``front.json`` alone. A sentence whose figures are not there is not said; a difference within
the error of both is called a tie. What was not measured is said to be so.
"""

import math
from collections.abc import Callable, Iterator, Sequence

from autocompress.evaluation import NORMAL
from autocompress.recipe import TRAIN, Recipe
from autocompress.report.explain import Candidate, Document, techniques
from autocompress.report.readable import MISSING_FIGURE
from autocompress.score_scale import ScoreScale, give_or_take
from autocompress.storage.front import CANDIDATES, candidate_of

Sentences = Callable[["FilesByTechnique"], Iterator[str]]
NOTHING_AS_FAST = "nothing as fast was scored on all examples"
CLOSE_SHOWN = 3  # files that are as good
FRONT_SHOWN, APART = 6, 1.1  # files of the front, each so many times faster than the one before
MUCH_SHORTER = 0.5  # times the training of the recommended file
SLOWER_SHOWN, FILES_NAMED = 3, 3  # strategies whose files were slower, and what of


class FilesByTechnique:
    """The files of a run, by the techniques that compress; how they are trained is beside that. Raises KeyError for a
    run of an earlier version, which does not say what its strategies do.
    """

    def __init__(self, document: Document) -> None:
        self.document = document
        self.scale = ScoreScale.of(document)
        self._compresses = frozenset(document["compressing"])
        budget = document["budget"]
        self.bounded = budget["latency_ms"] is not None or budget["speedup"] is not None
        self.files = [c for c in document["candidates"] if c["recipe"] and not c["score"]["sampled"]]
        self.chosen = candidate_of(document, document["recommended"] or document["nearest"])

    def compressing(self, candidate: Candidate) -> tuple[str, ...]:
        """The techniques of a file that make it smaller or faster, in order."""
        steps = [step["strategy"] for step in candidate["recipe"]]
        return tuple(dict.fromkeys(name for name in steps if name in self._compresses))

    def training(self, candidate: Candidate) -> tuple[str, ...]:
        """The techniques by which a file was trained, in order; none where it was not."""
        if not candidate["fidelity"]:
            return ()
        own, steps = self.compressing(candidate), [step["strategy"] for step in candidate["recipe"]]
        return tuple(name for name in dict.fromkeys(steps) if name not in (*own, TRAIN))

    def of(self, wanted: Callable[[frozenset[str]], bool]) -> list[Candidate]:
        """The files whose techniques are wanted."""
        return [c for c in self.files if wanted(frozenset(self.compressing(c)))]

    def best(self, files: Sequence[Candidate], *, by_score: bool = False) -> Candidate | None:
        """Of those that can be recommended the most accurate under a budget of latency, the fastest without, unless it
        is wanted ``by_score``; of others, where none can be, what comes nearest: the most accurate that may be within
        the budget, else the fastest; none that lost its score while there is another.
        """
        can = [c for c in files if c["feasible"]]
        if not can:
            near = [c for c in files if c["keeps_lead"] is not False] or files
            within = [c for c in near if not ((of := c["verdicts"]["latency"]) and of["answer"] == "not met")]
            if within:
                return max(within, key=lambda c: (self.scale.goodness(c["score"]["val"]), -_ratio(c)))
            return min(near, key=_ratio, default=None)
        if self.bounded or by_score:
            return max(can, key=lambda c: (self.scale.goodness(c["score"]["val"]), -_ratio(c)))
        return min(can, key=_ratio)

    def shown(self, candidate: Candidate) -> str:
        meets = "" if candidate["feasible"] else ", which is not known to meet the budget"
        return f"{self.scale.text(candidate['score']['val'])} at {1 / _ratio(candidate):.2f}x{meets}"

    def _better_by(self, one: Candidate, other: Candidate) -> tuple[float, float]:
        """Points that one file is better than another, and the standard error of that: on the same examples, where they
        were compared so, else by what both lose against the reference.
        """
        for first, second, sign in ((one, other, 1), (other, one, -1)):
            if paired := (second.get("beside") or {}).get(first["id"]):
                return sign * paired["points"], paired["error"]
        points = other["loss"]["points"] - one["loss"]["points"]
        return points, math.hypot(one["loss"]["error"], other["loss"]["error"])

    def trained_by(self, candidate: Candidate) -> str:
        """Said behind the techniques that compress."""
        by = self.training(candidate)
        return f", trained by {' + '.join(by)}" if by else ""

    def named(self, candidate: Candidate) -> str:
        return f"{self.scale.text(candidate['score']['val'])} ({techniques(candidate)})"

    def most_accurate(self, files: Sequence[Candidate]) -> Candidate | None:
        return max(files, key=lambda c: (self.scale.goodness(c["score"]["val"]), -_ratio(c)), default=None)

    def more(self, one: Candidate, other: Candidate) -> str:
        """How one file stands to another by what the choice goes by: points of score under a budget, else speed."""
        if self.bounded:
            return self.scored(one, other)
        if _overlap(one, other):
            return "a tie in speed"
        times = _ratio(other) / _ratio(one)
        return f"{times:.2f} times as fast" if times > 1 else f"{1 / times:.2f} times slower"

    def scored(self, one: Candidate, other: Candidate) -> str:
        """How the score of one file stands to another's."""
        points, error = self._better_by(one, other)
        if abs(points) <= NORMAL * error:
            return f"a tie in score: {abs(points):.2f} points apart, {give_or_take(error)}"
        return f"{self.scale.points(abs(points), '.2f')} {'better' if points > 0 else 'worse'}, {give_or_take(error)}"


def explanation(document: Document) -> dict[str, list[str]]:
    """Sentences by what they are about; nothing of what the document does not tell."""
    told: dict[str, Sentences] = {
        "alone": _alone,
        "together": _together,
        "without": _without,
        "along_the_front": _along_the_front,
        "close": _close,
        "slower": _slower,
        "not_here": _not_here,
    }
    try:
        compared = FilesByTechnique(document)
    except MISSING_FIGURE:
        return {}
    found = {name: _as_far_as_known(sentences, compared) for name, sentences in told.items()}
    return {name: sentences for name, sentences in found.items() if sentences}


def _as_far_as_known(sentences: Sentences, run: FilesByTechnique) -> list[str]:
    """Those whose figures are there."""
    try:
        return list(sentences(run))
    except MISSING_FIGURE:
        return []


def _alone(run: FilesByTechnique) -> Iterator[str]:
    single = dict.fromkeys(names[0] for c in run.files if len(names := run.compressing(c)) == 1)
    for name in sorted(single):
        best = run.best(run.of(lambda own, name=name: own == {name}))  # type: ignore[misc]
        if best is not None:
            yield f"{name} alone{run.trained_by(best)}: {run.shown(best)}."


def _together(run: FilesByTechnique) -> Iterator[str]:
    alone = run.best(run.of(lambda own: len(own) == 1))
    combined = run.best(run.of(lambda own: len(own) > 1))
    if combined is None:
        if alone is not None:
            yield "No combination of techniques was scored on all examples."
        return
    said = f"The best combination: {techniques(combined)}, {run.shown(combined)}"
    if alone is None:
        yield f"{said}."
    elif combined["feasible"] and not alone["feasible"]:
        yield f"{said}. No technique alone is known to meet the budget."
    elif not combined["feasible"] and not alone["feasible"]:
        yield f"{said}; alone, {techniques(alone)}, {run.shown(alone)}."
    elif alone["feasible"] and not combined["feasible"]:
        yield f"{said}. {techniques(alone)} alone is: {run.shown(alone)}."
    else:
        yield f"{said}: beside the best alone, {techniques(alone)}, {run.more(combined, alone)}."


def _without(run: FilesByTechnique) -> Iterator[str]:
    """What each step of the recommended recipe brings, by the files that were made without it."""
    chosen = run.chosen
    if chosen is None:
        return
    own, training = run.compressing(chosen), run.training(chosen)
    trained = [(c, set(run.training(c))) for c in run.of(lambda others: others == frozenset(own))]
    for name in training:
        rest = set(training) - {name}
        files = [c for c, by in trained if by and name not in by and rest <= by]
        yield _without_one(name, files, run, trains=True)
    for name in own if len(own) > 1 else ():
        kept = frozenset(own) - {name}
        files = run.of(lambda others, kept=kept: others == kept)  # type: ignore[misc]
        yield _without_one(name, files, run, trains=False)


def _without_one(name: str, files: Sequence[Candidate], run: FilesByTechnique, *, trains: bool) -> str:
    """What leaving a step of the recommended recipe out costs, by the best of the files that have all others: of a step
    that trains by score. One that was trained much shorter, or by something in its place, is said to be.
    """
    chosen, best = run.chosen, run.best(files, by_score=trains)
    assert chosen is not None
    if best is None:
        return f"What {name} brings is not known: no file with all but it was scored on all examples."
    instead = [other for other in run.training(best) if other not in run.training(chosen)] if trains else []
    replaced = f", with {' + '.join(instead)} in its place" if instead else ""
    shorter, seconds = "", (best["train_seconds"], chosen["train_seconds"])
    if 0 < seconds[0] < MUCH_SHORTER * seconds[1]:
        shorter = f", trained for {seconds[0]:.2g} s, the {_called(run)} for {seconds[1]:.2g} s"
    both = best["feasible"] and chosen["feasible"]
    costs = f": {run.scored(best, chosen) if trains else run.more(best, chosen)}" if both else ""
    return f"Without {name}{replaced}: {run.shown(best)} ({techniques(best)}{shorter}){costs}."


def _called(run: FilesByTechnique) -> str:
    return "recommended one" if run.document["recommended"] else "nearest one"


def _along_the_front(run: FilesByTechnique) -> Iterator[str]:
    """At the speed of each file of the front the best that one technique alone reaches, and the best combination."""
    front = sorted((c for c in run.files if c["on_front"]), key=_ratio, reverse=True)
    for point in _spread(front):
        as_fast = [c for c in run.files if _ratio(c) <= _ratio(point)]
        ways = [run.compressing(c) for c in as_fast]
        alone = run.most_accurate([c for c, own in zip(as_fast, ways, strict=True) if len(own) == 1])
        combined = run.most_accurate([c for c, own in zip(as_fast, ways, strict=True) if len(own) > 1])
        said = f"At least {1 / _ratio(point):.2f} times as fast"
        if alone is None and combined is not None:
            yield f"{said}, the best combination scores {run.named(combined)}; of single techniques {NOTHING_AS_FAST}."
        elif combined is None and alone is not None:
            yield f"{said}, the best single technique scores {run.named(alone)}; of combinations {NOTHING_AS_FAST}."
        elif combined is not None and alone is not None:
            beside = f"beside the best single technique, {run.named(alone)}: {run.scored(combined, alone)}"
            yield f"{said}, the best combination scores {run.named(combined)}, {beside}."


def _spread(front: Sequence[Candidate]) -> list[Candidate]:
    """Of the front the slowest, and of the others those that are clearly faster than the one before; not many."""
    found: list[Candidate] = []
    for c in front:
        if not found or _ratio(c) * APART <= _ratio(found[-1]):
            found.append(c)
    return found[:FRONT_SHOWN]


def _close(run: FilesByTechnique) -> Iterator[str]:
    """Files that can be recommended too, and cannot be told from the recommended one by what it was chosen for."""
    chosen = run.chosen
    if chosen is None or not chosen["feasible"]:
        return
    tied = [c for c in run.files if c["feasible"] and c is not chosen and run.more(c, chosen).startswith("a tie")]
    tied.sort(key=lambda c: abs(c["loss"]["points"] - chosen["loss"]["points"]))
    for c in tied[:CLOSE_SHOWN]:
        yield f"Close: {techniques(c)}, {run.shown(c)}: {run.more(c, chosen)}. It is {CANDIDATES}/{c['id']}/."
    if len(tied) > CLOSE_SHOWN:
        yield f"{len(tied) - CLOSE_SHOWN} more are as close."


def _slower(run: FilesByTechnique) -> Iterator[str]:
    """Graph variants that did not pay, with the operators to blame where they were looked at."""
    found: dict[str, list[tuple[str, str]]] = {}
    for entry in run.document["rejected"]:
        recipe, reason = entry["recipe"], entry["reason"]
        if recipe and recipe[-1].get("variant") and reason.startswith("no faster than the float file"):
            float_file = Recipe.from_json(recipe).family.techniques(" + ")
            found.setdefault(recipe[-1]["strategy"], []).append((float_file, reason.partition("): ")[2]))
    for name, files in sorted(found.items(), key=lambda item: -len(item[1]))[:SLOWER_SHOWN]:
        of = list(dict.fromkeys(float_file for float_file, _ in files))
        more = f" and {len(of) - FILES_NAMED} more" if len(of) > FILES_NAMED else ""
        named = "; ".join(of[:FILES_NAMED]) + more
        count = "one file" if len(files) == 1 else f"{len(files)} files"
        looked_at = next(((float_file, why) for float_file, why in files if why), None)
        why = f", of {looked_at[0]}: {looked_at[1]}" if looked_at else "; in which operators is not known"
        yield f"{name} made {count} no faster than the float file ({named}){why}."


def _not_here(run: FilesByTechnique) -> Iterator[str]:
    for refused in run.document["refused"]:
        yield f"{refused['strategy']} does not apply: {refused['reason']}."


def _ratio(candidate: Candidate) -> float:
    return float(candidate["latency_ms"]["ratio"])


def _overlap(one: Candidate, other: Candidate) -> bool:
    """Whether the intervals of both ratios do."""
    low, high = sorted((one["latency_ms"], other["latency_ms"]), key=lambda latency: latency["ratio"])
    return bool(high["ratio_low"] <= low["ratio_high"])
