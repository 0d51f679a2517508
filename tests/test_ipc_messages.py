"""`twistedipc.ipc.wire.messages`."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ipc_example import VOCABULARY, Ask, Note, Told
from twistedipc.ipc.wire.errors import BadVocabulary, LocalProtocolError, RemoteProtocolError
from twistedipc.ipc.wire.messages import Call, Error, Misshapen, Ping, UnknownType, Vocabulary, encode, encode_lines

GOOD = b'{"type":"note","n":1}\n'


def decoded(block: bytes) -> list[msgspec.Struct | UnknownType | Misshapen]:
    return list(VOCABULARY.decode_each(block))


def test_messages_and_frames() -> None:
    block = encode_lines([Note(1), Note(2, "ü\n☃")]) + encode(Ping()) + b'{"type":"call","id":7,"request":{"x":[]}}\n'
    one, two, ping, call = decoded(block)
    assert (one, two, ping) == (Note(1), Note(2, "ü\n☃"), Ping())
    assert isinstance(call, Call)
    assert (call.id, bytes(call.request)) == (7, b'{"x":[]}')


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"note","n":1}\r\n',
        b' {"n":1,"type":"note"} \n',
        b'{"type":"note","n":1,"later":{"version":[1,2]}}\n',
        b'{"type":"note","n":0,"n":1}\n',  # of duplicate keys the last one counts
        b'{"type":"note","n":1,"huge":1e999}\n',
        b'{"type":"note","n":1,"huge":' + b"1" * 10_000 + b"}\n",
    ],
)
def test_unusual_and_good(line: bytes) -> None:
    assert decoded(line) == [Note(1)]
    assert decoded(GOOD + line + GOOD) == [Note(1)] * 3


BAD = [
    b"\n",
    b"  \n",
    b"\r\n",
    b"nonsense\n",
    b"null\n",
    b"[]\n",
    b'"note"\n',
    b"7\n",
    b"{}\n",
    b'{"type":null}\n',
    b'{"type":["note"],"n":1}\n',
    b'{"n":1}\n',
    b'{"type":"note","type":"ping","n":1}\n',
    b'\xef\xbb\xbf{"type":"note","n":1}\n',
    b"[" * 100_000 + b"\n",
    b'{"type":"call","id":0,"request":{}}\n',
    b'{"type":"call","id":9007199254740992,"request":{}}\n',
    b'{"type":"hello"}\n',
    b'{"type":"bye"}\n',
    b"GET / HTTP/1.1\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\n",
]


#: Malformed, or nested too deeply, behind what says that it is a note.
BAD_NOTES = [
    b'{"type":"note","n":NaN}\n',
    b'{"type":"note","n":1,"later":NaN}\n',
    b'{"type":"note","n":1,"text":"\x00"}\n',
    b'{"type":"note","n":1,"text":"\xff"}\n',
    b'{"type":"note","n":1,"text":"\xc0\xaf"}\n',  # overlong
    b'{"type":"note","n":1,"text":"\xed\xa0\x80"}\n',  # a surrogate, in UTF-8
    b'{"type":"note","n":1,"text":"\\ud800"}\n',  # a lone surrogate, escaped
    b'{"type":"note","n":1,"later":"\xff"}\n',
    b'{"type":"note","n":1,"later":"\xc0\xaf"}\n',
    b'{"type":"note","n":1}\x00\n',
    b'{"type":"note","n":1}{"type":"note","n":2}\n',
    b'{"type":"note","n":1,"later":' + b"[" * 100_000 + b"}\n",
]


@pytest.mark.parametrize("line", BAD_NOTES, ids=lambda line: repr(line[:40]))
def test_a_line_that_cannot_be_read_costs_itself(line: bytes) -> None:
    before, wrong, after = decoded(GOOD + line + GOOD)
    assert (before, after) == (Note(1), Note(1))
    assert isinstance(wrong, Misshapen)
    assert (wrong.name, wrong.id) == ("note", None)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b'{"type":"later","x":[1,}', UnknownType("later")),
        (b' { "id" : 7 , "type":"call", "request":[', Misshapen("call", "Input data was truncated", 7)),
        (b'{"s":"a\\nb\\"","x":-1.5e3,"y":null,"z":true,"id":7,"type":"reply","q":{{}}}', 7),
        (b'{"type":"error","code":"c","message":"\xc3\xbc","id":7,"data":\xff}', Error(code="c", message="ü", id=7)),
        (b'{"type":"error","code":7,"message":"m","id":7,"data":nul}', 7),
        # what would be read isn't all there is, or isn't good
        (b'{"type":"call","request":[', None),
        (b'{"type":"call","id":0,"request":[', None),
        (b'{"type":"bye","code":"c","reason":"r","x":[', None),
        (b'{"type":"note","type":"note","x":[', None),
        (b'{"s":"\\ud800","type":"note","x":1}', None),
        (b'{"s":"' + b"x" * 5000 + b'","type":"note","x":[', None),
        (b'{"x":[[],"type":"note"}', None),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_what_can_be_told_of_a_line(line: bytes, found: object) -> None:
    if found is None:
        with pytest.raises(RemoteProtocolError) as raised:
            decoded(line + b"\n")
        assert raised.value.code == "bad-message"
        return
    (frame,) = decoded(line + b"\n")
    if isinstance(found, int):
        assert isinstance(frame, Misshapen)
        assert frame.id == found
    else:
        assert frame == found


def test_a_line_that_is_broken_in_two() -> None:
    """The first half costs itself, and the other half can't be told."""
    frames = iter(VOCABULARY.decode_each(b'{"type":"note",\n"n":1}\n'))
    assert isinstance(next(frames), Misshapen)
    with pytest.raises(RemoteProtocolError):
        next(frames)


