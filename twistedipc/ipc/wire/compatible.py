"""
What breaks between two versions of an interface, by their JSON Schemas: `compare`. Pure; used by
``python -m twistedipc.ipc diff``.

A value that one side sends is taken by the other if it fits the other's schema. So each part is compared in the
direction in which it is sent, for an old sender with a new receiver and the other way round: messages, requests and the
items of streams go from the side that asks to the one that answers, replies and the items of streamed ones come back.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from twistedipc.ipc.wire.schema import LEFT_OUT, REF, TIME

#: What an interface is made of, and what it costs if it doesn't fit: in the words of docs/ipc.md.
_COSTS = {
    "message": "the message is refused, bad-message",
    "request": "the call fails, bad-request",
    "reply": "the call fails, bad-reply",
    "item": "the call fails, bad-reply",
    "stream": "the stream fails, bad-item",
}
_UNKNOWN = {
    "message": "the message is refused, unknown-type",
    "request": "the call fails, unknown-type",
    "stream": "the stream fails, stream",
}

#: The groups of a schema, and what is in each.
_PARTS = {"messages": "message", "requests": "request", "streamed": "request", "streams": "stream"}

_LEAST = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_MOST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_EXACT = ("pattern", "multipleOf")

Schema = dict[str, Any]


class Break(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    Something that one version sends and the other doesn't take.

    :param part: ``message``, ``request``, ``reply``, ``item`` (of a streamed reply), ``stream``, or ``interface``
    :param name: its type, or the stream's name
    :param sender: the version that sends it, ``old`` or ``new``; "": either
    :param problem: what is wrong, with the place
    :param costs: what comes of it
    """

    part: str
    name: str
    sender: str = ""
    problem: str
    costs: str

    def __str__(self) -> str:
        receiver = {"old": "new", "new": "old"}.get(self.sender)
        who = f", {self.sender} sender, {receiver} receiver" if receiver else ""
        return f"{self.part} {self.name}{who}: {self.problem} ({self.costs})"


class Comparison(msgspec.Struct, frozen=True):
    """
    What comes of running two versions of an interface together.

    :param compatible: whether all that the two have in common, and all that an old program uses, works both ways
    :param added: what only the new version has, as part and name: a program asks `Peer.understands` before it uses it
    """

    compatible: bool
    breaks: list[Break]
    added: list[tuple[str, str]]


def compare(old: Schema, new: Schema) -> Comparison:
    """Compare two versions of an interface, as `Interface.schema` has made them. Raises ValueError if they are none."""
    for each in (old, new):
        if not (isinstance(each, dict) and each.get("format") == 1 and isinstance(each.get("interface"), str)):
            raise ValueError("this isn't the JSON Schema of an interface, as `dump` writes it")
    breaks: list[Break] = []
    added: list[tuple[str, str]] = []
    if old["interface"] != new["interface"]:
        problem = f"it is called {new['interface']} now"
        costs = "no link: the wrong role is refused"
        breaks.append(Break(part="interface", name=old["interface"], problem=problem, costs=costs))
    for group, part in _PARTS.items():
        before, now = old.get(group, {}), new.get(group, {})
        for name in before.keys() - now.keys():
            problem = "the new version doesn't have it"
            breaks.append(Break(part=part, name=name, sender="old", problem=problem, costs=_UNKNOWN[part]))
        added += [(part, name) for name in sorted(now.keys() - before.keys())]
        for name in before.keys() & now.keys():
            if part != "request":
                breaks += _both_ways(part, name, (old, before[name]), (new, now[name]))
                continue
            for half in ("request", "reply" if group == "requests" else "item"):
                breaks += _both_ways(half, name, (old, before[name][half]), (new, now[name][half]))
    breaks.sort(key=lambda each: (each.name, each.part, each.sender))
    return Comparison(not breaks, breaks, added)


def _both_ways(part: str, name: str, old: tuple[Schema, Schema], new: tuple[Schema, Schema]) -> Iterator[Break]:
    for sender, sent, taken in (("old", old, new), ("new", new, old)):
        fit = _Fit(sent[0].get("$defs", {}), taken[0].get("$defs", {}))
        for problem in fit.problems(sent[1], taken[1], "$"):
            yield Break(part=part, name=name, sender=sender, problem=problem, costs=_COSTS[part])


