"""MNN as a target: what it converts and what it does not, quietly."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from autocompress.candidate.export import export
from autocompress.errors import CandidateFailed
from autocompress.profile import HardwareProfile
from autocompress_plugins.runtimes import mnn as own
from autocompress_plugins.runtimes.mnn import Mnn
from tests.layouts import layout_of

PROFILE = HardwareProfile(name="mnn", runtime="mnn")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    model, x = nn.Sequential(nn.Linear(8, 4), nn.ReLU()), torch.ones(1, 8)
    export(model.eval(), layout_of(model, x), x, tmp_path / "m.onnx", "torchscript")
    return tmp_path / "m.onnx"


def test_nothing_of_it_is_printed_installed_or_reported(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """``measure --json`` is read by programs; ``MNN.tools`` installs packages and reports when it is imported."""
    Mnn().open(file, PROFILE).run({"input": np.ones((1, 8), np.float32)})
    assert capfd.readouterr().out == ""
    assert "MNN.tools" not in sys.modules


def test_a_file_is_converted_once_until_it_changes(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    converted: list[Path] = []
    convert: Any = own._convert
    monkeypatch.setattr(own, "_convert", lambda path, target: (converted.append(path), convert(path, target)))
    for _ in range(3):
        Mnn().open(file, PROFILE)
    assert converted == [file]
    model = onnx.load(str(file))
    model.doc_string = "another one"
    onnx.save(model, str(file))
    Mnn().open(file, PROFILE)
    assert converted == [file, file]


def test_what_the_converter_cannot_do_is_said_in_its_words(tmp_path: Path) -> None:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("x", "y")]
    node = helper.make_node("DynamicQuantizeLSTM", ["x"], ["y"], domain="com.microsoft")
    graph = helper.make_graph([node], "g", ends[:1], ends[1:])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=opsets), str(tmp_path / "lstm.onnx"))
    with pytest.raises(CandidateFailed, match=r"MNN cannot convert the file: .*DynamicQuantizeLSTM") as failed:
        Mnn().open(tmp_path / "lstm.onnx", PROFILE)
    assert "\n" not in str(failed.value)


def test_where_it_is_not_installed_the_install_line_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own.importlib.util, "find_spec", lambda name: None)
    assert Mnn().unavailable(PROFILE) == "MNN is not installed: pip install 'autocompress[mnn]'"


def test_without_the_package_there_is_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """``plugins`` and every search list the runtimes that are announced, installed or not."""

    def missing(name: str) -> str:
        raise own.PackageNotFoundError(name)

    monkeypatch.setattr(own, "version", missing)
    assert Mnn().version() == "not installed"