@pytest.mark.parametrize("line", BAD, ids=lambda line: repr(line[:40]))
def test_bad(line: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decoded(line)
    # What came before it in the block is good all the same.
    frames = iter(VOCABULARY.decode_each(GOOD + GOOD + line + GOOD))
    assert (next(frames), next(frames)) == (Note(1), Note(1))
    with pytest.raises(RemoteProtocolError) as raised:
        next(frames)
    assert raised.value.code == "bad-message"


@pytest.mark.parametrize(
    ("line", "name", "id_"),
    [
        (b'{"type":"note"}\n', "note", None),
        (b'{"type":"note","n":"1"}\n', "note", None),
        (b'{"type":"note","n":true}\n', "note", None),
        (b'{"type":"note","n":1.5}\n', "note", None),
        (b'{"type":"note","n":1e999}\n', "note", None),
        (b'{"type":"note","n":' + b"1" * 10_000 + b"}\n", "note", None),
        (b'{"type":"call","id":7}\n', "call", 7),
        (b'{"type":"reply","id":7}\n', "reply", 7),
        (b'{"type":"error","id":7,"code":404,"message":"x"}\n', "error", 7),
    ],
)
def test_wrong_fields_cost_their_line(line: bytes, name: str, id_: int | None) -> None:
    before, wrong, after = decoded(GOOD + line + GOOD)
    assert (before, after) == (Note(1), Note(1))
    assert isinstance(wrong, Misshapen)
    assert (wrong.name, wrong.id) == (name, id_)


def test_two_wrongs_dont_make_a_right() -> None:
    # Three objects on three lines, but not one on each.
    with pytest.raises(RemoteProtocolError):
        decoded(b'{"type":"note","n":1}{"type":"note","n":2}\n{"type":"note",\n"n":3}\n')


def test_unknown_types_are_no_fault() -> None:
    assert decoded(GOOD + b'{"type":"later","n":[]}\n' + GOOD) == [Note(1), UnknownType("later"), Note(1)]
    # A request that comes as a message is one, too; so is a type of the other direction.
    assert decoded(encode(Ask("x"))) == [UnknownType("ask")]
    assert decoded(b'{"type":"' + b"x" * 1000 + b'"}\n') == [UnknownType("x" * 64)]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(json_values | st.builds(lambda n: {"type": "note", "n": n}, st.integers()), max_size=5))
def test_any_json_is_decoded_or_refused(values: list[object]) -> None:
    block = "".join(json.dumps(value) + "\n" for value in values).encode("utf-8", "surrogatepass")
    try:
        frames = decoded(block) if block else []
    except RemoteProtocolError:
        return
    assert len(frames) == len(values)


@given(st.binary(max_size=60))
def test_any_bytes_are_decoded_or_refused(data: bytes) -> None:
    block = data + b"\n"
    try:
        frames = decoded(block)
    except RemoteProtocolError:
        return
    assert len(frames) == block.count(b"\n")


def test_requests() -> None:
    assert VOCABULARY.decode_request(msgspec.Raw(b'{"type":"ask","what":"x"}')) == Ask("x")
    for unknown in (b'{"type":"note","n":1}', b'{"type":"ping"}', b'{"type":"call"}', b'{"type":"later"}'):
        assert isinstance(VOCABULARY.decode_request(msgspec.Raw(unknown)), UnknownType)
    for bad in (b'{"what":"x"}', b'{"type":"ask"}', b'{"type":"ask","what":1}', b"[]", b"null", b'{"type":1}'):
        with pytest.raises(RemoteProtocolError) as raised:
            VOCABULARY.decode_request(msgspec.Raw(bad))
        assert raised.value.code == "bad-request"


def test_replies() -> None:
    assert VOCABULARY.decode_reply(Ask, msgspec.Raw(b'{"answer":"x"}')) == Told("x")
    for bad in (b"{}", b'{"answer":1}', b"null", b'{"answer":"\xff"}'):
        with pytest.raises(RemoteProtocolError, match="the reply to ask"):
            VOCABULARY.decode_reply(Ask, msgspec.Raw(bad))


class Same(msgspec.Struct, tag="note", tag_field="type"):
    pass


class Reserved(msgspec.Struct, tag="ping", tag_field="type"):
    pass


class OtherField(msgspec.Struct, tag="x", tag_field="kind"):
    pass


class Numbered(msgspec.Struct, tag=3, tag_field="type"):
    pass


@pytest.mark.parametrize(
    ("kinds", "complaint"),
    [
        ((Note, Same), "same type 'note'"),
        ((Reserved,), "belongs to the link itself"),
        ((OtherField,), "not tagged"),
        ((Numbered,), "not tagged"),
        ((Told,), "not tagged"),
        ((dict,), "not a msgspec.Struct"),
    ],
)
def test_vocabularies_that_cant_be(kinds: tuple[type, ...], complaint: str) -> None:
    with pytest.raises(BadVocabulary, match=complaint):
        Vocabulary(kinds)


def test_declarations() -> None:
    assert Vocabulary().messages == frozenset()
    assert Vocabulary(Note).messages == Vocabulary((Note,)).messages == {Note}
    assert Vocabulary(Note | Ask, answers={Ask: Told}).messages == {Note}
    with pytest.raises(BadVocabulary):
        Vocabulary(calls={Told: Note})


def test_what_can_be_sent() -> None:
    VOCABULARY.check_sendable(Note(1))
    with pytest.raises(LocalProtocolError):
        VOCABULARY.check_sendable(Told("x"))
    with pytest.raises(LocalProtocolError, match="must be Told"):
        VOCABULARY.check_reply(Ask, None)
