"""Stored weights, put back into the structure that they belong to."""

from torch import nn

from autocompress.errors import CandidateFailed
from autocompress.storage.store import Store


def load_weights(store: Store, model: nn.Module, checkpoint: str) -> None:
    """Put stored weights into a rebuilt structure. Raises CandidateFailed when they are gone or do not fit."""
    weights = store.load(checkpoint)
    if weights is None:
        raise CandidateFailed(f"the weights {store.path(checkpoint)} are missing, damaged or of another version")
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise CandidateFailed(f"the checkpoint {checkpoint} does not fit the structure: {error}") from error
