"""A run records what int8 scores depend on: the processor's instructions, and whether it sums products exactly."""

import pytest

from autocompress.candidate.versions import versions
from autocompress.profile import HardwareProfile
from tests.conftest import FakeRuntime

INT8, FLOAT = HardwareProfile(name="int8"), HardwareProfile(name="float", precisions=("float32",))


class Processor(FakeRuntime):
    def __init__(self, saturating: bool) -> None:
        self.saturating = saturating

    def saturates(self, profile: HardwareProfile) -> bool:
        return self.saturating


@pytest.mark.parametrize(("saturating", "sums"), [(True, "cut off at 16 bits"), (False, "exact")])
def test_what_the_target_makes_of_sums_is_recorded_where_it_runs_int8(saturating: bool, sums: str) -> None:
    assert versions(Processor(saturating), INT8)["int8_sums"] == sums
    assert "int8_sums" not in versions(Processor(saturating), FLOAT)


def test_the_processor_is_recorded_with_its_instructions_for_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    class Known:
        processor, instructions, cores = "Some CPU", ("avx2", "avx512_vnni"), 2

    monkeypatch.setattr("autocompress.candidate.versions.machine", Known)
    found = versions(Processor(False), INT8)
    assert found["instructions"] == "avx2 avx512_vnni"
    assert (found["cpu"], found["cores"]) == ("Some CPU", "2")
