"""``--json-lines``: what observers are told, one JSON object a line."""

import io
import json
import os
import weakref
from typing import TextIO

from autocompress.candidate.silence import STDOUT
from autocompress.plugin.observer import Observer, SearchEvent


class JsonLines(Observer):
    """Writes each event to ``stream`` at once: its name as ``event``, and its fields.

    While exporters work, a search whose task is an object sends what this process prints to nowhere. Events do not go
    there: of the standard output a descriptor of its own is kept.
    """

    name = "json_lines"
    summary = "one JSON object a line"

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        if _is_stdout(stream):
            stream.flush()
            self._stream = os.fdopen(os.dup(STDOUT), "w", encoding=stream.encoding, errors=stream.errors)
            weakref.finalize(self, self._stream.close)

    def observe(self, event: SearchEvent) -> None:
        self._stream.write(json.dumps(event.to_json(), allow_nan=False) + "\n")
        self._stream.flush()


def _is_stdout(stream: TextIO) -> bool:
    """Whether a stream writes to the descriptor: in a notebook it does not."""
    try:
        return isinstance(stream, io.TextIOWrapper) and stream.fileno() == STDOUT
    except (OSError, ValueError):  # it has none, or is closed
        return False
