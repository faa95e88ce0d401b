"""Several coroutines at once, on the concurrency of the executor."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from autocompress.errors import Interrupted

T = TypeVar("T")


async def all_done(concurrency: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run all to their end, also when one fails: what the others do is kept. What each returned, in their order. Raises
    the first error, one that is not an interruption before one that is.
    """
    ended = await asyncio.gather(*concurrency, return_exceptions=True)
    failed = [e for e in ended if isinstance(e, BaseException)]
    for error in sorted(failed, key=lambda e: isinstance(e, Interrupted)):
        raise error
    return [e for e in ended if not isinstance(e, BaseException)]
