"""The searches that are recorded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from autocompress.budget import Budget
from autocompress.profile import HardwareProfile
from autocompress.recipe import Value

from . import kinds
from .declared import Fault, Faults
from .kinds import Kind

WITHIN_A_POINT = Budget(max_drop=1.0)
SOUND = Faults()
CPU = HardwareProfile(name="cpu")


@dataclass(frozen=True)
class Stop:
    """How a process ends before its search does: at the ``number``-th call of a method, over all processes. "asked": it
    is asked to stop while that is computed, and stops at the next safe point; "in the call": that is one; "killed": it
    has no time to record anything; "crashed": its worker ends.
    """

    method: str
    number: int
    how: Literal["asked", "in the call", "killed", "crashed"]


@dataclass(frozen=True)
class Process:
    """One process of a search; the next one resumes. minutes: in all, over all of them. trials: the most."""

    minutes: float
    trials: int | None = None
    stop: Stop | None = None


@dataclass(frozen=True)
class Scenario:
    """strategies, choices: what its search space names. crashing: which evaluations end their worker, by number.
    beside: families under way beyond the workers. written: its record is on disk. profile: where files are timed.
    explain: whether ablations of the best are trained.
    """

    name: str
    kind: Kind
    processes: tuple[Process, ...]
    budget: Budget = WITHIN_A_POINT
    seed: int = 0
    workers: int = 1
    beside: int = 0
    strategies: tuple[str, ...] | None = None
    choices: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    faults: Faults = SOUND
    crashing: frozenset[int] = frozenset()
    written: bool = False
    profile: HardwareProfile = CPU
    explain: bool = False


def _once(minutes: float, trials: int | None = None) -> tuple[Process, ...]:
    return (Process(minutes, trials),)


BUSY = Faults(disturbed=0.35, unmeasured=0.1)
BROKEN = Faults(
    unbuilt=(Fault("drop"),),
    untrained=(Fault("features", "the loss is nan at step 12", share=0.6), Fault("logits", share=0.7, rung=1)),
    unmade=(Fault("squeeze", "a node that cannot be quantized", share=0.3),),
    unscored=(Fault("aware", share=0.5),),
)
NOTHING_TRAINS = Faults(untrained=(Fault("logits"), Fault("tune", "no data"), Fault("aware")))

SCENARIOS = (
    # Without a budget.
    Scenario("cnn", kinds.CNN, _once(10)),
    Scenario("cnn_busy", kinds.CNN, _once(8), seed=1, faults=BUSY),
    Scenario("cnn_max_drop", kinds.CNN, _once(8), Budget(max_drop=3), seed=2, faults=Faults(undefined=0.3)),
    Scenario("rnn", kinds.RNN, _once(6), seed=3, faults=Faults(untested=True)),
    Scenario("transformer", kinds.TRANSFORMER, _once(10), seed=4),
    Scenario("first_rung_too_short", kinds.NOISY, _once(9), seed=5),
    # Under one.
    Scenario("cnn_speedup", kinds.CNN, _once(15), Budget(speedup=4)),
    Scenario("cnn_budget_ms_and_max_drop", kinds.CNN, _once(6), Budget(latency_ms=0.5, max_drop=1), seed=6),
    Scenario("cnn_speedup_busy", kinds.CNN, _once(6), Budget(speedup=6), seed=7, faults=BUSY),
    Scenario("transformer_speedup", kinds.TRANSFORMER, _once(10), Budget(speedup=3), seed=8),
    Scenario(
        "rnn_reference_disturbed",
        kinds.RNN,
        _once(5),
        Budget(latency_ms=0.4),
        faults=Faults(reference_disturbed=True, disturbed=0.15),
    ),
    Scenario("infeasible", kinds.CNN, _once(5), Budget(speedup=500), faults=Faults(unbuilt=(Fault("drop"),))),
    Scenario("infeasible_and_untrained", kinds.CNN, _once(5), Budget(latency_ms=0.001), faults=NOTHING_TRAINS),
    Scenario("met_by_the_reference", kinds.RNN, _once(4), Budget(latency_ms=50)),
    # Spaces that hold little.
    Scenario("graph_only", kinds.CNN, _once(3), strategies=("squeeze", "squash", "halve")),
    Scenario("training_only", kinds.CNN, _once(5), strategies=("logits", "features", "aware", "squeeze"), seed=9),
    Scenario("untrained", kinds.UNTRAINED, _once(4), Budget(speedup=2.5), seed=10),
    Scenario("one_structural", kinds.ONE, _once(6), Budget(speedup=2), choices={"carve.ratio": (0.3, 0.5, 0.7)}),
    # What ends a search before its time.
    Scenario("trials", kinds.CNN, _once(30, trials=4), Budget(speedup=3), seed=11),
    Scenario("stalled", kinds.RNN, _once(20), Budget(speedup=2.5), seed=21),
    Scenario("used_up", kinds.FEW, _once(60), seed=12, choices=kinds.FEWER),
    Scenario("all_fail", kinds.CNN, _once(2), seed=3, faults=NOTHING_TRAINS),
    # Interrupted, and resumed.
    Scenario(
        "asked_to_stop_twice",
        kinds.CNN,
        (Process(8, stop=Stop("gate", 12, "asked")), Process(8, stop=Stop("evaluate", 7, "in the call")), Process(8)),
        seed=13,
    ),
    Scenario(
        "killed_twice",
        kinds.CNN,
        (Process(8, stop=Stop("evaluate", 4, "killed")), Process(8, stop=Stop("session", 9, "killed")), Process(8)),
        Budget(speedup=3),
        seed=14,
        written=True,
    ),
    Scenario(
        "finished_and_given_more",
        kinds.TRANSFORMER,
        (Process(4, trials=5), Process(8, trials=9), Process(8, trials=9)),
        seed=15,
    ),
    Scenario("opened_at_the_second_attempt", kinds.FEW, (Process(4, stop=Stop("open", 1, "crashed")), Process(4, 2))),
    # What fails.
    Scenario(
        "broken_strategies",
        kinds.CNN,
        _once(10),
        Budget(speedup=3),
        seed=16,
        faults=BROKEN,
        crashing=frozenset({3, 6, 7}),
    ),
    Scenario("hanging", kinds.CNN, _once(15), seed=12, faults=Faults(hanging=(Fault("carve"),))),
    Scenario("out_of_time", kinds.CNN, _once(5), seed=17, faults=Faults(hanging=(Fault("features"),))),
    Scenario("out_of_time_at_the_end", kinds.CNN, _once(5), seed=2, faults=Faults(hanging=(Fault("logits", rung=2),))),
    Scenario(
        "other_exporter_and_no_tests",
        kinds.UNTESTED,
        _once(6),
        Budget(speedup=3),
        seed=18,
        faults=Faults(faster_exporter=True, clashing=(("carve", "drop"),), outputs_gone=True),
    ),
    # Two at once.
    Scenario("two_workers", kinds.FEW, _once(60), Budget(speedup=1.2), seed=19, workers=2, choices=kinds.FEWER),
    Scenario("two_workers_free", kinds.FEW, _once(60), seed=20, workers=2, choices=kinds.FEWER),
    # One family more than workers.
    Scenario("one_beside", kinds.CNN, _once(5), Budget(speedup=2), seed=21, beside=1),
    Scenario("one_beside_free", kinds.CNN, _once(5), seed=22, beside=1),
    Scenario(
        "one_beside_out_of_time", kinds.CNN, _once(5), seed=17, beside=1, faults=Faults(hanging=(Fault("features"),))
    ),
    Scenario("one_beside_broken", kinds.CNN, _once(5), Budget(speedup=3), seed=12, beside=1, faults=BROKEN),
    Scenario(
        "one_beside_killed",
        kinds.CNN,
        (Process(5, stop=Stop("evaluate", 4, "killed")), Process(5, stop=Stop("gate", 9, "asked")), Process(5)),
        seed=14,
        beside=1,
    ),
    Scenario("one_beside_used_up", kinds.FEW, _once(60), seed=23, beside=1, choices=kinds.FEWER),
)
