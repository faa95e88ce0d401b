"""``[tool.autocompress]`` in pyproject.toml, or ``autocompress.toml``, in the working folder."""

import tomllib
from pathlib import Path
from typing import Any

from autocompress.errors import UsageError, one_line, unknown

KINDS: dict[str, tuple[type, ...]] = {
    "task": (str,),
    "budget_ms": (int, float),
    "speedup": (int, float),
    "max_drop": (int, float),
    "profile": (str,),
    "space": (str,),
    "minutes": (int, float),
    "trials": (int,),
    "workers": (int,),
    "out": (str,),
    "seed": (int,),
}


def read_settings(folder: Path, given: dict[str, Any]) -> dict[str, Any]:
    """The folder's settings with what was ``given`` on the command line on top; a budget given replaces the folder's.

    Keys are the options' names, with ``-`` or ``_``. Raises UsageError naming the file and the key.
    """
    for path, table in ((folder / "autocompress.toml", ()), (folder / "pyproject.toml", ("tool", "autocompress"))):
        found = _table(path, table)
        if found is not None:
            break
    else:
        return given
    settings: dict[str, Any] = {}
    for key, value in found.items():
        name = key.replace("-", "_")
        if name not in KINDS:
            raise UsageError(f"{path}: {unknown('key', key, KINDS)}")
        if not isinstance(value, KINDS[name]) or isinstance(value, bool):
            raise UsageError(f"{path}: {key} must be {' or '.join(k.__name__ for k in KINDS[name])}, not {value!r}")
        settings[name] = value
    if {"budget_ms", "speedup"} & given.keys():
        settings = {k: v for k, v in settings.items() if k not in ("budget_ms", "speedup")}
    return {**settings, **given}


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
