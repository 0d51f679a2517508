"""
``[site]`` in ``.twistedipc.toml``: how the site is served. Pure; used by ``builds.plan``::

    [site]
    trailing_slash = "never"       # or "always", or "auto"
    clean_urls = true              # /about.html is sent to /about
    index = "home.html"            # the file that answers for a folder
    spa = true
    marks = false                  # pages are served as they are
    budget = {js = "300 kB"}       # `budgets`
    redirects = [{from = "/news/*", to = "/blog/:splat", status = 302}]

    [[site.headers]]
    for = "/assets/*"
    values = {Cache-Control = "public, max-age=31536000", X-Frame-Options = ""}
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from twistedipc.builds.outputs import INDEX
from twistedipc.builds.site.budgets import Action
from twistedipc.builds.site.headers import check_headers
from twistedipc.builds.site.lines import Mistake, Mistakes
from twistedipc.builds.site.redirects import check_redirect
from twistedipc.builds.site.rules import MAX_LINE, MAX_RULES, BadRules, HeaderRule, Redirect, Serving, TrailingSlash

_Text = Annotated[str, Meta(max_length=MAX_LINE)]
_NAME_OF_INDEX = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,98}"


class SaidRedirect(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A redirect, as Netlify's configuration file has them."""

    source: Annotated[_Text, Meta(min_length=1)] = msgspec.field(name="from")
    to: _Text = ""
    status: int = 301
    force: bool = False
    query: dict[_Text, _Text] = {}


class SaidHeaders(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Headers for some addresses; "" leaves one out."""

    source: Annotated[_Text, Meta(min_length=1)] = msgspec.field(name="for")
    values: dict[_Text, _Text | list[_Text]]


class SaidSite(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table ``[site]``."""

    spa: bool | None = None
    trailing_slash: TrailingSlash | None = None
    clean_urls: bool | None = None
    index: Annotated[str, Meta(pattern=f"^{_NAME_OF_INDEX}$")] = INDEX
    marks: bool = True
    budget: dict[_Text, str | int] = {}
    budget_action: Action = "fail"
    redirects: Annotated[list[SaidRedirect], Meta(max_length=MAX_RULES)] = []
    headers: Annotated[list[SaidHeaders], Meta(max_length=MAX_RULES)] = []


def serving_of(said: SaidSite) -> Serving:
    """Return how a site is served, as it is said; ``spa`` is decided elsewhere. Raises `BadRules`."""
    mistakes = Mistakes()
    redirects: list[Redirect] = []
    headers: list[HeaderRule] = []
    for number, each in enumerate(said.redirects, 1):
        place = f"site.redirects, number {number}"
        with mistakes.of(place):
            rule = Redirect(
                source=each.source, target=each.to, status=each.status, force=each.force, query=each.query, place=place
            )
            check_redirect(rule)
            redirects.append(rule)
    for number, table in enumerate(said.headers, 1):
        place = f"site.headers, number {number}"
        with mistakes.of(place):
            headers.append(_headers(table, place))
    mistakes.raise_any()
    return Serving(
        trailing_slash=said.trailing_slash or "auto",
        clean_urls=said.clean_urls,
        index=said.index,
        marks=said.marks,
        redirects=redirects,
        headers=headers,
    )


def check_serving(serving: Serving) -> None:
    """Raise `BadRules` for rules that can't be used: they may come from another machine."""
    mistakes = Mistakes()
    for redirect in serving.redirects:
        with mistakes.of(redirect.place):
            if max(map(len, (redirect.source, redirect.target, *redirect.query, *redirect.query.values()))) > MAX_LINE:
                raise Mistake(f"it has more than {MAX_LINE} characters")
            check_redirect(redirect)
    for headers in serving.headers:
        with mistakes.of(headers.place):
            check_headers(headers)
    mistakes.raise_any()
    if len(serving.redirects) > 2 * MAX_RULES or len(serving.headers) > 2 * MAX_RULES:
        raise BadRules(f"there are more than {2 * MAX_RULES} rules")


def _headers(table: SaidHeaders, place: str) -> HeaderRule:
    values: list[tuple[str, str]] = []
    removed: list[str] = []
    for name, said in table.values.items():
        for value in [said] if isinstance(said, str) else said:
            if value:
                values.append((name, value))
            else:
                removed.append(name)
    rule = HeaderRule(source=table.source, values=values, removed=removed, place=place)
    check_headers(rule)
    return rule
