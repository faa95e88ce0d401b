"""Texts, or pairs of them, as a model's own tokenizer gives them to it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from autocompress.errors import UsageError, one_line
from autocompress_plugins.hubs.labelled_data import LabelledData

TEXT_TYPES = ("string", "large_string")
NO_LENGTH_LIMIT = 10**6  # tokens: a tokenizer that knows of no limit says more
TOKEN_INPUTS = ("input_ids", "attention_mask")
PAIRS = (  # what columns of two texts are called
    *(("text", "text_pair"), ("premise", "hypothesis"), ("sentence1", "sentence2"), ("question1", "question2")),
    *(("question", "answer"), ("question", "sentence"), ("question", "context"), ("query", "passage")),
)
OF_PAIRS = "token_type_ids"
VOCABULARIES = ("tokenizer.json", "vocab.*", "*.model", "*.spm")


def text_inputs(folder: Path, model: nn.Module, data: LabelledData) -> Mapping[str, Any]:
    """Of each split ``input_ids`` and ``attention_mask`` (N, L), padded to the longest text of all and cut to what the
    model takes at most; of pairs which tokens are of the second text too. Raises UsageError.
    """
    columns = _text_columns(data)
    tokenizer = _tokenizer(folder)
    limit = _most_tokens(tokenizer, model)
    if tokenizer.pad_token is None:
        raise UsageError(f"the tokenizer of {folder} has no padding token: set one and save it again")
    texts = {name: [_filled(split[column]) for column in columns] for name, split in data.splits.items()}
    options = {"truncation": limit < NO_LENGTH_LIMIT, "max_length": limit if limit < NO_LENGTH_LIMIT else None}
    encoded = {name: tokenizer(*of, **options) for name, of in texts.items()}
    longest = max(len(ids) for split in encoded.values() for ids in split["input_ids"])
    taken = [
        name
        for name in (*TOKEN_INPUTS, OF_PAIRS)
        if name in encoded["train"] and (name != OF_PAIRS or len(columns) == 2)
    ]
    padded = {
        name: tokenizer.pad(
            {key: split[key] for key in taken}, padding="max_length", max_length=longest, return_tensors="pt"
        )
        for name, split in encoded.items()
    }
    return {name: {key: split[key] for key in taken} for name, split in padded.items()}


def same_vocabulary(folder: Path, other: Path) -> bool:
    """Whether the tokenizers of two saved models give the same numbers to the same tokens."""
    try:
        return bool(_tokenizer(folder).get_vocab() == _tokenizer(other).get_vocab())
    except UsageError:
        return False


def _text_columns(data: LabelledData) -> Sequence[str]:
    """One, or a pair by its names. Raises UsageError."""
    found = data.columns_of(*TEXT_TYPES)
    if (pair := next((own for own in PAIRS if set(own) <= set(found)), None)) is not None:
        return pair
    if len(found) != 1:
        pairs = ", ".join(" and ".join(own) for own in PAIRS)
        raise UsageError(
            f"a text classifier takes one column of text, or two that are called {pairs}; the data have {len(found)} "
            f"({', '.join(found) or 'none'}) beside {data.label}: leave out the others, or call them so"
        )
    return found


def _most_tokens(tokenizer: Any, model: nn.Module) -> int:
    """Of one example. Tables of positions with a place for padding, as RoBERTa's, count from behind it."""
    tables = [m for name, m in model.named_modules() if name.endswith("position_embeddings")]
    padded = [m for m in tables if isinstance(m, nn.Embedding) and m.padding_idx is not None]
    limits = [
        tokenizer.model_max_length,
        getattr(model.config, "max_position_embeddings", None) or NO_LENGTH_LIMIT,
        *(table.num_embeddings - (table.padding_idx or 0) - 1 for table in padded),
    ]
    return min((limit for limit in limits if limit >= 1), default=NO_LENGTH_LIMIT)


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    if not any(
        path for pattern in VOCABULARIES for path in folder.glob(pattern)
    ):  # transformers gives an empty one then
        raise UsageError(f"there is no tokenizer in {folder}: save it there with tokenizer.save_pretrained")
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises anything
        cause = f"{type(error).__name__}: {one_line(error, 80)}"
        raise UsageError(f"the tokenizer of {folder} cannot be loaded ({cause}): save it there again") from error


def _filled(column: Any) -> list[str]:
    return ["" if text is None else text for text in column]
