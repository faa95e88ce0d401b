"""Inputs of varying length: named by the task or shown by the data, in the files, in the scores and where files are
timed.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from autocompress.candidate.count import count
from autocompress.candidate.export import EXPORTERS, export_right
from autocompress.candidate.reading import read_task
from autocompress.data import ScoredSet, feed_of, profile_inputs, read_data
from autocompress.errors import UsageError
from autocompress.measure import outputs_of
from autocompress.plugin.loader import PluginSet
from autocompress.profile import HardwareProfile, load_profile
from autocompress.task import Task

PROFILE = HardwareProfile(name="cpu")
WORDS, TAGS = 11, 3


class Tagger(nn.Module):
    """(N, L) words -> a tag each, (N, tags, L), and their mean (N, tags)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.conv = nn.Embedding(WORDS, 4), nn.Conv1d(4, TAGS, 3, padding=1)

    def forward(self, tokens: Tensor, mask: Tensor) -> dict[str, Tensor]:
        tags = self.conv(self.embed(tokens).transpose(1, 2) * mask[:, None].float())
        return {"tags": tags, "mean": tags.mean(2)}


class Fixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(5, TAGS)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x)


def texts(count: int, length: int) -> tuple[dict[str, Tensor], Tensor]:
    tokens = torch.randint(WORDS, (count, length), generator=torch.Generator().manual_seed(length))
    return {"tokens": tokens, "mask": torch.ones(count, length, dtype=torch.bool)}, tokens % TAGS


def tagger(*lengths: int, **given: Any) -> Task:
    torch.manual_seed(0)
    train, val, *test = (texts(8, length) for length in lengths)
    return Task("tagger", Tagger(), train, val, *test, distill="tags", **given)


