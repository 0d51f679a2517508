"""
``_redirects`` in Netlify's grammar. Pure; used by ``said`` and by the pack step.

A line is ``FROM [NAME=VALUE …] TO [STATUS[!]]``, and what follows a word that begins with ``#`` is a comment::

    /news/*                          /blog/:splat                  301
    /store        id=:id             /shop/:id                     302
    /app/*                           /app/index.html               200
    https://old.example.org/*        https://www.example.org/:splat  301!

Conditions on countries, languages, roles and cookies, and proxying to other hosts, are refused by their names: a site
that counts on them must not go live without them.
"""

from __future__ import annotations

import re

from twistedipc.builds.site.lines import Mistake, check_number, read_lines
from twistedipc.builds.site.rules import ELSEWHERE, IN_PLACE, REDIRECTS, Redirect
from twistedipc.builds.site.sources import NAME, read_source
from twistedipc.builds.site.targets import Target, read_target

_STATUS = re.compile(r"([0-9]{3})(!?)")
_PAIR = re.compile(r"([A-Za-z0-9_.~\[\]%-]{1,100})=(.*)", re.DOTALL)
_ANY_VALUE = re.compile(rf":{NAME}")

#: condition, in small letters -> why it can't hold here
_CONDITIONS = {
    "country": "the platform doesn't know in which country a visitor is",
    "language": "a redirect by the visitor's language isn't done here: let the page choose",
    "role": "roles aren't known here: releases can be for the team alone (twistedipc project set NAME --access team)",
    "cookie": "a redirect by a cookie isn't done here",
    "sign": "signed proxying isn't done here",
    "signed": "signed proxying isn't done here",
}

#: Where Netlify has its functions: no file will ever be there.
_FUNCTIONS = "/.netlify/"


def read_redirects(data: bytes) -> list[Redirect]:
    """Return the rules of a ``_redirects``, in its order. Raises `BadRules`, with the numbers of the lines."""
    rules: list[Redirect] = []

    read_lines(data, REDIRECTS, lambda text, place: rules.append(_of_line(text, place)))
    check_number(len(rules), f"redirects in {REDIRECTS}")
    return rules


def check_redirect(rule: Redirect) -> Target | None:
    """Return where a rule leads; None for one without a target. Raises `Mistake`, `BadSource` or `BadTarget`."""
    if rule.status not in ELSEWHERE | IN_PLACE:
        known = ", ".join(map(str, sorted(ELSEWHERE | IN_PLACE)))
        raise Mistake(f"the status {rule.status} can't be given: there are {known}")
    source = read_source(rule.source, globs=False)
    odd = [value for value in rule.query.values() if value.startswith(":") and not _ANY_VALUE.fullmatch(value)]
    if odd:
        raise Mistake(f"{odd[0][:60]!a} isn't the name of a placeholder, such as :id")
    names = {value[1:] for value in rule.query.values() if _ANY_VALUE.fullmatch(value)}
    if names & source.bound:
        raise Mistake(f"the placeholder :{min(names & source.bound)} stands for two things")
    if not rule.target:
        if rule.status in (404, 410):
            return None
        raise Mistake("it says no target: a path, or an address")
    target = read_target(rule.target, source.bound | names)
    if rule.status in IN_PLACE and target.origin:
        raise Mistake(
            f"{rule.status} with another host ({target.origin}) is proxying, which isn't done here: redirect with "
            "301 or 302, or have the proxy in front do it"
        )
    if rule.status in IN_PLACE and rule.target.startswith(_FUNCTIONS):
        raise Mistake(f"{rule.target} is a function of Netlify's, and a site here has files alone")
    return target


def _of_line(text: str, place: str) -> Redirect:
    words = text.split()
    comment = next((at for at, word in enumerate(words) if word.startswith("#")), len(words))
    words = words[:comment]
    if len(words) == 1:
        raise Mistake("it has no target: a path, or an address, with a blank before it")
    source, *rest = words
    at = next((at for at, word in enumerate(rest) if _is_target(word) or _STATUS.fullmatch(word)), None)
    if at is None:
        raise Mistake('it has no target that begins with "/", "http://" or "https://"')
    query = dict(map(_pair, rest[:at]))
    target = rest[at] if _is_target(rest[at]) else ""
    status, force = 301, False
    for word in rest[at + 1 if target else at :]:
        found = _STATUS.fullmatch(word)
        if found is None:
            raise Mistake(_problem_of_condition(word))
        status, force = int(found[1]), bool(found[2])
    if not target and source.endswith("/*") and status == 200:
        target = source.removesuffix("*") + ":splat"  # Netlify's short form: what is there, is there
    rule = Redirect(source=source, target=target, status=status, force=force, query=query, place=place)
    check_redirect(rule)
    return rule


def _is_target(word: str) -> bool:
    return word.startswith("/") or word.lower().startswith(("http:", "https:"))


def _pair(word: str) -> tuple[str, str]:
    pair = _PAIR.fullmatch(word)
    if pair is None:
        raise Mistake(f'{word[:60]!a} is neither a target nor NAME=VALUE: a target begins with "/" or "https://"')
    if pair[1].lower() in _CONDITIONS:
        raise Mistake(f"{pair[1]}: {_CONDITIONS[pair[1].lower()]}")
    return pair[1], pair[2]


def _problem_of_condition(word: str) -> str:
    name = word.partition("=")[0]
    if name.lower() in _CONDITIONS:
        return f"{name}: {_CONDITIONS[name.lower()]}"
    return f"{word[:60]!a} isn't a status such as 301, 302 or 200!"
