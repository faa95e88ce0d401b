"""A page of autocompress: one HTML file that holds its style, its scripts, its data and the library that draws.

Names and reasons come from tasks and plug-ins, so all of them are untrusted text. The templates escape what they print,
hover texts are escaped again for plotly (which draws a subset of HTML in them), data is packed as letters and digits,
and a content security policy stops anything that got past these, network requests included.
"""

import base64
import gzip
import json
import secrets
from functools import cache
from pathlib import Path
from typing import Any

from autocompress.storage.atomic import write_text
from autocompress.storage.ownership import refuse_other_page

HERE = Path(__file__).parent


def write_page(template: str, path: Path, **context: Any) -> None:
    """Write a page, whole or not at all: on any failure an older one stays. Raises AutocompressError when ``path``
    cannot be written or is a page of somebody else's.
    """
    from markupsafe import Markup

    refuse_other_page(path)
    page = rendered(
        template,
        nonce=secrets.token_urlsafe(16),
        css=Markup((HERE / "report.css").read_text("utf-8")),
        js=Markup((HERE / "report.js").read_text("utf-8")),
        plotly=Markup(packed_plotly()),
        packed=lambda value: Markup(_packed(json.dumps(value, separators=(",", ":")))),
        packed_json=lambda text: Markup(_packed(text)),
        **context,
    )
    # A lone surrogate, from the bytes of a file name in an error message, must not cost the user the report.
    write_text(path, page.encode("utf-8", "replace").decode("utf-8"))


def rendered(template: str, **values: Any) -> str:
    """A template with these values, all of which are text and no markup, unless they say so."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    pages = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return pages.get_template(template).render(**values)


@cache
def packed_plotly() -> str:
    """The library that draws."""
    from plotly.offline import get_plotlyjs

    return _packed(get_plotlyjs())


def _packed(text: str) -> str:
    """Deflated, and as letters and digits: a third of the library that draws, and nothing that a page could run before
    it unpacks it.
    """
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode("ascii")
