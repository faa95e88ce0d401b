"""The door to the user's data: what a batch looks like, splits, checks, scores. The rest of the package knows it by
the names below alone.
"""

from autocompress.data.batch import Batch, as_held, input_names, map_inputs, tensors_of
from autocompress.data.checks import check_split, overlap, probe
from autocompress.data.feeds import Array, Feed, feed_of, padded, profile_inputs
from autocompress.data.loading import open_split
from autocompress.data.model_call import Features, call, captured, every_module_called, primary
from autocompress.data.scores import paired_difference, score_of, targets_of, wilson
from autocompress.data.seeding import seeded
from autocompress.data.split import Split, spread

__all__ = [
    "Array",
    "Batch",
    "Features",
    "Feed",
    "Split",
    "as_held",
    "call",
    "captured",
    "check_split",
    "every_module_called",
    "feed_of",
    "input_names",
    "map_inputs",
    "open_split",
    "overlap",
    "padded",
    "paired_difference",
    "primary",
    "probe",
    "profile_inputs",
    "score_of",
    "seeded",
    "spread",
    "targets_of",
    "tensors_of",
    "wilson",
]
