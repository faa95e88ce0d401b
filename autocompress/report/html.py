from pathlib import Path
from typing import Any


def write_report(document: dict[str, Any], path: Path) -> None:
    """Placeholder until the report lands."""
