"""``front.json`` as it is read: refused when it is not one, and when it names files outside its folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autocompress.errors import UsageError
from autocompress.storage.front import read_front

Make = Callable[..., dict[str, Any]]


def write(root: Path, document: Any) -> None:
    root.mkdir(exist_ok=True)
    (root / "front.json").write_text(json.dumps(document))


def test_what_was_written_is_read(front: Make, tmp_path: Path):
    write(tmp_path, front(recommended="aa-0"))
    assert read_front(tmp_path) == front(recommended="aa-0")


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (None, r"no run in .* \(No such file or directory\): give the --out folder of a search"),
        ("{", r"front\.json is not JSON"),
        (b"\xff\xfe", r"front\.json is not JSON"),
        ("[1]", r"is not a front of schema 1 or 2"),
        ('{"task": "x"}', r"is not a front of schema 1 or 2"),
        ('{"schema": 1}', r"is not a front of schema 1 or 2"),
    ],
    ids=["none", "cut short", "no text", "no object", "no schema", "another program's"],
)
def test_what_is_no_front_is_refused(content: str | bytes | None, cause: str, tmp_path: Path):
    if content is not None:
        (tmp_path / "front.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError, match=cause) as caught:
        read_front(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_front_of_a_newer_version_is_refused(front: Make, tmp_path: Path):
    write(tmp_path, front() | {"schema": 3})
    with pytest.raises(UsageError, match="is not a front of schema 1 or 2: it was written by another version"):
        read_front(tmp_path)


BROKEN: tuple[dict[str, Any], ...] = (
    {"candidates": 3},
    {"candidates": {}},
    {"candidates": [{}]},
    {"candidates": [{"artifact": "reference/model.onnx"}], "recommended": "aa-0", "delivered": {}},
    {"reference": {"artifact": 7}},
    {"reference": []},
    {"recommended": {}},
    {"nearest": 1},
    {"task": None},
)


@pytest.mark.parametrize("broken", BROKEN)
def test_front_with_a_field_that_cannot_be_read_is_one_line(broken: dict[str, Any], front: Make, tmp_path: Path):
    write(tmp_path, front() | broken)
    with pytest.raises(UsageError, match=r"front\.json cannot be used: it is not what a search writes"):
        read_front(tmp_path)


@pytest.mark.parametrize("name", ["/etc/passwd", "../outside.onnx", "linked/model.onnx", "a\0b"])
@pytest.mark.parametrize("where", ["candidate", "reference", "delivered"])
def test_file_outside_the_run_folder_is_refused(where: str, name: str, front: Make, tmp_path: Path):
    root = tmp_path / "run"
    document = front(recommended="aa-0")
    if where == "candidate":
        document["candidates"][0]["artifact"] = name
    elif where == "reference":
        document["reference"]["artifact"] = name
    else:
        document["delivered"] = {name if name.startswith("/") else f"recommended/../{name}": "00"}
    write(root, document)
    (tmp_path / "elsewhere").mkdir()
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match=r"front\.json"):
        read_front(root)


def test_link_in_place_of_a_delivered_model_is_refused(front: Make, tmp_path: Path):
    root = tmp_path / "run"
    write(root, front(recommended="aa-0"))
    (root / "recommended").mkdir()
    (root / "recommended" / "model.onnx").symlink_to(tmp_path / "other.onnx")
    with pytest.raises(UsageError, match=r"names 'recommended/model.onnx', which is not a file of .*run"):
        read_front(root)
