"""The door to the user's data: what a batch looks like, splits, checks, scores. The rest of the package knows it by
the names below alone.
"""

from autocompress.arrays import Array
from autocompress.data.batch import Batch, map_inputs, named_tensors, ordered_as, tensors_of
from autocompress.data.chance import chance_score, keeps_half_the_lead
from autocompress.data.feeds import (
    Feed,
    feed_of,
    feeds_to_store,
    padded,
    profile_inputs,
    spread_feeds,
    stored_feeds,
)
from autocompress.data.model_call import Features, PositionalModel, call, captured, every_module_called, primary
from autocompress.data.scores import compared_score, paired_difference, score_of, targets_of
from autocompress.data.seeding import seeded
from autocompress.data.split import Split, spread
from autocompress.data.task_data import read_data

__all__ = [
    "Array",
    "Batch",
    "Features",
    "Feed",
    "PositionalModel",
    "Split",
    "call",
    "captured",
    "chance_score",
    "compared_score",
    "every_module_called",
    "feed_of",
    "feeds_to_store",
    "keeps_half_the_lead",
    "map_inputs",
    "named_tensors",
    "ordered_as",
    "padded",
    "paired_difference",
    "primary",
    "profile_inputs",
    "read_data",
    "score_of",
    "seeded",
    "spread",
    "spread_feeds",
    "stored_feeds",
    "targets_of",
    "tensors_of",
]
