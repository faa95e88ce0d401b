"""The record of a search in memory: nine tenths of the time of a search that computes nothing go into its database."""

import copy
import json
from collections import Counter
from pathlib import Path
from typing import Any


class MemoryRecord:
    """As ``autocompress.storage.record.Record``; the next process is given the same one."""

    path = Path("study.db")

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}
        self._counts: Counter[str] = Counter()
        self._trials: list[Any] = []

    def get(self, key: str, default: Any = None) -> Any:
        return self._known.get(key, default)

    def set(self, key: str, value: Any) -> None:
        self._known[key] = json.loads(json.dumps(value))

    def every(self, prefix: str) -> list[Any]:
        return [self._known[f"{prefix}:{n}"] for n in range(self._counts[prefix])]

    def append(self, prefix: str, value: Any) -> None:
        self.set(f"{prefix}:{self._counts[prefix]}", value)
        self._counts[prefix] += 1

    def add(self, trial: Any) -> None:
        kept = copy.deepcopy(trial)
        kept.number = len(self._trials)
        self._trials.append(kept)

    def trials(self) -> list[Any]:
        return list(self._trials)

    def close(self) -> None: ...
