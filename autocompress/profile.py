"""Where the model will run: the runtime, its threads and batch, and which statistic of the latency counts."""

import shlex
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

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
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)

from autocompress.errors import unknown
from autocompress.machine.cores import cores
from autocompress.machine.gpu import GPU_PROVIDERS
from autocompress.pools import is_pool_name, pool
from autocompress.toml_file import read_written

Statistic = Literal["p50", "p90", "p95", "p99"]
Moments = Literal["quiet", "as it is"]
NEWEST_OPSET = 23  # that torch writes; quantized files need 13
PROCESSOR = "CPUExecutionProvider"
COMMAND, HTTP = "command:", ("http://", "https://")
PROFILES = Path(__file__).parent / "profiles"


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


class TimedShape(BaseModel):
    """Inputs that files are timed with: the sizes of the axes that vary, by name, and ``weight``, how large a part of
    all calls have them, beside the weights of the others.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, Annotated[int, Field(strict=True, ge=1, le=1 << 24)]] = Field(init=False)

    weight: Annotated[StrictInt | StrictFloat, Field(gt=0, allow_inf_nan=False)] = 1

    @property
    def sizes(self) -> dict[str, int]:
        return dict(self.__pydantic_extra__)


def _listed(shapes: object) -> object:
    """A single one is written as a table, which has sizes alone."""
    if not isinstance(shapes, Mapping):
        return shapes
    if "weight" in shapes:
        raise ValueError("weight is of one of several [[shapes]]")
    return [shapes] if shapes else []


def _all_cores(threads: object) -> object:
    return cores() if threads == "all" else threads


class HardwareProfile(BaseModel):
    """A deployment target, read from a TOML file.

    threads: the runtime's intra-op threads, pinned; "all" in a file: one for each core that there is. batch: examples a
    call; latencies are of one whole call. statistic: the percentile of the latency that ``--budget-ms`` bounds.
    precisions: what the target can run; a strategy that makes another precision does not apply. machine: which moments
    count; those in which nothing disturbs the target, or all of them, for a model that will share it with what disturbs
    it now. shapes: the sizes that files are timed at along the axes of inputs that vary (``Task.dynamic``), by name;
    where none is given, that of the first validation examples. Of several what counts is one call of each, the mean by
    their weights. max_size_bytes: of the ONNX file,
    max_memory_bytes: that opening and calling it take; one that takes more is not recommended. streams: how many call
    the file at once, each with the threads; what counts is a call beside those of the others. opset: the version of
    ONNX's operators that files are written in; the exporter's own where it is not given. cold: whether calls come
    one at a time, and find nothing of the model in the processor's caches. provider: ONNX Runtime's execution provider.
    device: "command:PROGRAM ...", a program that times files elsewhere (``measure/command_device.py``), or the address
    of an agent on a device ("http://HOST:PORT"), those of several of one kind, or the name of a pool of such
    (``pools.py``); this machine when it is empty.
    token_file: what an agent wants to see; ca_file: what its certificate is checked by, if not the system's
    authorities. options: the runtime's own, by the names that it gives them.
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
    shapes: Annotated[tuple[TimedShape, ...], BeforeValidator(_listed)] = ()
    max_size_bytes: Annotated[int, Field(strict=True, ge=1)] | None = None
    max_memory_bytes: Annotated[int, Field(strict=True, ge=1)] | None = None
    streams: Annotated[int, Field(strict=True, ge=1, le=1024)] = 1
    opset: Annotated[int, Field(strict=True, ge=13, le=NEWEST_OPSET)] | None = None
    cold: StrictBool = False
    provider: str = PROCESSOR
    device: str | tuple[str, ...] = ""
    token_file: str = ""
    ca_file: str = ""
    options: Mapping[str, StrictStr | StrictBool | StrictInt | StrictFloat] = {}

    @field_validator("device")
    @classmethod
    def _is_a_device(cls, device: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if isinstance(device, str) and (not device or device.startswith(COMMAND)):
            if device and not shlex.split(device.removeprefix(COMMAND)):
                raise ValueError(f"{COMMAND} takes a program")
            return device
        addresses = (device,) if isinstance(device, str) else device
        for address in addresses:
            parts = urlsplit(address)
            if not address.startswith(HTTP) or not parts.hostname or parts.path.strip("/"):
                raise ValueError(
                    f"{COMMAND}PROGRAM, http://HOST:PORT, https://HOST:PORT, a list of such addresses or a pool's name"
                )
            if parts.scheme == "http" and not _is_loopback(parts.hostname):
                raise ValueError("others would read the token on its way: https, or http at loopback through a tunnel")
        if not addresses or len(set(addresses)) < len(addresses):
            raise ValueError("each device once, and one at least")
        return device.rstrip("/") if isinstance(device, str) else tuple(address.rstrip("/") for address in device)

    @field_validator("shapes")
    @classmethod
    def _have_the_same_sizes(cls, shapes: tuple[TimedShape, ...]) -> tuple[TimedShape, ...]:
        if any(not shape.sizes or shape.sizes.keys() != shapes[0].sizes.keys() for shape in shapes):
            raise ValueError("each of several gives the same sizes, one at least")
        return shapes

    @field_serializer("shapes")
    def _one_as_a_table(self, shapes: tuple[TimedShape, ...]) -> object:
        return shapes[0].sizes if len(shapes) == 1 else [shape.model_dump() for shape in shapes]

    @model_validator(mode="after")
    def _has_a_token(self) -> "HardwareProfile":
        if self.agents and not self.token_file:
            raise ValueError("an agent wants a token: token_file is the file that holds it")
        if self.streams > 1 and (self.cold or self.elsewhere):
            raise ValueError(
                "several streams are timed on this machine, and not cold: each would empty the others' caches"
            )
        if self.cold and self.threads > 1:
            raise ValueError("cold takes one thread: the caches of the others' cores would stay as they are")
        if self.command and len(self.shapes) > 1:
            raise ValueError("several shapes are not told to a command: it takes inputs in turn and weighs none")
        if self.command and self.cold:
            raise ValueError("cold is not told to a command: it would have to empty the caches itself")
        if self.agents and self.runtime != "onnxruntime":
            raise ValueError("an agent runs files by onnxruntime")
        return self

    @model_validator(mode="before")
    @classmethod
    def _devices_of_its_pool(cls, written: Any) -> Any:
        """What is recorded has their addresses, and is the same wherever it is read."""
        if not isinstance(written, Mapping) or not is_pool_name(written.get("device")):
            return written
        found = pool(written["device"])
        own = {name: written.get(name) or getattr(found, name) for name in ("token_file", "ca_file")}
        return {**written, "device": found.devices, **own}

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
        names = (
            "shapes",
            "max_size_bytes",
            "max_memory_bytes",
            "streams",
            "opset",
            "cold",
            "provider",
            "options",
            "device",
            "token_file",
            "ca_file",
        )
        left_out = {name for name in names if getattr(self, name) == type(self).model_fields[name].default}
        return {name: value for name, value in written.items() if name not in left_out}

    @property
    def sizes(self) -> list[dict[str, int]]:
        """Of each of the shapes that files are timed with; of one, none, where the profile gives none."""
        return [shape.sizes for shape in self.shapes] or [{}]

    @property
    def weights(self) -> list[float]:
        """Of the same."""
        return [shape.weight for shape in self.shapes] or [1]

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    @property
    def as_it_is(self) -> bool:
        """Whether every moment counts, however busy the machine is."""
        return self.machine == "as it is"

    @property
    def on_gpu(self) -> bool:
        """Whether ONNX Runtime computes on a GPU."""
        return self.provider in GPU_PROVIDERS

    @property
    def command(self) -> str:
        """The program that times files elsewhere, with its arguments; empty where none does."""
        if isinstance(self.device, tuple) or not self.device.startswith(COMMAND):
            return ""
        return self.device.removeprefix(COMMAND).strip()

    @property
    def agents(self) -> tuple[str, ...]:
        """The addresses of those that time files elsewhere."""
        if isinstance(self.device, tuple):
            return self.device
        return (self.device,) if self.device.startswith(HTTP) else ()

    @property
    def limits(self) -> dict[str, int | None]:
        """Of a file beside its latency, as a budget has them."""
        return {"max_size_bytes": self.max_size_bytes, "max_memory_bytes": self.max_memory_bytes}

    @property
    def elsewhere(self) -> int:
        """How many devices elsewhere files run on; 0 for this machine."""
        return len(self.agents) or bool(self.command)

    def on_each_device(self) -> "list[HardwareProfile]":
        """This profile for each of its devices."""
        return [self.model_copy(update={"device": address}) for address in self.agents] or [self]

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
