"""Several coroutines at once, one for each lane of the executor."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

from autocompress.errors import Interrupted


async def all_done(lanes: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all to their end, also when one fails: what the others do is kept. Raises the first error, one that is not an
    interruption before one that is.
    """
    ended = await asyncio.gather(*lanes, return_exceptions=True)
    failed = [e for e in ended if isinstance(e, BaseException)]
    for error in sorted(failed, key=lambda e: isinstance(e, Interrupted)):
        raise error
