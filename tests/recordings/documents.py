"""What the document of a search says of its candidates."""

from typing import Any


def ratio_of(candidate: dict[str, Any]) -> float:
    return float(candidate["latency_ms"]["ratio"])


def score_of(candidate: dict[str, Any]) -> float:
    return float(candidate["score"]["val"])


def chosen_of(document: dict[str, Any], choice: str = "recommended") -> dict[str, Any]:
    (chosen,) = (c for c in document["candidates"] if c["id"] == document[choice])
    return dict(chosen)
