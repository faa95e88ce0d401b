"""Data that the library datasets reads: a folder, a file or a name in its cache, as splits with labels."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autocompress.errors import UsageError, one_line
from autocompress_plugins.hubs.hub_cache import cached_snapshot, snapshot
from autocompress_plugins.hubs.splitting import divided, named_split

FILE_READERS = {".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}
DATA_CARD = ("README.md",)  # what every data set of the hub has
SOUND_FILES = {".wav", ".flac", ".ogg", ".mp3"}
SOUND = "audio"  # a column that is called so holds paths, if not sounds
LABEL_COLUMNS = ("label", "labels", "class", "target", "score")  # a column that is called so, the first of them


@dataclass(frozen=True)
class LabelledData:
    """splits: train, val and maybe test, each a Dataset of the library. label: the column of labels."""

    splits: Mapping[str, Any]
    label: str

    @property
    def features(self) -> Mapping[str, Any]:
        """The kind of each column."""
        features: Mapping[str, Any] = self.splits["train"].features
        return features

    @property
    def labels(self) -> dict[str, list[Any]]:
        """By split."""
        return {name: list(split[self.label]) for name, split in self.splits.items()}

    @property
    def class_names(self) -> list[str] | None:
        """Of the classes, where the data have names for them."""
        kind = self.features[self.label]
        kind = getattr(kind, "feature", kind)  # of lists of classes
        if getattr(kind, "names", None):
            return list(kind.names)
        if getattr(kind, "dtype", "") not in ("string", "large_string"):
            return None
        told = (label for labels in self.labels.values() for label in labels)
        return sorted({n for label in told for n in (label if isinstance(label, list) else [label]) if n is not None})

    def columns_of(self, *kinds: str) -> list[str]:
        """The columns of a kind: an Image, an Audio, or a plain column of one of the types."""
        return [
            name
            for name, kind in self.features.items()
            if name != self.label and {type(kind).__name__, getattr(kind, "dtype", "")} & set(kinds)
        ]


def labelled_data(given: str) -> LabelledData:
    """What ``--data`` names, in splits. Raises UsageError."""
    import datasets

    datasets.disable_progress_bars()
    try:
        loaded = _loaded(given)
    except UsageError:
        raise
    except Exception as error:  # datasets raises anything
        raise UsageError(f"the data {given} cannot be read: {type(error).__name__}: {one_line(error, 200)}") from error
    if isinstance(loaded, datasets.Dataset):
        loaded = {"train": loaded}
    there = {split: loaded[name] for name in loaded if (split := named_split(str(name))) is not None}
    if "train" not in there:
        raise UsageError(
            f"the data {given} have no split to train on: they have {', '.join(map(str, loaded)) or 'none'}"
        )
    columns = there["train"].column_names
    label = next((name for name in LABEL_COLUMNS if name in columns), None)
    if label is None:
        hint = ", or a folder for each class" if {"image", "audio"} & set(columns) else ""
        raise UsageError(f"the data {given} have no column `label`{hint}: they have {', '.join(columns)}")
    there = {name: split for name, split in there.items() if label in split.column_names and _is_labelled(split, label)}
    if "train" not in there or len(there["train"]) < (2 if "val" in there else 3):
        raise UsageError(f"the data {given} have too few examples with a label to train on")
    rows = divided({name: len(split) for name, split in there.items()})
    return LabelledData({name: there[whole].select(chosen) for name, (whole, chosen) in rows.items()}, label)


def is_on_disk(given: str) -> bool:
    """Whether data are a folder or a file, or were taken from the hub before."""
    return Path(given).expanduser().exists() or cached_snapshot(given, "dataset", DATA_CARD) is not None


def _loaded(given: str) -> Any:
    """As datasets gives it."""
    import datasets

    path = Path(given).expanduser()
    if path.is_dir():
        if sounds := [file for file in sorted(path.rglob("*")) if file.suffix.lower() in SOUND_FILES]:
            return _sound_folders(path, sounds)
        saved = (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()
        return datasets.load_from_disk(str(path)) if saved else datasets.load_dataset(str(path))
    if path.is_file():
        if path.suffix.lower() not in FILE_READERS:
            raise UsageError(f"the data {given} are in no format that is read: {', '.join(FILE_READERS)}, or a folder")
        separated = {"sep": "\t"} if path.suffix.lower() == ".tsv" else {}
        return datasets.load_dataset(FILE_READERS[path.suffix.lower()], data_files=str(path), **separated)
    if path.is_absolute() or given.startswith((".", "~")) or path.suffix.lower() in FILE_READERS:
        raise UsageError(f"there are no data {given}: give a folder, a file or the name of a data set")
    with _from_the_cache():
        try:
            return datasets.load_dataset(given)
        except Exception:  # it is not there
            pass
    snapshot(given, "data set", "dataset", DATA_CARD)  # says in a moment what is wrong with the name or the network
    return datasets.load_dataset(given)


def _sound_folders(folder: Path, files: Sequence[Path]) -> Any:
    """Splits of sound files in a folder for each class, or in such folders for each split. datasets reads them with a
    decoder of its own alone. Raises UsageError.
    """
    import datasets

    inside = {file: file.relative_to(folder).parts for file in files}
    splits = {file: named_split(parts[0]) for file, parts in inside.items()}
    by_split = any(splits[file] and len(parts) > 2 for file, parts in inside.items())
    fits = {
        file: len(parts) == (3 if by_split else 2) and (splits[file] or not by_split) for file, parts in inside.items()
    }
    if odd := next((file for file in files if not fits[file]), None):
        raise UsageError(
            f"{odd} is of no class for sure: put the sounds of each class into a folder of its own, {folder}/CLASS/ or "
            f"{folder}/train/CLASS/ and {folder}/test/CLASS/, and nothing into folders in these or beside them"
        )
    found = [(file, splits[file] if by_split else "train", parts[-2]) for file, parts in inside.items()]
    names = sorted({label for _, _, label in found})
    if len(names) < 2:
        raise UsageError(f"{folder} has no classes: put the sounds of each class into a folder of its own")
    features = datasets.Features({SOUND: datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
    rows: dict[str, dict[str, list[str]]] = {}
    for file, split, label in found:
        columns = rows.setdefault(split or "train", {SOUND: [], "label": []})
        columns[SOUND].append(str(file))
        columns["label"].append(label)
    return {split: datasets.Dataset.from_dict(columns, features=features) for split, columns in rows.items()}


@contextmanager
def _from_the_cache() -> Iterator[None]:
    """datasets does not look for a network."""
    import datasets

    before, datasets.config.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before


def _is_labelled(split: Any, label: str) -> bool:
    """Whether its examples have labels: a test split whose labels are kept back has -1 or nothing there."""
    values: Sequence[Any] = list(split[label])
    return bool(values) and any(value is not None and value != -1 for value in values)
