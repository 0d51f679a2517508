"""
Which scripts and styles a page of HTML links to, and where in it. Pure; used by ``marks``.

The page is read as browsers read it (HTML, 13.2.5), as far as that is needed to know what is a tag. Where a browser
could read it otherwise, the page is said to be unclear, so that nobody changes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Literal, NamedTuple

Kind = Literal["script", "module", "style"]


class Link(NamedTuple):
    """An address of a script or a style in a page."""

    kind: Kind
    position: int  # of the address's first byte in the page
    address: bytes  # as it is written there


class Unclear(Exception):
    """This page can't be changed safely; ``str()`` says why."""


_TAG = re.compile(rb"<(?:(?P<comment>!--)|(?P<bogus>[!?]|/[^A-Za-z>])|(?P<end>/?)(?P<name>[A-Za-z][^\t\n\f\r />]*))")
_END_OF_COMMENT = re.compile(rb"--!?>")
_EMPTY_COMMENT = re.compile(rb"-?>")
_BETWEEN = re.compile(rb"[\t\n\f\r /]*")
_ATTRIBUTE = re.compile(
    rb"(?P<name>[^\t\n\f\r />][^\t\n\f\r />=]*)"
    rb"(?:[\t\n\f\r ]*=[\t\n\f\r ]*(?:\"(?P<double>[^\"]*)\"|'(?P<single>[^']*)'|(?P<open>[\"'])"
    rb"|(?P<plain>[^\t\n\f\r >\"'][^\t\n\f\r >]*)|(?=>)))?"
)
#: The rest of most tags, at once: what it takes ends where the attributes one by one would.
_PLAIN_REST = re.compile(
    rb"(?:[\t\n\f\r ]++[^\t\n\f\r />=\"']++"
    rb"(?:=(?:\"[^\"]*+\"|'[^']*+'|[^\t\n\f\r >=\"'`<]++))?+)*+[\t\n\f\r ]*+/?+>"
)
_RAW = frozenset({b"script", b"style", b"title", b"textarea", b"noscript", b"iframe", b"noembed", b"noframes", b"xmp"})
_LOOKED_AT = frozenset({b"base", b"meta", b"link"})
_ENDS = {name: re.compile(rb"</" + name + rb"(?=[\t\n\f\r />])", re.IGNORECASE) for name in _RAW}
_SCRIPT_TYPES = frozenset({b"", b"text/javascript", b"application/javascript", b"text/ecmascript"})

#: What an inline script says that loads modules, or has a service worker: what it names wouldn't have a mark.
_LOADS = re.compile(rb"\bimport\b|serviceWorker")

#: A source of a policy that has a path; what is in quotes (hashes, nonces) has none.
_QUOTED = re.compile(r"'[^']*'")
_WITH_PATH = re.compile(r"[^\s/:]/\S")

_Attributes = dict[bytes, tuple[int, bytes]]


def links_of(page: bytes) -> list[Link]:
    """
    Return the page's links to scripts and styles, in their order.

    Raises `Unclear` for a page whose text isn't UTF-8, whose links are about another base, whose inline scripts load
    modules, whose policy is about paths, or that browsers may read otherwise.
    """
    if b"\0" in page or b"\x1b" in page or page.startswith((b"\xfe\xff", b"\xff\xfe")):
        raise Unclear("its encoding isn't UTF-8")
    try:
        page.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unclear("its encoding isn't UTF-8") from error
    return [link for name, attributes, text in _elements(page) if (link := _link(name, attributes, text)) is not None]


@lru_cache(maxsize=256)
def is_about_paths(policy: str) -> bool:
    """Return whether a Content-Security-Policy allows sources by their paths."""
    directives = [each.strip() for each in _QUOTED.sub("", policy).split(";")]
    return any(_WITH_PATH.search(each) for each in directives if not each.lower().startswith("report-"))


