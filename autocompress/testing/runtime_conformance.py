"""The checks that every runtime passes, whoever wrote it."""

import gc
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from autocompress.candidate.export import export
from autocompress.candidate.reading import read_task
from autocompress.data import Feed, feed_of, profile_inputs
from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Array, Runtime, Session
from autocompress.profile import HardwareProfile
from autocompress.task import Task
from autocompress.testing import tasks
from autocompress.testing.checks import is_sentence

BATCHES = 2
PATIENCE_S = 30.0  # with a process that does nothing but take a signal
CALLS_EACH = 3  # times that a bound call is made
TIMED_CALLS, LEAST_OF_RUN = 20, 0.05  # what binding saves of a call is less than most of it


def _least_s(call: Callable[[], object]) -> float:
    took = []
    for _ in range(TIMED_CALLS):
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return min(took)


def _take_a_signal() -> None:
    taken: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, _: taken.append(number))
    os.kill(os.getpid(), signal.SIGUSR1)
    assert taken


@dataclass(frozen=True)
class Exported:
    """A small task's model as an ONNX file. feeds: inputs at the profile's batch; outputs: the module's for them."""

    path: Path
    feeds: Sequence[Feed]
    outputs: Sequence[Array]

    @classmethod
    def of(cls, task: Task, runtime: Runtime, profile: HardwareProfile, folder: Path) -> "Exported":
        read = read_task(task, profile, runtime, folder / "reference.onnx", 0)
        layout, path = read.context.layout, folder / "model.onnx"
        inputs = list(profile_inputs(read.splits["val"], profile, layout, BATCHES))
        export(read.context.model, layout, inputs[0], path, "torchscript")
        with torch.no_grad():
            outputs = [read.context.model(one).numpy() for one in inputs]
        return cls(path, [feed_of(one) for one in inputs], outputs)


