"""Replies of all types that msgspec decodes: over a link, and over plain lines; right ones and wrong ones."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypedDict, TypeVar
from uuid import UUID

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from twistedipc.ipc import CallFailed, Interface, Request, Service, handles
from twistedipc.ipc.testing import ServicePair
from twistedipc.ipc.wire.conversation import Asked
from twistedipc.ipc.wire.errors import BadReply
from twistedipc.ipc.wire.plain import PlainConversation

T = TypeVar("T")


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Row(msgspec.Struct, tag=True):
    n: int


class Gap(msgspec.Struct, tag=True):
    width: float


class Page(msgspec.Struct, Generic[T]):
    of: list[T]
    more: bool = False


@dataclass
class Point:
    x: int
    y: int


class Pair(NamedTuple):
    key: str
    value: int


class Options(TypedDict):
    deep: bool


class Tree(msgspec.Struct):
    children: list[Tree] = []


#: The type; values of it, each with its JSON; and values that aren't.
REPLIES: list[tuple[Any, list[tuple[Any, str]], list[Any]]] = [
    (None, [(None, "null")], [0, "", False, Row(1)]),
    (bool, [(True, "true")], [None, 1, "true"]),
    (int, [(5, "5"), (-(2**60), "-1152921504606846976")], [None, True, 1.5, "5"]),
    (float, [(1.5, "1.5"), (2, "2")], [None, "1.5", float("nan"), float("inf")]),
    (float | None, [(None, "null"), (0.5, "0.5")], [float("nan"), -float("inf")]),
    (str, [("é", '"é"'), ("", '""')], [None, 5, "\ud800"]),
    (bytes, [(b"\xff", '"/w=="')], [None, 1]),
    (datetime, [(datetime(2026, 1, 2, tzinfo=UTC), '"2026-01-02T00:00:00Z"')], [None, "yesterday"]),
    (timedelta, [(timedelta(seconds=90), '"PT90S"')], [None, "later"]),
    (UUID, [(UUID(int=1), '"00000000-0000-0000-0000-000000000001"')], ["1"]),
    (Decimal, [(Decimal("1.10"), '"1.10"')], ["one"]),
    (Colour, [(Colour.BLUE, '"blue"')], ["green", None]),
    (Literal["a", "b"], [("a", '"a"')], ["c"]),
    (Annotated[int, msgspec.Meta(ge=0)], [(0, "0")], [-1]),
    (
        list[Row],
        [([], "[]"), ([Row(1), Row(2)], '[{"type":"Row","n":1},{"type":"Row","n":2}]')],
        [None, [None], [Gap(1)]],
    ),
    (dict[str, int], [({"a": 1}, '{"a":1}')], [{"a": "b"}, [], {1: 1.5}]),
    (dict[int, str], [({7: "x"}, '{"7":"x"}')], [{"a": "b"}]),
    (tuple[int, str], [((1, "x"), '[1,"x"]')], [(1,), [1, 2]]),
    (set[int], [({1}, "[1]")], [{"a"}]),
    (Row | Gap, [(Row(1), '{"type":"Row","n":1}'), (Gap(2.5), '{"type":"Gap","width":2.5}')], [None, Page([1])]),
    (Row | None, [(None, "null"), (Row(3), '{"type":"Row","n":3}')], [Gap(1), 0]),
    (Gap, [(Gap(1.0), '{"type":"Gap","width":1.0}')], [Row(1), {"type": "Gap", "width": 1.0}, Gap(float("nan"))]),
    (Page[int], [(Page([1, 2]), '{"of":[1,2],"more":false}')], [Page(["x"]), Row(1), None]),
    (list[Page[Row]], [([Page([Row(1)])], '[{"of":[{"type":"Row","n":1}],"more":false}]')], [[Page([1])]]),
    (Point, [(Point(1, 2), '{"x":1,"y":2}')], [{"x": 1}]),
    (Pair, [(Pair("a", 1), '["a",1]')], [("a", "b")]),
    (Options, [({"deep": True}, '{"deep":true}')], [{}, {"deep": 1}]),
    (Tree, [(Tree([Tree()]), '{"children":[{"children":[]}]}')], [Row(1), None]),
    (msgspec.Raw, [(msgspec.Raw(b"[1]"), "[1]")], [msgspec.Raw(b"[1")]),
    (Any, [({"a": [None]}, '{"a":[null]}'), (None, "null")], [float("nan"), object()]),
]


def service_of(kind: Any) -> tuple[type[Request[Any]], Service]:
    class Ask(Request[kind]):
        pass

    class Answers(Service):
        interface = Interface("answers", Ask)
        reply: Any = None

        @handles(Ask)
        def ask(self, request: Any, peer: Any) -> Any:
            return self.reply

    return Ask, Answers()


class ReplyTests(SynchronousTestCase):
    """Each type in turn."""

    def test_what_is_right_arrives(self) -> None:
        for kind, right, _ in REPLIES:
            ask, service = service_of(kind)
            pair = ServicePair(service)
            plain = PlainConversation(service.interface)
            got: list[Any] = []
            for value, text in right:
                service.reply = value  # type: ignore[attr-defined]
                pair.remote.call(ask()).addBoth(got.append)
                pair.pump()
                line = plain.reply(Asked(1, ask()), value).decode()
                assert line == f'{{"type":"reply","id":1,"reply":{text}}}\n', kind
            assert got == [value for value, _ in right], kind

    def test_what_is_wrong_fails_its_call_and_is_logged_where_it_was_made(self) -> None:
        for kind, _, wrong in REPLIES:
            ask, service = service_of(kind)
            pair = ServicePair(service)
            plain = PlainConversation(service.interface)
            for value in wrong:
                service.reply = value  # type: ignore[attr-defined]
                reply = pair.remote.call(ask())
                pair.pump()
                error = self.failureResultOf(reply, CallFailed).value
                assert error.code == "internal", (kind, value)
                assert "the reply to ask isn't what was declared" in error.message
                with self.assertRaises(BadReply):
                    plain.reply(Asked(1, ask()), value)
            assert len(self.flushLoggedErrors(BadReply)) == len(wrong), kind
            assert pair.remote.peer is not None

    def test_what_a_stranger_says_costs_its_call_only(self) -> None:
        """The other side declares `Any`, and so sends it; replies are decoded one by one and with others."""
        for kind, _, wrong in REPLIES:
            ask, _ = service_of(kind)
            _, service = service_of(Any)
            pair = ServicePair(service, asks=Interface("answers", ask))
            for value in [each for each in wrong if _is_wrong_json(each, kind)]:
                service.reply = msgspec.json.decode(msgspec.json.encode(value))  # type: ignore[attr-defined]
                got: list[Any] = []
                for reply in (pair.remote.call(ask()), pair.remote.call(ask())):
                    reply.addBoth(got.append)
                pair.pump()
                assert [failure.value.code for failure in got] == ["bad-reply"] * 2, (kind, value)
            assert pair.remote.peer is not None


def _is_wrong_json(value: Any, kind: Any) -> bool:
    try:
        text = msgspec.json.encode(value)
        msgspec.json.decode(text)
    except (TypeError, ValueError):
        return False
    try:
        msgspec.json.decode(text, type=kind)
    except msgspec.DecodeError:
        return True
    return False
