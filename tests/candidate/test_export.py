"""From a module to a file: what is refused, what is folded, and that the file is checked against the module."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnxruntime.quantization import quantize_dynamic
from torch import nn

from autocompress.candidate import export as module
from autocompress.candidate.export import EXPORTERS, check, export, export_right, export_with, keep_to_opset
from autocompress.candidate.export_cause import branching, unexportable
from autocompress.data import OutputLayout
from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Session
from autocompress.plugin.loader import PluginSet
from autocompress.profile import HardwareProfile
from autocompress.task import Inputs
from tests.layouts import layout_of

PROFILE = HardwareProfile(name="cpu")
LINEAR = nn.Linear(4, 3)
LAYOUT = layout_of(LINEAR, torch.randn(1, 4))  # of one output, called "output"


class Branches(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:
            return x * 2
        return x


class NoSuchOperator(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.i0e(x)


class LastState(nn.Module):
    """Of packed sequences, none of which it unpacks."""

    def __init__(self, **options: int) -> None:
        super().__init__()
        self.rnn = nn.LSTM(3, 4, batch_first=True, **options)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        lengths = (x[..., 0] > 0).sum(1).clamp(min=1)
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return self.rnn(packed)[1][0][-1]


class Projected(LastState):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rnn(x)[0][:, -1]


class Ignoring(nn.Module):
    def forward(self, mask: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return x * 2


class Random(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.randn_like(x)


class OtherWhenTraced(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x if torch.jit.is_tracing() else x


class TwoInputs(nn.Module):
    def forward(self, left: torch.Tensor, right: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"hidden": left, "logits": left * right}


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(8, 16, 2, batch_first=True, bidirectional=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rnn(x)[0].mean(1)


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_an_lstm_becomes_its_int8_operator(exporter: str, tmp_path: Path) -> None:
    model, x = Recurrent(), torch.randn(1, 5, 8)
    export_with(exporter, model, layout_of(model, x), x, tmp_path / "float.onnx")
    quantize_dynamic(str(tmp_path / "float.onnx"), str(tmp_path / "int8.onnx"), op_types_to_quantize=["LSTM"])
    ops = [node.op_type for node in onnx.load(str(tmp_path / "int8.onnx")).graph.node]
    assert ops.count("DynamicQuantizeLSTM") == 2, "the weights have to be folded constants, or nothing is quantized"


def test_a_dict_of_inputs_keeps_its_names_and_so_does_a_dict_of_outputs(tmp_path: Path) -> None:
    model, inputs = TwoInputs(), {"left": torch.randn(1, 4), "right": torch.randn(1, 4)}
    assert export(model, layout_of(model, inputs), inputs, tmp_path / "m.onnx", "torchscript") == "torchscript"
    session = ort.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["left", "right"]
    assert [o.name for o in session.get_outputs()] == ["hidden", "logits"]
    hidden, logits = session.run(None, {k: v.numpy() for k, v in inputs.items()})
    np.testing.assert_allclose(hidden, inputs["left"].numpy(), rtol=1e-5)
    np.testing.assert_allclose(logits, (inputs["left"] * inputs["right"]).numpy(), rtol=1e-5)


def test_a_file_that_disagrees_with_its_module_is_refused_with_the_error(plugins: PluginSet, tmp_path: Path) -> None:
    model = nn.Linear(4, 3)
    layout = layout_of(model, torch.randn(1, 4))
    export(model, layout, torch.randn(1, 4), tmp_path / "m.onnx", "torchscript")
    session = plugins.runtime("onnxruntime").open(tmp_path / "m.onnx", PROFILE)
    inputs = [torch.randn(1, 4) for _ in range(3)]
    feeds = [{"input": x.numpy()} for x in inputs]
    assert check(session, feeds, model, layout, inputs) < 1e-5
    with torch.no_grad():
        model.bias.add_(1.0)
    with pytest.raises(CandidateFailed, match=r"disagree by [\d.]+"):
        check(session, feeds, model, layout, inputs)


def test_a_file_takes_its_name_only_when_it_agrees_with_its_module(plugins: PluginSet, tmp_path: Path) -> None:
    def open_file(path: Path) -> Session:
        return plugins.runtime("onnxruntime").open(path, PROFILE)

    target, inputs = tmp_path / "m.onnx", [torch.randn(1, 4)]
    with pytest.raises(CandidateFailed, match=r"disagree by [\d.]+"):
        export_right(
            "torchscript", OtherWhenTraced(), layout_of(OtherWhenTraced(), inputs[0]), inputs, target, open_file
        )
    assert list(tmp_path.iterdir()) == []
    export_right("torchscript", LINEAR, layout_of(LINEAR, inputs[0]), inputs, target, open_file)
    assert target.exists()


def test_control_flow_on_the_data_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(CandidateFailed) as dynamo:
        export_with("dynamo", Branches(), LAYOUT, torch.randn(1, 4), tmp_path / "m.onnx")
    said = r"data-dependent control flow.*test_export\.py, line \d+.*torch\.where"
    assert re.search(said, str(branching(dynamo.value.reason)))
    assert re.search(said, str(unexportable({"torchscript": "it fails too", "dynamo": dynamo.value.reason})))


def test_a_size_that_the_exporter_cannot_settle_is_no_control_flow_of_the_users() -> None:
    """Beside a trace that is right; where nothing else works it is still told."""
    cause = "Could not guard on data-dependent expression Eq(u0, 1) (unhinted: Eq(u0, 1))"
    assert branching(cause, in_the_users_code=True) is None
    assert branching(cause) is not None


def test_a_folded_file_can_be_rewritten_and_loaded_again(tmp_path: Path) -> None:
    """Whoever loads a file optimizes it, and invents the names for what it adds that were invented when it was folded:
    a second product of sequences is what quantization or a shorter graph may bring about.
    """
    target, model = tmp_path / "m.onnx", nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    inputs = torch.randn(1, 3, 8)
    export_with("torchscript", model, layout_of(model, inputs), inputs, target)
    graph = onnx.load(str(target))
    (output,) = graph.graph.output
    weights = [onnx.numpy_helper.from_array(np.ones(s, np.float32), n) for n, s in (("w", (8, 8)), ("b", (8,)))]
    graph.graph.initializer.extend(weights)
    graph.graph.node.append(onnx.helper.make_node("MatMul", [output.name, "w"], ["product"]))
    graph.graph.node.append(onnx.helper.make_node("Add", ["product", "b"], ["more"]))
    output.name = "more"
    onnx.save(graph, str(target))
    session = ort.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})
    np.testing.assert_allclose(got, model(inputs).detach().numpy() @ np.ones((8, 8)) + 1, rtol=1e-4, atol=1e-4)


def test_an_operator_that_no_exporter_knows_is_named(tmp_path: Path) -> None:
    causes = {}
    for exporter in EXPORTERS:
        with pytest.raises(CandidateFailed) as failed:
            export_with(exporter, NoSuchOperator(), LAYOUT, torch.randn(1, 4), tmp_path / "m.onnx")
        causes[exporter] = failed.value.reason
    said = r"torchscript: .*operator aten::special_i0e; dynamo: .*i0e; replace what is named there"
    assert re.search(said, str(unexportable(causes)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize(
    ("make", "way_out"),
    [(LastState, "read the last states from there"), (lambda: Projected(proj_size=2), "nn.Linear behind it")],
)
def test_what_has_no_form_in_onnx_is_told_with_what_has_one(
    make: Callable[[], nn.Module], way_out: str, tmp_path: Path
):
    model, x = make(), torch.randn(4, 5, 3)
    with pytest.raises(CandidateFailed) as failed:
        export_with("torchscript", model, layout_of(model, x), x, tmp_path / "m.onnx")
    assert way_out in str(unexportable({"torchscript": failed.value.reason}))


def test_a_norm_over_the_batch_that_is_given_one_example_asks_for_more(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8, track_running_stats=False)).eval()
    layout = layout_of(model, torch.randn(3, 6))
    with pytest.raises(CandidateFailed) as failed:
        export_with("torchscript", model, layout, torch.randn(1, 6), tmp_path / "m.onnx")
    assert "give a profile with a larger batch" in str(unexportable({"torchscript": failed.value.reason}))


def test_another_failure_of_one_exporter_is_not_taken_for_control_flow() -> None:
    assert branching("it has no ONNX form of the operator aten::fft_rfft") is None


def test_a_failed_trace_prints_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    with pytest.raises(CandidateFailed, match=r"^it has no ONNX form of the operator aten::special_i0e$"):
        export_with("torchscript", NoSuchOperator(), LAYOUT, torch.randn(1, 4), tmp_path / "m.onnx")
    assert capfd.readouterr() == ("", "")
    assert not [str(warning.message) for warning in recwarn]


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_an_input_that_the_model_ignores_is_still_one_of_the_file(exporter: str, tmp_path: Path) -> None:
    inputs = {"mask": torch.ones(1, 3, dtype=torch.bool), "x": torch.randn(1, 4)}
    export_with(exporter, Ignoring(), layout_of(Ignoring(), inputs), inputs, tmp_path / "m.onnx")
    session = ort.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    assert [(i.name, i.type, i.shape) for i in session.get_inputs()] == [
        ("mask", "tensor(bool)", [1, 3]),
        ("x", "tensor(float)", [1, 4]),
    ]
    np.testing.assert_allclose(session.run(None, {k: v.numpy() for k, v in inputs.items()})[0], 2 * inputs["x"])


def test_a_module_that_is_different_each_time_is_said_to_be(plugins: PluginSet, tmp_path: Path) -> None:
    export(Random(), LAYOUT, torch.randn(1, 4), tmp_path / "m.onnx", "torchscript")
    session = plugins.runtime("onnxruntime").open(tmp_path / "m.onnx", PROFILE)
    x = torch.randn(1, 4)
    with pytest.raises(CandidateFailed, match="other outputs each time"):
        check(session, [{"input": x.numpy()}], Random(), LAYOUT, [x])


@pytest.mark.parametrize("mask", [False, True])
def test_attention_of_torch_is_exported_by_the_quick_exporter(mask: bool, plugins: PluginSet, tmp_path: Path) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model, inputs = nn.TransformerEncoder(layer, 2).eval(), {"src": torch.randn(1, 5, 8)}
    if mask:
        inputs["src_key_padding_mask"] = torch.arange(5)[None] > 3
    before = torch.backends.mha.get_fastpath_enabled()
    layout = layout_of(model, inputs)
    export_with("torchscript", model, layout, inputs, tmp_path / "m.onnx")
    session = plugins.runtime("onnxruntime").open(tmp_path / "m.onnx", PROFILE)
    check(session, [{name: value.numpy() for name, value in inputs.items()}], model, layout, [inputs])
    assert torch.backends.mha.get_fastpath_enabled() == before, "the switch belongs to whoever runs torch"


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Exporters that fail halfway: those that a test puts in here."""
    real, names = module.export_with, set[str]()

    def export_with(
        exporter: str, model: nn.Module, layout: OutputLayout, inputs: Inputs, target: Path, opset: int | None
    ) -> None:
        if exporter in names:
            target.write_bytes(b"half a mo")
            raise CandidateFailed("not today")
        real(exporter, model, layout, inputs, target)

    monkeypatch.setattr(module, "export_with", export_with)
    return names


