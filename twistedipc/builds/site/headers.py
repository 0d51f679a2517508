"""
``_headers`` in the grammar of Netlify and Cloudflare Pages. Pure; used by ``said`` and by the pack step.

An address in one line, its headers in those that follow, indented or not::

    /assets/*
      Cache-Control: public, max-age=31536000, immutable
      Link: </app.css>; rel=preload
    /embed/:id
      ! X-Frame-Options

All rules for an address hold. What several of them say of one header is joined with commas; ``!`` leaves one out.
"""

from __future__ import annotations

import re

from twistedipc.builds.site.lines import Mistake, check_number, read_lines
from twistedipc.builds.site.rules import HEADERS, HeaderRule
from twistedipc.builds.site.sources import read_source

_LINE = re.compile(r"([A-Za-z0-9!#$%&'*+.^_`|~-]{1,80})[ \t]*:[ \t]*(.*)")
_REMOVED = re.compile(r"![ \t]*([A-Za-z0-9-]{1,80})")
_VALUE = re.compile(r"[\t\x20-\x7e]*")

_FRAMING = "it says where an answer ends or how it is sent, which only the server knows"
_CONTENT = "it says which content an answer has, which only the server knows"

#: header, in small letters -> why it can't be set
_REFUSED = {
    **dict.fromkeys(
        ("connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "via"), _FRAMING
    ),
    **dict.fromkeys(("proxy-connection", "proxy-authenticate", "proxy-status", "alt-svc", "expect-ct"), _FRAMING),
    **dict.fromkeys(
        ("accept-ranges", "age", "content-encoding", "content-range", "date", "etag", "last-modified", "vary"), _CONTENT
    ),
    **dict.fromkeys(("allow", "retry-after", "server", "warning"), _CONTENT),
    "location": "a redirect does: write it into _redirects",
    "set-cookie": "cookies of this host are the platform's",
    "set-cookie2": "cookies of this host are the platform's",
    "basic-auth": (
        "passwords aren't asked for here: releases can be for the team alone (twistedipc project set NAME --access "
        "team)"
    ),
    "www-authenticate": "whom a release is for is said by its project (twistedipc project set NAME --access team)",
    "clear-site-data": "it would sign out who may see the release",
}

#: How headers begin that are commands to a proxy in front: nginx (X-Accel-Redirect sends another file of the machine),
#: Apache, lighttpd, LiteSpeed, Perlbal, Envoy. A browser has no use for any of them.
_COMMANDS = ("x-accel-", "x-sendfile", "x-lighttpd-", "x-litespeed-", "x-reproxy-", "x-envoy-")

#: What keeps a browser from taking one kind of file for another stays.
NOSNIFF = "x-content-type-options"

#: Headers that hold for all of a host. Where several projects share one, none of them may set these.
HOST_WIDE = frozenset(
    {"strict-transport-security", "service-worker-allowed", "nel", "report-to", "origin-agent-cluster"}
)


def read_headers(data: bytes) -> list[HeaderRule]:
    """Return the rules of a ``_headers``, in its order. Raises `BadRules`, with the numbers of the lines."""
    rules: list[HeaderRule] = []

    def read(text: str, place: str) -> None:
        if text.startswith("/") or text.lower().startswith(("http://", "https://")):
            read_source(text, globs=True)
            rules.append(HeaderRule(source=text, values=[], removed=[], place=place))
        elif not rules:
            raise Mistake("a header comes before the address that it is for, such as /*")
        elif (removed := _REMOVED.fullmatch(text)) is not None:
            _check_name(removed[1], None)
            rules[-1].removed.append(removed[1])
        else:
            rules[-1].values.append(_of_line(text))

    read_lines(data, HEADERS, read)
    check_number(len(rules), f"addresses in {HEADERS}")
    return rules


def is_command(name: str) -> bool:
    """Return whether a header, in small letters, is a command to a proxy: no site may give one."""
    return name.startswith(_COMMANDS)


def check_headers(rule: HeaderRule) -> None:
    """Raise `Mistake` or `BadSource` for a rule that can't be used."""
    read_source(rule.source, globs=True)
    for name in rule.removed:
        _check_name(name, None)
    for name, value in rule.values:
        if _of_line(f"{name}: {value}") != (name, value):
            raise Mistake(f"{name[:80]!a} isn't the name of a header, or has a blank around its value")


def _of_line(text: str) -> tuple[str, str]:
    found = _LINE.fullmatch(text)
    if found is None:
        raise Mistake(f"{text[:60]!a} is neither an address nor a header such as X-Robots-Tag: noindex")
    name, value = found[1], found[2].strip()
    if not value:
        raise Mistake(f"{name} has no value; to leave the header out, write ! {name}")
    if not _VALUE.fullmatch(value):
        raise Mistake(f"the value of {name} has characters in it that aren't ASCII")
    _check_name(name, value)
    return name, value


def _check_name(name: str, value: str | None) -> None:
    lowered = name.lower()
    if lowered in _REFUSED or lowered.startswith("proxy-"):
        raise Mistake(f"{name} can't be set: {_REFUSED.get(lowered, _FRAMING)}")
    if is_command(lowered):
        raise Mistake(f"{name} can't be set: it is a command to a proxy in front, which a site may not give")
    if lowered == NOSNIFF and (value is None or value.lower() != "nosniff"):
        raise Mistake(f"{name} stays nosniff, so that no file is taken for another kind")
