"""
What a site answers to a request: a file of its release, a redirect, or that there is nothing. Pure; used by the
releases' site, and by ``checking`` when a site is packed.

In this order: a rule that is forced; a file; an asset of an earlier release; any other rule; the page of a single-page
application; nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote

from twistedipc.builds.outputs import FALLBACK
from twistedipc.builds.site.headers import HOST_WIDE, is_command
from twistedipc.builds.site.redirects import check_redirect
from twistedipc.builds.site.rules import ELSEWHERE, RULE_FILES, Redirect, Serving
from twistedipc.builds.site.sources import NAME
from twistedipc.publish.site.addresses import Elsewhere, Files, look_in_place, look_up, page_of_missing
from twistedipc.publish.site.matching import Asked, Headers, Match, Redirects, query_of
from twistedipc.publish.site.pages import is_page_address
from twistedipc.publish.site_paths import is_hidden

#: What a query may hold beside letters, digits and "-._~" (RFC 3986, 3.4); all else in it is encoded in a Location.
_QUERY = "!$&'()*+,;=:@/?%"


_NAMED = re.compile(rf":({NAME})")


class Address(NamedTuple):
    """What a request asks for."""

    segments: tuple[str, ...]  # decoded; a final "" stands for a slash at the end
    query: str = ""  # as it came, without the question mark
    scheme: str = "http"
    host: str = ""  # in small letters, without a port


class File(NamedTuple):
    """A file of the release."""

    path: str
    status: int = 200


class OldAsset(NamedTuple):
    """The file with this path of an earlier release."""

    path: str


class Sent(NamedTuple):
    """A redirect. ``location`` is an address, or a path of the site, which begins with "/"."""

    location: str
    status: int = 302
    rule: Redirect | None = None


class Missing(NamedTuple):
    """Nothing is there. ``page``: the release's page for that; None: it has none."""

    page: str | None
    status: int = 404


Answer = File | OldAsset | Sent | Missing


class Site:
    """How one release answers."""

    def __init__(self, serving: Serving) -> None:
        self.serving = serving
        self.redirects = Redirects(serving.redirects)
        self.headers = Headers(serving.headers)

    def answer(self, files: Files, address: Address, is_old: Callable[[str], bool] = lambda path: False) -> Answer:
        """
        Return what the site answers.

        :param files: those of the release
        :param is_old: whether an earlier release has an asset with this path that an open page may ask for
        """
        segments = address.segments
        if is_hidden(segments) or (len(segments) == 1 and segments[0] in RULE_FILES):
            return Missing(page_of_missing(files, segments))
        match = self.redirects.find(_asked(address)) if self.serving.redirects else None
        if match is not None and match.rule.force:
            answer = self._by_rule(files, address, match)
            if answer is not None:
                return answer
            match = None
        found = look_up(files, self.serving, segments)
        if isinstance(found, Elsewhere):
            return Sent(location_of(found.segments, address.query))
        if found is not None:
            return File(found)
        path = "/".join(segments)
        if is_old(path):
            return OldAsset(path)
        if match is not None:
            answer = self._by_rule(files, address, match)
            if answer is not None:
                return answer
        return self._without_file(files, segments)

    def headers_of(self, address: Address, *, shared_host: bool = False) -> dict[str, tuple[str, str | None]]:
        """
        Return the headers that the site says for an address: by the name in small letters, the name as it is written
        and the value; None for one that is left out.

        :param shared_host: whether other sites are at this host too, by their paths
        """
        if not self.serving.headers:
            return {}
        found: dict[str, tuple[str, list[str] | None]] = {}
        for rule, values in self.headers.find(_asked(address)):
            for name in rule.removed:
                found[name.lower()] = (name, None)
            for name, text in rule.values:
                before = found.get(name.lower(), (name, None))[1] or []
                before.append(_filled(text, values))
                found[name.lower()] = (name, before)
        return {
            key: (name, None if texts is None else ", ".join(texts))
            for key, (name, texts) in found.items()
            # Releases are kept from before commands to proxies were refused.
            if not (is_command(key) or (shared_host and key in HOST_WIDE))
        }

    def _by_rule(self, files: Files, address: Address, match: Match) -> Answer | None:
        """Return what a rule answers; None if it is to be passed over."""
        target = check_redirect(match.rule)
        status = match.rule.status
        if status in ELSEWHERE:
            assert target is not None, "a redirect leads somewhere"
            location = target.location(match.values)
            if target.query is None:
                # What the rule has taken out of the query isn't said again.
                kept = [
                    part for part in address.query.split("&") if not query_of(part).keys() & match.rule.query.keys()
                ]
                before, mark, fragment = location.partition("#")
                location = before + _query("&".join(kept)) + mark + fragment
            own = location_of(address.segments, address.query)
            # A browser would ask for the same again, and again.
            return (
                None
                if location in (own, f"{address.scheme}://{address.host}{own}")
                else Sent(location, status, match.rule)
            )
        path = None if target is None else look_in_place(files, self.serving, target.segments(match.values))
        if path is None:
            return Missing(page_of_missing(files, address.segments), 404 if status == 200 else status)
        catches_all = match.rule.source.endswith("*") and not match.rule.force
        if status == 200 and catches_all and path.endswith(".html") and not is_page_address(files, address.segments):
            return None
        return File(path, status)

    def _without_file(self, files: Files, segments: Sequence[str]) -> Answer:
        if self.serving.spa and is_page_address(files, segments):
            for page in (FALLBACK, self.serving.index):
                if files.has(page):
                    return File(page)
        return Missing(page_of_missing(files, segments))


def _asked(address: Address) -> Asked:
    segments = address.segments
    parts = segments[:-1] if segments and segments[-1] == "" else segments
    return Asked(parts, address.scheme, address.host, query_of(address.query))


def location_of(segments: Sequence[str], query: str) -> str:
    """
    Return an address of the site, for a Location. All slashes of either kind in a segment are encoded, so that no path
    begins with two.
    """
    return "/" + "/".join(quote(segment, safe="") for segment in segments) + _query(query)


def _query(query: str) -> str:
    return "?" + quote(query.encode("latin-1"), safe=_QUERY) if query else ""


def _filled(text: str, values: Mapping[str, str | Sequence[str]]) -> str:
    """Return a header's value with what its names stand for, encoded as in an address."""
    if not values or ":" not in text:
        return text

    def value_of(found: re.Match[str]) -> str:
        value = values.get(found[1])
        if value is None:
            return found[0]
        return "/".join(quote(each, safe="") for each in ([value] if isinstance(value, str) else value))

    return _NAMED.sub(value_of, text)
