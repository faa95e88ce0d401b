"""Labels of data as the numbers of a model's classes."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autocompress.errors import UsageError, one_line

UNNAMED = re.compile(r"label_\d+")
CLASSES_SHOWN = 5


@dataclass(frozen=True)
class ClassNames:
    """model: of the model's classes, from 0 on; LABEL_0, ... are none. data: of the data's, where it has names."""

    model: Sequence[str]
    data: Sequence[str] | None

    @property
    def shown(self) -> list[str] | None:
        """What the classes are called, for people."""
        return list(self.data or ()) or None if self._is_unnamed else list(self.model)

    @property
    def _is_unnamed(self) -> bool:
        return all(UNNAMED.fullmatch(_plain(name)) for name in self.model)

    def numbers(self) -> dict[str, int]:
        """Of each name of the data. Raises UsageError when they are not the model's, by name or by count."""
        own, data = [_plain(name) for name in self.model], [_plain(name) for name in self.data or ()]
        if set(data) <= set(own):
            return {name: own.index(plain) for name, plain in zip(self.data or (), data, strict=True)}
        if all(name.isdecimal() and int(name) < len(own) for name in data):
            return {name: int(name) for name in self.data or ()}
        if len(data) != len(own):
            raise UsageError(
                f"the data have {_counted(self.data or ())} and the model has {_counted(self.model)}: give data with "
                "the model's classes, or a model that was trained on these"
            )
        if not self._is_unnamed:
            raise UsageError(
                f"the data's classes ({_listed(self.data or ())}) are called otherwise than the model's "
                f"({_listed(self.model)}): name them alike, in the data or in id2label of the model's config.json"
            )
        return {name: number for number, name in enumerate(self.data or ())}

    def check_numbers(self, values: Mapping[str, Sequence[int]]) -> None:
        """Of data whose labels are numbers, by split. Raises UsageError for one that is no class of the model."""
        for split, numbers in values.items():
            if numbers and not 0 <= min(numbers) <= max(numbers) < len(self.model):
                odd = max(numbers) if max(numbers) >= len(self.model) else min(numbers)
                raise UsageError(
                    f"the {split} data have the label {odd} and the model has {_counted(self.model)}, from 0 on: give "
                    "data with the model's classes, or a model that was trained on these"
                )


def _plain(name: str) -> str:
    return name.strip().casefold().replace(" ", "_")


def _counted(names: Sequence[str]) -> str:
    return f"{len(names)} class{'es' * (len(names) != 1)} ({_listed(names)})"


def _listed(names: Sequence[str]) -> str:
    return one_line(", ".join(names[:CLASSES_SHOWN]) + (", ..." if len(names) > CLASSES_SHOWN else ""), 100)
