"""A task file that runs comes of a project as it lies there, and nothing of the project is run or changed for it."""

import ast
import gzip
import os
import pickle
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from autocompress.errors import UsageError
from autocompress.starting.start import start
from tests.starting.conftest import SEQUENCES, Begin, Load, opens

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


def without_task(name: str, folder: Path) -> None:
    """An example without its task: the model and what else its file defines."""
    text = (EXAMPLES / f"{name}.py").read_text()
    (task,) = (node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef) and node.name == "task")
    lines = text.splitlines(keepends=True)
    (folder / f"{name}.py").write_text("".join(lines[: task.lineno - 1] + lines[task.end_lineno or 0 :]))


@pytest.mark.parametrize("name", ["fashion_mobilenet", "fashion_vit"])
def test_an_example_with_weights_and_data_needs_no_edit(
    name: str, tmp_path: Path, begin: Begin, loaded: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_task(name, tmp_path)
    shutil.copy(EXAMPLES / f"{name}.safetensors", tmp_path)
    code = (EXAMPLES / "fashion_mnist.py").read_text()
    assert "TRAIN = 55_000" in code
    (tmp_path / "fashion_mnist.py").write_text(code.replace("TRAIN = 55_000", "TRAIN = 40"))
    for prefix, count in (("train", 60), ("t10k", 20)):
        images, labels = bytes(16) + os.urandom(count * 784), bytes(8) + bytes(range(10)) * (count // 10)
        (tmp_path / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
        (tmp_path / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    monkeypatch.setenv("FASHION_MNIST", str(tmp_path))
    task = loaded(begin(tmp_path))
    assert task.name == name
    assert opens(task) == 40
    assert (task.loss, task.metric) == ("cross_entropy", "accuracy")


@pytest.mark.parametrize(
    ("name", "model", "loss"), [("detector", "Detector", "loss"), ("embedding", "Embedder", "triplet_loss")]
)
def test_an_example_with_a_loss_of_its_own_needs_its_data_alone(
    name: str, model: str, loss: str, tmp_path: Path, begin: Begin, loaded: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_task(name, tmp_path)
    for file in ("digit_scenes.py", "quick_training.py", "mean_average_precision.py"):
        shutil.copy(EXAMPLES / file, tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    trained = getattr(__import__(name), model)()
    save_file(trained.state_dict(), tmp_path / f"{name}.safetensors")
    started = begin(tmp_path)
    with pytest.raises(UsageError, match=r"my_task.py:task\(\) raised NotImplementedError.*splits\(\) is to give"):
        loaded(started)
    assert any("splits()" in note for note in started.notes)
    calls = {
        "detector": "{p: (s.images, detector.targets_of(s)) for p in parts for s in [digit_scenes.scenes(8, p)]}",
        "embedding": "{p: embedding.triplets(8, p) for p in parts}",
    }
    text = started.file.read_text()
    start_at = text.index("    raise NotImplementedError")
    end_at = text.index("\n", start_at)
    data = f"    import {name}, digit_scenes\n    parts = ['train', 'val', 'test']\n    return {calls[name]}"
    started.file.write_text(text[:start_at] + data + text[end_at:])
    sys.modules.pop("my_task", None)
    task = loaded(started)
    assert opens(task) == 8
    assert task.loss.__name__ == loss  # type: ignore[union-attr]
    assert task.metric_name == {"detector": "DetectionPrecision", "embedding": "nearer"}[name]


def arrays(folder: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (30, 8, 8, 3), np.uint8)
    np.savez(folder / "digits.npz", x=images, y=np.arange(30) % 3)


def arrays_by_split(folder: Path) -> None:
    splits = {}
    for name, count in (("train", 24), ("test", 6)):
        splits[f"x_{name}"] = np.ones((count, 3, 8, 8), np.float32)
        splits[f"y_{name}"] = np.arange(count) % 3
    np.savez(folder / "all.npz", **splits)


def images(folder: Path) -> None:
    for split, count in (("train", 8), ("val", 2)):
        for name in ("cat", "dog", "eel"):
            (folder / "photos" / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = bytes([i]) * (3 * 8 * 8)
                (folder / "photos" / split / name / f"{i}.ppm").write_bytes(b"P6 8 8 255\n" + pixels)


@pytest.mark.parametrize(("write", "train"), [(arrays, 24), (arrays_by_split, 24), (images, 24)])
def test_data_of_files_is_read_as_the_model_takes_it(
    write: Callable[[Path], None], train: int, project: Path, begin: Begin, loaded: Load
) -> None:
    write(project)
    task = loaded(begin(project))
    assert opens(task) == train
    assert task.train[0][0].shape == (3, 8, 8)
    assert task.labels == (["cat", "dog", "eel"] if write is images else None)
    largest = max(float(task.train[i][0].max()) if write is images else float(task.train[0].max()) for i in range(2))
    assert largest <= 1, "pixels are scaled"


def test_sounds_by_class_are_cut_to_one_length(tmp_path: Path, begin: Begin, loaded: Load) -> None:
    from scipy.io import wavfile

    from tests.starting.conftest import save

    (tmp_path / "net.py").write_text(SEQUENCES)
    save(tmp_path, "Ears", "net.py")
    for name in ("no", "yes"):
        (tmp_path / "words" / name).mkdir(parents=True)
        for i in range(30):
            wavfile.write(tmp_path / "words" / name / f"{i}.wav", 8000, np.full(150 + 10 * (i % 2), 2**14, np.int16))
    started = begin(tmp_path)
    task = loaded(started)
    assert opens(task) == 48
    sound, label = task.train[0]
    assert sound.shape == (1, 160)
    assert float(sound[0, 0]) == pytest.approx(0.5)
    assert label in (0, 1)
    assert any("at random" in note for note in started.notes), "who divides says so"


def test_a_table_is_of_classes_or_of_numbers_as_its_target_is(tmp_path: Path, loaded: Load) -> None:
    from tests.starting.conftest import save, take_first

    rows = [f"{i},{i / 10},{-i},red,{['a', 'b', 'c'][i % 3]},{i / 7}" for i in range(20)]
    columns = ["id", "width", "depth", "colour", "kind", "price"]
    for target, outputs, loss, metric in (("kind", 3, "cross_entropy", "accuracy"), ("price", 1, "mse", "rmse")):
        folder = tmp_path / target
        folder.mkdir()
        (folder / "net.py").write_text(SEQUENCES)
        save(folder, "Rows", "net.py", f"{3 if target == 'kind' else 2}, {outputs}")
        head = [name.replace(target, "target") if name == target else name for name in columns]
        (folder / "table.csv").write_text("\n".join([",".join(head), *rows]))
        started = start(folder, folder / f"of_{target}.py", take_first)
        task = loaded(started)
        assert opens(task) == 16
        assert (task.loss, task.metric_name) == (loss, metric)
        assert task.train[0].dtype == torch.float32
        assert any("colour" in note for note in started.notes)
        sys.modules.pop("net")
        sys.path.remove(str(folder))


def test_nothing_of_the_project_is_run(project: Path, begin: Begin) -> None:
    marker = project / "was_run"
    (project / "net.py").write_text((project / "net.py").read_text() + f"\nopen({str(marker)!r}, 'w')\n")

    class Harm:
        def __reduce__(self) -> Any:
            return open, (str(marker), "w")

    with (project / "whole.pt").open("wb") as file:
        pickle.dump(Harm(), file)
    torch.save({"model": nn.Linear(2, 2)}, project / "module.pt")
    started = begin(project)
    assert not marker.exists()
    assert any("module.pt holds more than tensors and is not loaded" in note for note in started.notes)
    assert started.parts["weights"] == "net.pt"


def test_names_of_files_and_columns_are_never_code(tmp_path: Path, begin: Begin, loaded: Load) -> None:
    from tests.starting.conftest import save

    (tmp_path / "net.py").write_text(SEQUENCES)
    save(tmp_path, "Rows", "net.py", "1, 1", weights='a""" + str(raised) + """.pt')
    rows = "\n".join(f"{i},{i / 7}" for i in range(20))
    (tmp_path / "table.csv").write_text(f'width,"price\nraise SystemExit"\n{rows}')
    task = loaded(begin(tmp_path))
    assert opens(task) == 16
    assert task.metric_name == "rmse"


def test_no_file_is_overwritten(project: Path, begin: Begin) -> None:
    (project / "my_task.py").write_text("mine")
    assert begin(project).file == project / "my_task_2.py"
    assert begin(project).file == project / "my_task_3.py"
    assert (project / "my_task.py").read_text() == "mine"
    with pytest.raises(UsageError, match=r"my_task.py is there already and stays as it is: give another --out"):
        start(project, project / "my_task.py", lambda question, answers: 0)
    assert (project / "my_task.py").read_text() == "mine"


def test_weights_inside_a_checkpoint_of_a_wrapped_model_are_found(project: Path, begin: Begin, loaded: Load) -> None:
    weights = torch.load(project / "net.pt", weights_only=True)
    wrapped = {f"_orig_mod.module.{name}": tensor for name, tensor in weights.items()}
    (project / "net.pt").unlink()
    torch.save({"epoch": 3, "state_dict": wrapped, "optimizer": {"state": {}}}, project / "last.pt")
    torch.save({"other.weight": torch.zeros(3, 3)}, project / "best.pt")
    arrays(project)
    started = begin(project)
    assert started.parts["weights"] == "last.pt"
    model = loaded(started).model
    assert torch.equal(model.state_dict()["head.weight"], weights["head.weight"])


def test_at_most_three_questions_are_asked_and_what_is_answered_is_taken(project: Path, tmp_path: Path) -> None:
    arrays(project)
    shutil.copy(project / "net.pt", project / "other.pt")
    asked: list[Sequence[str]] = []

    def last(question: str, answers: Sequence[str]) -> int:
        asked.append(answers)
        return len(answers) - 1 if len(asked) > 1 else 0

    started = start(project, None, last)
    assert len(asked) == 3
    assert asked[0][0] == "Net() of net.py", "not the block that it is made of"
    assert started.parts["weights"] == asked[1][-1] != asked[1][0]
    assert started.parts["data"] == "to be written"


TRAINING = """
from torch import nn
from torchmetrics.classification import MulticlassF1Score as F1
from net import Net

CLASSES = 3

def get_loaders():
    train_set, test_set = "training", "testing"
    return train_set, test_set

def main():
    model, criterion, metric = Net(CLASSES), nn.CrossEntropyLoss(label_smoothing=0.1), F1(num_classes=CLASSES)

for epoch in range(2):
    pass
"""


def test_what_the_training_code_says_is_taken_over(project: Path, begin: Begin) -> None:
    (project / "train.py").write_text(TRAINING)
    (project / "net.pt").rename(project / "model_best.pt")
    started = begin(project)
    text = started.file.read_text()
    assert "model = Net(3)\n" in text
    assert 'return {"train": found[0], "val": found[1]}' in text
    assert "loss=nn.CrossEntropyLoss(label_smoothing=0.1)," in text
    assert "metric=MulticlassF1Score(num_classes=3)," in text
    assert 'name="project"' in text, "the checkpoint's own name says nothing"
    assert any("train.py runs a loop when it is imported" in note for note in started.notes)


def test_a_package_below_the_folder_is_imported_from_its_root(project: Path, begin: Begin, loaded: Load) -> None:
    package = project / "src" / "models"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    block, net = (project / "net.py").read_text().split("class Net")
    (package / "blocks.py").write_text(block)
    (package / "net.py").write_text(f"import torch\nfrom torch import nn\nfrom .blocks import Block\n\nclass Net{net}")
    (project / "net.py").unlink()
    arrays(project)
    assert opens(loaded(begin(project))) == 24


@pytest.mark.parametrize(
    ("remove", "said"), [("net.py", "no class of torch.nn.Module in"), ("net.pt", "no weights in .*state_dict")]
)
def test_without_a_model_or_weights_it_is_said_what_is_missing(
    remove: str, said: str, project: Path, begin: Begin
) -> None:
    (project / remove).unlink()
    with pytest.raises(UsageError, match=said):
        begin(project)
    assert not (project / "my_task.py").exists()
