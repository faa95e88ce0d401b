"""What the kit finds in runtimes that are wrong, each in one way."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Feed, OperatorTime, Runtime, Session
from autocompress.profile import HardwareProfile
from autocompress.testing import RuntimeConformance, tasks
from autocompress.testing.runtime_conformance import Exported
from autocompress_plugins.runtimes.onnxruntime import OnnxRuntime, OrtSession

CASES: list[tuple[str, str, type[Runtime]]] = []


def broken(check: str, says: str) -> Callable[[type[Runtime]], type[Runtime]]:
    """The decorated runtime has to fail ``check`` with a message that holds ``says``."""

    def register(runtime: type[Runtime]) -> type[Runtime]:
        CASES.append((check, says, runtime))
        return runtime

    return register


class Wrapped(Session):
    def __init__(self, own: Session) -> None:
        self.own = own

    @property
    def input_names(self) -> Sequence[str]:
        return self.own.input_names

    def run(self, feed: Feed) -> Sequence[Any]:
        return self.own.run(feed)


@broken("test_outputs_are_those_of_the_module", "off the module's outputs")
class Rounds(OnnxRuntime):
    def open(self, path: Path, profile: HardwareProfile) -> Session:
        class Rounded(Wrapped):
            def run(self, feed: Feed) -> Sequence[Any]:
                return [np.round(output, 1) for output in self.own.run(feed)]

        return Rounded(super().open(path, profile))


@broken("test_outputs_are_those_of_the_module", "run gives (4, 2), the module (2, 4)")
class Transposes(OnnxRuntime):
    def open(self, path: Path, profile: HardwareProfile) -> Session:
        class Transposed(Wrapped):
            def run(self, feed: Feed) -> Sequence[Any]:
                return [output.T for output in self.own.run(feed)]

        return Transposed(super().open(path, profile))


@broken("test_two_sessions_know_nothing_of_each_other", "off the module's outputs")
class SharesItsSession(OnnxRuntime):
    """The second one's inputs stay those of the first."""

    def open(self, path: Path, profile: HardwareProfile) -> Session:
        known = self.__dict__.setdefault("known", [])

        class Shared(Wrapped):
            def run(self, feed: Feed) -> Sequence[Any]:
                known.append(feed)
                return self.own.run(known[-2] if len(known) > 2 else feed)

        return Shared(super().open(path, profile))


@broken("test_a_bound_call_can_be_made_again_and_again", "can be made once")
class BindsOnce(OnnxRuntime):
    def open(self, path: Path, profile: HardwareProfile) -> Session:
        class Once(Wrapped):
            def bound(self, feed: Feed) -> Callable[[], object]:
                calls = [1]

                def call() -> object:
                    assert calls.pop() == 1 if calls else False, "can be made once"
                    return None

                return call

        return Once(super().open(path, profile))


@broken("test_a_bound_call_computes", "it computes nothing")
class BindsNothing(OnnxRuntime):
    def open(self, path: Path, profile: HardwareProfile) -> Session:
        class Idle(Wrapped):
            def bound(self, feed: Feed) -> Callable[[], object]:
                return lambda: None

        return Idle(super().open(path, profile))


@broken("test_inputs_are_named_as_in_the_file", "input_names must be those of the graph in order")
class RenamesInputs(OnnxRuntime):
    def open(self, path: Path, profile: HardwareProfile) -> Session:
        class Renamed(Wrapped):
            @property
            def input_names(self) -> Sequence[str]:
                return ["x"]

        return Renamed(super().open(path, profile))


@broken("test_its_own_clock_gives_milliseconds", "milliseconds above 0")
class ClockOfZeros(OnnxRuntime):
    def clock(self, session: Session, feed: Feed) -> float | None:
        return 0.0


@broken("test_operators_share_the_time_of_a_call", "must add up to 1")
class SharesOfNothing(OnnxRuntime):
    def operators(self, path: Path, profile: HardwareProfile, feeds: Sequence[Feed]) -> Sequence[OperatorTime]:
        return [OperatorTime("a", "Conv", 1.0, 0.1)]


@broken("test_its_own_files_begin_as_they_are_asked_to", "must return the files that it wrote")
class HidesItsFile(OnnxRuntime):
    def artifact(self, path: Path, profile: HardwareProfile, stem: Path) -> Sequence[Path]:
        stem.with_suffix(".own").write_text("a model")
        return ()


@broken("test_what_is_no_model_fails", "DID NOT RAISE")
class OpensAnything(OnnxRuntime):
    def open(self, path: Path, profile: HardwareProfile) -> Session:
        try:
            return super().open(path, profile)
        except CandidateFailed:
            return OrtSession.__new__(OrtSession)


@broken("test_it_runs_its_profile_here", "unavailable says: it is switched off")
class SwitchedOff(OnnxRuntime):
    def unavailable(self, profile: HardwareProfile) -> str | None:
        return "it is switched off"


@broken("test_it_is_named_and_has_a_version", "name must be an identifier")
class Nameless(OnnxRuntime):
    name = "my board"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    kit = RuntimeConformance
    return Exported.of(tasks.cnn(), OnnxRuntime(), kit.profile, tmp_path_factory.mktemp("exported"))


@pytest.mark.parametrize(("check", "says", "runtime"), CASES, ids=[case[2].__name__ for case in CASES])
def test_a_wrong_runtime_fails_in_words(
    check: str, says: str, runtime: type[Runtime], exported: Exported, tmp_path: Path
) -> None:
    class Mine(RuntimeConformance):
        pass

    Mine.runtime = runtime()
    wanted = {"exported": exported, "tmp_path": tmp_path}
    method = getattr(Mine(), check)
    names = method.__code__.co_varnames[1 : method.__code__.co_argcount]
    with pytest.raises(BaseException, match=re.escape(says)):  # pytest's own failures are none of Exception
        method(**{name: wanted[name] for name in names})
