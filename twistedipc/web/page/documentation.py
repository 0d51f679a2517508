"""
The documentation, as it is written: Markdown at ``/docs/NAME.md``, and ``/llms.txt``, which lists it for programs that
read it for people. ``web.page``; served by ``resource``.

A wheel has it beside this module; in a clone of the sources it is in their folder ``docs``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

import twistedipc

#: What most readers want first, in this order; the others follow by their names.
FIRST: Final = ("failures.md", "mcp.md", "protocol.md", "building.md", "repositories.md", "releases.md", "operating.md")

_ABOUT: Final = (
    "# twistedipc\n\n"
    "> A self-hosted platform that builds front-end projects, shows their logs live, and publishes what was built. "
    "Its API is described at /api/v1/openapi.json; `twistedipc mcp` serves builds, failures and logs by the Model "
    "Context Protocol.\n\n"
    "## Documentation\n\n"
)

_TITLE: Final = re.compile(r"^# (.+)$", re.MULTILINE)


def documents() -> dict[str, bytes]:
    """Return the pages of the documentation, by their files' names; none if they aren't there."""
    folder = _folder()
    if folder is None:
        return {}
    return {entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.name.endswith(".md")}


def _folder() -> Traversable | None:
    shipped = files("twistedipc.web.page") / "docs"
    if shipped.is_dir():
        return shipped
    root = Path(twistedipc.__file__).resolve().parent.parent
    # Anything else that is called docs, beside an installed package, isn't this one's.
    return root / "docs" if (root / "hatch_build.py").is_file() else None


def listed(pages: Mapping[str, bytes]) -> str:
    """Return ``llms.txt``: what this is, and each page with its title."""
    order = {name: place for place, name in enumerate(FIRST)}
    names = sorted(pages, key=lambda name: (order.get(name, len(order)), name))
    return _ABOUT + "".join(f"- [{_title(pages[name].decode(), name)}](/docs/{name})\n" for name in names)


def _title(text: str, name: str) -> str:
    found = _TITLE.search(text)
    return found[1] if found is not None else name
