"""Reading the TOML files that people write: profiles and search spaces."""

import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from autocompress.errors import UsageError, one_line, unknown

Model = TypeVar("Model", bound=BaseModel)


def read_written(path: Path, model: type[Model], what: str) -> Model:
    """The file as ``model``. Raises UsageError naming the file, the field and the nearest known name."""
    try:
        return model.model_validate(tomllib.loads(path.read_text("utf-8")))
    except OSError as error:
        raise UsageError(f"cannot read the {what} {path}: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {one_line(error)}") from error
    except ValidationError as error:
        raise UsageError(f"{path}: {_explained(error, model)}") from error


def _explained(error: ValidationError, model: type[BaseModel]) -> str:
    """The first problem as one line."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return str(unknown("field", where, model.model_fields))
    return one_line(f"{where}: {first['msg']} (got {first['input']!r})")
