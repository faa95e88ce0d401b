"""Inputs as a file takes them: padded to its batch, by the names of its inputs."""

import torch

from autocompress.data import Batch, feed_of, padded


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
