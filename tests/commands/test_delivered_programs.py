"""What lies beside a delivered model: a program that runs it with onnxruntime alone, and one that gives the module."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn

from autocompress import load_model
from autocompress.errors import UsageError

ALONE = """
import runpy, sys
for name in ("torch", "autocompress", "onnx", "safetensors"):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
EXAMPLES = 5


def given(model: Path, count: int) -> np.ndarray:
    shape = ort.InferenceSession(str(model)).get_inputs()[0].shape
    return np.random.default_rng(0).standard_normal((count, *shape[1:])).astype(np.float32)


def answers(model: Path, inputs: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(str(model))
    return np.concatenate([session.run(None, {session.get_inputs()[0].name: row[None]})[0] for row in inputs])


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_predict_needs_onnxruntime_and_numpy_alone(kind: str, finished: Path, tmp_path: Path) -> None:
    folder = finished / "recommended"
    inputs = given(folder / "model.onnx", EXAMPLES)
    if kind == "npy":
        np.save(tmp_path / "in.npy", inputs)
    else:
        np.savez(tmp_path / "in.npz", **{ort.InferenceSession(str(folder / "model.onnx")).get_inputs()[0].name: inputs})
    arguments = [str(folder / "predict.py"), str(tmp_path / f"in.{kind}"), str(tmp_path / "out.npz")]
    ran = subprocess.run([sys.executable, "-c", ALONE, *arguments], capture_output=True, text=True, check=True)
    (found,) = np.load(tmp_path / "out.npz").values()
    assert np.array_equal(found, answers(folder / "model.onnx", inputs))
    assert f"{len(inputs)}, " in ran.stdout


def test_calls_of_several_examples_are_filled_up_and_what_has_no_axis_of_examples_is_given_by_call(
    finished: Path,
) -> None:
    folder = finished / "recommended"
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.net(x), self.net[1].weight.sum()

    example = torch.zeros(2, 2, 2)
    torch.onnx.export(Two(), (example,), str(folder / "model.onnx"), output_names=["logits", "size"], dynamo=False)
    code = (
        "import runpy, sys, numpy as np\n"
        "predict = runpy.run_path(sys.argv[1])['predict']\n"
        "np.savez(sys.argv[3], **predict(**dict(np.load(sys.argv[2]))))\n"
    )
    inputs = torch.randn(EXAMPLES, 2, 2, generator=torch.Generator().manual_seed(0))
    name = ort.InferenceSession(str(folder / "model.onnx")).get_inputs()[0].name
    np.savez(folder.parent / "in.npz", **{name: inputs.double().numpy()})
    files = [str(folder / "predict.py"), str(folder.parent / "in.npz"), str(folder.parent / "out.npz")]
    subprocess.run([sys.executable, "-c", code, *files], check=True)
    found = np.load(folder.parent / "out.npz")
    assert np.allclose(found["logits"], net(inputs).detach(), atol=1e-6)
    assert found["size"].shape == (3,), "one for each call of two"


def test_load_gives_the_module_of_the_file(finished: Path, small_task: str) -> None:
    folder = finished / "recommended"
    inputs = given(folder / "model.onnx", EXAMPLES)
    code = (
        "import runpy, sys, numpy as np, torch\n"
        "model = runpy.run_path(sys.argv[1])['load'](sys.argv[2])\n"
        "assert not model.training\n"
        "np.save(sys.argv[4], model(torch.from_numpy(np.load(sys.argv[3]))).detach().numpy())\n"
    )
    np.save(folder.parent / "in.npy", inputs)
    paths = [str(folder.parent / name) for name in ("in.npy", "out.npy")]
    subprocess.run([sys.executable, "-c", code, str(folder / "load.py"), small_task, *paths], check=True)
    assert np.allclose(np.load(folder.parent / "out.npy"), answers(folder / "model.onnx", inputs), atol=1e-5)


def test_a_module_whose_weights_are_gone_is_refused_with_the_command_that_makes_them(
    finished: Path, small_task: str
) -> None:
    folder = shutil.copytree(finished / "recommended", finished.parent / "elsewhere")  # its run makes it whole again
    (folder / "weights.safetensors").unlink()
    with pytest.raises(UsageError, match=r"weights.safetensors are missing: `autocompress apply .* TASK --redo` makes"):
        load_model(folder / "recipe.toml", small_task)


def test_a_strategy_that_is_not_installed_is_named(finished: Path, small_task: str) -> None:
    recipe = shutil.copytree(finished / "recommended", finished.parent / "elsewhere") / "recipe.toml"
    recipe.write_text(recipe.read_text().replace('strategy = "student"', 'strategy = "squeeze"'))
    with pytest.raises(UsageError, match="unknown strategy 'squeeze'"):
        load_model(recipe, small_task)
