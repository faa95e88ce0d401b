"""Several coroutines at once; how many is for whoever starts them."""

import asyncio
from collections.abc import Awaitable, Iterable
from typing import TypeVar

from autocompress.errors import Interrupted

T = TypeVar("T")


async def all_done(coroutines: Iterable[Awaitable[T]]) -> list[T]:
    """Run all to their end, also when one fails: what the others do is kept. What each returned, in their order. Raises
    the first error, one that is not an interruption before one that is.
    """
    ended = await asyncio.gather(*coroutines, return_exceptions=True)
    failed = [e for e in ended if isinstance(e, BaseException)]
    for error in sorted(failed, key=lambda e: isinstance(e, Interrupted)):
        raise error
    return [e for e in ended if not isinstance(e, BaseException)]
