"""Tiny models with random weights, saved as their libraries save them, and data in files."""

import csv
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

WORDS = ["good", "fine", "nice", "bad", "poor", "ugly", "the", "a", "it", "was"]
SaveText = Callable[..., Path]
WriteTexts = Callable[..., Path]
WriteImages = Callable[..., Path]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read from or written to the user's caches, and nothing is asked of a network."""
    if find_spec("huggingface_hub") is None:
        return
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def save_text(tmp_path: Path) -> SaveText:
    """``save_text("name", labels, width)``: a folder with a text classifier and its tokenizer."""
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")

    def save(
        name: str = "model", labels: Sequence[str] = ("negative", "positive"), width: int = 16, **config: Any
    ) -> Path:
        vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
        tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
        tokenizer.post_processor = tokenizers.processors.TemplateProcessing(single="$A", pair="$A:0 $B:1")
        own = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
        taken = ["input_ids", "token_type_ids", "attention_mask"]
        settings = transformers.BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=width,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=2 * width,
            max_position_embeddings=12,
            id2label=dict(enumerate(labels)),
            label2id={label: number for number, label in enumerate(labels)},
            **config,
        )
        folder = tmp_path / "models" / name
        transformers.set_seed(0)
        transformers.BertForSequenceClassification(settings).save_pretrained(folder)
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, model_input_names=taken, **own
        ).save_pretrained(folder)
        return folder

    return save


@pytest.fixture
def write_texts(tmp_path: Path) -> WriteTexts:
    """``write_texts(labels)``: a CSV file with texts of different lengths, whose labels take turns."""
    pytest.importorskip("datasets")

    def write(labels: Sequence[object] = ("positive", "negative"), header: Sequence[str] = ("text", "label")) -> Path:
        path = tmp_path / "texts.csv"
        with path.open("w", newline="") as opened:
            writer = csv.writer(opened)
            writer.writerow(header)
            for number in range(40):
                text = " ".join(WORDS[: 1 + number % 7])
                writer.writerow([*[text] * (len(header) - 1), labels[number % len(labels)]])
        return path

    return write


@pytest.fixture
def write_images(tmp_path: Path) -> WriteImages:
    """``write_images("train/cat", "train/dog")``: folders of images."""
    image = pytest.importorskip("PIL.Image")

    def write(*folders: str, count: int = 6) -> Path:
        for number, name in enumerate(folders):
            folder = tmp_path / "images" / name
            folder.mkdir(parents=True)
            for index in range(count):
                image.new("RGB", (20, 16), (40 * number, 10 * index, 128)).save(folder / f"{index}.png")
        return tmp_path / "images"

    return write
