"""Who has a worker next."""

import asyncio

import pytest

from autocompress.compute.idle import PASSED_OVER, Idle


@pytest.mark.parametrize(("in_turn", "order"), [(True, "ab"), (False, "ba")])
def test_free_workers_are_given_in_turn_or_the_latest_first(in_turn: bool, order: str) -> None:
    async def two() -> str:
        idle = Idle("ab", in_turn=in_turn)
        return await idle.get() + await idle.get()

    assert asyncio.run(two()) == order


async def _ended(idle: "Idle[str]", order: list[str], name: str, *, may_wait: bool = False) -> None:
    worker = await idle.get(may_wait=may_wait)
    order.append(name)
    await asyncio.sleep(0)
    idle.put(worker)


def test_what_begins_comes_after_all_that_goes_on() -> None:
    async def four() -> list[str]:
        idle, order = Idle("a", in_turn=False), list[str]()
        await asyncio.gather(
            _ended(idle, order, "computing"),
            _ended(idle, order, "begins first", may_wait=True),
            _ended(idle, order, "begins second", may_wait=True),
            _ended(idle, order, "goes on"),
            _ended(idle, order, "goes on too"),
        )
        return order

    assert asyncio.run(four()) == ["computing", "goes on", "goes on too", "begins first", "begins second"]


def test_who_gives_a_worker_back_and_goes_on_has_it_before_what_begins() -> None:
    async def two() -> list[str]:
        idle, order = Idle("a", in_turn=False), list[str]()

        async def candidate(name: str) -> None:
            for call in ("train", "make"):
                worker = await idle.get(may_wait=call == "train")
                order.append(f"{call} {name}")
                await asyncio.sleep(0.01)
                idle.put(worker)

        await asyncio.gather(candidate("one"), candidate("other"))
        return order

    assert asyncio.run(two()) == ["train one", "make one", "train other", "make other"]


def test_what_begins_waits_for_a_few_others_and_no_more() -> None:
    async def many() -> list[str]:
        idle, order = Idle("a", in_turn=False), list[str]()
        worker = await idle.get()
        others = [_ended(idle, order, "goes on") for _ in range(9)]
        running = asyncio.gather(_ended(idle, order, "begins", may_wait=True), *others)
        await asyncio.sleep(0)
        idle.put(worker)
        await running
        return order

    assert asyncio.run(many()).index("begins") == PASSED_OVER


@pytest.mark.parametrize("given", [False, True], ids=["while it waits", "when it was given one"])
def test_no_worker_is_lost_with_who_waited_for_it(given: bool) -> None:
    async def gone() -> str:
        idle = Idle("a", in_turn=False)
        worker = await idle.get()
        waiting = asyncio.ensure_future(idle.get())
        await asyncio.sleep(0)
        if given:
            idle.put(worker)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        if not given:
            idle.put(worker)
        return await asyncio.wait_for(idle.get(), 10)

    assert asyncio.run(gone()) == "a"
