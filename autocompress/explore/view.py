"""What a search shows while it runs."""

from typing import Protocol

from autocompress.explore.opening.opening import Opening
from autocompress.explore.space.space import Space
from autocompress.explore.standings.standings import Standings
from autocompress.plugin.observer import Phase


class View(Protocol):
    """What is shown while it runs. phase: what begins now."""

    def phase(self, name: Phase) -> None: ...
    def opened(self, opening: Opening, space: Space) -> None: ...
    def note(self, text: str) -> None: ...
    def status(self, standings: Standings, left_s: float) -> None: ...
