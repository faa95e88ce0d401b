"""The model card: what a delivered model is, how good and how fast, and for what that was measured. Markdown, from
``front.json`` alone; a fact that is not there is left out with its line.

After Mitchell et al., "Model Cards for Model Reporting", FAT* 2019 (arXiv 1810.03993).
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from autocompress.errors import one_line
from autocompress.report import explain
from autocompress.report.explain import Document
from autocompress.report.readable import as_far_as_known
from autocompress.score_scale import ScoreScale
from autocompress.storage.atomic import write_text
from autocompress.storage.front import CARD, LOAD, MODEL, PREDICT, chosen, delivered, folder_of

SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")  # of Markdown, in names and reasons


def model_card(document: Document) -> str | None:
    """The card of the model that a document delivers; None where there is none."""
    candidate = chosen(document)
    if candidate is None:
        return None
    parts = [
        f"# {plain(document['task'])}, compressed",
        plain(explain.conclusion(document)),
        "\n".join(_table(document, candidate)),
        "## How it was made",
        "\n".join(f"{n}. {plain(step)}" for n, step in enumerate(explain.steps(candidate), 1)) or "It is unchanged.",
        "## What the numbers hold for",
        "\n".join(f"- {plain(line)}" for line in _holds_for(document, candidate)),
        "## How to use it",
        f"`python {PREDICT} input.npy output.npz` runs `{MODEL}`, with numpy and onnxruntime alone. `{LOAD}` gives the "
        "PyTorch module, to train on or to export elsewhere, with autocompress and the task it was made for.",
    ]
    return "\n\n".join(parts) + "\n"


def write_card(document: Document, root: Path) -> Path | None:
    """Write the card of a finished run anew, where the run was delivered with one; its path. None where it was not."""
    name, text = f"{folder_of(document)}/{CARD}", model_card(document)
    if text is None or name not in delivered(document):
        return None
    write_text(root / name, text)
    return root / name


def plain(text: str) -> str:
    """A text of somebody else's on one line, with nothing in it that Markdown reads as more than text."""
    return SPECIAL.sub(r"\\\1", one_line(str(text), 2000))


def _table(document: Document, candidate: dict[str, Any]) -> Iterator[str]:
    reference, scale = document["reference"], ScoreScale.of(document)
    yield "| | this model | the original |"
    yield "|---|---|---|"
    for split, of in (("validation", "val"), ("test", "test")):
        scores = [point["score"].get(of) for point in (candidate, reference)]
        if None not in scores:
            low, high = (candidate["score"].get(f"{of}_{end}") for end in ("low", "high"))
            interval = "" if None in (low, high) else f" (95 % of {scale.text(low)} to {scale.text(high)})"
            own, other = scale.text(scores[0]), scale.text(scores[1])
            yield f"| {plain(document['metric'])}, {split} | {own}{interval} | {other} |"
    for name in dict.fromkeys(("p50", document["budget"]["statistic"])):
        took = [explain.shown_ms(point, document, name) for point in (candidate, reference)]
        yield f"| {plain(name)} of a call, ms | {took[0]:.4g} | {took[1]:.4g} |"
    yield f"| speed-up, of the p50 | {1 / candidate['latency_ms']['ratio']:.2f} | 1 |"
    precisions = [point.get("precision") for point in (candidate, reference)]
    if all(precisions):
        yield f"| precision | {plain(str(precisions[0]))} | {plain(str(precisions[1]))} |"
    for title, key, unit in (
        ("file, kB", "size_bytes", 1e3),
        ("file, deflated, kB", "compressed_bytes", 1e3),
        ("memory, MB", "memory_bytes", 1e6),
        ("parameters", "params", 1),
        ("multiply-accumulates, million", "macs", 1e6),
    ):
        amounts = [point.get(key) for point in (candidate, reference)]
        if all(amounts):
            digits = ".0f" if key != "macs" else ".4g"
            yield f"| {title} | " + " | ".join(f"{amount / unit:,{digits}}" for amount in amounts if amount) + " |"


def _holds_for(document: Document, candidate: dict[str, Any]) -> Iterator[str]:
    environment = document["environment"]
    profile, machine = environment.get("profile") or {}, environment.get("machine") or {}
    yield f"profile {document['profile']}: {profile.get('description') or 'no description'}"
    if profile:
        yield (
            f"{profile.get('runtime')}, {profile.get('threads')} thread(s), {profile.get('batch')} example(s) a call: "
            "the file takes that many at once"
        )
    if machine.get("processor") and not profile.get("device"):
        yield f"timed on {machine['processor']}, {', '.join(machine.get('instructions', ())) or 'no vector extensions'}"
    scored_on = document.get("scored_on")
    if scored_on:
        yield f"scored on {scored_on:,} examples of the validation split, which the search had time for"
    if candidate["score"].get("test") is None:
        yield "it was not scored on a test split"
    told = (
        explain.whom_it_hurts,
        explain.examples_that_changed,
        explain.scores_hold,
        explain.where_time_goes,
        explain.few_rows,
    )
    for said in (as_far_as_known(of, document, None) for of in told):
        if said:
            yield said
    if document["recommended"] is None:
        yield "it is not known to meet the budget: it is the nearest that was found"
    yield from document.get("warnings", ())
    yield from document.get("advice", ())
