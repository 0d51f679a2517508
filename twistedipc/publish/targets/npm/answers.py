"""
What npm and a registry answer, understood. Pure, but for hashing a tarball; used by ``npm`` and ``publishing``.

Registries differ: one gives an ``integrity`` of several hashes, one only the ``shasum`` of old, one only a hash that
nobody here knows. So what is there is compared with what was packed by the strongest hash that both have.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from pathlib import Path
from typing import Literal

import msgspec

#: The hashes by which contents are compared, strongest first.
HASHES = ("sha512", "sha384", "sha256", "sha1")

_CODE = re.compile(r"npm (?:ERR!|error) code (\S+)")
_ERROR_LINE = re.compile(r"npm (?:ERR!|error) (?:(?:[A-Z_0-9]+|\d{3}) )*(?P<text>\S.*)")
_NOTHING_SAID = re.compile(r"(?:code|errno|syscall|type) \S+\Z|A complete log of this run|\d{3}\Z")

# What may be different next time: the registry is busy, or can't be reached.
_PASSING = re.compile(
    r"E(408|409|420|425|429|5\d\d)\Z|(ECONN\w*|ETIMEDOUT|ESOCKETTIMEDOUT|EIDLETIMEOUT|ERESPONSETIMEOUT|EAI_AGAIN|ENOTFOUND"
    r"|EPIPE|ENETUNREACH|ENETDOWN|EHOSTUNREACH|EHOSTDOWN|ERR_SOCKET_TIMEOUT|ERR_STREAM_PREMATURE_CLOSE)\Z"
)

# After these an upload may still have been taken: an earlier one, or this one behind a proxy.
_MAYBE_TAKEN = frozenset({"E403", "E409", ""})

_EXPLAINED = {
    "E401": "the registry doesn't take the project's token",
    "ENEEDAUTH": "the registry doesn't take the project's token",
    "E402": 'the registry wants to be paid for private packages ("publishConfig": {"access": "public"} in package.json '
    "makes it a public one)",
    "E403": "the registry forbids it",
    "EOTP": "the registry wants a one-time password: the project needs a token that publishes without one",
}


class Ran(msgspec.Struct, frozen=True):
    """The outcome of a call of npm."""

    code: int
    output: str  # its standard output (of `Npm.ask`), or the end of all that it printed (of `Npm.show`)
    errors: str = ""

    @property
    def error(self) -> str:
        """npm's name of the error: "E404"; "" if it gave none."""
        match = _CODE.search(self.errors or self.output)
        return match[1] if match else ""

    @property
    def said(self) -> str:
        """The first line in which npm, or the registry through it, says what is wrong; "" if there is none."""
        for line in (self.errors or self.output).splitlines():
            match = _ERROR_LINE.match(line.strip())
            if match is not None and not _NOTHING_SAID.match(match["text"]):
                return match["text"][:300]
        return ""

    @property
    def passes(self) -> bool:
        """
        Whether it may go well next time. What npm refuses by itself (EUSAGE, or a sentence without a code), and what
        the registry forbids, stays as it is; an npm that died without a word may live.
        """
        if self.error == "FETCH_ERROR":  # of a body that never came; or of one that is a page for signing in
            return "invalid json" not in self.said
        return bool(_PASSING.match(self.error)) or (not self.error and not self.said)

    @property
    def maybe_taken(self) -> bool:
        """Return whether an upload that failed so may still be in the registry."""
        return self.passes or self.error in _MAYBE_TAKEN


class Dist(msgspec.Struct, frozen=True):
    """What a registry says of a version's content. Null is as good as nothing."""

    integrity: str | None = None  # as in https://www.w3.org/TR/SRI/: hashes by spaces, each "sha512-BASE64" or so
    shasum: str | None = None  # SHA-1 in hexadecimal

    @property
    def hashes(self) -> dict[str, set[str]]:
        """algorithm -> the hexadecimal hashes that are given; any one of them may be the content's."""
        found: dict[str, set[str]] = {}
        for each in (self.integrity or "").split():
            algorithm, _, rest = each.partition("-")
            try:
                digest = base64.b64decode(rest.partition("?")[0], validate=True).hex()
            except (binascii.Error, ValueError):
                continue
            if algorithm.lower() in HASHES and digest:
                found.setdefault(algorithm.lower(), set()).add(digest)
        if self.shasum and "sha1" not in found:
            found["sha1"] = {self.shasum.strip().lower()}
        return found


class Seen(msgspec.Struct, frozen=True):
    """What a registry has of one version."""

    dist: Dist | None = None  # None: there is no such version
    tags: dict[str, str] = {}  # all of the package's dist-tags -> versions
    times: dict[str, str] = {}  # version -> when it was published (ISO 8601); empty where the registry doesn't say


class _View(msgspec.Struct):
    dist: Dist
    tags: dict[str, str] = msgspec.field(default={}, name="dist-tags")
    times: dict[str, object] = msgspec.field(default={}, name="time")  # not all of them are times


def read_view(ran: Ran) -> Seen | None:
    """What `npm view NAME@VERSION dist dist-tags time --json` found. None: it can't be known now."""
    if ran.code != 0:
        return Seen() if ran.error == "E404" or '"E404"' in ran.output else None
    if not ran.output.strip():  # older versions of npm say nothing of a version that isn't there
        return Seen()
    try:
        found = msgspec.json.decode(ran.output, type=_View)
    except msgspec.DecodeError:  # (the output is a str: it can't be cut in a character)
        return None
    times = {version: time for version, time in found.times.items() if isinstance(time, str)}
    return Seen(found.dist, found.tags, times)


def read_tags(ran: Ran) -> dict[str, str]:
    """What `npm view NAME dist-tags --json` found: tag -> version. Empty if there is none, or it can't be known."""
    try:
        return msgspec.json.decode(ran.output, type=dict[str, str]) if ran.code == 0 else {}
    except msgspec.DecodeError:
        return {}


def compare(tarball: Path, dist: Dist) -> Literal["same", "different", "unknown"]:
    """Compare a registry's content with the tarball's, by the strongest hash. ``unknown``: the registry gives none."""
    hashes = dist.hashes
    for algorithm in HASHES:
        if algorithm in hashes:
            with tarball.open("rb") as file:
                digest = hashlib.file_digest(file, algorithm).hexdigest()
            return "same" if digest in hashes[algorithm] else "different"
    return "unknown"


def explain(ran: Ran) -> str:
    """Return why a call of npm failed, in a clause."""
    why = _EXPLAINED.get(ran.error, "")
    if not why and not ran.error and not ran.said:
        return f"npm ended with exit code {ran.code}"
    code = f" ({ran.error})" if ran.error and ran.error not in ("E401", "ENEEDAUTH") else ""
    said = f": {ran.said}" if ran.said and ran.error not in ("E401", "ENEEDAUTH", "EOTP") else ""
    return f"{why or 'npm says'}{code}{said}"
