"""``search`` for several profiles: trained once, and a front and a recommendation for each."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from autocompress.api import retarget, search
from autocompress.measure import check_place
from autocompress.plugin.loader import load_plugins
from autocompress.profile import load_profile
from autocompress.report.search_result import SearchResult
from autocompress.report.terminal import teller
from autocompress.search_request import DEMO, default_minutes, default_out, named_task
from autocompress.task import Task

EACH_SHARE, EACH_MINUTES = 0.12, 0.5  # of the time, and of a short one at least, for each profile but the first
OTHERS_SHARE = 0.5  # for all of them
ALSO_OF_THE_OTHERS = "budget_ms", "speedup", "max_drop", "max_class_drop", "observe", "plugins"


def search_for(
    profiles: Sequence[str], task: Task | str | None = None, *, quiet: bool = False, **settings: Any
) -> list[SearchResult]:
    """Search for the first profile, then measure what was found for each of the others. settings: of ``search``. The
    result of each, in their order. Raises what ``search`` does, and for a profile that cannot be used here before
    anything is searched.
    """
    console = settings.pop("console", None) or Console(stderr=True)
    plugins, found = settings.get("plugins") or load_plugins(), [load_profile(name) for name in profiles]
    for profile in found:
        plugins.runtime_of(profile)
        check_place(profile)

    task = named_task(task, settings.pop("data", None), settings.pop("checkpoint", None), plugins)
    first, *others = profiles
    minutes = settings.pop("minutes", None) or default_minutes(task)
    out = Path(settings.pop("out", None) or default_out(task or DEMO, teller(console, quiet)))
    share = min(max(EACH_SHARE, EACH_MINUTES / minutes), OTHERS_SHARE / max(1, len(others)))
    whole = {"console": console, "quiet": quiet, **settings}
    results = [search(task, profile=first, minutes=minutes * (1 - share * len(others)), out=out, **whole)]
    asked = {name: settings[name] for name in ALSO_OF_THE_OTHERS if name in settings}
    for name in others:
        results.append(
            retarget(out, task or DEMO, profile=name, minutes=minutes * share, console=console, quiet=quiet, **asked)
        )
    return results
