"""Files of data as projects have them: a task reads them as training did, or says what it cannot know."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import wavfile

from autocompress.arrays import Array
from autocompress.data import call, read_data
from autocompress.starting.start import Started
from autocompress.task import Task
from tests.starting.conftest import SEQUENCES, Begin, Load, opens, save

COLOURS = ("cat", "dog", "eel")


@pytest.fixture
def rows(tmp_path: Path) -> Callable[[int, int], Path]:
    """``rows(features, outputs)``: a project with a network of rows of numbers, and no data."""

    def made(features: int, outputs: int) -> Path:
        (tmp_path / "net.py").write_text(SEQUENCES)
        save(tmp_path, "Rows", "net.py", f"{features}, {outputs}")
        return tmp_path

    return made


def write(file: Path, pixels: Array) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(file)


def photos(folder: Path, names: tuple[str, ...] = COLOURS, shape: tuple[int, int] = (8, 8)) -> None:
    for split in ("train", "val"):
        for name in names:
            for i in range(3):
                write(folder / split / name / f"{i}.png", np.full((*shape, 3), 51 * (i + 1)))


def notes_of(started: Started) -> str:
    return "\n".join(started.notes)


def test_whole_numbers_of_one_output_are_numbers(rows: Callable[[int, int], Path], begin: Begin, loaded: Load) -> None:
    folder = rows(2, 1)
    lines = [f"{i / 10},{i / 7},{3 + i % 6}" for i in range(30)]
    (folder / "wine.csv").write_text("\n".join(["acid,sugar,quality", *lines]))
    task = loaded(begin(folder))
    assert (task.loss, task.metric_name) == ("mse", "rmse")
    assert set(task.train[1].flatten().tolist()) == {3, 4, 5, 6, 7, 8}
    assert opens(task) == 24


@pytest.mark.parametrize("loss", ["", "BCEWithLogitsLoss", "BCELoss"])
def test_two_classes_of_one_output_are_judged_by_its_side_of_the_threshold(
    loss: str, rows: Callable[[int, int], Path], begin: Begin, loaded: Load
) -> None:
    folder = rows(2, 1)
    if loss:
        (folder / "train.py").write_text(f"from torch import nn\n\nloss = nn.{loss}()\n")
    lines = [f"{i / 10},{i / 7},{('no', 'yes')[i % 2]}" for i in range(30)]
    (folder / "answers.csv").write_text("\n".join(["a,b,label", *lines]))
    started = begin(folder)
    task = loaded(started)
    assert task.train[1].shape == (24, 1)
    assert set(task.train[1].flatten().tolist()) == {0, 1}
    assert task.metric_name == "accuracy"
    assert task.metric(torch.tensor([[0.4], [0.9]]), torch.tensor([[0.0], [1.0]])) == (0.5 if loss != "BCELoss" else 1)
    assert "1 stands for yes" in notes_of(started)
    if loss != "BCELoss":  # which a network without a sigmoid at its end has not
        assert opens(task) == 24


def test_two_classes_of_images_and_of_arrays_suit_one_output(project: Path, begin: Begin, loaded: Load) -> None:
    save(project, "Net", "net.py", "num_classes=1")
    photos(project / "data", ("cat", "dog"))
    images = begin(project)
    assert "torch.tensor([float(CLASSES.index(path.parent.name))])" in images.file.read_text()
    assert opens(loaded(images)) == 6
    np.savez(project / "data" / "x.npz", x=np.zeros((20, 3, 8, 8), np.float32), y=np.arange(20) % 2 * 2 - 1)
    (project / "data" / "train").rename(project / "data" / ".train")
    (project / "data" / "val").rename(project / "data" / ".val")
    task = loaded(begin(project))
    assert set(task.train[1].flatten().tolist()) == {0, 1}
    assert opens(task) == 16


def test_folders_with_a_picture_do_not_hide_data_that_has_splits(project: Path, begin: Begin, loaded: Load) -> None:
    write(project / "docs" / "x.png", np.zeros((4, 4)))
    write(project / "results" / "x.png", np.zeros((4, 4)))
    photos(project / "data", ("a", "b"))
    started = begin(project)
    assert started.parts["data"] == "images of data/train"
    assert loaded(started).labels == ["a", "b"]
    assert "the data has 2 classes and the weights 3 outputs" in notes_of(started)


def test_classes_are_all_there_however_many_folders(tmp_path: Path, project: Path, begin: Begin) -> None:
    save(project, "Net", "net.py", "num_classes=600")
    for split in ("train", "val"):
        for number in range(600):
            (project / "data" / split / f"n{number:03}").mkdir(parents=True)
            (project / "data" / split / f"n{number:03}" / "0.jpg").touch()
    started = begin(project)
    line = next(line for line in started.file.read_text().splitlines() if line.startswith("CLASSES = "))
    assert line.count('"n') == 600
    assert "outputs" not in notes_of(started)


def test_transforms_are_read_by_keyword_and_from_constants(project: Path, begin: Begin, loaded: Load) -> None:
    photos(project / "data")
    (project / "train.py").write_text(
        "from torchvision import transforms as T\nSTD = (0.5, 0.5, 0.1)\n"
        "steps = T.Compose([T.Resize(size=(4, 6)), T.Normalize(mean=[0.5, 0.4, 0.2], std=STD)])\n"
    )
    x, _ = loaded(begin(project)).train[0]
    assert x.shape == (3, 4, 6)
    assert x[:, 0, 0].tolist() == pytest.approx([-0.6, -0.4, 0])


@pytest.mark.parametrize("landscape", [True, False])
def test_the_shorter_side_is_scaled_and_the_centre_taken(
    landscape: bool, project: Path, begin: Begin, loaded: Load
) -> None:
    photos(project / "data")
    pixels = np.repeat(np.repeat(np.arange(0, 160, 10)[None, :, None], 8, 0), 3, 2)  # 8 x 16, brighter to the right
    write(project / "data" / "train" / "cat" / "0.png", pixels if landscape else pixels.transpose(1, 0, 2))
    (project / "train.py").write_text(
        "import torchvision.transforms as T\nsteps = T.Compose([T.Resize(8), T.CenterCrop(4), T.ToTensor()])\n"
    )
    x, _ = loaded(begin(project)).train[0]
    assert x.shape == (3, 4, 4)
    along = x[0, 0] if landscape else x[0, :, 0]
    assert (along * 255).tolist() == pytest.approx([60, 70, 80, 90])


def test_images_of_many_sizes_are_not_squashed(project: Path, begin: Begin, loaded: Load) -> None:
    photos(project / "data")
    write(project / "data" / "train" / "cat" / "0.png", np.zeros((300, 600, 3)))
    started = begin(project)
    assert loaded(started).train[0][0].shape == (3, 224, 224)
    assert "no code says how large images are: the centre of 224 x 224" in notes_of(started)


def test_other_files_and_missing_classes_do_not_stop_a_split(project: Path, begin: Begin, loaded: Load) -> None:
    photos(project / "data")
    for name in ("Thumbs.db", "._0.png", "notes.txt"):
        (project / "data" / "train" / "cat" / name).write_text("no image")
    for file in (project / "data" / "val" / "eel").iterdir():
        file.rename(file.with_suffix(".txt"))
    (project / "data" / "val" / "eel").rename(project / "data" / "val" / ".eel")
    task = loaded(begin(project))
    assert opens(task) == 9
    assert len(task.val) == 6


@pytest.mark.parametrize(
    ("samples", "suffix"),
    [(np.full(200, 192, np.uint8), ".wav"), (np.full(200, 0.5, np.float32), ".WAV"), (np.full(200, 2**30), ".wav")],
)
def test_sounds_are_scaled_as_they_are_stored(
    samples: Array, suffix: str, tmp_path: Path, begin: Begin, loaded: Load
) -> None:
    (tmp_path / "net.py").write_text(SEQUENCES)
    save(tmp_path, "Ears", "net.py")
    samples = samples.astype(np.int32) if samples.dtype == np.int64 else samples
    for name in ("no", "yes"):
        (tmp_path / "words" / name).mkdir(parents=True)
        for i in range(30):
            wavfile.write(tmp_path / "words" / name / f"{i}{suffix}", 8000, samples)
    task = loaded(begin(tmp_path))
    assert opens(task) == 48
    sound, _ = task.train[0]
    assert sound.shape == (1, 200)
    assert sound[0].tolist() == pytest.approx([0.5] * 200)


@pytest.mark.parametrize("first", ["0,1,target", "0,1,2", "a,b,target"])
@pytest.mark.parametrize("labels", ["012", "xyz"])
def test_a_header_is_no_example(
    first: str, labels: str, rows: Callable[[int, int], Path], begin: Begin, loaded: Load
) -> None:
    folder = rows(2, 3)
    (folder / "table.csv").write_text("\n".join([first, *(f"{i / 10},{i / 7},{labels[i % 3]}" for i in range(30))]))
    task = loaded(begin(folder))
    assert opens(task) == 24
    assert len(task.train[0]) + len(task.val[0]) + len(task.test[0]) == 30


def test_a_mark_of_the_encoding_is_no_part_of_a_name(
    rows: Callable[[int, int], Path], begin: Begin, loaded: Load
) -> None:
    folder = rows(2, 3)
    lines = [f"{i % 3},{i / 10},{i / 7}" for i in range(30)]
    (folder / "table.csv").write_text("\n".join(["label,a,b", *lines]), encoding="utf-8-sig")
    task = loaded(begin(folder))
    assert task.labels == ["0", "1", "2"]
    assert opens(task) == 24


def test_words_over_numbers_are_a_header_and_rows_with_words_are_not(
    rows: Callable[[int, int], Path], begin: Begin, loaded: Load
) -> None:
    folder = rows(2, 3)
    (folder / "iris.csv").write_text("\n".join(f"{i / 10},{i / 7},{'xyz'[i % 3]}" for i in range(30)))
    task = loaded(begin(folder))
    assert len(task.train[0]) + len(task.val[0]) + len(task.test[0]) == 30
    assert task.labels == ["x", "y", "z"]


def test_empty_cells_are_called_so(rows: Callable[[int, int], Path], begin: Begin, loaded: Load) -> None:
    folder = rows(1, 3)
    lines = [f"{i / 10},{i if i else ''},{'xyz'[i % 3] if i != 5 else ''}" for i in range(31)]
    (folder / "table.csv").write_text("\n".join(["a,age,target", *lines]))
    started = begin(folder)
    assert "columns with empty cells are left out: age" in notes_of(started)
    assert "of words" not in notes_of(started)
    assert "rows without a target are left out" in notes_of(started)
    task = loaded(started)
    assert task.labels == ["x", "y", "z"]
    assert opens(task) == 24


def test_a_split_without_targets_is_none(rows: Callable[[int, int], Path], begin: Begin, loaded: Load) -> None:
    folder = rows(2, 3)
    lines = [f"{i},{i / 10},{i / 7}" for i in range(30)]
    (folder / "train.csv").write_text("\n".join(["id,a,b,label", *(f"{row},{i % 3}" for i, row in enumerate(lines))]))
    (folder / "test.csv").write_text("\n".join(["id,a,b", *lines]))
    started = begin(folder)
    assert "test.csv has other columns than train.csv and is left out" in notes_of(started)
    assert opens(loaded(started)) == 24


def test_bytes_of_arrays_are_scaled_as_pixels_are(project: Path, begin: Begin, loaded: Load) -> None:
    (project / "train.py").write_text(
        "from torchvision import transforms as T\nnorm = T.Normalize((0.5, 0.4, 0.2), (0.5, 0.5, 0.1))\n"
    )
    np.savez(project / "digits.npz", x=np.full((30, 3, 8, 8), 51, np.uint8), y=np.arange(30) % 3)
    started = begin(project)
    assert loaded(started).train[0][0, :, 0, 0].tolist() == pytest.approx([-0.6, -0.4, 0])
    assert "as the code's Normalize says" in notes_of(started)


def test_bytes_of_rows_are_scaled_and_it_is_said(rows: Callable[[int, int], Path], begin: Begin, loaded: Load) -> None:
    folder = rows(4, 3)
    np.savez(folder / "digits.npz", x=np.full((30, 4), 51, np.uint8), y=np.arange(30) % 3)
    started = begin(folder)
    assert "no code says how bytes are scaled: from 0 to 1 in the file" in notes_of(started)
    task = loaded(started)
    assert task.train[0][0].tolist() == pytest.approx([0.2] * 4)
    assert opens(task) == 24


PATCHES = """
from torch import nn

class Patches(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, 8, 4, 4)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.patch_embed(x).mean((2, 3)))

class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.embedding(x).mean(1))
"""


@pytest.mark.parametrize(
    ("name", "shape", "dtype"), [("Patches", (30, 3, 8, 8), torch.float32), ("Words", (30, 6), torch.int64)]
)
def test_a_patch_embedding_takes_images_and_an_embedding_tokens(
    name: str, shape: tuple[int, ...], dtype: torch.dtype, tmp_path: Path, begin: Begin, loaded: Load
) -> None:
    (tmp_path / "net.py").write_text(PATCHES)
    save(tmp_path, name, "net.py")
    np.savez(tmp_path / "data.npz", x=np.ones(shape, np.uint8), y=np.arange(30) % 3)
    task: Task = loaded(begin(tmp_path))
    assert task.train[0].dtype == dtype
    outputs = call(task.copy_of_model(), read_data(task).splits["train"].take(torch.arange(2)).inputs)
    assert outputs.shape == (2, 3)  # type: ignore[union-attr]
