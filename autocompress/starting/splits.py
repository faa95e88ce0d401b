"""Splits by the words that files, folders, arrays and variables are called by, and what a data set of files has."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val"}
SPLITS |= {"test": "test", "testing": "test"}
WHOLE = "all"  # a split that is to be divided


@dataclass(frozen=True)
class Dataset:
    """splits: "train", "val", "test", or "all", each with where it lies. classes: their names, where the files tell
    them. numbers: whether targets are numbers and not classes. notes: what its reader should know.
    """

    template: ClassVar[str] = ""
    splits: Mapping[str, Path]
    classes: tuple[str, ...] = ()
    numbers: bool = False
    notes: tuple[str, ...] = ()

    @property
    def where(self) -> Path:
        return next(iter(self.splits.values()))


def with_validation(splits: Mapping[str, Path]) -> dict[str, Path]:
    """In the order of training; where only one other split is there, it is what validates."""
    if "val" not in splits and "test" in splits:
        splits = {"train": splits["train"], "val": splits["test"]}
    elif "val" not in splits:
        splits = {WHOLE: splits["train"]}
    return {name: splits[name] for name in ("train", "val", "test", WHOLE) if name in splits}