def _elements(page: bytes) -> Iterator[tuple[bytes, _Attributes, bytes]]:
    """The start tags: the name in small letters, the attributes, and the text of an element that has text alone."""
    position = 0
    while (found := _TAG.search(page, position)) is not None:
        name = (found["name"] or b"").lower()
        if not name:
            position = _after_comment(page, found)
            continue
        if found["end"] or not (name in _RAW or name in _LOOKED_AT):
            if name == b"plaintext":
                raise Unclear("it has plain text")
            rest = _PLAIN_REST.match(page, found.end())
            position = _attributes(page, found.end())[1] if rest is None else rest.end()
            continue
        attributes, position = _attributes(page, found.end())
        text = b""
        if name in _RAW:
            ended = _ENDS[name].search(page, position)
            if ended is None or page.endswith(b"/>", 0, position):
                raise Unclear("a script or a text has no end, or is closed at once")
            text = page[position : ended.start()]
            position = ended.start()
            if name == b"script" and b"<!--" in text and b"<script" in text.lower():
                raise Unclear("a script has comments with scripts in them")
        yield name, attributes, text


def _after_comment(page: bytes, found: re.Match[bytes]) -> int:
    """Return where what isn't text, and no tag, ends: at the end of the page, if it isn't closed."""
    start = found.end()
    if found["comment"]:
        ended = _EMPTY_COMMENT.match(page, start) or _END_OF_COMMENT.search(page, start)
        return len(page) if ended is None else ended.end()
    if page.startswith(b"[CDATA[", start):
        raise Unclear("it has CDATA")
    return page.find(b">", start - 1) + 1 or len(page)


def _attributes(page: bytes, position: int) -> tuple[_Attributes, int]:
    """Return the attributes of a tag from here on, and where the tag ends. One that isn't closed is none."""
    attributes: _Attributes = {}
    while True:
        between = _BETWEEN.match(page, position)
        position = position if between is None else between.end()
        if page.startswith(b">", position):
            return attributes, position + 1
        found = _ATTRIBUTE.match(page, position)
        if found is None or found["open"]:
            return {}, len(page)
        position = found.end()
        group = next((each for each in ("double", "single", "plain") if found[each] is not None), "")
        value = (found.start(group), found[group]) if group else (position, b"")
        attributes.setdefault(found["name"].lower(), value)


def _link(name: bytes, attributes: _Attributes, text: bytes) -> Link | None:
    def said(attribute: bytes) -> bytes:
        return attributes.get(attribute, (0, b""))[1].strip(b"\t\n\f\r ").lower()

    if name == b"base" and b"href" in attributes:
        raise Unclear("it has a base of its own")
    if name == b"meta" and said(b"http-equiv") == b"content-security-policy":
        policy = said(b"content")
        if b"&" in policy or is_about_paths(policy.decode()):
            raise Unclear("its policy is about paths")
    kind: Kind | None = None
    if name == b"script":
        kind = _kind_of_script(said(b"type"))
        if kind is not None and b"src" not in attributes and _LOADS.search(text):
            raise Unclear("a script in it loads modules, or has a service worker")
    elif name == b"link":
        kind = _kind_of_link(said(b"rel").split(), said(b"as"))
    address = attributes.get(b"src" if name == b"script" else b"href")
    return None if kind is None or address is None else Link(kind, *address)


def _kind_of_script(kind: bytes) -> Kind | None:
    if kind == b"importmap":
        raise Unclear("it has a map of imports")
    if kind == b"module":
        return "module"
    return "script" if kind in _SCRIPT_TYPES else None


def _kind_of_link(relations: list[bytes], loaded_as: bytes) -> Kind | None:
    if b"modulepreload" in relations:
        return "module" if loaded_as in (b"", b"script") else None
    if b"stylesheet" in relations or (b"preload" in relations and loaded_as == b"style"):
        return "style"
    return "script" if b"preload" in relations and loaded_as == b"script" else None
