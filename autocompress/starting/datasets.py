"""Data sets that lie in a folder as files: which files are which split, and what an example of them is."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from autocompress.starting.folder import Listing, listing_of

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm")
SOUNDS = (".wav",)
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val"}
SPLITS |= {"test": "test", "testing": "test"}
WHOLE = "all"  # a split that is to be divided
MOST_CLASSES = 100  # values of a column that are classes
ROWS_LOOKED_AT = 100_000  # of a table that are looked at
TARGET_NAMES = ("label", "labels", "target", "class", "y", "outcome")
ROW_NAMES = ("", "id", "index", "unnamed: 0")  # columns that count the rows
X_NAMES = ("x", "inputs", "input", "images", "image", "features", "data")
Y_NAMES = ("y", "targets", "target", "labels", "label")


@dataclass(frozen=True)
class Dataset:
    """splits: "train", "val", "test", or "all", each with where it lies. numbers: whether targets are numbers and not
    classes. classes: their names, where the files tell them.
    """

    template: ClassVar[str] = ""
    splits: Mapping[str, Path]
    classes: tuple[str, ...] = ()
    numbers: bool = False

    @property
    def where(self) -> Path:
        return next(iter(self.splits.values()))


@dataclass(frozen=True)
class ImageFolders(Dataset):
    """A folder for each class. size: (height, width) that the images looked at have in common; None where they differ
    or cannot be read.
    """

    template: ClassVar[str] = "images"
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class SoundFolders(Dataset):
    """A folder for each class. length: samples of the longest file looked at."""

    template: ClassVar[str] = "sounds"
    length: int = 16_000


@dataclass(frozen=True)
class Table(Dataset):
    """CSV files of the same columns. features, target: numbers of columns. left: names of columns that hold words."""

    template: ClassVar[str] = "table"
    header: bool = True
    delimiter: str = ","
    features: tuple[int, ...] = ()
    target: int = -1
    target_name: str = ""
    left: tuple[str, ...] = ()


@dataclass(frozen=True)
class ArrayShape:
    shape: tuple[int, ...]
    kind: str  # as of numpy's dtype: "u" unsigned, "i" whole numbers, "f" floats


@dataclass(frozen=True)
class Arrays(Dataset):
    """NumPy archives. names: of each split's (inputs, targets). inputs: of the first split."""

    template: ClassVar[str] = "arrays"
    names: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    inputs: ArrayShape = ArrayShape((), "f")


def datasets_of(listings: Sequence[Listing]) -> Iterator[Dataset]:
    """Everything in the folders that looks like a data set with targets; nothing is found twice."""
    taken: set[Path] = set()
    for listing in listings:
        if listing.path not in taken:
            found = _class_folders(listing, IMAGES) or _class_folders(listing, SOUNDS)
            if found is not None:
                taken |= {folder for split in found.splits.values() for folder in (split, *listing_of(split).folders)}
                yield found
    for listing in listings:
        yield from _tables(listing)
        yield from _arrays(listing)


def _class_folders(listing: Listing, suffixes: tuple[str, ...]) -> Dataset | None:
    """``train/<class>/*``, with other splits beside it, or ``<class>/*`` in the folder itself."""
    splits = {SPLITS[f.name.lower()]: f for f in listing.folders if f.name.lower() in SPLITS}
    splits = {name: folder for name, folder in splits.items() if _classes(folder, suffixes)}
    if "train" not in splits:
        splits = {WHOLE: listing.path} if len(_classes(listing.path, suffixes)) > 1 else {}
    if not splits:
        return None
    splits, first = _with_validation(splits), next(iter(splits.values()))
    classes = _classes(first, suffixes)
    files = [file for name in classes for file in _files(first / name, suffixes)[:3]]
    if suffixes == SOUNDS:
        return SoundFolders(splits, classes, length=max(map(_samples, files)))
    return ImageFolders(splits, classes, size=_common_size(files[:30]))


def _with_validation(splits: dict[str, Path]) -> dict[str, Path]:
    """In the order of training; where only one other split is there, it is what validates."""
    if "val" not in splits and "test" in splits:
        splits = {"train": splits["train"], "val": splits["test"]}
    elif "val" not in splits:
        splits = {WHOLE: next(iter(splits.values()))}
    return {name: splits[name] for name in ("train", "val", "test", WHOLE) if name in splits}


def _classes(folder: Path, suffixes: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sub.name for sub in listing_of(folder).folders if _files(sub, suffixes))


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    return [file for file in listing_of(folder).files if file.suffix.lower() in suffixes]


def _common_size(files: Sequence[Path]) -> tuple[int, int] | None:
    from PIL import Image

    sizes = set()
    for file in files:
        try:
            with Image.open(file) as image:
                sizes.add((image.height, image.width))
        except OSError:
            continue
    return sizes.pop() if len(sizes) == 1 else None


def _samples(file: Path) -> int:
    import wave

    try:
        with wave.open(str(file)) as sound:
            return int(sound.getnframes())
    except (OSError, EOFError, wave.Error):
        return 0


