"""What a search was asked, and whether a run folder holds the same search."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from autocompress.budget import Budget
from autocompress.errors import UsageError
from autocompress.explore.progress import Progress
from autocompress.explore.space.space import Space
from autocompress.explore.space.space_file import SpaceFile
from autocompress.profile import HardwareProfile

RECORD_SCHEMA = 12


@dataclass(frozen=True)
class Settings:
    """What was asked. minutes: in all, over resumes. trials: families at most, or None. device: what files are timed on
    elsewhere, in words; empty for this machine. explain: whether families are trained to explain the best one.
    """

    budget: Budget
    minutes: float
    trials: int | None
    seed: int
    profile: HardwareProfile
    space: SpaceFile
    out: Path
    device: str = ""
    explain: bool = False


def settings_json(settings: Settings) -> dict[str, Any]:
    """What was asked, for telling a repeated command from a new one."""
    budget = asdict(settings.budget)
    if budget["max_class_drop"] is None:  # as earlier versions wrote it
        del budget["max_class_drop"]
    explained = {"explain": True} if settings.explain else {}
    return {"budget": budget, "minutes": settings.minutes, "trials": settings.trials, **explained}


def refuse_another_version(progress: Progress) -> None:
    """Note the version of a new record. Raises UsageError when another version wrote it."""
    schema = progress.schema
    if schema is None and progress.identity is None:
        progress.keep_schema(RECORD_SCHEMA)
    elif schema != RECORD_SCHEMA:
        raise UsageError(
            f"{progress.path} was written by another version of autocompress (record {schema or 1}, this one "
            f"writes {RECORD_SCHEMA}): finish it with that version, or give another --out"
        )


def identity_of(settings: Settings, space: Space) -> dict[str, Any]:
    """What makes a search the one it is."""
    return {
        "budget": [settings.budget.latency_ms, settings.budget.speedup],
        "profile": settings.profile.model_dump(mode="json"),
        "seed": settings.seed,
        "space": space.describe(),
        **({"device": settings.device} if settings.device else {}),
    }


def refuse_another_search(progress: Progress, settings: Settings, space: Space) -> None:
    """A resume must be of the same search: same profile, device, seed and choices; added strategies join. Raises
    UsageError.
    """
    now, before = identity_of(settings, space), progress.identity
    if before is None:
        return
    way_out = f"give another --out, or the settings {settings.out} was made with"
    for key, what in (("budget", "budget"), ("profile", "hardware profile"), ("seed", "seed"), ("device", "device")):
        if before.get(key) != now.get(key):
            raise UsageError(
                f"{settings.out} holds a search of another {what} ({before.get(key)} then, {now.get(key)} now): "
                f"{way_out}"
            )
    changed = [name for name, choices in before["space"].items() if now["space"].get(name) != choices]
    if changed:
        raise UsageError(
            f"{settings.out} holds a search of another space ({', '.join(changed[:3])} changed): {way_out}"
        )
