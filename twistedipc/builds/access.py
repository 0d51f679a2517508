"""
How a private repository is read: what a checkout is given, and how keys look. Bottom layer, pure.

Credentials are bound to a host (`names.host`). They are given to the checkout step alone, which shows them to that host
alone: to the repository, and to its submodules there.
"""

from __future__ import annotations

import base64
import re

import msgspec

from twistedipc.builds import names
from twistedipc.builds.names import BadValue

#: The use of an attempt's secrets (`Spec.asks`) that asks for this.
CHECKOUT = "checkout"

#: The secret of a project that is the token.
GIT_TOKEN = "git_token"

#: The user's name that goes with a token where the repository's address has none: hosts that have tokens without a user
#: take any, and this one is GitHub's for the tokens of its apps.
ANY_USER = "x-access-token"

#: The most lines of a project's known hosts, and the most characters of one.
MAX_KNOWN_HOSTS = 20
MAX_KNOWN_HOST = 2048

_KEY_TYPE = re.compile(r"(?:ssh|ecdsa|sk-ssh|sk-ecdsa)-[a-z0-9@.-]+")
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


class Access(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the checkout of one attempt is given. Never in an offer, in spec.json or in a step's environment."""

    host: str  # `names.host` of the repository
    username: str = ""
    token: str = ""  # for https
    key: str = ""  # for ssh: the private key, in OpenSSH's form
    known_hosts: list[str] = []  # lines as ssh has them; none: the key that the host shows first is pinned


def ssh_place(host: str) -> str:
    """Return how ssh names a host (of `names.host`) in known_hosts; "" if it isn't one for ssh."""
    if not host.startswith("ssh://"):
        return ""
    name, _, port = host.removeprefix("ssh://").rpartition(":") if _has_port(host) else (host[6:], "", "")
    name = name.strip("[]")
    return f"[{name}]:{port}" if port else name


def _has_port(host: str) -> bool:
    return re.search(r":[0-9]+\Z", host.rpartition("]")[2]) is not None


def known_hosts(text: str, host: str) -> list[str]:
    """
    Return the lines of a known_hosts file, or of ``ssh-keyscan``, that are for a host of `names.host`. A line of a key
    alone (``ssh-ed25519 AAAA…``) is taken for the host's. Raises `BadValue` if there is none, or one can't be read.
    """
    place = ssh_place(host)
    if not place:
        raise BadValue("only a repository that is fetched by ssh has host keys")
    found = []
    for line in text.splitlines():
        fields = line.split("#")[0].split()
        if not fields:
            continue
        if _KEY_TYPE.fullmatch(fields[0]):
            fields = [place, *fields]
        if len(line) > MAX_KNOWN_HOST or len(fields) < 3:
            raise BadValue(f"{line[:100]!r} isn't a line of a known_hosts file: HOST KEY-TYPE KEY")
        hosts, kind, key = fields[:3]
        if not _KEY_TYPE.fullmatch(kind) or not _BASE64.fullmatch(key):
            raise BadValue(f"{line[:100]!r} isn't a line of a known_hosts file: HOST KEY-TYPE KEY")
        if place in hosts.lower().split(","):
            found.append(f"{place} {kind} {key}")
    if not found:
        raise BadValue(f"there is no key of {place} among these (hashed names can't be read: use `ssh-keyscan`)")
    if len(found) > MAX_KNOWN_HOSTS:
        raise BadValue(f"there can be at most {MAX_KNOWN_HOSTS} keys of one host")
    return found


def fingerprint(line: str) -> str:
    """Return how people compare a key: ``SHA256:…`` of a line of known_hosts or of a public key."""
    fields = line.split()
    key = next((field for field in fields[1:] if field.startswith("AAAA")), "")
    try:
        import hashlib  # not above: it is as large as a quarter of a runner, which needs no fingerprint

        digest = hashlib.sha256(base64.b64decode(key, validate=True)).digest()
    except ValueError:
        return ""
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def check_token(repository: str) -> None:
    """Check that a token can be used for this repository. Raises `BadValue`."""
    host = names.host(repository)
    if not host.startswith("https://") and (not host.startswith("http://") or names.open_road(repository)):
        raise BadValue(
            "a git_token is for a repository that is fetched by https: change its address "
            "(`twistedipc project set NAME --repository https://…`), or make a deploy key (`twistedipc project key "
            "NAME`)"
        )


def check_key(repository: str) -> None:
    """Check that a deploy key can be used for this repository. Raises `BadValue`."""
    if not names.host(repository).startswith("ssh://"):
        raise BadValue(
            "a deploy key is for a repository that is fetched by ssh: change its address (`twistedipc project set NAME "
            "--repository git@HOST:PATH`), or set a token (`twistedipc project secret NAME git_token`)"
        )
