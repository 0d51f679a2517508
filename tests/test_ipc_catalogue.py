"""What a peer says that it takes: the frames of it, what a program finds out by it, and what a peer can do with it."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import types
from collections.abc import Sequence
from typing import Annotated, Any, Generic, TypeVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ipc_example import Ask, Note, Recorders, Told, apiserver, builder
from tests.test_ipc_session import NONCES, ConnectionPair, closed, listener
from twistedipc.builder.link import VOCABULARY as BUILDER
from twistedipc.ipc import (
    BadVocabulary,
    Complaint,
    Interface,
    Message,
    Peer,
    Request,
    Service,
    StreamId,
    StreamOf,
    handles,
    receives,
)
from twistedipc.ipc.testing import ServicePair, connected_pair
from twistedipc.ipc.wire import handshake
from twistedipc.ipc.wire.catalogue import CALL, MESSAGE, STREAM, Catalogue, Introduced, catalogue_of
from twistedipc.ipc.wire.errors import RemoteProtocolError
from twistedipc.ipc.wire.interface import vocabulary
from twistedipc.ipc.wire.messages import Vocabulary, encode
from twistedipc.ipc.wire.schema import UNTOLD, fingerprint
from twistedipc.ipc.wire.session import Ready, Session
from twistedipc.ipc.wire.settings import HANDSHAKE_FRAME_LIMIT, Side
from twistedipc.ipc.wire.states import State
from twistedipc.server.builder_link import VOCABULARY as APISERVER

FP = "0123456789abcdef"

# -- for programs ----------------------------------------------------------------------------------------------------


class Sum(msgspec.Struct):
    value: int


class Add(Request[Sum]):
    a: int
    b: int


class Said(Message):
    text: str


class Item(msgspec.Struct):
    n: int


class Newer(Request[Sum]):
    a: int


class NewerSaid(Message):
    text: str


class LongSaid(Message, tag="said"):
    text: str
    loud: bool = False


class WideSum(msgspec.Struct):
    value: int
    unit: str = ""


class WideAdd(Request[WideSum], tag="add"):
    a: int
    b: int


ITEMS = StreamOf("items", Item)
MORE = StreamOf("more", Item)
OLD = Interface("adding", Add, Said, streams=[ITEMS])
NEW = Interface("adding", WideAdd, LongSaid, Newer, NewerSaid, streams=[ITEMS, MORE])


class Old(Service):
    interface = OLD

    def __init__(self) -> None:
        self.understood: list[bool] = []

    def peer_ready(self, peer: Peer) -> None:
        self.understood += [peer.understands(Add), peer.understands(Newer)]

    @handles(Add)
    def add(self, request: Add, peer: Peer) -> Sum:
        return Sum(request.a + request.b)

    @handles(Said)
    def said(self, message: Said, peer: Peer) -> None: ...

    @receives(ITEMS)
    def items(self, stream: StreamId) -> Any: ...


def test_a_program_finds_out_what_an_older_peer_takes() -> None:
    pair = ServicePair(Old(), asks=NEW)
    peer = pair.remote.peer
    assert peer is not None
    assert "interface" in peer.info.features
    assert [peer.understands(each) for each in (WideAdd, LongSaid, Newer, NewerSaid)] == [True, True, False, False]
    assert [peer.understands(each) for each in (ITEMS, MORE)] == [True, False]
    assert peer.understands(ITEMS, exactly=True)
    # The names are the same; what is in them isn't.
    assert [peer.understands(each, exactly=True) for each in (WideAdd, LongSaid, Newer)] == [False, False, False]


def test_of_the_same_version_all_is_the_same() -> None:
    pair = ServicePair(Old())
    peer = pair.remote.peer
    assert peer is not None
    assert peer.understands(Add, exactly=True)
    assert peer.understands(Said, exactly=True)


def test_a_message_is_no_call_and_a_call_no_message() -> None:
    class Tells(Message, tag="add"):
        a: int

    peer = ServicePair(Old(), asks=Interface("adding", Tells)).remote.peer
    assert peer is not None
    assert not peer.understands(Tells)


def test_it_is_known_when_a_peer_is_ready_on_both_sides() -> None:
    class Clerk(Service):
        interface = Interface("clerk", Newer)

        @handles(Newer)
        def newer(self, request: Newer, peer: Peer) -> Sum:
            return Sum(request.a)

    service = Old()
    pair = ServicePair(service, answers=Clerk())
    assert service.understood == [False, True]
    (peer,) = pair.listening.peers
    assert peer.understands(Newer)


def test_a_peer_that_says_nothing_understands_nothing_that_is_known() -> None:
    for older in Side:
        pair = ServicePair(Old(), linked=False)
        pair.settings[older] = dataclasses.replace(pair.settings[older], features=())
        wire = pair.link()
        assert not wire.lost
        (there,) = pair.listening.peers
        here = pair.remote.peer
        assert here is not None
        for peer in (here, there):
            assert peer.info.features == frozenset()
            assert not peer.understands(Add)
            assert not peer.understands(ITEMS)


# -- the frames ------------------------------------------------------------------------------------------------------


def big(count: int) -> Interface:
    return Interface("big", *(types.new_class(f"Ask{n}", (Request[Sum],)) for n in range(count)))


def test_a_schema_has_the_fingerprints_as_they_are_said() -> None:
    lines = catalogue_of(vocabulary(NEW, None), {each.name: each.items for each in (ITEMS, MORE)}).lines
    (said,) = (json.loads(line) for line in lines.splitlines())
    assert NEW.schema()["takes"] == said["takes"]
    assert [row[:2] for row in said["takes"]] == [
        ["message", "newersaid"],
        ["message", "said"],
        ["call", "add"],
        ["call", "newer"],
        ["stream", "items"],
        ["stream", "more"],
    ]


def tagged(tag: str) -> type[Message]:
    return types.new_class("X", (Message,), {"tag": tag})


def test_five_hundred_messages_go_in_lines_of_the_handshake() -> None:
    interface = big(500)
    lines = catalogue_of(vocabulary(interface, None), {}).lines
    assert max(map(len, lines.splitlines())) <= HANDSHAKE_FRAME_LIMIT
    frames = [json.loads(line) for line in lines.splitlines()]
    assert [frame.get("more", False) for frame in frames] == [True] * (len(frames) - 1) + [False]
    pair = ConnectionPair(
        builder(vocabulary=vocabulary(None, interface)), apiserver(vocabulary=vocabulary(interface, None))
    ).exchange()
    assert pair.dialler.state is pair.listener.state is State.READY
    assert pair.dialler.takes is not None
    assert all(pair.dialler.takes.has(CALL, f"ask{n}") for n in range(500))
    assert len(pair.dialler.takes) == 500


def test_more_than_may_be_said_can_not_be_declared() -> None:
    with pytest.raises(BadVocabulary, match="at most 2048"):
        big(2049)
    assert catalogue_of(Vocabulary(tagged("x" * 128)), {}).has(MESSAGE, "x" * 128)
    with pytest.raises(BadVocabulary, match="at most 128 characters"):
        Interface("x", tagged("x" * 129))


@pytest.mark.parametrize("tag", ["link-interface", "link-later"])
def test_what_begins_with_link_is_the_links_own(tag: str) -> None:
    with pytest.raises(BadVocabulary, match="belongs to the link itself"):
        Interface("x", tagged(tag))


_names = st.text(min_size=1, max_size=20)
_rows = st.dictionaries(
    st.tuples(st.sampled_from([MESSAGE, STREAM]), _names) | st.tuples(st.just(CALL), _names), st.just(FP), max_size=400
)


@given(_rows)
def test_what_is_said_is_what_is_understood(drawn: dict[tuple[str, str], str]) -> None:
    rows = {key: (FP, FP) if key[0] == CALL else (FP,) for key in drawn}
    introduced = Introduced()
    lines = Catalogue(rows).lines.splitlines(keepends=True)
    assert all(len(line) <= HANDSHAKE_FRAME_LIMIT for line in lines)
    for line in lines:
        introduced.add(msgspec.json.decode(line, type=handshake.Introduction))
    found = introduced.catalogue()
    assert len(found) == len(rows)
    assert all(found.has(what, name, fingerprints) for (what, name), fingerprints in rows.items())


def rows_of(*rows: Sequence[str]) -> Catalogue:
    introduced = Introduced()
    introduced.add(handshake.Introduction(takes=[list(row) for row in rows]))
    return introduced.catalogue()


def test_what_a_later_version_says_is_ignored() -> None:
    found = rows_of(["progress-call", "run", FP, FP, FP], [MESSAGE, "note", FP, "more"], ["odd"])
    assert len(found) == 1
    assert found.has(MESSAGE, "note", [FP])


@pytest.mark.parametrize(
    "row",
    [
        [MESSAGE],
        [MESSAGE, "note"],
        [MESSAGE, "", FP],
        [MESSAGE, "x" * 129, FP],
        [MESSAGE, "note", "short"],
        [CALL, "ask", FP],
    ],
)
def test_rows_that_are_none(row: list[str]) -> None:
    with pytest.raises(RemoteProtocolError):
        rows_of(row)


def test_what_has_no_schema_is_like_no_other() -> None:
    assert not rows_of([MESSAGE, "note", UNTOLD]).has(MESSAGE, "note", [UNTOLD])


# -- peers -----------------------------------------------------------------------------------------------------------


def proven() -> Session:
    """A listener that waits for what its peer takes."""
    session, challenge = listener()
    dialler = Session(Side.DIALLER, builder(), nonce=NONCES[Side.DIALLER], now=0.0)
    dialler.receive(json.dumps(challenge).encode() + b"\n", 0.0)
    session.receive(dialler.data_to_send(), 0.0)
    session.data_to_send()
    assert session.state is State.INTRODUCING
    return session


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"note","n":1}',
        b'{"type":"ping"}',
        b'{"type":"link-interface"}',
        b'{"type":"link-interface","takes":null}',
        b'{"type":"link-interface","takes":{"note":"x"}}',
        b'{"type":"link-interface","takes":[[]]}',
        b'{"type":"link-interface","takes":[["message",1,2]]}',
        b'{"type":"link-interface","takes":[["message","\\ud800","0123456789abcdef"]]}',
        b'{"type":"link-interface","takes":[["message","x",NaN]]}',
        b'{"type":"link-interface","takes":[["a","b","c","d","e","f","g","h","i"]]}',
        b'{"type":"link-interface","takes":[],"more":1}',
        b'{"type":"link-interface","takes":[],"more":true}',
        b'{"type":"link-interface","takes":' + b"[" * 2000 + b"]" * 2000 + b"}",
        b'{"type":"link-interface","takes":[["message"]]}',
    ],
)
def test_a_peer_that_does_not_say_it_well_harms_itself(line: bytes) -> None:
    session = proven()
    assert closed(session, session.receive(line + b"\n", 0.0)).code == "bad-handshake"


def test_a_peer_that_says_it_without_end() -> None:
    session = proven()
    part = handshake.Introduction(takes=[["message", f"m{n}", FP] for n in range(100)], more=True)
    events: list[Any] = []
    for _ in range(20):
        events += session.receive(encode(part), 0.0)
    assert events == []
    assert closed(session, session.receive(encode(part), 0.0)).code == "bad-handshake"


def test_many_lines_of_it_at_once() -> None:
    session = proven()
    part = encode(handshake.Introduction(takes=[["later"]], more=True))
    last = encode(handshake.Introduction(takes=[]))
    events = session.receive(part * 2000 + last + b'{"type":"ping"}\n', 0.0)
    assert [type(each) for each in events] == [Ready]
    assert session.data_to_send().endswith(b'{"type":"pong"}\n')


def test_a_line_of_it_that_is_too_long() -> None:
    session = proven()
    line = b'{"type":"link-interface","takes":[["later","%b"]]}' % (b"x" * HANDSHAKE_FRAME_LIMIT)
    assert closed(session, session.receive(line, 0.0)).code == "frame-too-long"


def test_a_peer_that_never_says_it() -> None:
    session = proven()
    deadline = session.next_deadline()
    assert deadline == 10.0
    assert closed(session, session.tick(deadline)).code == "handshake-timeout"


def test_said_once_more_it_breaks_the_rules() -> None:
    pair = ConnectionPair().exchange()
    line = encode(handshake.Introduction(takes=[]))
    pair.take(Side.LISTENER)
    assert closed(pair.listener, pair.listener.receive(line, 0.0)).code == "bad-message"


def test_a_peer_that_lies_is_asked_for_what_it_does_not_take() -> None:
    session = proven()
    lie = handshake.Introduction(takes=[["call", "ask", fingerprint(Ask), fingerprint(Told)], ["message", "x", FP]])
    (ready,) = session.receive(encode(lie), 0.0)
    assert isinstance(ready, Ready)
    assert session.takes is not None
    assert session.takes.has(CALL, "ask", [fingerprint(Ask), fingerprint(Told)])
    # All else goes as if it had said nothing.
    assert session.receive(b'{"type":"note","n":1}\n', 0.0) == [Note(1)]
    session.receive(b'{"type":"x"}\n', 0.0)
    assert b'"unknown-type"' in session.data_to_send()


# -- authentication --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["challenge", "hello", "both", "moved"])
def test_features_are_authenticated(change: str) -> None:
    challenge = handshake.Challenge(versions=[1], role="apiserver", name="a", nonce="1" * 64, features=["x", "y"])
    hello = handshake.Hello(
        version=1, role="builder", name="b", incarnation="i", nonce="2" * 64, features=["x"], mac=""
    )
    replace = msgspec.structs.replace
    other = {
        "challenge": (replace(challenge, features=["x"]), hello),
        "hello": (challenge, replace(hello, features=["y"])),
        "both": (replace(challenge, features=msgspec.UNSET), replace(hello, features=msgspec.UNSET)),
        "moved": (replace(challenge, features=["x"]), replace(hello, features=["y", "x"])),
    }[change]
    key = b"k" * 32
    assert handshake.hello_mac(key, challenge, hello) != handshake.hello_mac(key, *other)


@pytest.mark.parametrize("features", [["unheard-of"], [], [f"f{n}" for n in range(32)]])
def test_features_of_a_later_version(features: list[str]) -> None:
    pair = ConnectionPair(builder(features=tuple(features)), apiserver()).exchange()
    (ready,) = pair.take(Side.LISTENER)
    assert isinstance(ready, Ready)
    assert ready.peer.features == frozenset()


@pytest.mark.parametrize("features", [["Upper"], [""], ["x y"], ["x,y"], ["x"] * 33, "x", [1]])
def test_features_that_are_none(features: Any) -> None:
    session, _ = listener()
    hello = {"type": "hello", "version": 1, "role": "builder", "name": "b", "incarnation": "i", "nonce": "d" * 64}
    line = json.dumps(hello | {"features": features, "mac": ""}).encode()
    assert closed(session, session.receive(line + b"\n", 0.0)).code == "bad-handshake"


# -- fingerprints ----------------------------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Tree(msgspec.Struct):
    left: Tree | None = None
    right: Tree | None = None


class Bush(msgspec.Struct):
    """Another name and other words for the same."""

    right: Bush | None = None
    left: Bush | None = None


class Timed(msgspec.Struct):
    answer: datetime.datetime


class Left(msgspec.Struct, tag=True):
    a: int


class Right(msgspec.Struct, tag=True):
    a: int


class AtTime(msgspec.Struct, tag="timed"):
    answer: datetime.datetime


class InWords(msgspec.Struct, tag="timed"):
    answer: str


class Row(msgspec.Struct, array_like=True, tag="row"):
    a: str
    b: datetime.datetime


class TextRow(msgspec.Struct, array_like=True, tag="row"):
    a: str
    b: str


T = TypeVar("T")


class Box(msgspec.Struct, Generic[T]):
    inside: T


def struct(**fields: Any) -> type[msgspec.Struct]:
    return msgspec.defstruct(
        "S", [(name, *(kind if isinstance(kind, tuple) else (kind,))) for name, kind in fields.items()]
    )


SAME = [
    (Tree, Bush),
    (struct(a=int, b=str), struct(b=str, a=int)),
    (Box[int], struct(inside=int)),
    (struct(a=(int, 1)), struct(a=(int, 2))),  # a default is its program's own affair
    (struct(a=Annotated[int, msgspec.Meta(description="words", title="words")]), struct(a=int)),
]

OTHERS = [
    (struct(a=int), struct(a=str)),
    (struct(a=int), struct(a=(int, 1))),
    (struct(a=int), struct(a=int | None)),
    (struct(a=int), struct(b=int)),
    (struct(a=int), struct(a=int, b=(int, 1))),
    (struct(a=int), struct(a=Annotated[int, msgspec.Meta(ge=1)])),
    (struct(a=str), struct(a=bytes)),
    (struct(a=str), struct(a=Colour)),
    (struct(a=str), struct(a=datetime.datetime)),
    (struct(a=list[str | None]), struct(a=list[datetime.time | None])),
    (struct(a=dict[str, Timed]), struct(a=dict[str, Told])),
    (struct(a=datetime.datetime), struct(a=datetime.time)),
    (struct(a=datetime.datetime), struct(a=Annotated[datetime.datetime, msgspec.Meta(tz=True)])),
    (datetime.datetime, str),
    # msgspec has structs behind the other alternatives.
    (Tree | datetime.datetime, Tree | str),
    (Tree | datetime.datetime | None, Tree | str | None),
    (list[Tree | datetime.datetime], list[Tree | str]),
    (Left | Right | datetime.datetime, Left | Right | str),
    (Left | Right | AtTime | None, Left | Right | InWords | None),
    (Row | datetime.datetime, Row | str),
    (Box[datetime.datetime], Box[str]),
    (struct(a=Box[Box[datetime.datetime]]), struct(a=Box[Box[str]])),
    (dict[datetime.datetime, int], dict[str, int]),
    (dict[datetime.time, int], dict[datetime.datetime, int]),
    (dict[Annotated[datetime.datetime, msgspec.Meta(tz=True)], int], dict[datetime.datetime, int]),
    (Row, TextRow),
    (
        struct(a=struct(b=datetime.datetime), c=struct(b=str)),
        struct(a=struct(b=datetime.datetime), c=struct(b=datetime.datetime)),
    ),
    (struct(a=struct(b=datetime.datetime), c=struct(b=str)), struct(a=struct(b=str), c=struct(b=datetime.datetime))),
    (struct(a=list[int]), struct(a=list[str])),
    (struct(a=list[int]), struct(a=tuple[int, ...] | None)),
    (struct(a=dict[str, int]), struct(a=dict[str, str])),
    (struct(a=Tree), struct(a=Item)),
    (Said, LongSaid),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_declarations_that_are_the_same(one: Any, other: Any) -> None:
    assert fingerprint(one) == fingerprint(other) != UNTOLD


@pytest.mark.parametrize(("one", "other"), OTHERS)
def test_declarations_that_are_not_the_same(one: Any, other: Any) -> None:
    assert fingerprint(one) != fingerprint(other)
    assert UNTOLD not in (fingerprint(one), fingerprint(other))


def test_what_can_not_be_told() -> None:
    class Odd(msgspec.Struct):
        raw: msgspec.Raw = msgspec.Raw(b"1")

    assert fingerprint(Odd) == UNTOLD


# -- what is told to the sender's program ----------------------------------------------------------------------------


def test_a_message_that_is_not_taken_is_told_to_its_senders_program() -> None:
    class Clerk(Service):
        interface = Interface("clerk", NewerSaid)

        def __init__(self) -> None:
            self.complaints: list[Complaint] = []

        @handles(NewerSaid)
        def newer(self, message: NewerSaid, peer: Peer) -> None: ...

        def complaint_received(self, peer: Peer, complaint: Complaint) -> None:
            self.complaints.append(complaint)
            raise ZeroDivisionError

    clerk = Clerk()
    pair = ServicePair(Old(), asks=NEW, answers=clerk)
    told: list[Complaint] = []
    pair.remote.when_complained = told.append
    pair.remote.send(NewerSaid("x"))
    pair.pump()
    assert clerk.complaints == [Complaint("unknown-type", "'newersaid' is not received here")]
    assert pair.remote.peer is not None, "what it raises costs nothing"
    clerk.complaint_received = lambda peer, complaint: None  # type: ignore[method-assign]
    pair.remote.send(NewerSaid("x"))
    pair.pump()
    assert told == clerk.complaints


def test_a_newer_builder_does_not_end_an_older_apiservers_link() -> None:
    """The platform's own vocabulary, and what one of a later version may say."""
    made = Recorders()
    sides = [
        (builder(vocabulary=BUILDER), made),
        (apiserver(vocabulary=APISERVER), made),
    ]
    pair = connected_pair(*sides)
    (there,) = (each for each in made if each.peer.info.role == "builder")
    pair.dialler.dataReceived = lambda data: None  # type: ignore[method-assign]  # it has made no calls
    lease = '"attempt":"1-1","lease":"0123456789abcdef"'
    for line in (
        '{"type":"telemetry","temperature":[1,2,{"a":null}]}',
        '{"type":"status","slots":2,"colour":"green"}',
        '{"type":"log",LEASE,"batches":[{"type":"table","first":2,"columns":{"a":[1]}}]}',
        '{"type":"log",LEASE,"batches":[{"type":"lines","first":1,"time":1,"step":0,"lines":[{"type":"odd","x":1}]}]}',
        '{"type":"decline",LEASE,"reason":{"code":"later"}}',
        '{"type":"call","id":1,"request":{"type":"estimate","of":1}}',
        '{"type":"call","id":2,"request":{"type":"sync","slots":2,"attempts":[{"phase":"hibernating"}]}}',
    ):
        pair.wire(Side.DIALLER).write(line.replace("LEASE", lease).encode() + b"\n")
        pair.pump()
    assert not pair.lost, pair.reason(Side.LISTENER)
    assert [type(each).__name__ for each in there.messages] == ["Status", "UnreadLog", "Log"]
