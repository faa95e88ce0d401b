"""The door to the user's data: what a batch looks like, splits, checks, scores. The rest of the package knows it by
the names below alone.
"""

from autocompress.arrays import Array
from autocompress.data.batch import (
    Batch,
    PerExample,
    joined,
    joined_padded,
    named_inputs,
    ordered_as,
    rows_in,
    take_rows,
)
from autocompress.data.drawing import Order
from autocompress.data.dynamic import check_profile_shapes, resized
from autocompress.data.feeds import (
    Feed,
    feed_of,
    feeds_to_store,
    padded,
    profile_inputs,
    spread_feeds,
    stored_feeds,
)
from autocompress.data.groups import label_name
from autocompress.data.layout import Axes, OutputLayout, output_layout
from autocompress.data.model_call import Features, PositionalModel, call, captured, every_module_called
from autocompress.data.pictures import picture_of
from autocompress.data.reading import Reading
from autocompress.data.scored_set import ScoredSet
from autocompress.data.scoring.scorer import KeptOutputs
from autocompress.data.seeding import seeded
from autocompress.data.split import Split, spread
from autocompress.data.task_data import read_data
from autocompress.data.training_mode import computing_as_in_training, is_within, run_in_training_alone

__all__ = [
    "Array",
    "Axes",
    "Batch",
    "Features",
    "Feed",
    "KeptOutputs",
    "Order",
    "OutputLayout",
    "PerExample",
    "PositionalModel",
    "Reading",
    "ScoredSet",
    "Split",
    "call",
    "captured",
    "check_profile_shapes",
    "computing_as_in_training",
    "every_module_called",
    "feed_of",
    "feeds_to_store",
    "is_within",
    "joined",
    "joined_padded",
    "label_name",
    "named_inputs",
    "ordered_as",
    "output_layout",
    "padded",
    "picture_of",
    "profile_inputs",
    "read_data",
    "resized",
    "rows_in",
    "run_in_training_alone",
    "seeded",
    "spread",
    "spread_feeds",
    "stored_feeds",
    "take_rows",
]
