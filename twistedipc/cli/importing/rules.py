"""
Redirects and headers in ``netlify.toml`` and ``vercel.json`` -> rules of this platform. Pure.

Netlify's rules are those that the platform has. Vercel's addresses are patterns of path-to-regexp
(https://vercel.com/docs/project-configuration#redirects): what stands for one part of a path, or for all that follows,
can be said here; other regular expressions can't. Its redirects go before files, and its rewrites after them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from twistedipc.builds.site.headers import check_headers
from twistedipc.builds.site.lines import Mistake
from twistedipc.builds.site.redirects import check_redirect
from twistedipc.builds.site.rules import MAX_RULES, HeaderRule, Redirect
from twistedipc.builds.site.sources import NAME, SPLAT, BadSource
from twistedipc.builds.site.targets import BadTarget
from twistedipc.cli.importing.imported import Imported, quoted

_NOT = "isn't carried over:"

#: A part of one of Vercel's paths: one name, or all that follows.
_NAMED = re.compile(rf":({NAME})")
_REST = re.compile(rf"\(\.\*\)|:({NAME})(?:\*|\(\.\*\))")

#: What a part of a path can't have without being a pattern.
_PLAIN = re.compile(r"[^:()*+?{}\\|\[\]^$]*")

_PATTERN = (
    "its address is a regular expression, of which only names (/:id) and the rest of a path (/:path*, /(.*)) are known"
)


class _Unknown(Exception):
    """A pattern can't be said here."""


# -- netlify.toml ----------------------------------------------------------------------------------------------------


def netlify_redirect(rule: Mapping[str, Any], file: str, line: int, into: Imported) -> None:
    """Carry a redirect of ``netlify.toml`` over, or remark why it can't be."""
    source, target = _text(rule, "from"), _text(rule, "to")
    what = f"the redirect of {quoted(source)} to {quoted(target)}"
    conditions = rule.get("conditions")
    if conditions:
        named = ", ".join(conditions) if isinstance(conditions, dict) else "conditions"
        into.leave(file, line, f"{what} {_NOT} it depends on the visitor ({quoted(named)}), which isn't looked at here")
        return
    if rule.get("signed") or rule.get("headers"):
        into.leave(file, line, f"{what} {_NOT} it is for proxying, which isn't done here")
        return
    status, query = rule.get("status", 301), rule.get("query") or {}
    if not isinstance(status, int) or not isinstance(query, dict):
        into.leave(file, line, f"{what} {_NOT} its status is no number, or its query no table")
        return
    _add_redirect(
        Redirect(
            source=source,
            target=target,
            status=status,
            force=rule.get("force") is True,
            query={str(name): str(value) for name, value in query.items()},
        ),
        what,
        file,
        line,
        into,
    )


def netlify_headers(table: Mapping[str, Any], file: str, line: int, into: Imported) -> None:
    """Carry headers of ``netlify.toml`` for an address over, or remark why they can't be."""
    values = table.get("values")
    pairs = list(values.items()) if isinstance(values, dict) else []
    _add_headers(_text(table, "for"), [(str(name), value) for name, value in pairs], file, line, into)


# -- vercel.json -----------------------------------------------------------------------------------------------------


def vercel_redirect(rule: Mapping[str, Any], file: str, line: int, into: Imported) -> None:
    """Carry a redirect of ``vercel.json`` over, or remark why it can't be."""
    status = rule.get("statusCode") or (308 if rule.get("permanent") is True else 307)
    _vercel(rule, "redirect", status, file, line, into)


def vercel_rewrite(rule: Mapping[str, Any], file: str, line: int, into: Imported) -> None:
    """Carry a rewrite of ``vercel.json`` over, or remark why it can't be."""
    _vercel(rule, "rewrite", 200, file, line, into)


def vercel_headers(rule: Mapping[str, Any], file: str, line: int, into: Imported) -> None:
    """Carry headers of ``vercel.json`` for an address over, or remark why they can't be."""
    source = _text(rule, "source")
    if rule.get("has") or rule.get("missing"):
        into.leave(file, line, f"headers {quoted(source)} aren't carried over: they have conditions (has, missing)")
        return
    listed = rule.get("headers")
    pairs = [
        (_text(each, "key"), each.get("value"))
        for each in (listed if isinstance(listed, list) else [])
        if isinstance(each, dict)
    ]
    try:
        address = _glob(source)
    except _Unknown:
        into.leave(file, line, f"headers {quoted(source)} aren't carried over: {_PATTERN}")
        return
    _add_headers(address, pairs, file, line, into)


