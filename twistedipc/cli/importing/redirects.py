"""
``_redirects`` and ``_headers``, as Netlify and Cloudflare Pages have them: whether the site is a single-page
application, and what of them the platform doesn't do. It reads both itself, so nothing of them is carried over. Pure.
"""

from __future__ import annotations

from twistedipc.builds.site import headers
from twistedipc.builds.site import redirects as rules
from twistedipc.builds.site.rules import BadRules
from twistedipc.cli.importing.imported import Imported

#: The folders in which the files are looked for: they are copied from there into the site.
FOLDERS = ("", "public", "static", "src", "app/public")


def is_fallback(source: str, target: str, status: object) -> bool:
    """Return whether a rule answers every address with the application's page."""
    every = source.strip().rstrip("?") in ("/*", "/(.*)", "/:path*", "/((?!api/).*)", "/:splat*", "/(.*)/")
    page = target.strip() in ("/index.html", "/", "/index", "index.html", "/200.html")
    return every and page and str(status) in ("200", "200!")


def read_redirects(file: str, data: bytes, into: Imported) -> None:
    """Read a ``_redirects``."""
    for number, line in _lines(data):
        words = line.split()
        if len(words) >= 3 and is_fallback(words[0], words[1], words[2]):
            into.set("spa", True, file, number)
            continue
        try:
            rules.read_redirects(line.encode())
        except BadRules as error:
            into.leave(file, number, f"fails the build: {_without_place(error)}")


def read_headers(file: str, data: bytes, into: Imported) -> None:
    """Read a ``_headers``: a path in the first column, its headers below it."""
    for number, line in _lines(data):
        # A header alone is no file: it gets a path.
        text = line if not line[0].isspace() else f"/*\n{line}"
        try:
            headers.read_headers(text.encode())
        except BadRules as error:
            into.leave(file, number, f"fails the build: {_without_place(error)}")


def _without_place(error: BadRules) -> str:
    return str(error).partition(": ")[2]


def _lines(data: bytes) -> list[tuple[int, str]]:
    text = data.decode("utf-8-sig", "replace")
    numbered = enumerate(text.split("\n"), 1)
    return [(number, line.rstrip()) for number, line in numbered if line.strip() and not line.lstrip().startswith("#")]
