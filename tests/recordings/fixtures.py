"""The recordings as files: one for each scenario, a line for each call and each candidate."""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def path_of(name: str) -> Path:
    return FOLDER / f"{name}.json"


def names() -> list[str]:
    return [path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.json")]


def read(name: str) -> Any:
    return json.loads(path_of(name).read_text("utf-8"))


def text_of(played: dict[str, Any]) -> str:
    """The content of a file: the same for the same recording, to the byte."""
    return f'{{"processes":{_lines(played["processes"], 3)},\n"end":{_lines(played["end"], 2)}}}\n'


def _lines(value: Any, levels: int) -> str:
    """JSON in which so many levels of lists and objects have a line for each of their items."""
    if not levels or not value or not isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if isinstance(value, list):
        return "[\n" + ",\n".join(_lines(item, levels - 1) for item in value) + "]"
    return "{\n" + ",\n".join(f"{json.dumps(key)}:{_lines(item, levels - 1)}" for key, item in value.items()) + "}"
