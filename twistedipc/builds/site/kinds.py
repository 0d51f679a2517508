"""Which kind of file of a site a path is of, by its extension. Pure; for comparisons of releases, and for budgets."""

from __future__ import annotations

from typing import Final, Literal, get_args

Kind = Literal["js", "css", "html", "images", "fonts", "other"]

#: In the order in which they are shown.
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

_EXTENSIONS: dict[Kind, str] = {
    "js": "js mjs cjs",
    "css": "css",
    "html": "html htm xhtml",
    "images": "png jpg jpeg gif svg webp avif ico bmp",
    "fonts": "woff woff2 ttf otf eot",
}

_BY_EXTENSION: dict[str, Kind] = {
    extension: kind for kind, extensions in _EXTENSIONS.items() for extension in extensions.split()
}


def kind_of(path: str) -> Kind:
    """Return the kind of the file with this path."""
    return _BY_EXTENSION.get(path.rpartition("/")[2].rpartition(".")[2].lower(), "other")
