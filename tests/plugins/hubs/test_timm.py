"""A model of timm and a folder of images become a task."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from autocompress import Task
from autocompress.errors import UsageError
from autocompress.hub_request import HubRequest
from autocompress_plugins.hubs.timm import Timm, is_of_family, read_folder
from tests.plugins.hubs.conftest import WriteImages

NAME = "test_vit"  # of timm's own tests: 370 thousand parameters


def task_of_hub(data: Path, checkpoint: Path | None, name: str = NAME) -> Task:
    pytest.importorskip("timm")
    return Timm().task(HubRequest("timm", name, str(data), checkpoint and str(checkpoint)))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Weights for two classes."""
    timm = pytest.importorskip("timm")
    model = timm.create_model(NAME, num_classes=2)
    with torch.no_grad():
        model.head.bias.copy_(torch.tensor([5.0, 7.0]))
    save_file(model.state_dict(), tmp_path / "tuned.safetensors")
    return tmp_path / "tuned.safetensors"


def test_a_checkpoint_and_folders_of_classes_make_a_task(write_images: WriteImages, checkpoint: Path) -> None:
    task = task_of_hub(write_images("cat", "dog", count=10), checkpoint)
    image, _ = task.train[0]
    assert image.shape == task.model.pretrained_cfg["input_size"]
    assert task.model.head.bias.tolist() == [5.0, 7.0]
    assert task.labels == ["cat", "dog"]
    assert [len(split) for split in (task.train, task.val, task.test)] == [14, 3, 3]
    assert max(task.learning_rates) <= 1e-4


def test_splits_that_are_there_are_kept(write_images: WriteImages, checkpoint: Path) -> None:
    task = task_of_hub(write_images("train/cat", "train/dog", "val/dog", "val/cat"), checkpoint)
    assert (len(task.train), len(task.val), task.test) == (12, 12, None)
    assert [int(task.val[i][1]) for i in range(12)] == [0] * 6 + [1] * 6


def test_classes_are_numbered_as_the_image_folder_of_torchvision_does_it(write_images: WriteImages) -> None:
    pytest.importorskip("timm")
    names = [str(number) for number in range(1, 12)]
    folder = write_images(*names, count=2)
    classes, splits = read_folder(folder)
    assert classes == ["1", "10", "11", *names[1:9]]
    assert all(Path(path).parent.name == classes[number] for rows in splits.values() for path, number in rows)


class NoWeights:
    """Would run when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("it was run",)


def test_checkpoints_of_training_programs_are_read_and_nothing_in_them_is_run(
    write_images: WriteImages, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = {f"module.{name}": value for name, value in load_file(checkpoint).items()}
    data = write_images("cat", "dog")
    torch.save({"epoch": 3, "state_dict": weights}, tmp_path / "last.pth.tar")
    assert task_of_hub(data, tmp_path / "last.pth.tar").model.head.bias.tolist() == [5.0, 7.0]
    torch.save({"state_dict": weights, "args": NoWeights()}, tmp_path / "odd.pth")
    with pytest.raises(UsageError, match="is not of test_vit: UnpicklingError"):
        task_of_hub(data, tmp_path / "odd.pth")
    assert "it was run" not in capsys.readouterr().out


def test_another_number_of_classes_is_refused(write_images: WriteImages, checkpoint: Path) -> None:
    with pytest.raises(UsageError, match=r"the data have 3 classes and the model of .*tuned\.safetensors has 2"):
        task_of_hub(write_images("a", "b", "c"), checkpoint)


def test_images_without_classes_are_refused(write_images: WriteImages, checkpoint: Path) -> None:
    with pytest.raises(UsageError, match="has no classes: put the images of each class"):
        task_of_hub(write_images("cat") / "cat", checkpoint)
    with pytest.raises(UsageError, match="there is no folder"):
        task_of_hub(checkpoint.parent / "gone", checkpoint)


def test_a_checkpoint_of_another_model_is_refused(write_images: WriteImages, tmp_path: Path) -> None:
    save_file({"stem.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(UsageError, match="is not of test_vit: RuntimeError"):
        task_of_hub(write_images("a", "b"), tmp_path / "other.safetensors")


def test_weights_that_are_not_in_the_cache_say_what_helps(write_images: WriteImages) -> None:
    pytest.importorskip("timm")
    data = write_images("a", "b")
    assert Timm().files(HubRequest("timm", "resnet18", str(data))) == [], "nothing is asked of a network"
    with pytest.raises(UsageError, match="the data have 2 classes and resnet18 has 1000: give by --checkpoint FILE"):
        task_of_hub(data, None, "resnet18")
    with pytest.raises(UsageError, match="unknown model of timm 'resnet1b': did you mean 'resnet1"):
        task_of_hub(data, None, "resnet1b")
    with pytest.raises(UsageError, match=r"nor in the cache .* run `hf download timm/.*` .*--checkpoint FILE"):
        task_of_hub(write_images(*(str(number) for number in range(998)), count=1), None, "resnet18")


@pytest.mark.parametrize(
    ("name", "other", "alike"),
    [
        ("vit_small_patch16_224", "vit_tiny_patch16_224", True),
        ("resnet50", "resnet18", True),
        ("efficientnet_b3", "efficientnet_b0", True),
        ("mobilenetv2_100", "mobilenetv2_050", True),
        ("vit_small_patch16_224", "deit_small_patch16_224", False),
        ("vit_small_patch16_224", "vit_tiny_patch32_224", False),
        ("resnet50", "resnet50d", False),
        ("resnet50", "regnet50", False),
    ],
)
def test_a_family_has_names_that_differ_in_one_size(name: str, other: str, alike: bool) -> None:
    assert is_of_family(name, other) is alike


def test_smaller_models_of_the_family_in_the_cache_are_students(
    write_images: WriteImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timm = pytest.importorskip("timm")
    own, smaller = "mobilenetv3_small_075", "mobilenetv3_small_050"
    weights = timm.create_model(smaller).state_dict()
    save_file(weights, tmp_path / "smaller.safetensors")
    save_file(timm.create_model(own, num_classes=2).state_dict(), tmp_path / "own.safetensors")

    def cached(repository: str, file: str) -> str | None:
        return str(tmp_path / "smaller.safetensors") if smaller in repository else None

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", cached)
    student = task_of_hub(write_images("cat", "dog"), tmp_path / "own.safetensors", own).student
    assert student is not None
    assert [name for _, name in student.members] == [smaller]
    built = student(0.5)
    assert torch.equal(built.conv_stem.weight, weights["conv_stem.weight"])
    assert "state_dict" not in built.pretrained_cfg, "it holds its weights once"
    assert built.classifier.out_features == 2, "the task's classes"
