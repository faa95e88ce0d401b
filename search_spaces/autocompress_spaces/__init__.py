"""Ready search spaces, one TOML file each."""

from pathlib import Path

from autocompress.plugin.hooks import hookimpl

autocompress_api = 2


@hookimpl
def autocompress_search_spaces() -> list[Path]:
    return sorted(Path(__file__).parent.glob("*.toml"))
