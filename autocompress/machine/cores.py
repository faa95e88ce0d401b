"""How many processors of this machine a process may use."""

import math
import os
from pathlib import Path

from .cgroups import PROC, SYS, processor_quota


def cores(proc: Path = PROC, sys: Path = SYS) -> int:
    """Those it may run on; fewer where a control group gives it less time than they have. Parts of one count as one:
    they are used too.
    """
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = processor_quota(proc, sys)
    return there if quota is None else max(1, min(there, math.ceil(quota)))
