"""Where the model will run: the runtime, its threads and batch, and which statistic of the latency counts."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    field_validator,
    model_serializer,
    model_validator,
)

from autocompress.cores import cores
from autocompress.errors import unknown
from autocompress.toml_file import read_written

Statistic = Literal["p50", "p90", "p95", "p99"]
Moments = Literal["quiet", "as it is"]
COMMAND = "command:"
LATER = "shapes", "max_size_bytes", "provider", "options", "device"  # fields that a profile had not at first
PROFILES = Path(__file__).parent / "profiles"


def _all_cores(threads: object) -> object:
    return cores() if threads == "all" else threads


class HardwareProfile(BaseModel):
    """A deployment target, read from a TOML file.

    threads: the runtime's intra-op threads, pinned; "all" in a file: one for each core that there is. batch: examples a
    call; latencies are of one whole call. statistic: the percentile of the latency that ``--budget-ms`` bounds.
    precisions: what the target can run; a strategy that makes another precision does not apply. machine: which moments
    count; those in which nothing disturbs the target, or all of them, for a model that will share it with what disturbs
    it now. shapes: the sizes that files are timed at along the axes of inputs that vary (``Task.dynamic``), by name;
    where none is given, that of the first validation examples. max_size_bytes: of the
    ONNX file; a larger one is not recommended. provider: ONNX Runtime's execution provider. device:
    "command:PROGRAM ...", a program that times files elsewhere (``measure/command_device.py``); this machine when it is
    empty. options: the runtime's own, by the names that it gives them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(min_length=1, max_length=80)]
    description: str = ""
    runtime: str = "onnxruntime"
    threads: Annotated[int, BeforeValidator(_all_cores), Field(strict=True, ge=1, le=1024)] = 1
    batch: Annotated[int, Field(strict=True, ge=1, le=65536)] = 1
    statistic: Statistic = "p90"
    machine: Moments = "quiet"
    precisions: tuple[str, ...] = ("float32", "float16", "int8", "int4")
    shapes: Mapping[str, Annotated[int, Field(strict=True, ge=1, le=1 << 24)]] = {}
    max_size_bytes: Annotated[int, Field(strict=True, ge=1)] | None = None
    provider: str = "CPUExecutionProvider"
    device: Annotated[str, Field(pattern=rf"^({COMMAND}.*\S.*)?$")] = ""
    options: Mapping[str, StrictStr | StrictBool | StrictInt | StrictFloat] = {}

    @field_validator("device")
    @classmethod
    def _can_be_split(cls, device: str) -> str:
        shlex.split(device)
        return device

    @model_validator(mode="before")
    @classmethod
    def _says_how_many_threads_a_device_has(cls, written: Any) -> Any:
        if isinstance(written, Mapping) and written.get("device") and written.get("threads") == "all":
            raise ValueError('threads = "all" are the cores of this machine: say how many for a device elsewhere')
        return written

    @model_serializer(mode="wrap")
    def _without_defaults_of_late(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A profile is recorded as it was written before there were these."""
        written: dict[str, Any] = write(self)
        later = {
            name: type(self).model_fields[name].default
            for name in ("shapes", "max_size_bytes", "provider", "options", "device")
        }
        return {name: value for name, value in written.items() if name not in later or value != later[name]}

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    @property
    def as_it_is(self) -> bool:
        """Whether every moment counts, however busy the machine is."""
        return self.machine == "as it is"

    @property
    def command(self) -> str:
        """The program that times files elsewhere, with its arguments; empty for this machine."""
        return self.device.removeprefix(COMMAND).strip()

    @property
    def percentile(self) -> float:
        return float(self.statistic[1:])


def installed_profiles() -> dict[str, Path]:
    return {path.stem: path for path in sorted(PROFILES.glob("*.toml"))}


def load_profile(name: str) -> HardwareProfile:
    """A bundled profile by name, or any profile by the path of its TOML file. Raises UsageError."""
    known = installed_profiles()
    path = known.get(name) or Path(name)
    if name not in known and not name.endswith(".toml"):
        raise unknown("profile", name, known)
    return read_written(path, HardwareProfile, "profile")
