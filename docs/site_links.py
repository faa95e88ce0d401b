"""A hook of mkdocs: what the pages link to outside of ``docs/`` becomes a part of the site, under ``repository/``.

So one link works in both places: in the repository as it is written, and on the site as it is rewritten here.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
DOCS, COPIED = "docs/", "repository/"
LINK = re.compile(r"(?<=\]\()([^)#\s:]+)(?=[)#\s])")  # a path of this repository, without a section
CODE = re.compile(r"(^```.*?^```|`[^`\n]*`)", re.DOTALL | re.MULTILINE)


def on_files(files: Files, config: Any) -> Files:
    """Add what the pages link to, and what those pages link to."""
    waiting, seen = [_in_repository(f.src_uri) for f in files.documentation_pages()], set()
    while waiting:
        page = waiting.pop()
        text = CODE.sub("", (ROOT / page).read_text("utf-8"))
        for linked in {_linked(page, link) for link in LINK.findall(text)} - seen:
            seen.add(linked)
            if not linked.startswith(DOCS) and (ROOT / linked).is_file():
                path = str(ROOT / linked)
                files.append(File.generated(config, COPIED + linked, abs_src_path=path))
                waiting += [linked] if linked.endswith(".md") else []
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn links out of ``docs/`` into links within the site; a link that leads nowhere stays, and mkdocs says so."""
    own = _in_repository(page.file.src_uri)

    def rewritten(found: re.Match[str]) -> str:
        target = _on_site(_linked(own, found[1]))
        known = files.get_file_from_path(target) is not None
        return posixpath.relpath(target, posixpath.dirname(page.file.src_uri) or ".") if known else found[1]

    pieces = CODE.split(markdown)
    return "".join(piece if number % 2 else LINK.sub(rewritten, piece) for number, piece in enumerate(pieces))


def _linked(page: str, link: str) -> str:
    """The file of the repository that a page means; of a folder its README."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
    return f"{path}/README.md" if (ROOT / path).is_dir() else path


def _in_repository(on_site: str) -> str:
    return on_site.removeprefix(COPIED) if on_site.startswith(COPIED) else DOCS + on_site


def _on_site(in_repository: str) -> str:
    return in_repository.removeprefix(DOCS) if in_repository.startswith(DOCS) else COPIED + in_repository
