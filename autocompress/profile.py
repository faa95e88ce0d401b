"""Where the model will run: the runtime, its threads and batch, and which statistic of the latency counts."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from autocompress.errors import UsageError, one_line, unknown

Statistic = Literal["p50", "p90", "p95", "p99"]
PROFILES = Path(__file__).parent / "profiles"


class HardwareProfile(BaseModel):
    """A deployment target, read from a TOML file.

    threads: the runtime's intra-op threads, pinned. batch: examples a call; latencies are of one whole call.
    statistic: the percentile of the latency that ``--budget-ms`` bounds. precisions: what the target can run;
    a strategy that makes another precision does not apply.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(min_length=1, max_length=80)]
    description: str = ""
    runtime: str = "onnxruntime"
    threads: Annotated[int, Field(strict=True, ge=1, le=1024)] = 1
    batch: Annotated[int, Field(strict=True, ge=1, le=65536)] = 1
    statistic: Statistic = "p90"
    precisions: tuple[str, ...] = ("float32", "float16", "int8", "int4")

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
    try:
        return HardwareProfile.model_validate(tomllib.loads(path.read_text("utf-8")))
    except OSError as error:
        raise UsageError(f"cannot read the profile {path}: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {one_line(error)}") from error
    except ValidationError as error:
        raise UsageError(f"{path}: {explain(error, HardwareProfile)}") from error


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """The first problem of a validation as one line, with the nearest field name for a misspelt one."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return str(unknown("field", where, model.model_fields))
    return one_line(f"{where}: {first['msg']} (got {first['input']!r})")
