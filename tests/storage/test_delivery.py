"""The delivered model and ``front.json`` change together, whenever the process that changes them is killed."""

import hashlib
import itertools
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import onnx.parser
import pytest

from autocompress.errors import AutocompressError
from autocompress.storage import delivery
from autocompress.storage.atomic import UNFINISHED
from autocompress.storage.delivery import commit
from autocompress.storage.folder import RunFolder
from autocompress.storage.recovery import read_run, recover

Make = Callable[..., dict[str, Any]]
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.truncate"}  # and files opened for writing


def held(root: Path) -> dict[str, bytes]:
    """What lies in the folders that are delivered to."""
    found = (path for name in ("recommended", "nearest") for path in (root / name).glob("*"))
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}


def committed(folder: RunFolder, document: dict[str, Any]) -> dict[str, Any]:
    folder.claim()
    try:
        recover(folder, print)
        return commit(folder, document)
    finally:
        folder.release()


def killed_at(number: int, work: Callable[[], object]) -> bool:
    """Do it in a process that is killed just before its ``number``-th change of a file or folder; False when it makes
    fewer.
    """
    child = os.fork()
    if child == 0:
        changes = itertools.count(1)

        def before(event: str, arguments: Any) -> None:
            writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if (event in CHANGES or writes) and next(changes) == number:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(before)
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), "it failed of itself"
    return status != 0


def test_model_recipe_and_weights_are_delivered_with_their_digests(folder: RunFolder, front: Make):
    document = committed(folder, front(recommended="aa-0"))
    assert json.loads(folder.front.read_text()) == document
    files = held(folder.root)
    assert files["recommended/model.onnx"].startswith(b"model aa"), "what was measured, byte for byte"
    assert files["recommended/weights.safetensors"] == b"weights aa"
    assert b'weights = "weights.safetensors"' in files["recommended/recipe.toml"]
    assert document["delivered"] == {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    assert folder.front.stat().st_mode & 0o777 == 0o644


def test_the_model_says_what_it_is_and_which_file_was_measured(folder: RunFolder, front: Make):
    measured = folder.candidate("cc-0")
    net = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[1] x) => (float[1] y) { y = Neg(x) }'
    )
    onnx.save(net, measured)
    document = front(recommended="cc-0") | {"metric": "accuracy", "profile": "cpu", "labels": ["no", "yes"]}
    document["candidates"][2] |= {
        "score": {"val": 0.93, "test": None},
        "latency_ms": {"statistic": 0.2, "ratio": 0.25},
        "recipe": [{"strategy": "prune", "params": {"ratio": 0.5}}],
    }
    committed(folder, document)
    delivered = onnx.load(folder.recommended / "model.onnx")
    assert {entry.key.removeprefix("autocompress."): entry.value for entry in delivered.metadata_props} == {
        "task": "ünï",
        "recipe": "prune(ratio=0.5)",
        "metric": "accuracy",
        "validation_score": "0.93",
        "profile": "cpu",
        "statistic_ms": "0.2",
        "latency_ratio": "0.25",
        "measured_sha256": hashlib.sha256(measured.read_bytes()).hexdigest(),
        "labels": '["no", "yes"]',
    }
    assert delivered.graph == net.graph
    assert (folder.recommended / "model.onnx").read_bytes().startswith(measured.read_bytes())


def test_the_card_lies_beside_the_model_and_goes_with_it(folder: RunFolder, front: Make):
    folder.claim()
    document = commit(folder, front(recommended="aa-0"), "what it is")
    assert (folder.recommended / "model_card.md").read_text() == "what it is"
    assert document["delivered"]["recommended/model_card.md"] is None, "it is made from front.json"
    (folder.recommended / "model_card.md").write_text("with a remark of mine")
    assert read_run(folder.root, pytest.fail)["recommended"] == "aa-0"
    commit(folder, front(nearest="bb-0"), "what that is")
    folder.release()
    assert not folder.recommended.exists()
    assert (folder.nearest / "model_card.md").read_text() == "what that is"


def test_no_kill_leaves_a_card_beside_another_model(folder: RunFolder, front: Make, tmp_path: Path):
    def written(root: Path, name: str) -> None:
        run = RunFolder(root)
        run.claim()
        commit(run, front(recommended=name), f"card of {name}")

    written(folder.root, "aa-0")
    folder.release()
    for number in itertools.count(1):
        root = shutil.copytree(folder.root, tmp_path / f"killed-{number}")
        (root / ".lock").unlink(missing_ok=True)
        if not killed_at(number, partial(written, root, "bb-0")):
            break
        document, card = read_run(root, print), root / "recommended" / "model_card.md"
        assert not card.exists() or card.read_text() == f"card of {document['recommended']}", f"change {number}"
    assert number > 12


def test_front_is_valid_json_or_everything_stays_as_it_was(folder: RunFolder, front: Make):
    committed(folder, front(recommended="aa-0"))
    before = held(folder.root), folder.front.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        committed(folder, front(recommended="bb-0") | {"latency_ms": float("nan")})
    assert (held(folder.root), folder.front.read_bytes()) == before


