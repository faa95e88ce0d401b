"""CSV files of numbers with a target."""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from autocompress.starting.folder import Listing
from autocompress.starting.splits import SPLITS, WHOLE, Dataset, with_validation

MOST_CLASSES = 100  # values of a column that are classes
ROWS_LOOKED_AT = 100_000  # of a table that are looked at
TARGET_NAMES = ("label", "labels", "target", "class", "y", "outcome")
ROW_NAMES = ("", "id", "index", "unnamed: 0")  # columns that count the rows
ENCODING = "utf-8-sig"  # UTF-8, with the mark at its start that some programs write
NO_VALUE = {"", "nan", "na", "n/a", "null", "none"}  # what stands in an empty cell

TableRow = list[str]


@dataclass(frozen=True)
class Table(Dataset):
    """CSV files of the same columns. features, target: numbers of columns. numeric: whether the target is written in
    numbers, of classes too. gaps: whether rows are without a target.
    """

    template: ClassVar[str] = "table"
    header: bool = True
    delimiter: str = ","
    features: tuple[int, ...] = ()
    target: int = -1
    target_name: str = ""
    numeric: bool = False
    gaps: bool = False


def tables_of(listing: Listing) -> Iterator[Table]:
    """CSV files: those named like splits are one data set, every other is one of its own."""
    files = [file for file in listing.files if file.suffix.lower() == ".csv"]
    splits = {SPLITS[file.stem.lower()]: file for file in files if file.stem.lower() in SPLITS}
    groups = [splits] if "train" in splits else []
    groups += [{WHOLE: file} for file in files if file.stem.lower() not in SPLITS or not groups]
    for group in groups:
        table = _table(group)
        if table is not None:
            yield table


def _table(files: Mapping[str, Path]) -> Table | None:
    """None for what is no table of numbers with a target."""
    first = files.get("train") or files[WHOLE]
    rows, delimiter = _rows(first, ROWS_LOOKED_AT)
    if len(rows) < 3 or len({len(row) for row in rows}) != 1 or len(rows[0]) < 2:
        return None
    header = _is_header(rows[0], rows[1:])
    names = [word.strip() for word in rows[0]] if header else [f"column {i}" for i in range(len(rows[0]))]
    lower, body = [name.lower() for name in names], rows[1:] if header else rows
    target = next((lower.index(name) for name in TARGET_NAMES if name in lower), len(names) - 1)
    columns = [i for i, name in enumerate(lower) if i != target and name not in ROW_NAMES]
    features = tuple(i for i in columns if all(_is_number(row[i]) for row in body))
    empty = [i for i in columns if i not in features and _is_numeric(row[i] for row in body)]
    words = [i for i in columns if i not in features and i not in empty]
    values = {row[target] for row in body if not _is_empty(row[target])}
    numeric = all(map(_is_number, values))
    classes = not numeric or (len(values) <= MOST_CLASSES and all(float(v).is_integer() for v in values))
    if not features or not values or (not numeric and len(values) > MOST_CLASSES):
        return None
    gaps = any(_is_empty(row[target]) for row in body)
    other = [name for name, file in files.items() if not _has_columns(file, rows[0], header)]
    same = {name: file for name, file in files.items() if name not in other}
    notes = [
        f"columns of words are left out: {', '.join(names[i] for i in words)}" if words else "",
        f"columns with empty cells are left out: {', '.join(names[i] for i in empty)}" if empty else "",
        f"rows without a {names[target]} are left out" if gaps else "",
        *(f"{files[name].name} has other columns than {first.name} and is left out" for name in other),
    ]
    return Table(
        with_validation(same) if "train" in same else same,
        tuple(sorted(values, key=float if numeric else str)) if classes else (),
        numbers=not classes,
        notes=tuple(filter(None, notes)),
        header=header,
        delimiter=delimiter,
        features=features,
        target=target,
        target_name=names[target],
        numeric=numeric,
        gaps=gaps,
    )


def _rows(file: Path, most: int) -> tuple[list[TableRow], str]:
    """The first rows, and what divides their columns; none of what cannot be read."""
    try:
        with file.open(newline="", encoding=ENCODING) as lines:
            dialect = csv.Sniffer().sniff(lines.readline(), ",;\t")
            lines.seek(0)
            reader = csv.reader(lines, delimiter=dialect.delimiter)
            return [row for row, _ in zip(reader, range(most), strict=False) if row], dialect.delimiter
    except (OSError, UnicodeDecodeError, csv.Error):
        return [], ","


def _has_columns(file: Path, first: TableRow, header: bool) -> bool:
    """Whether a file begins with the same header, or has as many columns where there is none."""
    rows, _ = _rows(file, 1)
    return bool(rows) and (rows[0] == first if header else len(rows[0]) == len(first))


def _is_header(first: TableRow, body: Sequence[TableRow]) -> bool:
    """Whether the first row has no numbers at all, words over columns of numbers, or counts the columns from 0 on, as
    pandas does where nobody named them.
    """
    words = [i for i, word in enumerate(first) if not _is_number(word)]
    if len(words) == len(first):
        return True
    if any(not _is_empty(first[i]) and _is_numeric(row[i] for row in body) for i in words):
        return True
    counted = [word for word in first if _is_number(word)]
    in_order = len(counted) > 1 and counted == [str(i) for i in range(len(counted))]
    return in_order and not any(row[i] == first[i] for i in words for row in body)


def _is_numeric(words: Iterator[str]) -> bool:
    """Whether there are numbers, and nothing else but empty cells."""
    filled = [word for word in words if not _is_empty(word)]
    return bool(filled) and all(map(_is_number, filled))


def _is_empty(word: str) -> bool:
    return word.strip().lower() in NO_VALUE


def _is_number(word: str) -> bool:
    try:
        return math.isfinite(float(word))
    except ValueError:
        return False