def ragged(lengths: Sequence[int]) -> DataLoader[Any]:
    """Sentences of these lengths; batches are padded to their longest, places without a word have the tag -100."""
    drawn = torch.Generator().manual_seed(0)
    words = [torch.randint(WORDS, (length,), generator=drawn) for length in lengths]

    def collate(sentences: Sequence[Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        tokens = pad_sequence(list(sentences), batch_first=True)
        there = torch.arange(tokens.shape[1]) < torch.tensor([[len(own)] for own in sentences])
        return {"tokens": tokens, "mask": there}, (tokens % TAGS).masked_fill(~there, -100)

    return DataLoader(words, batch_size=4, collate_fn=collate)  # type: ignore[arg-type]


def test_splits_of_different_lengths_make_the_axis_free_and_it_is_said() -> None:
    data = read_data(tagger(9, 7, 12))
    assert data.layout.dynamic == {"tokens": {1: "length"}, "mask": {1: "length"}}
    assert data.layout.varying == {"tags": {2: "length"}}
    (said,) = [line for line in data.warnings if "sizes differ" in line]
    assert "axis 1 of tokens and axis 1 of mask, 9 (train), 7 (val), 12 (test)" in said


def test_splits_of_one_length_have_that_length_built_in() -> None:
    layout = read_data(tagger(9, 9)).layout
    assert (layout.dynamic, layout.varying, layout.sizes) == ({}, {}, ())


def test_an_axis_that_the_task_names_is_free_though_all_data_have_one_size() -> None:
    given = {"tokens": {1: "sequence"}, "mask": {1: "sequence"}}
    layout = read_data(tagger(8, 8, dynamic=given)).layout
    assert layout.dynamic == given
    assert layout.varying == {"tags": {2: "sequence"}}


def test_an_axis_that_is_as_long_as_a_named_one_has_its_name() -> None:
    layout = read_data(tagger(9, 7, dynamic={"tokens": {1: "sequence"}})).layout
    assert layout.dynamic == {"tokens": {1: "sequence"}, "mask": {1: "sequence"}}


@pytest.mark.parametrize(
    ("dynamic", "said"),
    [
        ({"ids": {1: "sequence"}}, "names 'ids', and the inputs are tokens, mask"),
        ({"tokens": {2: "sequence"}}, r"frees axis 2 of tokens, of shape \(2, 7\): those that can vary are 1"),
        ({"tokens": {0: "examples"}}, r"frees axis 0 of tokens.*0 is the examples"),
        ({"tokens": {1: "a b"}}, "names a size 'a b'"),
        ({"tokens": [1]}, "must be axes with names"),
    ],
)
def test_what_cannot_be_free_is_refused(dynamic: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_data(tagger(9, 7, dynamic=dynamic))


def test_two_sizes_of_one_name_are_refused() -> None:
    split = {"tokens": torch.zeros(4, 5, dtype=torch.long), "mask": torch.ones(4, 6)}, torch.zeros(4)
    given = {"tokens": {1: "s"}, "mask": {1: "s"}}
    with pytest.raises(UsageError, match="calls two sizes 's': axis 1 of tokens is 5 long, and another 6"):
        read_data(Task("t", Tagger(), split, split, dynamic=given))


def test_a_model_of_one_size_is_refused_with_the_sizes() -> None:
    splits = [(torch.randn(4, length), torch.tensor([0, 1, 2, 0])) for length in (5, 6)]
    with pytest.raises(UsageError, match=r"axis 1 of input, 5 \(train\), 6 \(val\).*pad the splits alike"):
        read_data(Task("fixed", Fixed(), *splits))
    named = Task("fixed", Fixed(), splits[0], splits[0], dynamic={"input": {1: "length"}})
    with pytest.raises(UsageError, match="takes no other size than 5"):
        read_data(named)


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_file_takes_every_length_and_counts_those_of_a_call(
    exporter: str, plugins: PluginSet, tmp_path: Path
) -> None:
    task, path = tagger(9, 7), tmp_path / "m.onnx"
    data, runtime = read_data(task), plugins.runtime("onnxruntime")
    inputs = list(profile_inputs(data.splits["val"], PROFILE, data.layout, 1))
    export_right(exporter, task.model, data.layout, inputs, path, lambda file: runtime.open(file, PROFILE))
    graph = onnx.load(str(path)).graph
    shapes = {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in graph.input}
    assert shapes == {"tokens": [1, "length"], "mask": [1, "length"]}
    longer = task.model(*(tensor[:1] for tensor in texts(8, 23)[0].values()))
    found = runtime.open(path, PROFILE).run(feed_of({name: t[:1] for name, t in texts(8, 23)[0].items()}))
    np.testing.assert_allclose(found[0], longer["tags"].detach().numpy(), atol=1e-5)
    assert count(path, feed_of(inputs[0]))[1] == 7 * 4 * TAGS * 3


def test_the_profile_says_at_which_size_files_are_timed(plugins: PluginSet, tmp_path: Path) -> None:
    (tmp_path / "long.toml").write_text('name = "long"\n[shapes]\nlength = 10')
    profile, task = load_profile(str(tmp_path / "long.toml")), tagger(9, 7)
    read = read_task(task, profile, plugins.runtime("onnxruntime"), tmp_path / "r.onnx", 0)
    (inputs,) = profile_inputs(read.splits["val"], profile, read.context.layout, 1)
    val = read.splits["val"].take(torch.tensor([0])).inputs["tokens"][0].tolist()
    assert inputs["tokens"].tolist() == [[*val, *[val[-1]] * 3]]
    assert inputs["mask"].shape == (1, 10)
    mixed = HardwareProfile(name="mixed", shapes=({"length": 4}, {"length": 8, "weight": 2}))  # type: ignore[arg-type]
    of_both = profile_inputs(read.splits["val"], mixed, read.context.layout, 2)
    assert [inputs["tokens"].shape for inputs in of_both] == [(1, 4), (1, 8), (1, 4), (1, 8)]
    other = HardwareProfile(name="long", shapes={"words": 4})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"gives a size of words in \[shapes\], and the task's are length"):
        read_task(task, other, read.context.runtime, tmp_path, 0)
    with pytest.raises(UsageError, match=r"gives a size of length in \[shapes\], and the task has none"):
        read_task(tagger(7, 7), profile, read.context.runtime, tmp_path, 0)


def test_batches_of_different_lengths_are_scored_as_their_words_alone_are(plugins: PluginSet, tmp_path: Path) -> None:
    lengths = [3, 5, 4, 8, 6, 2, 7, 9, 4, 5]
    torch.manual_seed(0)
    task = Task("tagger", Tagger().eval(), ragged(lengths), ragged(lengths), distill="tags")
    data, runtime, path = read_data(task), plugins.runtime("onnxruntime"), tmp_path / "m.onnx"
    assert data.layout.dynamic == {"tokens": {1: "length"}, "mask": {1: "length"}}
    val = data.splits["val"]
    inputs = list(profile_inputs(val, PROFILE, data.layout, 1))
    export_right("torchscript", task.model, data.layout, inputs, path, lambda file: runtime.open(file, PROFILE))
    scored = ScoredSet(task, val, data.layout)

    def kept(examples: ScoredSet) -> Any:
        pieces = outputs_of(lambda: runtime.open(path, PROFILE), examples.split, 1, data.layout, read=3)
        return examples.kept((rows, batch.targets) for batch, rows in pieces)

    right = 0
    for index in range(len(lengths)):
        batch = val.take(torch.tensor([index]))
        right += int((task.model(**batch.inputs)["tags"].argmax(1) == batch.targets).sum())
    assert scored.value(kept(scored)) == pytest.approx(right / sum(lengths))
    sample = scored.sampled(4)  # the longest of these is shorter than the longest of all
    same = sample.compared(kept(sample), scored.sample_of(kept(scored), 4), scored.score(kept(scored)))
    assert same.val == pytest.approx(right / sum(lengths))
