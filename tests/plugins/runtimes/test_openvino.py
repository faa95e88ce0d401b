"""OpenVINO as a target: its precision, its own format, what it says of options that it does not know."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from autocompress.candidate.export import export
from autocompress.errors import CandidateFailed
from autocompress.profile import HardwareProfile
from autocompress_plugins.runtimes import openvino as own
from autocompress_plugins.runtimes.openvino import OpenVino
from tests.layouts import layout_of

PROFILE = HardwareProfile(name="openvino", runtime="openvino")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    model, image = (
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4)),
        torch.ones(1, 3, 8, 8),
    )
    export(model.eval(), layout_of(model, image), image, tmp_path / "m.onnx", "torchscript")
    return tmp_path / "m.onnx"


def asked_of(session: Any, name: str) -> str:
    return str(session._compiled.get_property(name))


def test_it_computes_in_float32_with_the_profiles_threads_unless_asked_otherwise(file: Path) -> None:
    assert "float32" in asked_of(OpenVino().open(file, PROFILE), "INFERENCE_PRECISION_HINT")
    assert asked_of(OpenVino().open(file, PROFILE), "INFERENCE_NUM_THREADS") == "1"
    assert asked_of(OpenVino().open(file, PROFILE), "NUM_STREAMS") == "1"
    other = PROFILE.model_copy(update={"options": {"PERF_COUNT": True}})
    assert asked_of(OpenVino().open(file, other), "PERF_COUNT") in ("YES", "True")


def test_an_option_that_it_does_not_know_is_named(file: Path) -> None:
    profile = PROFILE.model_copy(update={"options": {"NO_SUCH_OPTION": "1"}})
    with pytest.raises(CandidateFailed, match=r"OpenVINO cannot load the file: .*NO_SUCH_OPTION") as failed:
        OpenVino().open(file, profile)
    assert "\n" not in str(failed.value)


def test_its_own_format_computes_the_same(file: Path, tmp_path: Path) -> None:
    feed = {"input": np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)}
    made = OpenVino().artifact(file, PROFILE, tmp_path / "delivered")
    assert [path.name for path in made] == ["delivered.xml", "delivered.bin"]
    (expected,), (found,) = (OpenVino().open(path, PROFILE).run(feed) for path in (file, made[0]))
    assert np.abs(expected - found).max() < 1e-6


def test_where_it_is_not_installed_the_install_line_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    reason = OpenVino().unavailable(PROFILE)
    assert reason is not None
    assert reason.startswith("openvino cannot be imported")
    assert reason.endswith("pip install 'autocompress[openvino]'")


def test_without_the_package_there_is_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """``plugins`` and every search list the runtimes that are announced, installed or not."""

    def missing(name: str) -> str:
        raise own.PackageNotFoundError(name)

    monkeypatch.setattr(own, "version", missing)
    assert OpenVino().version() == "not installed"
