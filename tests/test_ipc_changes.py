"""
The table of docs/ipc.md on changing an interface: each row is tried with an old side and a new one, both ways round.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twistedipc.ipc import (
    CallFailed,
    Interface,
    Message,
    Request,
    Service,
    StreamFailed,
    StreamId,
    StreamOf,
    handles,
    receives,
)
from twistedipc.ipc.remote import Remote
from twistedipc.ipc.testing import ServicePair
from twistedipc.ipc.wire.compatible import compare
from twistedipc.ipc.wire.interface import reply_of

_TEXT = (Path(__file__).parent.parent / "docs" / "ipc.md").read_text("utf-8")

#: The change, and what comes of it: the new side asks; the old one does.
ROWS = re.findall(
    r"^\| ((?:a|the interface) [^|]*) \| ([^|]*) \| ([^|]*) \|$", _TEXT.split("## Changing an interface")[1], re.M
)


class Plain(msgspec.Struct):
    a: int = 1


class Required(Plain, kw_only=True):
    more: int


class Defaulted(Plain):
    more: int = 2


def request(fields: type[msgspec.Struct] = Plain, reply: type[msgspec.Struct] = Plain) -> type[msgspec.Struct]:
    return _kind("ask", Request[reply], fields)  # type: ignore[valid-type]


def message(fields: type[msgspec.Struct] = Plain) -> type[msgspec.Struct]:
    return _kind("tell", Message, fields)


def _kind(name: str, base: Any, fields: type[msgspec.Struct]) -> type[msgspec.Struct]:
    defined = [
        (field.name, field.type) if field.required else (field.name, field.type, field.default)
        for field in msgspec.structs.fields(fields)
    ]

    def body(namespace: dict[str, Any]) -> None:
        namespace["__annotations__"] = {name: kind for name, kind, *_ in defined}
        namespace["__module__"] = __name__
        namespace.update({name: default for name, _, *rest in defined for default in rest})

    return types.new_class(name, (base,), {"kw_only": True}, body)


#: The old version of an interface's part, and the new one, by the words of the table.
CHANGES: dict[str, tuple[Any, Any]] = {
    "a field with a default is added to a request": (request(), request(Defaulted)),
    "a required field is added to a request": (request(), request(Required)),
    "a field is removed from a request": (request(Required), request()),
    "a field with a default is added to a reply": (request(), request(reply=Defaulted)),
    "a required field is added to a reply": (request(), request(reply=Required)),
    "a field is removed from a reply": (request(reply=Required), request()),
    "a field with a default is added to a message": (message(), message(Defaulted)),
    "a required field is added to a message": (message(), message(Required)),
    "a field is removed from a message": (message(Required), message()),
    "a required field is added to a stream's item": (StreamOf("s", Plain), StreamOf("s", Required)),
    "a field is removed from a stream's item": (StreamOf("s", Required), StreamOf("s", Plain)),
    "a request is added": (None, request()),
    "a message is added": (None, message()),
    "a stream is added": (None, StreamOf("s", Plain)),
    "a request is removed": (request(), None),
    "a message is removed": (message(), None),
    "a stream is removed": (StreamOf("s", Plain), None),
}


def interface(part: Any) -> Interface:
    if isinstance(part, StreamOf):
        return Interface("changing", streams=[part])
    return Interface("changing", *([part] if part is not None else []))


def filled(kind: type[msgspec.Struct]) -> msgspec.Struct:
    return kind(**{field.name: 7 for field in msgspec.structs.fields(kind)})


def service_of(part: Any, got: list[Any]) -> Service:
    met = interface(part)
    members: dict[str, Any] = {"interface": met}
    for kind in met.kinds:

        def handle(self: Any, said: Any, peer: Any, kind: type[msgspec.Struct] = kind) -> Any:
            got.append(said)
            return filled(reply_of(kind)) if kind in met.calls else None

        members[kind.__name__] = handles(kind)(handle)

    class Shelf:
        def position(self) -> int:
            return 1

        def take(self, first: int, items: Sequence[Any]) -> None:
            got.extend(items)

    def receiver(self: Any, stream: StreamId) -> Shelf:
        return Shelf()

    for stream in met.streams.values():
        members["receiver"] = receives(stream)(receiver)
    service: Service = type("Changing", (Service,), members)()
    return service


def outcome(asks: Any, answers: Any) -> str:
    """What comes of it if one side has this version, and the other that."""
    got: list[Any] = []
    pair = ServicePair(service_of(answers, got), asks=interface(asks))
    wire = pair.wire
    said: list[bytes] = []
    assert wire is not None
    receive: Callable[[bytes], None] = wire.dialler.dataReceived
    wire.dialler.dataReceived = lambda data: (said.append(data), receive(data))[1]  # type: ignore[method-assign, func-returns-value]
    what = _say(pair.remote, asks, pair)
    assert pair.remote.peer is not None, "the link lives"
    codes = re.findall(rb'"type":"error","code":"([a-z-]+)"', b"".join(said))
    if what == "sent":
        return codes[0].decode() if codes else "works"
    if what == "works":
        assert got
    return what


def _say(remote: Remote, asks: Any, pair: ServicePair) -> str:
    ended: list[Any] = []
    if isinstance(asks, StreamOf):
        stream = remote.stream(asks)
        Deferred.fromCoroutine(stream.write(filled(asks.items)))
        stream.flushed().addBoth(ended.append)
    elif issubclass(asks, Request):
        remote.call(filled(asks)).addBoth(ended.append)  # type: ignore[arg-type]
    else:
        remote.send(filled(asks))
        pair.pump()
        return "sent"
    pair.pump()
    (end,) = ended
    if not isinstance(end, Failure):
        return "works"
    assert isinstance(end.value, CallFailed | StreamFailed)
    return end.value.code


def test_the_table_is_whole() -> None:
    assert [row[0] for row in ROWS] == [*CHANGES, "the interface is renamed"]


@pytest.mark.parametrize(("change", "new_asks", "old_asks"), ROWS[:-1], ids=lambda text: text[:45])
def test_each_row(change: str, new_asks: str, old_asks: str) -> None:
    old, new = CHANGES[change]
    compared = compare(interface(old).schema(), interface(new).schema())
    breaks: set[tuple[str, str]] = set()
    for words, asks, answers in ((new_asks, new, old), (old_asks, old, new)):
        if asks is None or asks == {}:
            assert words == "works"  # the old side doesn't use what it hasn't got
            continue
        found = outcome(asks, answers)
        expected = "works" if words.startswith("works") else words.split("`")[1]
        assert found == expected, words
        if expected != "works" and answers is not None:
            asker, answerer = ("new", "old") if asks is new else ("old", "new")
            breaks.add((answerer if expected == "bad-reply" else asker, expected))
    # And the comparison of the two schemas finds the same.
    if new is None:
        breaks.add(("old", "stream" if isinstance(old, StreamOf) else "unknown-type"))
    assert {(each.sender, each.costs.rpartition(", ")[2]) for each in compared.breaks} == breaks
    assert len(compared.added) == (old is None)
