"""``[tool.autocompress]`` in pyproject.toml, or ``autocompress.toml``, in the working folder."""

import tomllib
from pathlib import Path
from typing import Any

from autocompress.errors import UsageError, one_line, unknown

OWN, SHARED = "autocompress.toml", "pyproject.toml"
OPTION_KINDS: dict[str, tuple[type, ...]] = {
    "task": (str,),
    "data": (str,),
    "checkpoint": (str,),
    "budget_ms": (int, float),
    "speedup": (int, float),
    "max_drop": (int, float),
    "max_class_drop": (int, float),
    "profile": (str,),
    "space": (str,),
    "minutes": (int, float),
    "trials": (int,),
    "workers": (int,),
    "no_train": (bool,),
    "explain": (bool,),
    "out": (str,),
    "seed": (int,),
    "observe": (list,),
}


def read_settings(folder: Path, given: dict[str, Any]) -> dict[str, Any]:
    """The folder's settings with what was ``given`` on the command line on top; a budget given replaces the folder's.

    Keys are the options' names, with ``-`` or ``_``. Raises UsageError naming the file and the key.
    """
    path, found = _found(folder)
    settings: dict[str, Any] = {}
    for key, value in found.items():
        name = key.replace("-", "_")
        if name not in OPTION_KINDS:
            raise UsageError(f"{path}: {unknown('key', key, OPTION_KINDS)}")
        if not isinstance(value, OPTION_KINDS[name]) or (isinstance(value, bool) and bool not in OPTION_KINDS[name]):
            raise UsageError(
                f"{path}: {key} must be {' or '.join(k.__name__ for k in OPTION_KINDS[name])}, not {value!r}"
            )
        settings[name] = value
    if {"budget_ms", "speedup"} & given.keys():
        settings = {k: v for k, v in settings.items() if k not in ("budget_ms", "speedup")}
    return {**settings, **given}


def settings_source(folder: Path) -> str | None:
    """Where ``read_settings`` finds the folder's settings, or None when it has none."""
    path, found = _found(folder)
    if not found:
        return None
    return str(path) if path.name == OWN else f"[tool.autocompress] of {path}"


def _found(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The file with the folder's settings, and these; nothing when there are none."""
    own = _table(folder / OWN, ())
    if own is not None:
        return folder / OWN, own
    return folder / SHARED, _table(folder / SHARED, ("tool", "autocompress")) or {}


def _table(path: Path, names: tuple[str, ...]) -> dict[str, Any] | None:
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {one_line(error)}") from error
    for name in names:
        document = document.get(name, {})
        if not isinstance(document, dict):
            raise UsageError(f"{path}: {'.'.join(names)} must be a table, [{'.'.join(names)}]")
    return document or None
