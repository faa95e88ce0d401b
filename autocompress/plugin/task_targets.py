"""A task by what a user calls it: a factory in a file or module, or a model of a hub with data."""

import hashlib
from pathlib import Path

from autocompress.errors import UsageError, unknown
from autocompress.hub_request import HubRequest
from autocompress.plugin.hub import Hub
from autocompress.plugin.loader import PluginSet
from autocompress.task import Task
from autocompress.task_source import TaskSource, load_task


def task_of(target: str, plugins: PluginSet) -> Task:
    """The task of ``my_task.py:factory``, ``package.module:factory`` or ``hf:MODEL --data DATA``. Raises UsageError."""
    asked = hub_and_request(target, plugins)
    if asked is None:
        return load_task(target)
    hub, request = asked
    task = hub.task(request)
    if not isinstance(task, Task):
        raise UsageError(f"the hub {hub.name} gave {type(task).__name__} for {target}, expected autocompress.Task")
    return task


def source_of(target: str, plugins: PluginSet) -> TaskSource | None:
    """Where a task comes from; None where that cannot be told. Nothing is imported, loaded or downloaded.

    The digest of a model of a hub is of its files, and of the names and sizes of the data's; what the data hold is
    compared when the task is opened.
    """
    asked = hub_and_request(target, plugins)
    if asked is None:
        return TaskSource.of(target)
    hub, request = asked
    files = [path for path in hub.files(request) if path.is_file()]
    if not files:
        return None
    found = hashlib.sha256()
    for path in files:
        with path.open("rb") as opened:
            found.update(f"{path.name} {hashlib.file_digest(opened, 'sha256').hexdigest()}\n".encode())
    data = Path(request.data)
    for path in sorted(data.rglob("*") if data.is_dir() else [data]):
        if path.is_file():
            found.update(f"{path.relative_to(data.parent)} {path.stat().st_size}\n".encode())
    others = [*files[1:], *([data] if data.exists() else [])]
    return TaskSource(str(request), str(files[0]), found.hexdigest(), tuple(map(str, others)))


def hub_and_request(target: str, plugins: PluginSet) -> tuple[Hub, HubRequest] | None:
    """Who makes a task, and of what; None for a factory. Raises UsageError for a hub that there is not, and for a model
    without data.
    """
    request = HubRequest.read(target)
    if request is not None:
        if request.hub not in plugins.hubs:
            raise unknown("hub", request.hub, plugins.hubs)
        return plugins.hubs[request.hub], request.resolved
    if target.partition(":")[0] in plugins.hubs and ":" in target:
        raise UsageError(f"{target} needs data: {target} --data DATA, a folder or a file of examples with their labels")
    return None
