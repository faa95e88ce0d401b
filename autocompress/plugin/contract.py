"""What a plug-in author implements: a strategy has one or several of three parts, each a narrow contract.

- structure: ``plan`` decides, ``apply`` changes a copy of the model (``StructureStrategy``);
- training: ``hook`` adds to the one training loop (``TrainingStrategy``);
- graph: ``variants`` and ``apply`` rewrite an ONNX file (``GraphStrategy``).

A strategy with two parts inherits from both. A strategy never names another: conflicts are tags.

Beside techniques: a ``Runtime`` opens files on a target, an ``Observer`` is told what happens in a search.
"""

from autocompress.data import Array, Batch, Feed
from autocompress.hub_request import HubRequest
from autocompress.measured_file import FileLatency, MeasuredFile, ScoreLoss
from autocompress.plugin.applicable import Applicable, Refusal, stages_of
from autocompress.plugin.context import Context
from autocompress.plugin.counterparts import Counterpart, Counterparts
from autocompress.plugin.hub import Hub
from autocompress.plugin.observer import (
    FamilyTrained,
    FileMeasured,
    FrontChanged,
    Observer,
    PhaseBegan,
    SearchEvent,
    SearchFinished,
    SearchStarted,
    TaskOpened,
)
from autocompress.plugin.runtime import OperatorTime, Runtime, Session
from autocompress.plugin.strategy import (
    NORM_BEFORE,
    GraphStrategy,
    Parameter,
    Params,
    ShrinkableGroup,
    Stage,
    Strategy,
    StructureStrategy,
    TrainingStrategy,
)
from autocompress.plugin.training import LossTerm, TrainHook, TrainStep
from autocompress.recipe import Plan

__all__ = [
    "NORM_BEFORE",
    "Applicable",
    "Array",
    "Batch",
    "Context",
    "Counterpart",
    "Counterparts",
    "FamilyTrained",
    "Feed",
    "FileLatency",
    "FileMeasured",
    "FrontChanged",
    "GraphStrategy",
    "Hub",
    "HubRequest",
    "LossTerm",
    "MeasuredFile",
    "Observer",
    "OperatorTime",
    "Parameter",
    "Params",
    "PhaseBegan",
    "Plan",
    "Refusal",
    "Runtime",
    "ScoreLoss",
    "SearchEvent",
    "SearchFinished",
    "SearchStarted",
    "Session",
    "ShrinkableGroup",
    "Stage",
    "Strategy",
    "StructureStrategy",
    "TaskOpened",
    "TrainHook",
    "TrainStep",
    "TrainingStrategy",
    "stages_of",
]
