"""Where a repository's host has its API, and which addresses a receiver can have. Pure."""

from __future__ import annotations

import re
from typing import Final, Literal
from urllib.parse import quote, urlsplit

from twistedipc.builds import names
from twistedipc.builds.names import BadValue

Host = Literal["github", "gitlab", "gitea"]

#: The hosts of the public GitHub, whose API is beside them, and not below.
_GITHUB: Final = ("github.com", "ssh.github.com")

#: Where the API is below a host's own address.
_PATHS: Final[dict[Host, str]] = {"github": "/api/v3", "gitlab": "/api/v4", "gitea": "/api/v1"}

_WEB = re.compile(r"https?://[A-Za-z0-9\[][!-~]*")

#: The most receivers of a mail.
MAX_MAIL: Final = 20


def host_and_path(repository: str) -> tuple[str, str, str]:
    """Return scheme, host (with its port, if it is the web's) and path of a repository's address; "" each if none."""
    if repository.startswith(("/", "file:")):
        return "", "", ""
    if "://" not in repository:  # user@host:path
        place, _, path = repository.partition(":")
        scheme, host = "https", place.rpartition("@")[2]
    else:
        parts = urlsplit(repository)
        web = parts.scheme in ("http", "https")
        scheme = parts.scheme if web else "https"
        host = parts.netloc.rpartition("@")[2] if web else parts.hostname or ""
        path = parts.path
    return scheme, host.lower(), path.strip("/").removesuffix(".git").strip("/")


def api_of(kind: Host, repository: str) -> str:
    """Return where the API of a repository's host is, without a slash at its end. Raises `BadValue`."""
    scheme, host, path = host_and_path(repository)
    if not host or not path:
        raise BadValue(f"{repository} is at no host that has an API: give its address, such as https://git.example/api")
    if kind == "github" and (host.endswith(".ghe.com") or host in _GITHUB):
        return f"https://api.{host.removeprefix('ssh.')}"
    host = "gitlab.com" if host == "altssh.gitlab.com" else host
    return f"{scheme}://{host}{_PATHS[kind]}"


def path_of(kind: Host, repository: str) -> str:
    """Return how the host's API names a repository in a path, quoted."""
    path = host_and_path(repository)[2]
    return quote(path, safe="" if kind == "gitlab" else "/")


def web_address(where: str) -> str:
    """Check an address to which something is sent. Raises `BadValue`."""
    if len(where) > names.MAX_ADDRESS or not _WEB.fullmatch(where):
        raise BadValue("an address begins with https:// or http:// and a host, and is one line of printable ASCII")
    try:
        parts = urlsplit(where)
        port = parts.port
    except ValueError as error:
        raise BadValue(f"{where[:100]!r} isn't an address: {error}") from error
    if not parts.hostname or port == 0:
        raise BadValue(f"{where[:100]!r} has no host")
    if "@" in parts.netloc:
        raise BadValue("an address can't have a user or a password before its host")
    if parts.fragment:
        raise BadValue("an address can't have a fragment (#)")
    return where


def mail_addresses(where: str) -> list[str]:
    """Return the addresses of a mail, which are written with commas between them. Raises `BadValue`."""
    found = [names.email(each.strip()) for each in where.split(",") if each.strip()]
    if not found or len(found) > MAX_MAIL:
        raise BadValue(f"give 1 to {MAX_MAIL} addresses for mail, with commas between them")
    if not all(each.isascii() for each in found):
        raise BadValue("an address for mail has only ASCII here")
    return found


def masked(where: str) -> str:
    """Return an address as people are shown it: the rest may be a secret."""
    parts = urlsplit(where)
    return f"{parts.scheme}://{parts.netloc}" + ("/…" if parts.path.strip("/") or parts.query else "")
