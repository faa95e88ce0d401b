"""Every runtime of ours passes the kit's checks, and runs what strategies make for it."""

from typing import Any

import pytest

from autocompress.profile import load_profile
from autocompress.testing import RuntimeConformance
from autocompress_plugins.runtimes.mnn import Mnn
from autocompress_plugins.runtimes.onnxruntime import OnnxRuntime
from autocompress_plugins.runtimes.openvino import OpenVino


class TestOnnxRuntime(RuntimeConformance):
    runtime = OnnxRuntime()


class TestOpenVino(RuntimeConformance):
    runtime = OpenVino()


class TestMnn(RuntimeConformance):
    runtime = Mnn()


@pytest.mark.parametrize("name", ["cpu", "openvino-cpu", "mnn-cpu"])
def test_a_shipped_profile_runs_here(name: str, installed_plugins: Any) -> None:
    profile = load_profile(name)
    assert installed_plugins.runtime_of(profile).name == profile.runtime
