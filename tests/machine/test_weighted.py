"""One call of several shapes."""

from autocompress.machine.weighted import weighted


def test_a_call_of_each_counts_by_its_weight() -> None:
    made: list[str] = []

    def taking(ms: float, name: str) -> float:
        made.append(name)
        return ms

    calls = [lambda: taking(2.0, "short"), lambda: taking(10.0, "long")]
    call = weighted(calls, [3, 1])
    assert (call(), call()) == (4.0, 4.0)
    assert made == ["short", "long"] * 2
    assert weighted(calls[:1], [7])() == 2.0
