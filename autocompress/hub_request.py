"""A model of a hub and the data for it, as one text: what stands behind ``autocompress search``."""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from autocompress.errors import UsageError, one_line

FORM = "hf:MODEL --data DATA"


@dataclass(frozen=True)
class HubRequest:
    """hub: its prefix, as "hf". model: its name there, or a folder. data: a path, or a name that the hub knows.
    checkpoint: a file of weights in place of the model's own; None: its own.
    """

    hub: str
    model: str
    data: str
    checkpoint: str | None = None

    def __str__(self) -> str:
        checkpoint = () if self.checkpoint is None else ("--checkpoint", self.checkpoint)
        return shlex.join([f"{self.hub}:{self.model}", "--data", self.data, *checkpoint])

    @classmethod
    def read(cls, target: str) -> "HubRequest | None":
        """Of ``hf:MODEL --data DATA``, quoted as in a shell; None for a target without data, such as
        my_task.py:factory. Raises UsageError.
        """
        if not _asks_a_hub(target):
            return None
        try:
            asked, *words = shlex.split(target)
            options = dict(zip(words[::2], words[1::2], strict=True))
            hub, _, model = asked.partition(":")
            request = cls(hub, model, options.pop("--data"), options.pop("--checkpoint", None))
        except (KeyError, ValueError) as error:
            raise UsageError(f"{one_line(target, 200)!r} cannot be read: give {FORM}") from error
        if options or not (request.model and request.data):
            raise UsageError(f"{one_line(target, 200)!r} is not {FORM}, with --checkpoint FILE or without")
        return request

    @property
    def name(self) -> str:
        """Of the model, without where it is."""
        return PurePath(self.model).name

    @property
    def resolved(self) -> "HubRequest":
        """The same from any folder: what is there as a path is an absolute one."""
        model = Path(self.model).expanduser()
        checkpoint = self.checkpoint and str(Path(self.checkpoint).expanduser().resolve())
        data = Path(self.data).expanduser()
        return replace(
            self,
            model=str(model.resolve()) if (model / "config.json").is_file() else self.model,
            data=str(data.resolve()) if data.exists() else self.data,
            checkpoint=checkpoint,
        )


def _asks_a_hub(target: str) -> bool:
    try:
        words = shlex.split(target)
    except ValueError:  # a quote that is not closed
        words = target.split()
    hub, colon, _ = (words or [""])[0].partition(":")
    return bool(colon) and hub.isidentifier() and "--data" in words


def target_with(target: str | None, data: str | Path | None, checkpoint: str | Path | None) -> str | None:
    """A task as ``search`` is given it, with its data. Raises UsageError for what brings its own."""
    if data is None and checkpoint is None:
        return target
    hub, colon, model = (target or "").partition(":")
    if not colon or not hub.isidentifier() or HubRequest.read(target or "") is not None:
        given = "no task is given" if target is None else f"{one_line(target, 80)} brings its own"
        raise UsageError(f"--data and --checkpoint are for a model of a hub, as in {FORM}: {given}")
    if data is None:
        raise UsageError(f"--checkpoint alone does not do: give the data too, as in {FORM}")
    return str(HubRequest(hub, model, str(data), None if checkpoint is None else str(checkpoint)))
