"""
Pages in the person's browser. A token is never on a command line, which other users of the machine can read: the
browser opens a file of the person's own, which leads to the page with it.
"""

from __future__ import annotations

import html
import os
import tempfile
import webbrowser
from pathlib import Path

from twistedipc.cli.client import Client
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.output import note

_REDIRECT = """\
<!doctype html>
<meta charset="utf-8">
<meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0; url={address}">
<title>twistedipc</title>
<p><a href="{address}">Sign in to the page</a></p>
"""


def can_open() -> bool:
    """Return whether a browser with windows can be opened from here. One in this terminal would take it away."""
    return any(os.environ.get(name) for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"))


def open_page(address: str) -> None:
    """Open an address in the browser, and print it. Raises `Failure` if there is none."""
    note(address)
    if not can_open() or not webbrowser.open(address):
        raise Failure(ExitCode.UNAVAILABLE, "no browser can be opened from here: open the address yourself")


def sign_in_file(folder: Path) -> Path:
    """
    Return the file that leads to the page, of a platform that has this folder. A browser that is a snap reads files of
    the person's home alone, and none below a folder whose name begins with a dot: then the file is in the home itself.
    """
    home = Path.home()
    if folder.is_relative_to(home) and not any(part.startswith(".") for part in folder.relative_to(home).parts):
        return folder / "open.html"
    return home / "twistedipc-sign-in.html"


def open_signed_in(client: Client, path: Path) -> None:
    """Open the page in the browser, signed in by the client's token. ``path``: the file that leads there."""
    address = html.escape(f"{client.url}/#token={client.token}")
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".open.")  # with mode 0600
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(_REDIRECT.format(address=address))
    os.replace(temporary, path)
    if not webbrowser.open(path.as_uri()):
        note(f"no browser could be opened; the page is at {client.url}/, and {path} signs in")