def _vercel(rule: Mapping[str, Any], kind: str, status: object, file: str, line: int, into: Imported) -> None:
    source, target = _text(rule, "source"), _text(rule, "destination")
    what = f"the {kind} of {quoted(source)} to {quoted(target)}"
    if rule.get("has") or rule.get("missing"):
        into.leave(file, line, f"{what} {_NOT} it has conditions (has, missing), which aren't known here")
        return
    if not isinstance(status, int):
        into.leave(file, line, f"{what} {_NOT} its status is no number")
        return
    try:
        address, meanings = _address(source)
    except _Unknown:
        into.leave(file, line, f"{what} {_NOT} {_PATTERN}")
        return
    # A redirect holds there whether there is a file or not, and a rewrite only where there is none.
    rule_here = Redirect(source=address, target=_target(target, meanings), status=status, force=kind == "redirect")
    _add_redirect(rule_here, what, file, line, into)


def _address(source: str) -> tuple[str, list[tuple[str, str]]]:
    """
    Return an address as it is written here, and what stands in it: each as Vercel's targets and as ours name it, in
    the order of their numbers there. Raises `_Unknown`.
    """
    parts: list[str] = []
    meanings: list[tuple[str, str]] = []
    split = source.split("/")
    for number, part in enumerate(split):
        rest, named = _REST.fullmatch(part), _NAMED.fullmatch(part)
        if rest is not None and number == len(split) - 1:
            parts.append("*")
            meanings.append((rest[1] or "", SPLAT))
        elif named is not None and named[1] != SPLAT:
            parts.append(part)
            meanings.append((named[1], named[1]))
        elif _PLAIN.fullmatch(part):
            parts.append(part)
        else:
            raise _Unknown
    return "/".join(parts), meanings


def _target(target: str, meanings: list[tuple[str, str]]) -> str:
    """Return where a rule leads as it is written here."""
    for number, (name, ours) in enumerate(meanings, 1):
        target = re.sub(rf"\${number}(?![0-9])", f":{ours}", target)
        if name:
            target = re.sub(rf":{name}(?![A-Za-z0-9_])\*?", f":{ours}", target)
    return target


def _glob(source: str) -> str:
    """Return an address for headers as it is written here. Raises `_Unknown`."""
    address = _REST.sub("*", source)
    plain = re.sub(rf":{NAME}(?=/|$)", "", address.replace("*", ""))
    if not _PLAIN.fullmatch(plain):
        raise _Unknown
    return address


# -- both ------------------------------------------------------------------------------------------------------------


def _add_redirect(rule: Redirect, what: str, file: str, line: int, into: Imported) -> None:
    try:
        check_redirect(rule)
        if len(into.redirects) >= MAX_RULES:
            raise Mistake(f"there are {MAX_RULES} before it")
    except (Mistake, BadSource, BadTarget) as error:
        into.leave(file, line, f"{what} {_NOT} {error}")
    else:
        into.redirects.append(rule)


def _add_headers(source: str, pairs: list[tuple[str, object]], file: str, line: int, into: Imported) -> None:
    """Carry headers for an address over, each that can be, and remark on the others."""
    kept: list[tuple[str, str]] = []
    for name, value in pairs:
        for text in value if isinstance(value, list) else [value]:
            one = (name, " ".join(str(text).split()))  # a value may be written in several lines
            try:
                check_headers(HeaderRule(source=source, values=[one]))
            except (Mistake, BadSource) as error:
                into.leave(file, line, f"the header {quoted(name)} for {quoted(source)} {_NOT} {error}")
            else:
                kept.append(one)
    if kept and len(into.headers) < MAX_RULES:
        into.headers.append(HeaderRule(source=source, values=kept))


def _text(table: Mapping[str, Any], key: str) -> str:
    found = table.get(key)
    return found if isinstance(found, str) else ""
