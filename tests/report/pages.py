"""A run's document, small and whole, and a page as its reader meets it."""

import base64
import gzip
import json
from html.parser import HTMLParser
from typing import Any

EVIL = "<script>alert(1)</script>"
LINK = '<a href="javascript:alert(1)">free</a><img src=x onerror=alert(1)>'


class Page(HTMLParser):
    """A page's visible text, its elements, its scripts and its chart."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.said: list[str] = []
        self._inside = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside = tag
            if tag == "script":
                self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif not self._inside:
            self.said.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.said).split())

    def data(self, **wanted: str) -> Any:
        """The JSON of the script element with these attributes."""
        named = {name.replace("_", "-"): value for name, value in wanted.items()}
        (found,) = (n for n, attributes in enumerate(self.attributes("script")) if named.items() <= attributes.items())
        text = self.scripts[found]
        return json.loads(text if text.startswith("{") else gzip.decompress(base64.b64decode(text)))

    def attributes(self, wanted: str) -> list[dict[str, str | None]]:
        """Of every element of a kind, in order."""
        return [attributes for tag, attributes in self.elements if tag == wanted]

    @property
    def figure(self) -> dict[str, Any]:
        return dict(self.data(data_for="chart"))

    def traces(self) -> dict[str, dict[str, Any]]:
        return {trace["name"]: trace for trace in self.figure["data"]}


def point(val: float, ms: float, test: float | None = None, *, ratio: float | None = None) -> dict[str, Any]:
    return {
        "score": {"val": val, "val_low": val - 0.004, "val_high": val + 0.006, "test": test, "sampled": None},
        "latency_ms": {
            "p50": 0.9 * ms,
            "p90": ms,
            "low": ms,
            "high": ms,
            "ratio": ratio or ms / 0.8,
            "ratio_low": 0.99 * (ratio or ms / 0.8),
            "ratio_high": 1.01 * (ratio or ms / 0.8),
            "quiet_sessions": 3,
        },
        "size_bytes": 2_810_000,
        "compressed_bytes": 2_600_000,
        "params": 696_000,
        "macs": 81_000_000,
    }


def candidate(name: str, val: float, ms: float, *steps: tuple[str, dict[str, Any]], **more: Any) -> dict[str, Any]:
    recipe = [{"strategy": strategy, "params": params} for strategy, params in steps]
    judged = {"answer": "met", "reason": "measured"}
    known = {
        "train_seconds": 4.0,
        "calibration": {},
        "verdicts": {"latency": judged, "drop": None, "class_drop": None, "size": None, "memory": None},
        "loss": {"points": 0.2, "error": 0.1},
        "beside": {},
        "on_device": None,
        "keeps_lead": True,
        "stands_alone": False,
        "finalist": True,
    }
    place = {"id": name, "recipe": recipe, "artifact": f"candidates/{name}/model.onnx", "fidelity": 3, "elapsed_s": 9.0}
    return point(val, ms, more.pop("test", None)) | place | known | {"feasible": True, "on_front": True} | more


def document(**changes: Any) -> dict[str, Any]:
    """A run with a budget of 0.2 ms: one model of three meets it and is recommended."""
    reference = point(0.934, 0.8, 0.9344) | {"artifact": "reference/model.onnx"}
    prune, quantize = ("prune_channels", {"ratio": 0.5}), ("quantize_static", {"per_channel": True})
    candidates = [
        reference | {"id": "ref", "recipe": [], "feasible": False, "on_front": False, "fidelity": 0, "elapsed_s": 1.0},
        candidate("int8", 0.9347, 0.25, quantize, feasible=False),
        candidate("both", 0.9312, 0.125, prune, quantize, test=0.9301, precision="int8 static"),
        candidate("slow", 0.9105, 0.3, prune, ("finetune", {}), feasible=False, on_front=False),
    ]
    whole = {
        "schema": 1,
        "task": "fashion",
        "profile": "cpu-2threads",
        "metric": "accuracy",
        "seed": 7,
        "environment": {"torch": "2.11.0", "cpu": "Some CPU @ 2.7GHz", "plugins": {"student": "autocompress 0.1.0"}},
        "budget": {"latency_ms": 0.2, "speedup": None, "statistic": "p90", "max_drop": None},
        "status": "feasible",
        "reference": reference,
        "candidates": candidates,
        "rejected": [
            {
                "recipe": [{"strategy": "lowrank", "params": {"rank": n}}],
                "reason": f"over the budget ({n} ms)",
                "latency_ms": n,
            }
            for n in (5.0, 6.0)
        ],
        "failed": [{"recipe": [], "strategy": "student", "reason": "out of memory"}] * 3,
        "refused": [{"strategy": "prune_heads", "reason": "the model has no attention"}],
        "warnings": ["the data differs between two reads"],
        "recommended": "both",
        "nearest": None,
        "tried": 9,
        "wall_seconds": 754.2,
    }
    return whole | changes


def budget(
    latency_ms: float | None = None, speedup: float | None = None, max_drop: float | None = None
) -> dict[str, Any]:
    return {"latency_ms": latency_ms, "speedup": speedup, "statistic": "p90", "max_drop": max_drop}


def rows_of(page: Page) -> list[dict[str, Any]]:
    """The rows of the table of every candidate: their states, what columns are sorted by, addresses, all words."""
    data = page.data(id="candidates-data")
    parts = ("name", "tags", "steps", "reason", "id")
    return [
        {
            "states": data["states"][at],
            "values": [column["sort"][at] for column in data["cells"]],
            "links": [address for _, address in data["links"][at]],
            "text": " ".join(
                [
                    *(str(word) for part in parts for word in _words(data[part][at])),
                    *(f"{column['text'][at]} {column['note'][at]}".strip() for column in data["cells"]),
                ]
            ),
        }
        for at in range(len(data["name"]))
    ]


def _words(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
