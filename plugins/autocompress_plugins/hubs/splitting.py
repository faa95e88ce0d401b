"""Which examples are for what, where the data do not say it all."""

import torch

SPLIT_OFF = 0.15  # of the examples, for validation, and as many for the test
SPLIT_SEED = 0
SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("validation", "valid", "val", "dev", "eval"),
    "test": ("test", "testing"),
}


def named_split(name: str) -> str | None:
    """train, val or test; None for a name that says none of these."""
    return next((split for split, names in SPLIT_NAMES.items() if name.casefold() in names), None)


def divided(there: dict[str, int]) -> dict[str, tuple[str, list[int]]]:
    """From which split that is there, and which rows of it, each of train, val and test comes. there: how many
    examples the splits have that are there, train at least. Alike in every process; test only where it is there, or
    nothing but train is.
    """
    rows = torch.randperm(there["train"], generator=torch.Generator().manual_seed(SPLIT_SEED)).tolist()
    found = {name: (name, list(range(count))) for name, count in there.items()}
    for name in ("test", "val") if len(there) == 1 else ("val",):
        if name not in there:
            held = max(1, round(SPLIT_OFF * there["train"]))
            found[name], rows = ("train", sorted(rows[:held])), rows[held:]
    found["train"] = ("train", sorted(rows))
    return found
