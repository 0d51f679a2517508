"""
What is wrong with the rules of a site that is packed: redirects that go round, or that would make requests expensive,
and what their author should know; and with its links, where it isn't at the top of a host. Pure; used by ``pack``.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

from twistedipc.builds.site.redirects import check_redirect
from twistedipc.builds.site.rules import ELSEWHERE, BadRules, Redirect
from twistedipc.builds.site.sources import read_source
from twistedipc.publish.site.addresses import Files, look_in_place
from twistedipc.publish.site.answers import Address, Sent, Site
from twistedipc.publish.site.links import Unclear, links_of
from twistedipc.publish.site.matching import MAX_COST

#: How often a browser follows a redirect before it gives up.
MAX_STEPS = 20

#: What stands for a part of an address of which nothing is known. No rule has it as a part.
_ANYTHING = "~"

#: How many rules a warning names.
_SHOWN = 5


def check_site(site: Site, files: Files) -> list[str]:
    """
    Return sentences for the log on rules that do nothing. Raises `BadRules` for rules that would make requests
    expensive, and for redirects that go round, where that can be seen without a request.
    """
    check_costs(site)
    _check_loops(site, files)
    remarks = []
    if site.redirects.unreached:
        remarks.append(
            f"These redirects never hold, since one before them is for the same: {_named(site.redirects.unreached)}"
        )
    lost = [rule for rule in site.serving.redirects if _leads_nowhere(rule, site, files)]
    if lost:
        remarks.append(f"The files to which these redirects lead aren't in the site: {_named(lost)}")
    return remarks


def leads_elsewhere(page: bytes, name: str, address: str) -> str:
    """
    Return a sentence on a page whose scripts and styles aren't found at the address of its site, since it names them
    from the top of the host and the site is below a path; "" if they are, as far as can be seen.

    :param name: the page's
    :param address: where the site is served, as far as that is known
    """
    prefix = urlsplit(address).path
    if prefix in ("", "/"):
        return ""
    try:
        found = [link.address.decode("utf-8", "replace") for link in links_of(page)]
    except Unclear:
        return ""
    lost = [each for each in found if each.startswith("/") and not each.startswith(("//", prefix))]
    if not lost:
        return ""
    more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
    return (
        f"{name} links to {lost[0][:200]}{more} from the top of the host, but this site is at {address}, where that "
        "isn't found: give the project a host of its own (releases.public_url with {project} in its host, or a "
        f"domain), or build the site for the path {prefix}"
    )


def check_costs(site: Site) -> None:
    """Raise `BadRules` for rules that would make requests expensive."""
    for cost, what in ((site.redirects.cost, "redirects"), (site.headers.cost, "rules for headers")):
        if cost > MAX_COST:
            raise BadRules(
                f"too many {what} overlap: for one address up to {cost} would have to be looked at, and {MAX_COST} can "
                "be; use fewer placeholders and stars in the middle of paths, and fewer headers"
            )


def _named(rules: list[Redirect]) -> str:
    more = len(rules) - _SHOWN
    return ", ".join(f"{rule.place} ({rule.source})" for rule in rules[:_SHOWN]) + (
        f" and {more} more" if more > 0 else ""
    )


def _leads_nowhere(rule: Redirect, site: Site, files: Files) -> bool:
    if rule.status in ELSEWHERE or not rule.target:
        return False
    target = check_redirect(rule)
    return (
        target is not None and len(target.path) == 1 and look_in_place(files, site.serving, target.segments({})) is None
    )


def _check_loops(site: Site, files: Files) -> None:
    mistakes: list[str] = []
    told: set[str] = set()
    for rule in site.serving.redirects:
        if rule.status not in ELSEWHERE or rule.place in told:
            continue
        for address in _examples(rule):
            way = _follow(site, files, address)
            if way is not None:
                shown = " -> ".join(path for path, _rule in way[:4]) + (" -> …" if len(way) > 4 else "")
                mistakes.append(f"{rule.place}: this redirect goes round without an end: {shown}")
                told |= {each.place for _path, each in way if each is not None}
                break
    if mistakes:
        raise BadRules.of(mistakes)


def _follow(site: Site, files: Files, address: Address) -> list[tuple[str, Redirect | None]] | None:
    """Return the way of a browser from an address on, if it has no end; None if it has one."""
    way: list[tuple[str, Redirect | None]] = []
    seen: set[Address] = set()
    while address not in seen and len(way) <= MAX_STEPS:
        seen.add(address)
        answer = site.answer(files, address)
        if not isinstance(answer, Sent):
            return None
        shown = "/" + "/".join(address.segments)
        way.append((shown, answer.rule))
        following = _next(address, answer.location)
        if following is None:
            return None
        address = following
    return way


def _next(address: Address, location: str) -> Address | None:
    """Return the address to which a redirect leads; None if it is of another site, as far as is known."""
    parts = urlsplit(location)
    scheme, host = address.scheme, address.host
    if parts.scheme:
        scheme = parts.scheme
        if not host or parts.netloc != host:
            return None
    segments = tuple(unquote(part, errors="replace") for part in parts.path.split("/")[1:]) or ("",)
    return Address(segments, parts.query, scheme, host)


def _examples(rule: Redirect) -> Iterator[Address]:
    """Addresses that a rule is for."""
    source = read_source(rule.source, globs=False)
    parts = tuple(_ANYTHING if segment is None else segment for segment in source.segments)
    query = "&".join(f"{name}={_ANYTHING if value.startswith(':') else value}" for name, value in rule.query.items())
    rests: list[tuple[str, ...]] = [(), (_ANYTHING,)] if source.pieces is not None else [()]
    for rest in rests:
        yield Address((*parts, *rest) or ("",), query, source.scheme or "http", source.host)
