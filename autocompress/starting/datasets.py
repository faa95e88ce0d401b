"""Data sets that lie in a folder as files: which files are which split, and what an example of them is."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from struct import error as StructError
from typing import ClassVar
from zipfile import BadZipFile

import numpy as np

from autocompress.starting.folder import Listing, folders_in, holds, listing_of
from autocompress.starting.splits import SPLITS, WHOLE, Dataset, with_validation
from autocompress.starting.tables import tables_of

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm")
SOUNDS = (".wav",)
DEFAULT_LENGTH = 16_000  # samples of sounds that cannot be read
MOST_TARGETS = 10_000_000  # of an archive that are read
X_NAMES = ("x", "inputs", "input", "images", "image", "features", "data")
Y_NAMES = ("y", "targets", "target", "labels", "label")


@dataclass(frozen=True)
class ClassFolders(Dataset):
    """A folder of files for each class. suffixes: of the files that are examples."""

    suffixes: ClassVar[tuple[str, ...]] = ()


@dataclass(frozen=True)
class ImageFolders(ClassFolders):
    """size: (height, width) that the images looked at have in common; None where they differ or cannot be read."""

    template: ClassVar[str] = "images"
    suffixes: ClassVar[tuple[str, ...]] = IMAGES
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class SoundFolders(ClassFolders):
    """length: samples of the longest file looked at."""

    template: ClassVar[str] = "sounds"
    suffixes: ClassVar[tuple[str, ...]] = SOUNDS
    length: int = DEFAULT_LENGTH


@dataclass(frozen=True)
class ArrayShape:
    shape: tuple[int, ...]
    kind: str  # as of numpy's dtype: "u" unsigned, "i" whole numbers, "f" floats


@dataclass(frozen=True)
class Arrays(Dataset):
    """NumPy archives. names: of each split's (inputs, targets). inputs: of the first split. two: the values of its
    targets, where they have two.
    """

    template: ClassVar[str] = "arrays"
    names: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    inputs: ArrayShape = ArrayShape((), "f")
    two: tuple[float, ...] = ()


def datasets_of(listings: Sequence[Listing]) -> Iterator[Dataset]:
    """Everything in the folders that looks like a data set with targets; nothing is found twice. Folders of classes
    that have splits come before others.
    """
    taken: set[Path] = set()
    folders = []
    for listing in listings:
        if listing.path not in taken:
            found = _class_folders(listing, IMAGES) or _class_folders(listing, SOUNDS)
            if found is not None:
                taken |= {split / name for split in found.splits.values() for name in found.classes}
                taken |= set(found.splits.values())
                folders.append(found)
    yield from sorted(folders, key=lambda found: WHOLE in found.splits)
    for listing in listings:
        yield from tables_of(listing)
        yield from _arrays(listing)


def _class_folders(listing: Listing, suffixes: tuple[str, ...]) -> Dataset | None:
    """``train/<class>/*``, with other splits beside it, or ``<class>/*`` in the folder itself."""
    named = {SPLITS[f.name.lower()]: f for f in listing.folders if f.name.lower() in SPLITS}
    held = {name: classes for name, folder in named.items() if (classes := _classes(folder, suffixes))}
    if "train" in held:
        splits, classes = with_validation({name: named[name] for name in held}), held["train"]
    else:
        splits, classes = {WHOLE: listing.path}, _classes(listing.path, suffixes)
        if len(classes) < 2:
            return None
    first = next(iter(splits.values()))
    files = [file for name in classes for file in _files(first / name, suffixes)[:3]]
    unknown = sorted({name for part in splits if part in held for name in held[part]} - set(classes))
    notes = (f"classes that training has not are left out: {', '.join(unknown)}",) if unknown else ()
    if suffixes == SOUNDS:
        return _sounds(splits, classes, files, notes)
    return ImageFolders(splits, classes, notes=notes, size=_common_size(files[:30]))


def _classes(folder: Path, suffixes: tuple[str, ...]) -> tuple[str, ...]:
    """All of them: a folder of many classes has their numbers by all names."""
    return tuple(sub.name for sub in folders_in(folder) if holds(sub, suffixes))


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


def _sounds(
    splits: Mapping[str, Path], classes: tuple[str, ...], files: Sequence[Path], notes: tuple[str, ...]
) -> SoundFolders:
    from scipy.io import wavfile

    rates, lengths = set(), set()
    for file in files:
        try:
            rate, samples = wavfile.read(file)
        except (OSError, EOFError, ValueError, StructError):
            continue
        rates.add(rate)
        lengths.add(len(samples))
    if len(rates) > 1:
        notes += (f"sounds of {', '.join(map(str, sorted(rates)))} samples a second are taken as they are",)
    if not lengths:
        notes += (f"no sound could be read: {DEFAULT_LENGTH} samples in the file",)
    return SoundFolders(splits, classes, notes=notes, length=max(lengths, default=DEFAULT_LENGTH))


def _arrays(listing: Listing) -> Iterator[Arrays]:
    """``.npz`` archives: those named like splits are one data set, every other is one of its own."""
    files = [file for file in listing.files if file.suffix.lower() == ".npz"]
    splits = {SPLITS[file.stem.lower()]: file for file in files if file.stem.lower() in SPLITS}
    held = {name: _headers(file) for name, file in splits.items()}
    pairs = {name: pair for name, arrays in held.items() if (pair := _pair(arrays, ""))}
    if "train" in pairs:
        other = [f"{file.name} has no targets and is left out" for name, file in splits.items() if name not in pairs]
        splits = with_validation({name: splits[name] for name in pairs})
        if WHOLE in splits:
            pairs = {WHOLE: pairs["train"]}
        elif "val" not in pairs:
            pairs = {"train": pairs["train"], "val": pairs["test"]}
        yield _archive(splits, pairs, held["train"], tuple(other))
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
    splits: Mapping[str, Path],
    pairs: Mapping[str, tuple[str, str]],
    arrays: Mapping[str, ArrayShape],
    notes: tuple[str, ...] = (),
) -> Arrays:
    first = "train" if "train" in pairs else WHOLE
    x, y = pairs[first]
    two = _two_values(splits[first], y, arrays[y])
    return Arrays(splits, numbers=arrays[y].kind == "f", notes=notes, names=pairs, inputs=arrays[x], two=two)


def _two_values(file: Path, name: str, header: ArrayShape) -> tuple[float, ...]:
    """The values of targets that have two; empty for those of more."""
    if len(header.shape) > 2 or int(np.prod(header.shape)) not in range(MOST_TARGETS):
        return ()
    try:
        with np.load(file, allow_pickle=False) as archive:
            values = np.unique(archive[name])
    except (OSError, ValueError, KeyError, BadZipFile):
        return ()
    return (float(values[0]), float(values[1])) if len(values) == 2 else ()


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
    except (OSError, ValueError, KeyError, BadZipFile):
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
