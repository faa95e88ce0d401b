"""What sessions recorded comes back near enough for every number shown of them, from little space."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from autocompress.machine.blocks import Blocks
from autocompress.machine.quiet import NEAR_FASTEST
from autocompress.measure.statistics import session_of
from autocompress.storage.recorded_blocks import load_blocks, save_blocks
from autocompress.storage.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def recorded(ms: float, blocks: int = 100, calls: int = 200, seed: int = 0, sd: float = 0.1) -> Blocks:
    """Of a shared processor: calls spread by a tenth, blocks beside a neighbour take 1.7 times as long, one call in a
    thousand thirty times.
    """
    random = np.random.default_rng(seed)
    busy = np.where(random.random(blocks + 1) < 0.4, 1.3, 1.0)
    candidate = [
        ms * slowed**2 * np.exp(random.normal(0, sd, calls)) * np.where(random.random(calls) < 0.001, 30, 1)
        for slowed in busy[:-1]
    ]
    return Blocks(tuple(candidate), 3 * ms * busy * np.exp(random.normal(0, 0.02, blocks + 1)))


@pytest.mark.parametrize("percentile", [50.0, 90.0, 99.0])
@pytest.mark.parametrize("ms", [0.004, 0.02, 1.0, 35.0])
@pytest.mark.parametrize("fastest", [1.0, 0.5], ids=["partly quiet", "busy"])
def test_a_session_worked_out_again_is_the_same(ms: float, percentile: float, fastest: float, store: Store):
    blocks = recorded(ms)
    loaded = load_blocks(store, save_blocks(store, blocks))
    assert loaded is not None
    fastest *= float(np.percentile(blocks.reference, 2))
    before, after = (asdict(session_of(b, fastest, percentile)) for b in (blocks, loaded))
    assert after.pop("log_ratio") == pytest.approx(before.pop("log_ratio"), abs=1e-3)
    assert after.pop("log_ratio_of_all") == pytest.approx(before.pop("log_ratio_of_all"), abs=1e-3)
    assert after.pop("conditions") == before.pop("conditions")
    for name in ("raw", "file", "device"):
        assert after.pop(name) == before.pop(name)
    assert (after["quiet"], after["blocks"]) == (before["quiet"], before["blocks"])
    assert after == pytest.approx(before, rel=1e-3)


def test_every_call_comes_back_in_its_block(store: Store):
    blocks = Blocks((np.array([0.021, 0.02, 0.2]), np.array([5.0]), np.array([0.02, 0.0201])), np.arange(1, 5.0))
    loaded = load_blocks(store, save_blocks(store, blocks))
    assert loaded is not None
    for before, after in zip(blocks.candidate, loaded.candidate, strict=True):
        assert after == pytest.approx(before, rel=3e-4)
    assert loaded.reference.tolist() == blocks.reference.tolist()


def test_a_block_at_the_edge_of_quiet_stays_on_its_side(store: Store):
    edge = float(np.nextafter(NEAR_FASTEST, 2))
    blocks = Blocks((np.ones(4),) * 3, np.array([1.0, NEAR_FASTEST, edge, 1.0]))
    loaded = load_blocks(store, save_blocks(store, blocks))
    assert loaded is not None
    assert session_of(loaded, 1.0, 90).quiet == session_of(blocks, 1.0, 90).quiet == 1


@pytest.mark.parametrize("sd", [0.02, 0.3])
def test_a_session_takes_less_than_two_bytes_a_call(sd: float, store: Store):
    key = save_blocks(store, recorded(0.02, sd=sd))
    assert store.path(key).stat().st_size <= 2 * 100 * 200


def test_the_key_follows_from_what_was_recorded(store: Store):
    one, same, other = (save_blocks(store, recorded(0.02, seed=seed)) for seed in (0, 0, 1))
    assert one == same != other
    assert one.startswith("blocks-")
    shorter = recorded(0.02)
    joined = Blocks((np.concatenate(shorter.candidate[:2]), *shorter.candidate[2:]), shorter.reference[1:])
    assert save_blocks(store, joined) != one
    assert len(list(store.entries())) == 3


def test_what_is_missing_or_damaged_is_not_there(store: Store):
    assert load_blocks(store, "blocks-" + 20 * "0") is None
    key = save_blocks(store, recorded(0.02))
    content = bytearray(store.path(key).read_bytes())
    content[-100] ^= 1
    store.path(key).write_bytes(content)
    assert load_blocks(store, key) is None
    store.path(key).write_bytes(content[:1000])
    assert load_blocks(store, key) is None


def test_an_entry_of_another_kind_is_no_session(store: Store):
    whole = {"fastest": torch.ones(1), "counts": torch.tensor([3]), "reference": torch.ones(2)}
    for number, tensors in enumerate(({"weight": torch.zeros(3)}, {**whole, "calls": torch.zeros(6).byte()})):
        store.save(f"other{number}", tensors)
        assert load_blocks(store, f"other{number}") is None


@pytest.mark.parametrize("calls", [[], [0.0], [1.0, np.nan], [np.inf]])
def test_calls_that_took_no_time_are_refused(calls: list[float], store: Store):
    with pytest.raises(ValueError, match="each call took some time"):
        save_blocks(store, Blocks((np.ones(2), np.array(calls)), np.ones(3)))
