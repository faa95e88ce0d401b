"""``--json-lines``: what observers are told, one JSON object a line."""

import json
from typing import TextIO

from autocompress.plugin.observer import Observer, SearchEvent


class JsonLines(Observer):
    """Writes each event to ``stream`` at once: its name as ``event``, and its fields."""

    name = "json_lines"
    summary = "one JSON object a line"

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def observe(self, event: SearchEvent) -> None:
        self._stream.write(json.dumps(event.to_json(), allow_nan=False) + "\n")
        self._stream.flush()