class _Fit:
    """Whether what is sent by one schema is taken by another."""

    def __init__(self, sent: Schema, taken: Schema) -> None:
        self._sent = sent  # the definitions
        self._taken = taken
        self._seen: set[tuple[str, str]] = set()  # the pairs of definitions that were compared, or are just being

    def problems(self, sent: Schema, taken: Schema, path: str) -> list[str]:
        """Return what is sent that isn't taken, in words; [] if all is taken."""
        pair = (sent.get("$ref", ""), taken.get("$ref", ""))
        if all(pair):
            if pair in self._seen:
                return []  # it holds itself
            self._seen.add(pair)
        whole, wanted = sent, taken  # as they are referred to, for what holds itself
        sent, taken = _resolved(sent, self._sent), _resolved(taken, self._taken)
        if "anyOf" in sent:
            return [each for one in sent["anyOf"] for each in self.problems(one, wanted, path)]
        if "anyOf" in taken:
            return self._of_any(whole, taken["anyOf"], path)
        values = _values(sent)
        if (allowed := _values(taken)) is not None:
            return self._of_values(values, allowed, sent, path)
        if values is not None:
            sent = {"type": sorted({_type_of(each) for each in values})}
        return self._of_types(sent, taken, path)

    def _of_any(self, sent: Schema, alternatives: list[Schema], path: str) -> list[str]:
        """One of these must take it."""
        least: list[str] | None = None
        for each in alternatives:
            seen = set(self._seen)
            found = self.problems(sent, each, path)
            if not found:
                return []
            self._seen = seen
            is_alike = _kind(_resolved(each, self._taken)) == _kind(_resolved(sent, self._sent))
            if is_alike and (least is None or len(found) < len(least)):
                least = found
        return [f"{path} may be {_words(_resolved(sent, self._sent))}, which isn't taken"] if least is None else least

    def _of_values(self, values: list[Any] | None, allowed: list[Any], sent: Schema, path: str) -> list[str]:
        if values is None:
            return [f"{path} may be {_words(sent)}, and only {_listed(allowed)} is taken"]
        others = [each for each in values if each not in allowed]
        return [f"{path} may be {_listed(others)}, which isn't taken"] if others else []

    def _of_types(self, sent: Schema, taken: Schema, path: str) -> list[str]:
        wanted = _types(taken)
        if not wanted:
            return []  # anything is taken
        given = _types(sent)
        if not given:
            return [f"{path} may be anything, and only {' or '.join(wanted)} is taken"]
        wrong = [each for each in given if each not in wanted and not (each == "integer" and "number" in wanted)]
        if wrong:
            return [f"{path} may be {' or '.join(wrong)}, and only {' or '.join(wanted)} is taken"]
        found = [
            f"{path}: {key} is {taken[key]} there, and {sent.get(key, 'not set')} here"
            for key in (*_LEAST, *_MOST, *_EXACT, "format", "contentEncoding", TIME)
            if key in taken and not _is_within(key, sent.get(key), taken[key])
        ]
        if "object" in given:
            found += self._of_objects(sent, taken, path)
        if "array" in given:
            found += self._of_arrays(sent, taken, path)
        return found

    def _of_objects(self, sent: Schema, taken: Schema, path: str) -> list[str]:
        found: list[str] = []
        parts, known = sent.get("properties", {}), taken.get("properties", {})
        for name in taken.get("required", ()):
            if name not in parts:
                found.append(f"{path}.{name} is required, and isn't sent")
            elif name not in sent.get("required", ()) and parts[name].get(LEFT_OUT):
                found.append(f"{path}.{name} is required, and may be left out")
        others = taken.get("additionalProperties", True)
        for name, part in parts.items():
            if name in known:
                found += self.problems(part, known[name], f"{path}.{name}")
            elif others is False:
                found.append(f"{path}.{name} isn't known, and unknown fields are refused")
            elif isinstance(others, dict):
                found += self.problems(part, others, f"{path}.{name}")
        values = sent.get("additionalProperties")
        if isinstance(values, dict):
            if "propertyNames" in taken:
                names, wanted = ({"type": "string", **each.get("propertyNames", {})} for each in (sent, taken))
                found += self.problems(names, wanted, f"a name in {path}")
            if isinstance(others, dict):
                found += self.problems(values, others, f"{path}[…]")
            for name, part in known.items():
                found += self.problems(values, part, f"{path}.{name}")
        return found

    def _of_arrays(self, sent: Schema, taken: Schema, path: str) -> list[str]:
        found: list[str] = []
        firsts, known = sent.get("prefixItems", []), taken.get("prefixItems", [])
        rest, others = sent.get("items", {}), taken.get("items", {})
        if len(firsts) < taken.get("minItems", 0) <= len(known) and "minItems" not in sent:
            found.append(f"{path} may have fewer items than are taken")
        for number in range(max(len(firsts), len(known))):
            one = firsts[number] if number < len(firsts) else rest
            other = known[number] if number < len(known) else others
            if other is False and one is not False:
                found.append(f"{path} may have more items than {number}")
                break
            if isinstance(one, dict) and isinstance(other, dict):
                found += self.problems(one, other, f"{path}[{number}]")
        if isinstance(rest, dict) and isinstance(others, dict) and "items" in sent:
            found += self.problems(rest, others, f"{path}[…]")
        return found


def _resolved(schema: Schema, definitions: Schema) -> Schema:
    while "$ref" in schema:
        schema = definitions.get(schema["$ref"].removeprefix(REF), {})
    return schema


def _values(schema: Schema) -> list[Any] | None:
    """Return the only values that there are by a schema; None: it doesn't list them."""
    if "const" in schema:
        return [schema["const"]]
    found: list[Any] | None = schema.get("enum")
    return found


def _types(schema: Schema) -> list[str]:
    found = schema.get("type", [])
    return [found] if isinstance(found, str) else list(found)


def _type_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case _:
            return "array" if isinstance(value, list) else "object"


def _kind(schema: Schema) -> Any:
    """Return what two schemas have in common that are versions of one: the tag, or the type."""
    values = _values(schema)
    if values is not None:
        return _type_of(values[0]) if values else ""
    for name in schema.get("required", ()):
        tags = _values(schema.get("properties", {}).get(name, {}))
        if tags is not None and len(tags) == 1:
            return (name, tags[0])
    return "".join(_types(schema)).replace("integer", "number")


def _is_within(key: str, sent: Any, taken: Any) -> bool:
    if sent is None:
        return False
    if key in _LEAST:
        return bool(sent >= taken)
    return bool(sent <= taken) if key in _MOST else bool(sent == taken)


def _words(schema: Schema) -> str:
    values, kind = _values(schema), _kind(schema)
    if values is not None:
        return _listed(values)
    return f"{kind[1]} (by its {kind[0]})" if isinstance(kind, tuple) else " or ".join(_types(schema)) or "anything"


def _listed(values: list[Any]) -> str:
    return " or ".join(repr(each) for each in values[:5]) + (" or another" if len(values) > 5 else "")