class RuntimeConformance:
    """Subclass it as ``TestMine`` and set ``runtime`` to an instance.

    profile: one that it runs. tolerance: the largest absolute error of its outputs against those of the PyTorch module,
    in float32, on the models of ``autocompress.testing.tasks``.
    """

    runtime: Runtime
    profile: HardwareProfile = HardwareProfile(name="conformance", batch=2)
    tolerance: float = 1e-3

    @pytest.fixture(params=tasks.ALL, ids=lambda task: task.__name__)
    def exported(self, request: pytest.FixtureRequest, tmp_path: Path) -> Exported:
        return Exported.of(request.param(), self.runtime, self.profile, tmp_path)

    def test_it_is_named_and_has_a_version(self) -> None:
        name = getattr(self.runtime, "name", None)
        assert isinstance(name, str) and name.isidentifier(), f"name must be an identifier, not {name!r}"  # noqa: PT018
        version = self.runtime.version()
        assert is_sentence(version), f"version must be one word or line, not {version!r}"

    def test_it_runs_its_profile_here(self) -> None:
        reason = self.runtime.unavailable(self.profile)
        assert reason is None, f"unavailable says: {reason}"

    def test_it_says_what_makes_it_faster_and_whether_it_can_be_forked(self) -> None:
        faster = self.runtime.faster_with(self.profile)
        unknown = sorted(set(faster) - {"float16", "zeros", "few_values"})
        assert not unknown, f"faster_with says {unknown[0]!r}, which no strategy asks for"
        assert isinstance(self.runtime.can_fork(self.profile), bool)

    def test_outputs_are_those_of_the_module(self, exported: Exported) -> None:
        session = self._open(exported.path)
        for feed, expected in zip(exported.feeds, exported.outputs, strict=True):
            self._agree(session.run(feed), expected, "run")

    def test_outputs_are_the_same_where_its_threads_are_placed(self, exported: Exported) -> None:
        """On processors of their own while files are timed."""
        two = self.profile.model_copy(update={"threads": 2})
        here = sorted(os.sched_getaffinity(0))[-1:] if hasattr(os, "sched_getaffinity") else []
        options = self.runtime.affinity(two, here)
        placed = two.model_copy(update={"options": {**two.options, **options}})
        found = self.runtime.open(exported.path, placed).run(exported.feeds[0])
        self._agree(found, exported.outputs[0], f"run with the options of affinity, {dict(options)},")

    def test_inputs_are_named_as_in_the_file(self, exported: Exported) -> None:
        graph = onnx.load(str(exported.path)).graph
        named = list(self._open(exported.path).input_names)
        assert named == [i.name for i in graph.input], f"input_names must be those of the graph in order, not {named}"

    def test_a_bound_call_can_be_made_again_and_again(self, exported: Exported) -> None:
        session, (first, second) = self._open(exported.path), exported.feeds
        calls = [session.bound(feed) for feed in (first, second)]
        for call in calls * CALLS_EACH:
            call()
        self._agree(session.run(first), exported.outputs[0], "run after bound calls")

    def test_a_bound_call_computes(self, exported: Exported) -> None:
        session, feed = self._open(exported.path), exported.feeds[0]
        bound, run = _least_s(session.bound(feed)), _least_s(lambda: session.run(feed))
        assert bound >= LEAST_OF_RUN * run, f"a bound call takes {bound:.2g} s and run {run:.2g} s: it computes nothing"

    def test_two_sessions_know_nothing_of_each_other(self, exported: Exported) -> None:
        one, other = self._open(exported.path), self._open(exported.path)
        before = one.run(exported.feeds[0])
        other.run(exported.feeds[1])
        self._agree(before, exported.outputs[0], "what an earlier call returned")
        self._agree(one.run(exported.feeds[0]), exported.outputs[0], "run")

    def test_a_signal_does_no_harm_once_its_sessions_are_gone(self, exported: Exported) -> None:
        """Each may have put a stack for the handlers of signals in place of the one before."""
        one, other = self._open(exported.path), self._open(exported.path)
        other.run(exported.feeds[0])
        del one
        gc.collect()
        del other
        gc.collect()
        if not hasattr(os, "fork"):
            return
        copy = multiprocessing.get_context("fork").Process(target=_take_a_signal)
        copy.start()
        copy.join(PATIENCE_S)
        copy.kill()
        copy.join()
        assert copy.exitcode == 0, f"after two sessions were closed a signal ended the process ({copy.exitcode})"

    def test_its_own_clock_gives_milliseconds(self, exported: Exported) -> None:
        took = self.runtime.clock(self._open(exported.path), exported.feeds[0])
        assert took is None or took > 0, f"clock must answer None or milliseconds above 0, not {took!r}"

    def test_operators_share_the_time_of_a_call(self, exported: Exported) -> None:
        found = self.runtime.operators(exported.path, self.profile, exported.feeds)
        if found is None:
            return
        assert found, "operators must answer None where the runtime keeps no profile, not an empty list"
        assert all(node.ms >= 0 and node.name and node.operator for node in found)
        assert abs(sum(node.share for node in found) - 1) < 0.01, "the shares must add up to 1"

    def test_its_own_files_begin_as_they_are_asked_to(self, exported: Exported, tmp_path: Path) -> None:
        stem = tmp_path / "delivered" / "model"
        stem.parent.mkdir()
        files = list(self.runtime.artifact(exported.path, self.profile, stem))
        assert sorted(files) == sorted(stem.parent.iterdir()), "artifact must return the files that it wrote"
        assert all(file.stem == stem.name and file.stat().st_size for file in files)

    def test_what_is_no_model_fails(self, tmp_path: Path) -> None:
        path = tmp_path / "broken.onnx"
        path.write_bytes(b"no model")
        self._refused(path, "a file that is no model")

    def test_an_operator_that_nobody_knows_fails(self, exported: Exported, tmp_path: Path) -> None:
        model = onnx.load(str(exported.path))
        model.graph.node[0].op_type, model.graph.node[0].domain = "NobodyKnowsIt", "nobody.knows"
        model.opset_import.append(onnx.helper.make_opsetid("nobody.knows", 1))
        path = tmp_path / "unknown.onnx"
        onnx.save(model, str(path))
        self._refused(path, "a graph with an operator that nobody knows")

    def _open(self, path: Path) -> Session:
        return self.runtime.open(path, self.profile)

    def _refused(self, path: Path, what: str) -> None:
        with pytest.raises(CandidateFailed) as failed:
            self._open(path)
        assert is_sentence(failed.value.reason), f"CandidateFailed needs a reason in words for {what}"

    def _agree(self, outputs: Sequence[Array], expected: Array, what: str) -> None:
        assert len(outputs) == 1, f"{what} must give the graph's outputs in order: one here, not {len(outputs)}"
        assert outputs[0].shape == expected.shape, f"{what} gives {outputs[0].shape}, the module {expected.shape}"
        off = float(np.abs(np.asarray(outputs[0], np.float64) - expected).max())
        assert off <= self.tolerance, f"{what} is {off:.2g} off the module's outputs (at most {self.tolerance:g})"
