"""Nothing is printed: what exporters say of their progress and warn about is not for the user."""

import contextlib
import ctypes
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator

STDOUT = 1


@contextlib.contextmanager
def silent(*loggers: str) -> Iterator[None]:
    """Without warnings, output and what these loggers say below a critical error, in the whole process."""
    noisy = [logging.getLogger(name) for name in loggers]
    levels = [logger.level for logger in noisy]
    try:
        for logger in noisy:
            logger.setLevel(logging.CRITICAL)
        with (
            warnings.catch_warnings(),
            _nothing_at_stdout(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(noisy, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _nothing_at_stdout() -> Iterator[None]:
    """Native code prints past Python: the tracer writes the graph that it cannot convert."""
    try:
        kept = os.dup(STDOUT)
    except OSError:  # it is closed
        yield
        return
    sys.stdout.flush()
    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, STDOUT)
        os.close(nothing)
        yield
    finally:
        ctypes.CDLL(None).fflush(None)  # what native code wrote may still be on its way
        os.dup2(kept, STDOUT)
        os.close(kept)