def test_full_disk_leaves_the_old_pair(folder: RunFolder, front: Make, monkeypatch: pytest.MonkeyPatch):
    committed(folder, front(recommended="aa-0"))
    before = held(folder.root), folder.front.read_bytes()
    own = delivery.put

    def full(content: Any, path: Path) -> None:
        if path.suffix == ".safetensors":
            raise OSError(28, "No space left on device")
        own(content, path)

    monkeypatch.setattr(delivery, "put", full)
    with pytest.raises(AutocompressError, match=r"cannot write .*weights.safetensors: No space left .* MiB free"):
        committed(folder, front(recommended="bb-0"))
    assert (held(folder.root), folder.front.read_bytes()) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (None, {"recommended": "aa-0"}),
        ({"recommended": "aa-0"}, {"recommended": "cc-0"}),
        ({"recommended": "aa-0"}, {"nearest": "bb-0"}),
    ],
    ids=["the first", "another, without weights", "nothing meets the budget any more"],
)
def test_kill_before_any_change_leaves_the_old_pair_or_the_new(
    old: dict[str, str] | None,
    new: dict[str, str],
    folder: RunFolder,
    front: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # the machine goes on
    before = (committed(folder, front(**old)) if old else None), held(folder.root)
    whole = RunFolder(shutil.copytree(folder.root, tmp_path / "whole"))
    after = committed(whole, front(**new)), held(whole.root)
    found = []
    for number in itertools.count(1):
        root = shutil.copytree(folder.root, tmp_path / f"killed-{number}")
        if not killed_at(number, partial(committed, RunFolder(root), front(**new))):
            break
        document = read_run(root, print) if (root / "front.json").exists() else None
        found.append((document, finished(held(root))))
        assert found[-1] in (before, after), f"killed at change {number}"
        assert (committed(RunFolder(root), front(**new)), held(root)) == after, "the same command goes on"
    assert len(found) > 12
    assert (found[0], found[-1]) == (before, after)


def finished(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if UNFINISHED not in name}


def test_files_that_no_search_delivered_stay(folder: RunFolder, front: Make):
    committed(folder, front(recommended="aa-0"))
    mine = [folder.recommended / "notes.md", folder.nearest / "model-of-mine.onnx"]
    folder.nearest.mkdir()
    for path in mine:
        path.write_text("mine")
    committed(folder, front(nearest="bb-0"))
    assert held(folder.root).keys() == {
        "recommended/notes.md",
        *(f"nearest/{name}" for name in ("model-of-mine.onnx", "model.onnx", "recipe.toml", "weights.safetensors")),
        *(f"nearest/{name}" for name in ("predict.py", "load.py")),
    }
    committed(folder, front(recommended="bb-0"))
    assert all(path.read_text() == "mine" for path in mine)


@pytest.mark.parametrize("choice", ["recommended", "nearest"])
def test_file_in_the_way_that_no_search_delivered_is_refused_and_all_stays(choice: str, folder: RunFolder, front: Make):
    path = folder.root / choice / "model.onnx"
    path.parent.mkdir()
    path.write_text("mine")
    with pytest.raises(
        AutocompressError, match=rf"{choice}/model.onnx was not made by this search: move it away and run"
    ):
        committed(folder, front(**{choice: "aa-0"}))
    assert held(folder.root) == {f"{choice}/model.onnx": b"mine"}
    assert not folder.front.exists()


def test_delivery_of_an_earlier_version_is_replaced(folder: RunFolder, front: Make):
    committed(folder, front(recommended="aa-0"))
    folder.front.write_text(json.dumps(front(recommended="aa-0")))  # which kept no digests
    (folder.root / ".autocompress-run").unlink()
    for name in ("predict.py", "load.py"):
        (folder.recommended / name).unlink()
    committed(folder, front(nearest="cc-0"))
    assert held(folder.root).keys() == {f"nearest/{n}" for n in ("model.onnx", "recipe.toml", "predict.py", "load.py")}


def test_weights_outside_the_run_folder_are_not_delivered(folder: RunFolder, front: Make, tmp_path: Path):
    (tmp_path / "secret").write_text("mine")
    recipe = folder.candidate("aa-0").with_name("recipe.toml")
    recipe.write_text(recipe.read_text().replace(f"../../store/weights-{'aa' * 10}.safetensors", "../../../secret"))
    with pytest.raises(
        AutocompressError, match=r"recipe.toml names '../../../secret', which is not a file of .*aa-0: put"
    ):
        committed(folder, front(recommended="aa-0"))
    assert held(folder.root) == {}


@pytest.mark.parametrize("chosen", ["aa-0", None])
def test_run_folder_that_was_removed_is_not_made_again(folder: RunFolder, front: Make, chosen: str | None):
    shutil.rmtree(folder.root)
    with pytest.raises(AutocompressError, match="its folder was removed meanwhile; run the same command again"):
        commit(folder, front(recommended=chosen))
    with pytest.raises(AutocompressError, match="its folder was removed meanwhile"):
        folder.trim(())
    assert not folder.root.exists()
