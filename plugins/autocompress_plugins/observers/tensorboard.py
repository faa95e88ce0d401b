"""A search in TensorBoard: ``tensorboard --logdir runs`` finds it in ``tensorboard/`` of the run folder.

Each file is a step, in the order in which they were measured: its score, latency, speed-up and size. At the end the
files of the front are there with their recipes, under HParams. https://docs.pytorch.org/docs/stable/tensorboard.html
"""

from typing import Any

from autocompress.errors import one_line
from autocompress.plugin.contract import (
    FileMeasured,
    FrontChanged,
    Observer,
    SearchEvent,
    SearchFinished,
    SearchStarted,
    TaskOpened,
)
from autocompress.plugin.hooks import hookimpl
from autocompress_plugins.observers.tables import metrics_of, parameters_of

autocompress_api = 2

FOLDER = "tensorboard"


class TensorBoard(Observer):
    """Nothing is written before the task is open: a search that is refused leaves no folder."""

    name = "tensorboard"
    summary = "scalars of each file, and the front with its recipes"

    def __init__(self) -> None:
        self._folder = ""
        self._writer: Any = None
        self._files = 0

    @classmethod
    def unavailable(cls) -> str | None:
        try:
            from torch.utils.tensorboard import SummaryWriter  # noqa: F401
        except ImportError as error:
            return f"tensorboard cannot be imported ({one_line(error, 80)}): pip install 'autocompress[tensorboard]'"
        return None

    def observe(self, event: SearchEvent) -> None:
        if isinstance(event, SearchStarted):
            self._folder = str(event.folder / FOLDER)
        elif isinstance(event, TaskOpened):
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(self._folder, purge_step=0)  # a search that goes on tells all files again
        elif isinstance(event, FileMeasured):
            self._files += 1
            for name, value in metrics_of(event.file).items():
                self._writer.add_scalar(f"file/{name}", value, self._files)
            self._writer.flush()
        elif isinstance(event, FrontChanged):
            self._writer.add_scalar("front/files", len(event.front), self._files)
            self._writer.add_scalar("front/fastest", max(file.speedup for file in event.front), self._files)
        elif isinstance(event, SearchFinished) and self._writer is not None:
            self._finish(event)

    def _finish(self, finished: SearchFinished) -> None:
        chosen = finished.recommended or finished.nearest
        if chosen is not None:
            role = "recommended" if finished.recommended else "nearest"
            self._writer.add_text(role, f"{chosen.id}: {chosen.recipe}", self._files)
        for file in finished.front:
            metrics = {f"front/{name}": value for name, value in metrics_of(file).items()}
            self._writer.add_hparams(parameters_of(file.recipe), metrics, run_name=f"{self._folder}/{file.id}")
        self._writer.close()


@hookimpl
def autocompress_observers() -> list[type[Observer]]:
    return [TensorBoard]
