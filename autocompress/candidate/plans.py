"""Plans of structural prefixes: recipes that begin with the same structural steps plan them once, in any process."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from autocompress.errors import AutocompressError
from autocompress.plugin.loader import PluginSet
from autocompress.recipe import Plan, Step
from autocompress.storage.store import Store


class StoredPlans:
    """Plans in the store, under the task, the seed, the steps and the distributions that the steps come from."""

    def __init__(self, store: Store, fingerprint: str, seed: int, plugins: PluginSet) -> None:
        self._store = store
        self._task = (fingerprint, seed)
        self._plugins = plugins

    def get(self, prefix: Sequence[Step]) -> Plan | None:
        found: Plan | None = self._store.load_json(self._key(prefix))
        return found

    def put(self, prefix: Sequence[Step], plan: Plan) -> None:
        with suppress(AutocompressError):  # on a full disk it is planned again: a help, not a need
            self._store.save_json(self._key(prefix), plan)

    def _key(self, prefix: Sequence[Step]) -> str:
        steps: list[Any] = [
            [step.strategy, step.values, self._plugins.origin.get(f"strategies:{step.strategy}")] for step in prefix
        ]
        return self._store.key("plan", *self._task, steps)
