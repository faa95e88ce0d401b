"""Kinds of task as the recorded searches have them: which strategies apply, and what each is declared to do."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from autocompress.plugin.contract import Applicable, Parameter, Refusal, Stage
from autocompress.recipe import Step

IMPORTANCE = Parameter("importance", ("l1", "l2", "taylor"), "l2")
ALLOCATION = Parameter("allocation", ("uniform", "global"), "uniform")


@dataclass(frozen=True)
class Structure:
    """A structural strategy at its strongest: the shares of the latency and of the multiply-accumulates that it takes
    away, and the score that no training brings back. grain: of the strength, within which the latency is the same.
    repaired: whether what it leaves is repaired before it is trained.
    """

    latency: float
    macs: float
    lost: float
    grain: float = 0.0
    repaired: bool = True


@dataclass(frozen=True)
class Graph:
    """A graph variant against the float file it is made of: ratios of latency and of size, and the score it loses."""

    latency: float
    size: float
    lost: float


@dataclass(frozen=True)
class Kind:
    """One kind of task.

    trained: the score that a training strategy adds to a changed structure. later: what is found to apply only once the
    reference is evaluated. ms: p50 of the reference's file. examples_s: how many it trains on in a second. late_luck:
    what only a long training shows of a family.
    """

    name: str
    applicable: tuple[Applicable, ...]
    structures: Mapping[str, Structure]
    graphs: Mapping[Step, Graph]
    trained: Mapping[str, float]
    refused: tuple[Refusal, ...] = ()
    later: tuple[str, ...] = ()
    score: float = 0.93
    ms: float = 1.5
    macs: int = 800_000
    params: int = 400_000
    train_examples: int = 50_000
    val_examples: int = 4_000
    test_examples: int = 4_000
    examples_s: float = 4_000.0
    late_luck: float = 0.004
    warnings: tuple[str, ...] = ()


def _strength(name: str, *choices: float, default: float) -> Parameter:
    return Parameter(name, choices, default, by_strength=True)


SMALL = Applicable(
    "small",
    (Stage.BUILD,),
    (_strength("width", 0.75, 0.5, 0.35, 0.25, default=0.5), _strength("depth", 4, 3, 2, default=4)),
    provides=frozenset({"student"}),
)
CARVE = Applicable(
    "carve",
    (Stage.STRUCTURE,),
    (_strength("ratio", 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, default=0.5), IMPORTANCE, ALLOCATION),
)
DROP = Applicable(
    "drop", (Stage.STRUCTURE,), (_strength("blocks", 1, 2, 3, 4, default=1),), excludes=frozenset({"student"})
)
SPLIT = Applicable(
    "split",
    (Stage.STRUCTURE,),
    (_strength("rank", 0.8, 0.6, 0.4, 0.2, default=0.4),),
    provides=frozenset({"factors"}),
    excludes=frozenset({"factors"}),
)
TRIM = Applicable(
    "trim",
    (Stage.STRUCTURE,),
    (_strength("mlp", 0.2, 0.4, 0.6, 0.8, default=0.4), _strength("heads", 0, 1, 2, default=0), IMPORTANCE),
)
LOGITS = Applicable(
    "logits",
    (Stage.TRAIN,),
    (Parameter("temperature", (1.0, 2.0, 4.0), 2.0), Parameter("alpha", (0.5, 0.9), 0.9)),
    trains_alone=True,
)
FEATURES = Applicable("features", (Stage.TRAIN,), (Parameter("weight", (0.1, 1.0, 10.0), 1.0),))
TUNE = Applicable("tune", (Stage.TRAIN,), trains_alone=True)
AWARE = Applicable(
    "aware",
    (Stage.TRAIN, Stage.GRAPH),
    (Parameter("start", (0.3, 0.6), 0.3),),
    provides=frozenset({"integers"}),
    excludes=frozenset({"integers"}),
    variants=({},),
)
SQUEEZE = Applicable(
    "squeeze",
    (Stage.GRAPH,),
    provides=frozenset({"integers"}),
    excludes=frozenset({"integers"}),
    variants=({"calibration": "minmax"}, {"calibration": "entropy"}),
)
SQUASH = Applicable("squash", (Stage.GRAPH,), provides=frozenset({"integers"}), variants=({},))
HALVE = Applicable(
    "halve", (Stage.GRAPH,), variants=({},), size_only="half precision makes files smaller, and nothing faster here"
)

INTEGERS = {
    Step.of("squeeze", calibration="minmax"): Graph(0.46, 0.27, 0.004),
    Step.of("squeeze", calibration="entropy"): Graph(0.48, 0.27, 0.002),
    Step.of("aware"): Graph(0.47, 0.27, 0.0008),
    Step.of("squash"): Graph(1.06, 0.28, 0.001),
    Step.of("halve"): Graph(1.01, 0.52, 0.0),
}
TRAINED = {"logits": 0.006, "features": 0.003, "tune": 0.001, "aware": 0.0005}
STRUCTURES = {
    "small": Structure(0.62, 0.74, 0.045),
    "carve": Structure(0.76, 0.88, 0.06),
    "drop": Structure(0.36, 0.33, 0.02),
    "split": Structure(0.31, 0.52, 0.014, repaired=False),
    "trim": Structure(0.57, 0.61, 0.027),
}

CNN = Kind(
    "cnn",
    (AWARE, CARVE, DROP, FEATURES, HALVE, LOGITS, SMALL, SQUASH, SQUEEZE, TUNE),
    STRUCTURES,
    INTEGERS,
    TRAINED,
    refused=(Refusal("trim", "the model has no attention"),),
)
RNN = Kind(
    "rnn",
    (CARVE, LOGITS, SQUASH),
    {"carve": Structure(0.9, 0.95, 0.045, grain=0.5)},
    {Step.of("squash"): Graph(0.62, 0.3, 0.0015)},
    TRAINED,
    refused=(Refusal("squeeze", "there is nothing in it that calibration quantizes"),),
    score=0.986,
    ms=0.9,
    macs=150_000,
    params=120_000,
    train_examples=3_000,
    val_examples=1_000,
    test_examples=1_500,
    examples_s=1_800.0,
)
TRANSFORMER = Kind(
    "transformer",
    (AWARE, DROP, FEATURES, LOGITS, SPLIT, SQUASH, SQUEEZE, TRIM),
    STRUCTURES,
    {**INTEGERS, Step.of("squash"): Graph(0.7, 0.3, 0.003)},
    TRAINED,
    later=("squeeze",),
    score=0.875,
    ms=6.0,
    macs=30_000_000,
    params=5_000_000,
    train_examples=20_000,
    val_examples=2_000,
    test_examples=2_000,
    examples_s=900.0,
)
ROBUST = {name: replace(own, lost=0.15 * own.lost) for name, own in STRUCTURES.items()}
NOISY = replace(CNN, name="noisy", structures=ROBUST, late_luck=0.4, train_examples=3_000, examples_s=20_000.0)
UNTESTED = replace(CNN, name="untested", test_examples=0)
"""Nothing trains: what is pruned is measured as it is."""
UNREPAIRED = {name: replace(own, repaired=False) for name, own in STRUCTURES.items()}
UNTRAINED = Kind("untrained", (CARVE, DROP, SQUEEZE), UNREPAIRED, INTEGERS, {}, test_examples=0)
ONE = Kind("one_structural", (CARVE, LOGITS, SQUEEZE, TUNE), STRUCTURES, INTEGERS, TRAINED, train_examples=8_000)
"""Few choices: the space can be used up."""
FEW = Kind(
    "few_choices",
    (Applicable("drop", (Stage.STRUCTURE,), (_strength("blocks", 1, 2, 3, default=1),)), TUNE, SQUEEZE),
    STRUCTURES,
    INTEGERS,
    TRAINED,
    train_examples=1_000,
    examples_s=8_000.0,
)
FEWER = {"train.lr": (0.002,), "train.batch_size": (64,)}
