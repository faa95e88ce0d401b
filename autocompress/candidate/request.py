"""What is asked of whoever computes a candidate, and what is answered: plain data, sent between processes. Files and
weights go by the digests of what made them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from autocompress.candidate.arithmetic import Arithmetic
from autocompress.evaluation import Score
from autocompress.recipe import Plan, Recipe, Step

Learned = Mapping[str, Mapping[str, Any]]
Calibration = Mapping[str, Any]


@dataclass(frozen=True)
class TrainRequest:
    """A family's structure, and one training of it. arithmetic: how it computes. rung: which training this is.
    checkpoint, plans: what an earlier rung left.

    start, examples: the piece of the training stream; examples = 0 trains nothing. limit_s: seconds there are for it
    now; where the recipe trains nothing, for its reconstruction. length_s: that it takes in all, with what was trained
    of it before it was cut off; None for as long as there is. learned: what an earlier rung's hooks learned beside the
    weights. calibration: what its structure was repaired on, and how far it was reconstructed.
    """

    recipe: Recipe
    arithmetic: Arithmetic = Arithmetic()
    rung: int = 0
    start: int = 0
    examples: int = 0
    limit_s: float | None = None
    length_s: float | None = None
    checkpoint: str | None = None
    plans: tuple[Plan, ...] | None = None
    learned: Learned = field(default_factory=dict)
    calibration: Calibration = field(default_factory=dict)


@dataclass(frozen=True)
class TrainedWeights:
    """A family's structure and where its weights lie, repaired or trained. checkpoint: a key of the store; None when
    they are neither.

    examples, seconds: of this training; examples that were counted before, and are repeated because the weights are
    gone, do not count again. epochs: of all, over the training split. learned: by strategy, beside the weights.
    calibration: how many examples the structure was repaired on, their digest, and the layers that they gave few rows
    for their width; nothing where it was not.
    """

    recipe: Recipe
    plans: tuple[Plan, ...]
    checkpoint: str | None = None
    learned: Learned = field(default_factory=dict)
    epochs: float = 0.0
    examples: int = 0
    seconds: float = 0.0
    calibration: Calibration = field(default_factory=dict)


@dataclass(frozen=True)
class ModelFile:
    """An ONNX file of the run. path: from the run folder. digest: sha256 of its content. graph: digest of its
    operators, shapes and types, on which its latency depends.
    """

    recipe: Recipe
    path: str
    digest: str
    graph: str


@dataclass(frozen=True)
class UntrainedFiles:
    """To make: the files of a structure as it is planned now, which are only timed. exporter: the one tried first.
    source: the float file, where it was made before.
    """

    recipe: Recipe
    exporter: str
    variants: tuple[Step, ...] = ()
    source: ModelFile | None = None


@dataclass(frozen=True)
class FamilyFiles:
    """To make: the files of a family, which are checked against the module and kept, each under its recipe and
    ``rung``. weights: what they are made of. exporter, source: as above.
    """

    weights: TrainedWeights
    rung: int
    exporter: str
    variants: tuple[Step, ...] = ()
    source: ModelFile | None = None

    @property
    def recipe(self) -> Recipe:
        return self.weights.recipe


MakeRequest = UntrainedFiles | FamilyFiles


@dataclass(frozen=True)
class Made:
    """The float file, those of the variants that could be made, in their order, and why the others could not be
    (recipe, strategy, reason). exporter: the one that wrote the float file. macs: multiply-accumulates of one call.
    """

    source: ModelFile
    exporter: str
    plans: tuple[Plan, ...]
    macs: int
    files: tuple[ModelFile, ...] = ()
    failed: tuple[tuple[Recipe, str, str], ...] = ()


@dataclass(frozen=True)
class Sample:
    """So many validation examples, spread over the split, on which a file is compared with the reference. outputs:
    store key of the reference's on the whole split. score: the reference's there.
    """

    examples: int
    outputs: str
    score: Score


@dataclass(frozen=True)
class Scored:
    """What a file scores on the validation split, and what it takes to keep. outputs: store key of its outputs.
    precision: the number format that it computes in.
    """

    score: Score
    size_bytes: int
    compressed_bytes: int
    params: int
    macs: int
    outputs: str
    precision: str = ""


@dataclass(frozen=True)
class NotScored:
    """A file that could not be scored, and why."""

    strategy: str | None
    reason: str