def _tables(listing: Listing) -> Iterator[Table]:
    """CSV files: those named like splits are one data set, every other is one of its own."""
    files = [file for file in listing.files if file.suffix.lower() == ".csv"]
    splits = {SPLITS[file.stem.lower()]: file for file in files if file.stem.lower() in SPLITS}
    groups = [_with_validation(splits)] if "train" in splits else []
    groups += [{WHOLE: file} for file in files if file.stem.lower() not in SPLITS or not groups]
    for group in groups:
        table = _table(group)
        if table is not None:
            yield table


def _table(splits: dict[str, Path]) -> Table | None:
    """None for what is no table of numbers with a target."""
    try:
        with next(iter(splits.values())).open(newline="", encoding="utf-8") as file:
            dialect = csv.Sniffer().sniff(file.readline(), ",;\t")
            file.seek(0)
            rows = [row for row, _ in zip(csv.reader(file, dialect), range(ROWS_LOOKED_AT), strict=False) if row]
    except (OSError, UnicodeDecodeError, csv.Error):
        return None
    if len(rows) < 3 or len({len(row) for row in rows}) != 1 or len(rows[0]) < 2:
        return None
    header = not any(_is_number(word) for word in rows[0])
    names = [word.strip().lower() for word in rows[0]] if header else [str(i) for i in range(len(rows[0]))]
    body = rows[1:] if header else rows
    target = next((names.index(name) for name in TARGET_NAMES if name in names), len(names) - 1)
    columns = [i for i, name in enumerate(names) if i != target and name not in ROW_NAMES]
    features = tuple(i for i in columns if all(_is_number(row[i]) for row in body[:1000]))
    values = {row[target] for row in body}
    numbers = all(map(_is_number, values))
    classes = not numbers or (len(values) <= MOST_CLASSES and all(float(v).is_integer() for v in values))
    if not features or (not numbers and len(values) > MOST_CLASSES):
        return None
    return Table(
        splits,
        tuple(sorted(values, key=float if numbers else str)) if classes else (),
        numbers=not classes,
        header=header,
        delimiter=dialect.delimiter,
        features=features,
        target=target,
        target_name=rows[0][target] if header else f"column {target}",
        left=tuple(names[i] for i in columns if i not in features),
    )


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _arrays(listing: Listing) -> Iterator[Arrays]:
    """``.npz`` archives: those named like splits are one data set, every other is one of its own."""
    files = [file for file in listing.files if file.suffix.lower() == ".npz"]
    splits = {SPLITS[file.stem.lower()]: file for file in files if file.stem.lower() in SPLITS}
    if "train" in splits:
        splits = _with_validation(splits)
        held = {name: _headers(file) for name, file in splits.items()}
        pairs = {name: pair for name, arrays in held.items() if (pair := _pair(arrays, ""))}
        if len(pairs) == len(splits):
            yield _archive(splits, pairs, held[next(iter(splits))])
        return
    for file in files:
        arrays = _headers(file)
        pairs = {SPLITS[word]: pair for word in SPLITS if (pair := _pair(arrays, word))}
        whole = _pair(arrays, "")
        if "train" in pairs and len(pairs) > 1:
            if "val" not in pairs:
                pairs["val"] = pairs.pop("test")
            yield _archive(dict.fromkeys(pairs, file), pairs, arrays)
        elif pairs.get("train") or whole:
            yield _archive({WHOLE: file}, {WHOLE: pairs.get("train") or whole or ("", "")}, arrays)


def _archive(
    splits: Mapping[str, Path], pairs: Mapping[str, tuple[str, str]], arrays: Mapping[str, ArrayShape]
) -> Arrays:
    x, y = next(iter(pairs.values()))
    return Arrays(splits, numbers=arrays[y].kind == "f", names=pairs, inputs=arrays[x])


def _headers(file: Path) -> dict[str, ArrayShape]:
    """Of the arrays of an archive, without their numbers."""
    found = {}
    try:
        with np.load(file, allow_pickle=False) as archive:
            for name in archive.files:
                with archive.zip.open(f"{name}.npy") as array:
                    version = np.lib.format.read_magic(array)
                    read = np.lib.format.read_array_header_1_0
                    shape, _, dtype = (read if version == (1, 0) else np.lib.format.read_array_header_2_0)(array)
                    found[name] = ArrayShape(shape, dtype.kind)
    except (OSError, ValueError, KeyError):
        return {}
    return found


def _pair(arrays: Mapping[str, ArrayShape], word: str) -> tuple[str, str] | None:
    """The names of the inputs and the targets of a split: ``x_train`` or ``train_x``, ``x`` of the only one."""
    named = {name.lower(): name for name in arrays}
    for x, y in ((x, y) for x in X_NAMES for y in Y_NAMES):
        forms = ((f"{x}_{word}", f"{y}_{word}"), (f"{word}_{x}", f"{word}_{y}")) if word else ((x, y),)
        for one, other in forms:
            if one in named and other in named and _as_many(arrays[named[one]], arrays[named[other]]):
                return named[one], named[other]
    return None


def _as_many(x: ArrayShape, y: ArrayShape) -> bool:
    return bool(x.shape and y.shape) and x.shape[0] == y.shape[0] and x.kind in "uif" and y.kind in "uifb"
