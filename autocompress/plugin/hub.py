"""Where models are known by name: a prefix, and the task that a model and data make."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from autocompress.hub_request import HubRequest

if TYPE_CHECKING:
    from autocompress.task import Task


class Hub(ABC):
    """Makes a task of ``name:MODEL --data DATA``. Subclass with both methods.

    name: the prefix, an identifier, unique among the installed ones. summary: one line for a list. What it needs is
    imported when a task is made, so that it can be listed without.
    """

    name: str
    summary: str = ""

    @abstractmethod
    def task(self, request: HubRequest) -> "Task":
        """The same in every process. Raises UsageError with cause and fix in one line, also for what is missing."""

    @abstractmethod
    def files(self, request: HubRequest) -> Sequence[Path]:
        """The files of the model as far as they are on this machine, that with the weights first; none where the model,
        or data that the hub knows by a name, are not there. Nothing is loaded or downloaded, since the request may be
        what a run of somebody else says. A later command tells by them whether it is the same model.
        """
