"""Sequence to sequence with teacher forcing: numbers into English words, by an encoder and a decoder.

Inputs are a tuple of the digits and of the words so far, which are the words shifted by one place. Places after the end
are labelled -100, which "cross_entropy" and "accuracy" leave out. Trains in some seconds the first time.

    autocompress search examples/translation.py:task --speedup 1.5 --minutes 5
"""

import torch
from quick_training import trained
from torch import Tensor, nn

from autocompress import Task
from autocompress.losses import cross_entropy

SMALL = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
WORDS = ["<start>", "<end>", *SMALL, *TENS, "hundred", "thousand"]
START, END, NOTHING = 0, 1, -100
NUMBERS = 100_000
DIGITS, LONGEST = 5, 8  # "seventy seven thousand seven hundred seventy seven" and its end


class Translator(nn.Module):
    """Digits (N, 5), words so far (N, 8) -> logits of the next word at each place (N, 8, 32)."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.digits, self.words = nn.Embedding(10, width), nn.Embedding(len(WORDS), width)
        self.digit_places = nn.Parameter(0.1 * torch.randn(DIGITS, width))
        self.word_places = nn.Parameter(0.1 * torch.randn(LONGEST, width))
        layers = {"d_model": width, "nhead": 4, "dim_feedforward": 4 * width, "dropout": 0.0, "batch_first": True}
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(**layers), 2, enable_nested_tensor=False)
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(**layers), 2)
        self.head = nn.Linear(width, len(WORDS))
        self.register_buffer("later", torch.full((LONGEST, LONGEST), float("-inf")).triu(1))

    def forward(self, source: Tensor, so_far: Tensor) -> Tensor:
        read = self.encoder(self.digits(source) + self.digit_places)
        return self.head(self.decoder(self.words(so_far) + self.word_places, read, tgt_mask=self.later))


def in_words(number: int) -> list[str]:
    if number < 20:
        return [SMALL[number]]
    if number < 100:
        return [TENS[number // 10 - 2], *(in_words(number % 10) if number % 10 else [])]
    size, name = (1000, "thousand") if number >= 1000 else (100, "hundred")
    return [*in_words(number // size), name, *(in_words(number % size) if number % size else [])]


def pairs(numbers: list[int]) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """(digits, words so far), and the words, each with an end; NOTHING after it."""
    source = torch.tensor([[int(digit) for digit in f"{number:0{DIGITS}d}"] for number in numbers])
    labels = torch.full((len(numbers), LONGEST), NOTHING)
    for row, number in zip(labels, numbers, strict=True):
        words = [WORDS.index(word) for word in in_words(number)] + [END]
        row[: len(words)] = torch.tensor(words)
    so_far = torch.cat([torch.full((len(numbers), 1), START), labels[:, :-1].clamp(min=END)], 1)
    return (source, so_far), labels


def task(examples: int = 4000, steps: int = 600) -> Task:
    torch.manual_seed(0)
    quarter = -(-examples // 4)
    numbers = torch.randperm(NUMBERS, generator=torch.Generator().manual_seed(0)).tolist()
    ends = {"train": (0, examples), "val": (examples, examples + quarter), "test": (-quarter, None)}
    data = {part: pairs(numbers[first:last]) for part, (first, last) in ends.items()}
    (source, so_far), labels = data["train"]
    model = Translator()

    def loss_of(rows: Tensor) -> Tensor:
        return cross_entropy(model(source[rows], so_far[rows]), labels[rows])

    return Task("translation", trained(model, loss_of, examples, steps, peak=2e-3), **data)
