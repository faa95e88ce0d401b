"""Runs beside each other: what each recommends, what differs between them, and what of them may share an axis."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from autocompress.fingerprint import differences_of
from autocompress.report import explain
from autocompress.report.explain import Document
from autocompress.report.html import NO_CONCLUSION, missing_files
from autocompress.report.over_time import duration
from autocompress.report.readable import as_far_as_known, readable
from autocompress.report.record_reading import read_recorded
from autocompress.report.recorded import Recorded
from autocompress.score_scale import ScoreScale
from autocompress.storage.folder import RunFolder
from autocompress.storage.front import chosen
from autocompress.storage.recovery import Say, read_run

OTHER_STATE = 1.1  # times slower that a reference is than on the same target before, that is said
SAME_SCORE = 1e-6


@dataclass(frozen=True)
class ReportedRun:
    """name: the folder, as it was given."""

    name: str
    root: Path
    document: Document
    recorded: Recorded


def read_reported(root: Path, say: Say) -> ReportedRun:
    """Of a run folder all that can be read. say: told what was made whole, and what cannot be. Raises UsageError where
    it holds no run.
    """
    document = read_run(root, say, whole=False)
    compressing = document.get("compressing")
    recorded = read_recorded(RunFolder(root).study, compressing if isinstance(compressing, list) else ())
    return ReportedRun(str(root), root, document, recorded)


def compare_runs(runs: Sequence[ReportedRun]) -> dict[str, Any]:
    """As JSON. ``runs``: what each recommends; ``differences``: what is not the same, a value for each run; ``same``:
    what is; ``said``: sentences, of what cannot be compared and why. ``latency_axis``: ``ms``, or ``ratio`` to each
    run's own reference; ``score_axis``: ``score``, ``change`` from each run's own reference, or None.
    """
    read = [readable(run.document) for run in runs]
    documents = [document for document, _ in read]
    one_target = all(_target(document) == _target(documents[0]) for document in documents)
    tasks = [_task(run, document) for run, document in zip(runs, documents, strict=True)]
    one_task = all(_same_task(one, other) for one, other in combinations(tasks, 2))
    one_metric = len({(document["metric"], document.get("maximize", True)) for document in documents}) == 1
    facts = {
        name: [str(as_far_as_known(tell, document, "-")) for document in documents] for name, tell in FACTS.items()
    }
    said = [
        *_on_tasks(runs, tasks, one_task, one_metric),
        *_on_targets(runs, documents, one_target, one_task),
    ]
    return {
        "runs": [_summary(run, document, missing) for run, (document, missing) in zip(runs, read, strict=True)],
        "said": said,
        "differences": {name: values for name, values in facts.items() if len(set(values)) > 1},
        "same": {name: values[0] for name, values in facts.items() if len(set(values)) == 1 and values[0] != "-"},
        "latency_axis": "ms" if one_target else "ratio",
        "score_axis": None if not one_metric else "score" if one_task else "change",
    }


def _summary(run: ReportedRun, document: Document, missing: list[str]) -> dict[str, Any]:
    scale, found = ScoreScale.of(document), chosen(document)
    role = "recommended" if document["recommended"] else "nearest"
    return {
        "run": run.name,
        "conclusion": as_far_as_known(explain.conclusion, document, NO_CONCLUSION),
        "role": role if found else None,
        "recipe": None if found is None else explain.steps(found),
        "techniques": "-" if found is None else explain.techniques(found),
        "validation": "-" if found is None else scale.text(found["score"]["val"]),
        "test": "-" if found is None else scale.text(found["score"]["test"]),
        "latency": "-" if found is None else f"{explain.statistic_ms(found, document):.4g} ms",
        "speedup": "-" if found is None else f"{1 / found['latency_ms']['ratio']:.2f}x",
        "size": "-" if found is None else f"{found['size_bytes'] / 1000:,.0f} kB",
        "missing": [*missing, *missing_files(document, run.root)],
    }


def _profile(document: Document) -> dict[str, Any]:
    profile = document["environment"].get("profile")
    return dict(profile) if isinstance(profile, dict) else {}


def _machine(document: Document) -> dict[str, Any]:
    found = document["environment"].get("machine")
    return dict(found) if isinstance(found, dict) else {}


def _target(document: Document) -> object:
    """What milliseconds are of: where files ran, and how."""
    profile, environment = _profile(document), document["environment"]
    how = {key: value for key, value in profile.items() if key != "description"} or {"name": document["profile"]}
    where = {key: _machine(document).get(key) for key in ("processor", "cores", "instructions", "quota")}
    return how, where if any(where.values()) else environment.get("cpu"), environment.get("device")


@dataclass(frozen=True)
class _TaskIdentity:
    """parts: digests, none where the record of the run is not there. looks: what can be told without them."""

    parts: Mapping[str, str]
    looks: tuple[Any, ...]
    score: float


def _task(run: ReportedRun, document: Document) -> _TaskIdentity:
    reference = document["reference"]
    looks = document["task"], document["metric"], reference["params"], reference["macs"]
    return _TaskIdentity(run.recorded.parts, looks, reference["score"]["val"])


def _same_task(one: _TaskIdentity, other: _TaskIdentity) -> bool:
    if one.parts and other.parts:
        return one.parts == other.parts
    return one.looks == other.looks and abs(one.score - other.score) <= SAME_SCORE


def _on_tasks(
    runs: Sequence[ReportedRun], tasks: Sequence[_TaskIdentity], one_task: bool, one_metric: bool
) -> Iterator[str]:
    if one_task:
        if not all(task.parts for task in tasks):
            yield (
                "Whether these runs are of one task is told from its name, its metric and its reference alone, since "
                "not every run has its record."
            )
        return
    for (first, task), (other, another) in combinations(zip(runs, tasks, strict=True), 2):
        if not _same_task(task, another):
            why = differences_of(task.parts, another.parts) or "its name, its metric or its reference differs"
            yield f"{first.name} and {other.name} are not of one task: {why}."
    if one_metric:
        yield "So scores are not compared: the chart shows what each file gains or loses on its own run's reference."
    else:
        yield "They do not share a metric either, so no chart puts their scores side by side."


def _on_targets(
    runs: Sequence[ReportedRun], documents: Sequence[Document], one_target: bool, one_task: bool
) -> Iterator[str]:
    if not one_target:
        yield (
            "These runs were timed on different targets, or in different ways: milliseconds of one are not comparable "
            "with those of another, so the chart shows the time of a call as a share of each run's own reference."
        )
        return
    took = [explain.statistic_ms(document["reference"], document) for document in documents]
    slowest, fastest = max(took), min(took)
    if one_task and slowest > OTHER_STATE * fastest:
        times = ", ".join(f"{ms:.4g} ms in {run.name}" for run, ms in zip(runs, took, strict=True))
        yield (
            f"On the same target the reference took {times}: the machine was in another state. "
            "The speed-ups, each beside its own reference, can be compared sooner than the milliseconds."
        )


def _of_environment(name: str) -> Callable[[Document], str]:
    return lambda document: str(document["environment"].get(name, "-"))


FACTS: dict[str, Callable[[Document], Any]] = {
    "task": lambda d: d["task"],
    "metric": lambda d: d["metric"],
    "reference, validation": lambda d: ScoreScale.of(d).text(d["reference"]["score"]["val"]),
    "reference, time of a call": lambda d: f"{explain.statistic_ms(d['reference'], d):.4g} ms",
    "profile": lambda d: d["profile"],
    "profile, in full": lambda d: ", ".join(f"{key} {value}" for key, value in _profile(d).items()) or "-",
    "statistic": lambda d: d["budget"]["statistic"],
    "processor": lambda d: _machine(d).get("processor") or d["environment"].get("cpu", "-"),
    "cores": lambda d: _machine(d).get("cores", d["environment"].get("cores", "-")),
    "instructions": lambda d: ", ".join(_machine(d).get("instructions", ())) or "-",
    "device": _of_environment("device"),
    "budget": explain.budget_text,
    "points that may be lost": lambda d: "-" if d["budget"]["max_drop"] is None else f"{d['budget']['max_drop']:g}",
    "points in any one class": lambda d: d["budget"].get("max_class_drop") or "-",
    "minutes given": lambda d: f"{d['minutes']:g}",
    "time taken": lambda d: duration(d["wall_seconds"]),
    "recipes tried": lambda d: d["tried"],
    "files on the front": lambda d: sum(c["on_front"] for c in d["candidates"]),
    "seed": lambda d: d["seed"],
    **{name: _of_environment(name) for name in ("autocompress", "torch", "onnx", "onnxruntime", "optuna")},
}
