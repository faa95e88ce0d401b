"""What comes next: the first recipes, then proposals moved to the latency that is wanted."""

from autocompress.explore.proposer import halton


def test_targets_fall_into_the_widest_gap():
    assert [halton(n) for n in range(1, 8)] == [1 / 2, 1 / 4, 3 / 4, 1 / 8, 5 / 8, 3 / 8, 7 / 8]
    assert all(0 < halton(n) < 1 for n in range(1, 1000))
