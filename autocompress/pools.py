"""Devices elsewhere of one kind, as a pool under a name, in one file for all profiles of a user."""

import os
import re
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from autocompress.errors import UsageError, unknown
from autocompress.toml_file import read_written

NAME = re.compile(r"[A-Za-z][\w.-]*")


class DevicePool(BaseModel):
    """devices: addresses of agents. token_file, ca_file: as in a profile, for one that gives none itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    devices: Annotated[tuple[str, ...], Field(min_length=1)]
    token_file: str = ""
    ca_file: str = ""


class DevicePools(BaseModel):
    """Pools by name."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, DevicePool] = Field(init=False)


def pools_file() -> Path:
    """Where pools are written down, which need not exist."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "autocompress" / "pools.toml"


def is_pool_name(device: object) -> bool:
    """Whether what a profile gives as its device names a pool: neither an address nor a command."""
    return isinstance(device, str) and NAME.fullmatch(device) is not None


def pool(name: str) -> DevicePool:
    """Raises UsageError when there is none of that name, or the file is not right."""
    path = pools_file()
    if not path.exists():
        raise UsageError(f"there is no pool {name}: {path} would hold it, as [{name}] with devices and token_file")
    pools = read_written(path, DevicePools, "pools").__pydantic_extra__
    if name not in pools:
        raise UsageError(f"{path}: {unknown('pool', name, pools)}")
    return pools[name]
