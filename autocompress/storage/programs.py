"""The programs that lie beside a delivered model: text, the same for every run but for how a call was measured."""

import json

PREDICT_PROGRAM = '''"""Runs model.onnx. Needs numpy and onnxruntime, nothing else.

    python predict.py input.npy output.npz      # where the model has one input
    python predict.py inputs.npz outputs.npz    # arrays by the names of the inputs

Examples lie along the first axis, as many as there are; outputs are kept by their names.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort

KINDS = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16", "tensor(bool)": "bool"}
options = ort.SessionOptions()
options.intra_op_num_threads = THREADS  # as it was measured
session = ort.InferenceSession(str(Path(__file__).with_name("model.onnx")), options, providers=[PROVIDER])


def predict(**inputs):
    """Arrays by the names of the inputs -> arrays by the names of the outputs."""
    kinds = {given.name: KINDS.get(given.type, given.type[7:-1]) for given in session.get_inputs()}
    inputs = {name: np.asarray(inputs[name], kind) for name, kind in kinds.items()}
    count, at_once = len(next(iter(inputs.values()))), session.get_inputs()[0].shape[0]
    at_once = at_once if isinstance(at_once, int) else max(count, 1)
    calls = []
    for start in range(0, count, at_once):
        rows = np.minimum(np.arange(start, start + at_once), count - 1)  # the last call is filled up
        calls.append(session.run(None, {name: values[rows] for name, values in inputs.items()}))
    names = [output.name for output in session.get_outputs()]
    return {name: _joined(parts, at_once, count) for name, parts in zip(names, zip(*calls))}


def _joined(parts, at_once, count):
    """One array of what the calls gave: by example where that is the first axis, else by call."""
    by_example = all(part.ndim and len(part) == at_once for part in parts)
    return np.concatenate(parts)[:count] if by_example else np.stack(parts)


if __name__ == "__main__":
    given = np.load(sys.argv[1])
    arrays = given if sys.argv[1].endswith(".npz") else {session.get_inputs()[0].name: given}
    outputs = predict(**arrays)
    np.savez(sys.argv[2], **outputs)
    print(", ".join(f"{name} {array.shape}" for name, array in outputs.items()), "->", sys.argv[2])
'''

LOAD_PROGRAM = '''"""The model as a PyTorch module, to train on or to export elsewhere.

It needs autocompress and the task that the model was made for:

    python load.py my_task.py:task    # prints it
"""

import sys
from pathlib import Path

from autocompress import load_model


def load(task):
    """task: "my_task.py:task", or a Task. The module in evaluation mode, with its weights, before any quantization of
    the ONNX file.
    """
    return load_model(Path(__file__).with_name("recipe.toml"), task)


if __name__ == "__main__":
    print(load(sys.argv[1]))
'''


def predict_program(threads: int, provider: str) -> str:
    """threads, provider: that a call was measured with; the execution provider of ONNX Runtime."""
    return PREDICT_PROGRAM.replace("THREADS", str(int(threads))).replace("PROVIDER", json.dumps(provider))


def load_program() -> str:
    return LOAD_PROGRAM
