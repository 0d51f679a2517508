"""
The rules of a site that are for an address, found fast. Pure; used by ``answers``, and by ``checking`` for their cost.

The rules are a tree of the parts of their paths. A request walks down it, at each part by the part itself and by the
placeholder. So what a request costs depends on how many rules overlap at its address, and not on how many there are.
`Redirects.cost` and `Headers.cost` are bounds for it, which packing and unpacking hold below `MAX_COST`: no rules make
every request expensive.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import unquote_plus

from twistedipc.builds.site.rules import HeaderRule, Redirect
from twistedipc.builds.site.sources import SPLAT, Source, read_source

#: How many places of the tree, and rules there, one request may lead to.
MAX_COST = 500

#: So many headers of one rule cost as much as a rule more.
_HEADERS_OF_A_RULE = 10

#: How many parts of a query are looked at.
_MAX_QUERY = 100

_NEVER = 1 << 60


class Asked(NamedTuple):
    """The address of a request, as rules are matched with it."""

    segments: tuple[str, ...]  # decoded, without an empty one at the end
    scheme: str = "http"
    host: str = ""
    query: Mapping[str, str] = MappingProxyType({})  # decoded, the first value of each name


class Match(NamedTuple):
    """A redirect that is for an address, and what its names stand for there."""

    rule: Redirect
    values: Mapping[str, str | Sequence[str]]


class _Node:
    """A part of the tree: what is below it, and the rules whose path is whole here."""

    __slots__ = ("ends", "first", "literals", "other", "rests")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.other: _Node | None = None  # for a placeholder
        self.ends: _Here | None = None  # rules without a star
        self.rests: _Here | None = None  # rules whose star stands for what follows
        self.first = _NEVER  # the number of the first rule here or below

    def cost(self) -> int:
        """A bound for how many places and rules one request leads to, from here on."""
        # Bottom up without recursion: a path may have many parts.
        order = [self]
        for node in order:
            order += node.literals.values()
            order += [node.other] if node.other is not None else []
        costs: dict[int, int] = {}
        for node in reversed(order):
            below = max((costs[id(child)] for child in node.literals.values()), default=0)
            here = sum(each.cost() for each in (node.ends, node.rests) if each is not None)
            costs[id(node)] = 1 + here + below + (costs[id(node.other)] if node.other is not None else 0)
        return costs[id(self)]


class _Here:
    """The rules of one path, by what they want of the query: the first of them that holds is found."""

    __slots__ = ("always", "by_query", "seen")

    def __init__(self) -> None:
        self.always = _NEVER
        self.by_query: dict[tuple[str, str | None], list[tuple[int, Redirect]]] = {}
        self.seen: set[tuple[tuple[str, str], ...]] = set()

    def add(self, number: int, rule: Redirect) -> bool:
        """Add a rule. Return whether it can ever hold: not if one before it holds wherever it does."""
        wanted = tuple(sorted((name, ":" if value.startswith(":") else value) for name, value in rule.query.items()))
        if self.always < number or wanted in self.seen:
            return False
        self.seen.add(wanted)
        if not wanted:
            self.always = number
            return True
        # By one of its values, if it names any: a thousand pages of "index.php?id=…" are a thousand keys.
        name, value = next((each for each in wanted if each[1] != ":"), wanted[0])
        self.by_query.setdefault((name, None if value == ":" else value), []).append((number, rule))
        return True

    def find(self, query: Mapping[str, str], best: int) -> int:
        """Return the number of the first rule that holds, if it is before ``best``."""
        best = min(best, self.always)
        if self.by_query:
            for name, value in query.items():
                for key in ((name, value), (name, None)):
                    for number, rule in self.by_query.get(key, ()):
                        if number < best and _holds(rule.query, query):
                            best = number
        return best

    def cost(self) -> int:
        exact: dict[str, int] = {}  # a request has one value of each name
        named = 0
        for (name, value), rules in self.by_query.items():
            if value is None:
                named += len(rules)
            else:
                exact[name] = max(exact.get(name, 0), len(rules))
        return 1 + sum(exact.values()) + named


def _holds(wanted: Mapping[str, str], query: Mapping[str, str]) -> bool:
    return all(name in query if value.startswith(":") else query.get(name) == value for name, value in wanted.items())


class Redirects:
    """The redirects of a site. ``unreached``: those that never hold, since one before them does."""

    def __init__(self, rules: Sequence[Redirect]) -> None:
        self._rules = rules
        self._trees: dict[tuple[str, str], _Node] = {}
        self.unreached: list[Redirect] = []
        for number, rule in enumerate(rules):
            source = read_source(rule.source, globs=False)
            node = self._trees.setdefault((source.scheme, source.host), _Node())
            for each in _way(node, source.segments):
                each.first = min(each.first, number)
                node = each
            if source.pieces is None:
                node.ends = here = node.ends or _Here()
            else:
                node.rests = here = node.rests or _Here()
            if not here.add(number, rule):
                self.unreached.append(rule)

    @property
    def cost(self) -> int:
        """A bound for what one request leads to."""
        return sum(tree.cost() for tree in self._trees.values())

    def find(self, asked: Asked) -> Match | None:
        """Return the first rule that is for an address."""
        best = _NEVER
        for key in (("", ""), (asked.scheme, asked.host)):
            tree = self._trees.get(key)
            if tree is not None:
                best = _first(tree, asked, best)
        if best == _NEVER:
            return None
        rule = self._rules[best]
        return Match(rule, _values(read_source(rule.source, globs=False), rule, asked))


def _way(root: _Node, segments: Sequence[str | None]) -> Iterator[_Node]:
    """Yield the nodes of a path, from the root on; they are made where there are none."""
    node = root
    yield node
    for segment in segments:
        if segment is None:
            node.other = node.other or _Node()
            node = node.other
        else:
            node = node.literals.setdefault(segment, _Node())
        yield node


def _first(tree: _Node, asked: Asked, best: int) -> int:
    """Return the number of the first rule of a tree that is for an address, if it is before ``best``."""
    segments, query = asked.segments, asked.query
    end = len(segments)
    waiting = [(tree, 0)]
    while waiting:
        node, depth = waiting.pop()
        if node.first >= best:
            continue
        if node.rests is not None:
            best = node.rests.find(query, best)
        if depth == end:
            if node.ends is not None:
                best = node.ends.find(query, best)
            continue
        if node.other is not None:
            waiting.append((node.other, depth + 1))
        literal = node.literals.get(segments[depth])
        if literal is not None:
            waiting.append((literal, depth + 1))
    return best


def _values(source: Source, rule: Redirect, asked: Asked) -> dict[str, str | Sequence[str]]:
    values: dict[str, str | Sequence[str]] = {}
    for name, value in rule.query.items():
        if value.startswith(":"):
            values[value[1:]] = asked.query.get(name, "")
    values.update(_of_path(source, asked.segments))
    return values


def _of_path(source: Source, segments: Sequence[str]) -> Iterator[tuple[str, str | Sequence[str]]]:
    """What the names of a source stand for in a path that it is for."""
    matched = [given for wanted, given in zip(source.segments, segments, strict=False) if wanted is None]
    yield from zip(source.names, matched, strict=True)
    if source.pieces == ("", ""):
        yield SPLAT, segments[len(source.segments) :]


class Headers:
    """The headers that a site says for its addresses."""

    def __init__(self, rules: Sequence[HeaderRule]) -> None:
        self._rules = rules
        self._trees: dict[str, _HeaderNode] = {}
        for number, rule in enumerate(rules):
            source = read_source(rule.source, globs=True)
            node = self._trees.setdefault(source.host, _HeaderNode())  # by http and https alike
            for segment in source.segments:
                if segment is None:
                    node.other = node.other or _HeaderNode()
                    node = node.other
                else:
                    node = node.literals.setdefault(segment, _HeaderNode())
            node.rules.append((number, source))
            node.weight += 1 + (len(rule.values) + len(rule.removed)) // _HEADERS_OF_A_RULE

    @property
    def cost(self) -> int:
        """A bound for what one request leads to."""
        return sum(tree.cost() for tree in self._trees.values())

    def find(self, asked: Asked) -> list[tuple[HeaderRule, Mapping[str, str | Sequence[str]]]]:
        """Return the rules that are for an address, in their order, each with what its names stand for."""
        found: list[tuple[int, Source]] = []
        for host in {"", asked.host}:
            tree = self._trees.get(host)
            if tree is not None:
                found += tree.find(asked.segments)
        found.sort()
        return [(self._rules[number], dict(_of_path(source, asked.segments))) for number, source in found]


class _HeaderNode:
    """A part of the tree of headers: what is below it, and the rules of which no more is to be matched by parts."""

    __slots__ = ("literals", "other", "rules", "weight")

    def __init__(self) -> None:
        self.literals: dict[str, _HeaderNode] = {}
        self.other: _HeaderNode | None = None
        self.rules: list[tuple[int, Source]] = []
        self.weight = 0  # of the rules, for the cost

    def cost(self) -> int:
        order = [self]
        for node in order:
            order += node.literals.values()
            order += [node.other] if node.other is not None else []
        costs: dict[int, int] = {}
        for node in reversed(order):
            below = max((costs[id(child)] for child in node.literals.values()), default=0)
            costs[id(node)] = 1 + node.weight + below + (costs[id(node.other)] if node.other is not None else 0)
        return costs[id(self)]

    def find(self, segments: Sequence[str]) -> list[tuple[int, Source]]:
        found: list[tuple[int, Source]] = []
        waiting = [(self, 0)]
        while waiting:
            node, depth = waiting.pop()
            if node.rules:
                rest = "/".join(segments[depth:])
                found += [each for each in node.rules if _is_rest(each[1].pieces, rest)]
            if depth < len(segments):
                for child in (node.other, node.literals.get(segments[depth])):
                    if child is not None:
                        waiting.append((child, depth + 1))
        return found


def _is_rest(pieces: tuple[str, ...] | None, rest: str) -> bool:
    """
    Return whether the pieces are in the text one after the other, from its beginning to its end. The first place of
    each will do, so nothing is tried twice.
    """
    if pieces is None:
        return not rest
    first, *between, last = pieces
    if not last and between and between[-1].endswith("/") and not rest.endswith("/"):
        rest += "/"  # a star that is the last part stands for the folder itself too
    if len(rest) < len(first) + len(last) or not (rest.startswith(first) and rest.endswith(last)):
        return False
    at, end = len(first), len(rest) - len(last)
    for piece in between:
        at = rest.find(piece, at, end)
        if at < 0:
            return False
        at += len(piece)
    return True


def query_of(raw: str) -> dict[str, str]:
    """Return the parts of a query, decoded, the first value of each name; at most `_MAX_QUERY` of them."""
    query: dict[str, str] = {}
    for part in raw.split("&", _MAX_QUERY)[:_MAX_QUERY]:
        if part:
            name, _, value = part.partition("=")
            query.setdefault(unquote_plus(name), unquote_plus(value))
    return query
