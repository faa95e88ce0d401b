"""What the code of a folder says is taken where it is sure, and what is guessed is said."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from autocompress.cli import app
from autocompress.starting.start import start
from tests.starting.conftest import NETWORK, Begin, Load, opens, save

LOADERS = """
import torch

def get_loaders():
    {data}
    return {returned}
"""
PAIR = "training = testing = torch.zeros(8, 3, 8, 8), torch.arange(8) % 3"


@pytest.mark.parametrize(
    "returned", ['{"train": training, "val": testing, "classes": ["a", "b", "c"]}', "training, testing"]
)
def test_splits_alone_are_taken_of_what_code_loads(returned: str, project: Path, begin: Begin, loaded: Load) -> None:
    (project / "data.py").write_text(LOADERS.format(data=PAIR, returned=returned))
    started = begin(project)
    assert started.parts["data"] == "get_loaders() of data.py"
    assert opens(loaded(started)) == 8


@pytest.mark.parametrize(
    ("code", "loss"),
    [
        ("from losses import FocalLoss\nimport kornia\nkornia.losses.DiceLoss()", "cross_entropy"),
        (
            "import torch.nn as tnn\ntnn.CrossEntropyLoss(label_smoothing=0.1)",
            "nn.CrossEntropyLoss(label_smoothing=0.1)",
        ),
        ("from torch.nn import NLLLoss\nNLLLoss()", "nn.NLLLoss()"),
        ("import torch\ntorch.nn.CrossEntropyLoss()", "cross_entropy"),
        ("from torch import nn\nnn.CrossEntropyLoss()\nnn.NLLLoss()", "cross_entropy"),
    ],
)
def test_a_loss_is_one_of_torch_or_is_guessed_and_that_is_said(
    code: str, loss: str, project: Path, begin: Begin
) -> None:
    (project / "train.py").write_text(f"{code}\n")
    started = begin(project)
    assert started.parts["loss"] == loss
    guessed = any(note.startswith("the loss is cross_entropy by the targets") for note in started.notes)
    assert guessed == (code.count("Loss()") > 1 or "kornia" in code)


def test_arguments_that_agree_with_the_weights_are_taken(project: Path, begin: Begin) -> None:
    (project / "tests").mkdir()
    (project / "tests" / "test_net.py").write_text("from net import Net\n\nNet(3, in_channels=1)\n")
    (project / "a.py").write_text("from net import Net\n\nNet(num_classes=7)\n")
    (project / "train.py").write_text("from net import Net\n\nmodel = Net(3, 3)\n")
    assert "model = Net(3, 3)\n" in begin(project).file.read_text()


def test_networks_of_one_name_in_two_files_are_two(project: Path, begin: Begin) -> None:
    other = NETWORK.replace("self.head", "self.classifier").replace("num_classes, in_channels", "width, in_channels")
    (project / "other.py").write_text(other.replace("num_classes", "width"))
    (project / "train.py").write_text("import net\nfrom other import Net\n\nNet(5)\nnet.Net(3, in_channels=3)\n")
    text = begin(project).file.read_text()
    assert "from net import Net\n" in text
    assert "model = Net(3, in_channels=3)\n" in text
    (project / "net.pt").unlink()
    save(project, "Net", "other.py", "5", weights="other.pt")
    text = begin(project).file.read_text()
    assert "from other import Net\n" in text
    assert "model = Net(5)\n" in text


def test_a_link_to_a_checkpoint_that_is_gone_is_left_out(project: Path, begin: Begin) -> None:
    (project / "latest.pt").symlink_to(project / "gone.pt")
    started = begin(project)
    assert started.parts["weights"] == "net.pt"
    assert "latest.pt is a link to a file that is not there and was left out" in started.notes


def test_a_task_that_is_there_already_is_no_data(project: Path) -> None:
    (project / "data.py").write_text(LOADERS.format(data=PAIR, returned="training, testing"))
    asked: list[Sequence[str]] = []

    def first(question: str, answers: Sequence[str]) -> int:
        asked.append(answers)
        return 0

    texts = [start(project, None, first).file.read_text() for _ in range(2)]
    assert asked[:3] == asked[3:]
    assert texts[0] == texts[1].replace("my_task_2.py", "my_task.py")


def test_the_next_command_can_be_pasted_whatever_the_folder_is_called(project: Path) -> None:
    folder = project.rename(project.with_name("my project"))
    torch.save({}, folder / "empty.pt")
    result = CliRunner().invoke(app, ["init", str(folder), "--yes"])
    assert f"Next: autocompress search '{folder}/my_task.py:task' --speedup 2" in result.output
