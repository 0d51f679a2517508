"""
``_redirects`` and ``_headers``, as Netlify and Cloudflare Pages have them: whether the site is a single-page
application. Pure. Redirects and headers themselves aren't served by the platform.
"""

from __future__ import annotations

from twistedipc.cli.importing.imported import Imported, quoted

#: The folders in which the files are looked for: they are copied from there into the site.
FOLDERS = ("", "public", "static", "src", "app/public")

NOT_SERVED = "isn't carried over: the platform serves files as they are, without redirects and headers of its own"


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
        else:
            into.leave(file, number, f"the redirect {quoted(line)} {NOT_SERVED}")


def read_headers(file: str, data: bytes, into: Imported) -> None:
    """Read a ``_headers``: a path in the first column, its headers below it."""
    for number, line in _lines(data):
        if not line[0].isspace():
            into.leave(file, number, f"the headers of {quoted(line)} {_SINGULAR}")


_SINGULAR = NOT_SERVED.replace("isn't", "aren't")


def _lines(data: bytes) -> list[tuple[int, str]]:
    text = data.decode("utf-8-sig", "replace")
    numbered = enumerate(text.split("\n"), 1)
    return [(number, line.rstrip()) for number, line in numbered if line.strip() and not line.lstrip().startswith("#")]
