"""A delivered model that does not agree with ``front.json`` is made whole from ``candidates/``, or refused."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autocompress.errors import UsageError
from autocompress.storage.delivery import commit
from autocompress.storage.folder import RunFolder
from autocompress.storage.recovery import read_run

Make = Callable[..., dict[str, Any]]
NAMES = ("model.onnx", "recipe.toml", "weights.safetensors", "predict.py", "load.py")


@pytest.fixture
def delivered(folder: RunFolder, front: Make) -> RunFolder:
    folder.claim()
    commit(folder, front(recommended="aa-0"))
    folder.release()
    return folder


def test_a_program_that_somebody_changed_stays_so_and_one_that_is_gone_is_written_again(
    delivered: RunFolder, front: Make
):
    program = delivered.recommended / "predict.py"
    own = program.read_bytes()
    program.write_bytes(b"mine")
    read_run(delivered.root, pytest.fail)
    delivered.claim()
    commit(delivered, front(recommended="bb-0"))
    delivered.release()
    assert program.read_bytes() == b"mine", "a search that goes on leaves it too"
    assert (delivered.recommended / "model.onnx").read_bytes().startswith(b"model bb")
    program.unlink()
    said: list[str] = []
    read_run(delivered.root, said.append)
    assert program.read_bytes() == own
    assert len(said) == 1


@pytest.mark.parametrize("name", NAMES[:3])
@pytest.mark.parametrize("content", [None, b"", b"of another run"], ids=["gone", "empty", "other"])
def test_file_that_does_not_agree_is_made_again_and_it_is_said(name: str, content: bytes | None, delivered: RunFolder):
    path = delivered.recommended / name
    before = path.read_bytes()
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    said: list[str] = []
    read_run(delivered.root, said.append)
    assert path.read_bytes() == before
    assert said == [
        f"recommended/{name} in {delivered.root} did not agree with front.json: made again from candidates/"
    ]
    said.clear()
    read_run(delivered.root, said.append)
    assert said == []


def test_what_an_earlier_version_delivered_is_made_again_as_it_was(delivered: RunFolder):
    document = json.loads(delivered.front.read_text())
    raw = delivered.candidate("aa-0").read_bytes()
    (delivered.recommended / "model.onnx").write_bytes(b"cut short")
    for name in ("predict.py", "load.py"):
        (delivered.recommended / name).unlink()
        del document["delivered"][f"recommended/{name}"]
    document["delivered"]["recommended/model.onnx"] = hashlib.sha256(raw).hexdigest()
    delivered.front.write_text(json.dumps(document))
    read_run(delivered.root, print)
    assert (delivered.recommended / "model.onnx").read_bytes() == raw
    assert not (delivered.recommended / "predict.py").exists()


@pytest.mark.parametrize("name", NAMES)
def test_folder_in_place_of_a_file_is_refused_and_stays(name: str, delivered: RunFolder):
    path = delivered.recommended / name
    path.unlink()
    path.mkdir()
    with pytest.raises(UsageError, match=rf"recommended/{name} was not made by this search: move it away and run the"):
        read_run(delivered.root, print)
    assert path.is_dir()


def test_folder_in_place_of_a_file_that_is_no_longer_delivered_stays(delivered: RunFolder, front: Make):
    (delivered.recommended / "model.onnx").unlink()
    (delivered.recommended / "model.onnx").mkdir()
    delivered.claim()
    commit(delivered, front(nearest="bb-0"))
    delivered.release()
    assert read_run(delivered.root, print)["nearest"] == "bb-0"
    assert [path.name for path in delivered.recommended.iterdir()] == ["model.onnx"]


def test_a_pair_that_agrees_is_read_and_nothing_is_written(delivered: RunFolder):
    (delivered.root / ".lock").unlink()
    before = {path: path.stat().st_mtime_ns for path in delivered.root.rglob("*")}
    assert read_run(delivered.root, print)["recommended"] == "aa-0"
    assert {path: path.stat().st_mtime_ns for path in delivered.root.rglob("*")} == before


def test_search_that_is_under_way_is_left_to_finish_its_own_delivery(delivered: RunFolder):
    (delivered.recommended / "model.onnx").write_bytes(b"of the new one")
    delivered.claim()
    assert read_run(delivered.root, print)["recommended"] == "aa-0"
    assert (delivered.recommended / "model.onnx").read_bytes() == b"of the new one"
    delivered.release()


@pytest.mark.parametrize("lost", ["gone", "altered"])
def test_what_the_candidates_no_longer_hold_is_refused(lost: str, delivered: RunFolder):
    (delivered.recommended / "model.onnx").write_bytes(b"altered")
    source = delivered.candidate("aa-0")
    source.unlink() if lost == "gone" else source.write_bytes(b"altered too")
    with pytest.raises(UsageError, match=r"recommended/model.onnx in .* did not agree .* cannot be made again: .*put"):
        read_run(delivered.root, print)
    assert (delivered.recommended / "model.onnx").read_bytes() == b"altered"


def test_model_is_of_use_without_weights_that_nobody_has_any_more(delivered: RunFolder):
    (delivered.recommended / "weights.safetensors").unlink()
    for path in delivered.stored.iterdir():
        path.unlink()
    assert read_run(delivered.root, print)["recommended"] == "aa-0"


def test_front_of_an_earlier_version_is_read_as_it_is(delivered: RunFolder, front: Make):
    delivered.front.write_text(json.dumps(front(recommended="aa-0")))
    (delivered.recommended / "model.onnx").write_bytes(b"whatever that version wrote")
    assert read_run(delivered.root, print) == front(recommended="aa-0")
    assert (delivered.recommended / "model.onnx").read_bytes() == b"whatever that version wrote"


@pytest.mark.parametrize("named", ["/etc/passwd", "../../secret", "linked.safetensors"])
def test_delivered_recipe_that_points_outside_its_run_is_refused(
    named: str, delivered: RunFolder, front: Make, tmp_path: Path
):
    (tmp_path / "secret").write_text("mine")
    (delivered.recommended / "linked.safetensors").symlink_to(tmp_path / "secret")
    recipe = delivered.recommended / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("weights.safetensors", named))
    delivered.front.write_text(json.dumps(front(recommended="aa-0")))
    with pytest.raises(UsageError, match=rf"recipe.toml names '{named}', which is not a file of .*put the file into"):
        read_run(delivered.root, print)
