"""Inputs as a file takes them: padded to its batch, by the names of its inputs."""

import torch

from autocompress.data import Batch, feed_of, feeds_to_store, padded, spread_feeds, stored_feeds
from autocompress.data.loading import open_split


def test_padding_repeats_the_last_example_and_leaves_a_full_batch_alone():
    batch = Batch({"x": torch.tensor([[1.0], [2.0]])}, torch.tensor([0, 1]))
    assert padded(batch, 4)["x"].tolist() == [[1.0], [2.0], [2.0], [2.0]]
    assert padded(batch, 2) is batch.inputs


def test_names_match_inputs_by_name_or_else_by_position():
    one, two = torch.tensor([1.0]), torch.tensor([2.0])
    assert feed_of({"x": one, "y": two}, ["y", "x"]) == {"y": two.numpy(), "x": one.numpy()}
    assert feed_of((one, two), ["left", "right"]) == {"left": one.numpy(), "right": two.numpy()}
    assert feed_of((one, two), ["input_1"]) == {"input_1": two.numpy()}  # the exporter dropped an unused input
    assert feed_of(one, ["pixels"]) == {"pixels": one.numpy()}


def test_feeds_come_out_of_the_store_as_they_went_in():
    feeds = [{"ids/left": torch.tensor([n]), "mask": torch.tensor([-n])} for n in range(11)]
    found = stored_feeds(dict(sorted(feeds_to_store(feeds).items())))  # "10/mask" comes before "2/mask" there
    assert found == [feed_of(one) for one in feeds]


def test_feeds_spread_over_a_split_fill_their_last_batch_with_its_last_example():
    split = open_split("train", (torch.arange(9.0)[:, None], torch.arange(9)))
    found = [feed["input"].flatten().tolist() for feed in spread_feeds(split, 2, 3)]
    assert found == [[0.0, 4.0], [8.0, 8.0]]