def test_an_exporter_that_fails_is_replaced_by_the_other(broken: set[str], tmp_path: Path) -> None:
    broken.add("dynamo")
    assert export(LINEAR, LAYOUT, torch.randn(1, 4), tmp_path / "m.onnx", "dynamo") == "torchscript"
    onnx.checker.check_model(str(tmp_path / "m.onnx"))


def test_a_failed_export_leaves_no_file(broken: set[str], tmp_path: Path) -> None:
    broken |= set(EXPORTERS)
    with pytest.raises(CandidateFailed, match="torchscript: not today; dynamo: not today"):
        export(LINEAR, LAYOUT, torch.randn(1, 4), tmp_path / "m.onnx", "torchscript")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_folded_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fold(source: Path, target: Path) -> None:
        raise CandidateFailed(f"{onnx.load(str(source)).graph.node[0].op_type} is too much")

    monkeypatch.setattr(module, "fold", fold)
    with pytest.raises(CandidateFailed, match="Gemm is too much"):
        export_with("torchscript", LINEAR, LAYOUT, torch.randn(1, 4), tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("asked", [13, 20])
def test_a_file_is_written_in_the_opset_that_the_target_knows(asked: int, exporter: str, tmp_path: Path):
    target = tmp_path / "m.onnx"
    export(LINEAR, LAYOUT, torch.randn(1, 4), target, exporter, asked)
    written = onnx.load(str(target))
    assert [own.version for own in written.opset_import if not own.domain] == [asked]
    assert written.ir_version <= {13: 7, 20: 9}[asked], "a runtime of that age knows no newer format"
    ort.InferenceSession(str(target), providers=["CPUExecutionProvider"])


def test_a_file_in_a_newer_opset_than_the_target_knows_fails_in_one_line(tmp_path: Path):
    path = tmp_path / "m.onnx"
    export(LINEAR, LAYOUT, torch.randn(1, 4), path, "torchscript", 18)
    keep_to_opset(path, 18)
    with pytest.raises(CandidateFailed, match="written in opset 18, and the profile's target knows 17"):
        keep_to_opset(path, 17)
