"""The target of a search, opened in this process."""

from autocompress.measure import MachineLock, Target
from autocompress.plugin.loader import PluginSet
from autocompress.profile import HardwareProfile
from autocompress.storage.folder import RunFolder
from autocompress.storage.store import Store
from autocompress.supervisor import Supervisor


def target_here(
    profile: HardwareProfile, plugins: PluginSet, folder: RunFolder, supervisor: Supervisor, *, forks: bool = False
) -> Target:
    """This machine, beside the processes that compute for the run in ``folder``. forks: this process does nothing else,
    so that each session can run in a copy of it.
    """
    lock = MachineLock(folder.root, lambda: supervisor.phases("wait"))
    store = Store(folder.stored, supervisor.note)
    return Target(profile, plugins.runtime_of(profile), store, lock, supervisor, forks)
