"""
From which release the page is that a request comes from, by a cookie. ``web.releases``; used by ``site``, where neither
the address nor the Referer tells it.

The cookie is the last resort. All tabs of a browser share it, so it says which release's page was opened last. It can
be wrong for a tab that was opened before, and is then as wrong as the live release would be. It is used for scripts,
styles and workers that a browser loads for a page, since there the wrong release breaks the page. It isn't used for
what a script fetches: a page may look there whether a newer release is out. Nor for a service worker, which would
never be replaced. It is set with pages of sites that have scripts without a hash in their names, goes with the browser,
and says no more than a number that is the same for everybody.
"""

from __future__ import annotations

import re

from werkzeug.http import parse_cookie

from twistedipc.publish.targets.static.release import Release
from twistedipc.web.http.channel import BoundedRequest

COOKIE = "twistedipc_release"

#: For what a browser loads a file (Sec-Fetch-Dest); without this header nothing is told by the cookie.
_LOADED_AS = frozenset({"script", "style", "worker", "sharedworker"})

_NUMBER = re.compile(r"[1-9][0-9]{0,17}")


def release_of_cookie(request: BoundedRequest, *, https: bool) -> int | None:
    """Return the number of the release whose page was opened last; None: it isn't known, or doesn't count here."""
    lines = request.requestHeaders.getRawHeaders(b"cookie")
    if not lines or request.getHeader("sec-fetch-dest") not in _LOADED_AS:
        return None
    values = parse_cookie("; ".join(line.decode("latin-1") for line in lines)).getlist(_named(https))
    return int(values[0]) if len(values) == 1 and _NUMBER.fullmatch(values[0]) else None


def set_cookie(request: BoundedRequest, release: Release, *, https: bool) -> None:
    """Let the browser say that it has opened a page of this release, if that can be of use."""
    if release.has_plain_scripts and not release.has_service_worker:
        cookie = f"{_named(https)}={release.id}; Path=/; HttpOnly; SameSite=Lax"
        request.responseHeaders.addRawHeader(b"Set-Cookie", (cookie + "; Secure" * https).encode())


def _named(https: bool) -> str:
    # Over https no other host of the domain can set it.
    return f"__Host-{COOKIE}" if https else COOKIE
