"""What a build says: messages at every cut, what isn't one, and the bounds of what goes into the log."""

from __future__ import annotations

import json
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.memory import at_most
from twistedipc.builds.logs import (
    Annotation,
    Event,
    Group,
    Lines,
    Notice,
    Progress,
    Summary,
    encoder,
    event_of,
    lines_decoder,
)
from twistedipc.runner.masking import MAX_SPELLINGS, Masking
from twistedipc.runner.speech import (
    MAX_REMARKS,
    MAX_REPORTS,
    MESSAGE_LIMIT,
    PROGRESS_EVERY,
    Complaint,
    Heard,
    Mask,
    Message,
    MessageReader,
    Speech,
)

LINES = [
    (b'{"type":"progress","value":0.25,"label":"half"}', Progress(0.25, "half")),
    (b'{"type":"progress","value":1.0}', Progress(1)),
    (b'{"type":"progress","value":0}', Progress(0)),
    (b'{"type":"progress","value":-0.0}', Progress(0)),
    (b'{"type":"progress","value":1e-300}', Progress(0)),
    (b'{"type":"progress","value":0.99999}', Progress(1)),
    (b'{"type":"progress","value":0.123456789,"more":[1]}\r', Progress(0.1235)),
    (
        b' {"level":"error","message":"no","file":"a.js","line":3,"type":"annotation"} ',
        Annotation("error", "no", "a.js", 3),
    ),
    (b'{"type":"group","name":""}', Group("")),
    (b'{"type":"summary","markdown":"# \xe2\x82\xac"}', Summary("# €")),
    (b'{"type":"mask","value":"hunter2"}', Mask("hunter2")),
    # Lone surrogates, pairs, and what only looks like one.
    (rb'{"type":"group","name":"a\ud800b"}', Group("a\ufffdb")),
    (rb'{"type":"group","name":"\ude00\ud83d\ude00\ud83d"}', Group("\ufffd😀\ufffd")),
    (rb'{"type":"group","name":"\\ud800\ud800"}', Group("\\ud800\ufffd")),
]

GARBAGE = [
    (b"nonsense", "it isn't JSON"),
    (b'{"type":"group"', "it isn't JSON"),
    (b'{"type":"group","name":"\xff"}', "it isn't JSON"),
    (b'{"type":"group","name":"\\ud8"}', "it isn't JSON"),
    (b'{"type":"progress","value":NaN}', "it isn't JSON"),
    (b'{"a":' * 10_000, "it isn't JSON"),
    (b"[" * 10_000, "expected `object`, got `array`"),
    (b'"ready"', "expected `object`, got `str`"),
    (b"null", "expected `object`, got `null`"),
    (b"{}", "object missing required field `type`"),
    (b'{"type":"lines","first":1}', "its type is 'lines', and can be progress, annotation, mask, summary or group"),
    (b'{"type":"notice","level":"error","message":"x"}', "its type is 'notice', and can be progress, annotation,"),
    (b'{"type":"' + b"x" * 9000 + b'"}', "its type is 'xxxxxxxxxxxxxxxxxxxxxxxxx"),
    (b'{"type":"progress"}', "object missing required field `value`"),
    (b'{"type":"progress","value":50}', "value: expected `float` <= 1.0"),
    (b'{"type":"progress","value":-1}', "value: expected `float` >= 0.0"),
    (b'{"type":"progress","value":1e999}', "value: number out of range"),
    (b'{"type":"progress","value":"1"}', "value: expected `float`, got `str`"),
    (b'{"type":"progress","value":1,"label":"' + b"x" * 201 + b'"}', "label: expected `str` of length <= 200"),
    (b'{"type":"annotation","level":"fatal","message":"x"}', "level: invalid enum value 'fatal'"),
    (b'{"type":"annotation","level":"error","message":""}', "message: expected `str` of length >= 1"),
    (b'{"type":"annotation","level":"error","message":"x","line":-1}', "line: expected `int` >= 0"),
    (b'{"type":"annotation","level":"error","message":"x","file":null}', "file: expected `str`, got `null`"),
    (b'{"type":"summary","markdown":"' + b"x" * 40_000 + b'"}', "markdown: expected `str` of length <= 32768"),
    (b'{"type":"mask","value":["hunter2"]}', "value: expected `str`, got `array`"),
]


def plain(heard: list[Heard]) -> list[Message | None]:
    """Messages that say nothing of their place, and want no answer."""
    assert all(one == Heard(one.message) for one in heard)
    return [one.message for one in heard]


@pytest.mark.parametrize(("line", "message"), LINES)
def test_messages(line: bytes, message: Message) -> None:
    assert plain(MessageReader().feed(line + b"\n")) == [message]


@pytest.mark.parametrize(("line", "reason"), GARBAGE)
def test_what_is_no_message(line: bytes, reason: str) -> None:
    reader = MessageReader()
    (complaint,) = plain(reader.feed(line + b"\n"))
    assert isinstance(complaint, Complaint)
    assert complaint.text.startswith(f"a message on the channel was ignored: {reason}")
    assert len(complaint.text) < 200
    assert plain(reader.feed(b'{"type":"group","name":"after"}\n')) == [Group("after")]


@given(st.lists(st.sampled_from([*LINES, (b"", None), (b" \r", None)])), st.lists(st.integers(0, 3000)))
def test_messages_at_every_cut(lines: list[tuple[bytes, Message | None]], cuts: list[int]) -> None:
    data = b"".join(line + b"\n" for line, _message in lines)
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    reader = MessageReader()
    found = plain([message for start, end in pairwise(places) for message in reader.feed(data[start:end])])
    assert found == [message for _line, message in lines if message is not None]
    assert reader.finish() == []


@given(st.binary(max_size=400), st.lists(st.integers(0, 400)))
def test_any_bytes_do_no_harm(data: bytes, cuts: list[int]) -> None:
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    reader = MessageReader()
    for start, end in pairwise(places):
        reader.feed(data[start:end])
    reader.finish()
    assert MessageReader().feed(b"\n" + data + b'\n{"type":"group","name":"after"}\n')[-1] == Heard(Group("after"))


def test_lengths_around_the_limit() -> None:
    whole = b'{"type":"group","name":"x","more":"' + b"x" * 70_000
    for length in (MESSAGE_LIMIT - 1, MESSAGE_LIMIT, MESSAGE_LIMIT + 1, MESSAGE_LIMIT + 5000):
        line = whole[: length - 2] + b'"}'
        for size in (len(line) + 10, 1000, 65_536):
            reader = MessageReader()
            data = line + b'\n{"type":"group","name":"after"}\n'
            found = plain([m for start in range(0, len(data), size) for m in reader.feed(data[start : start + size])])
            assert found[1] == Group("after")
            if length <= MESSAGE_LIMIT:
                assert found[0] == Group("x")
            else:
                assert found[0] == Complaint("a message on the channel was ignored: it has more than 65536 bytes")


def test_an_endless_line_is_not_kept() -> None:
    reader = MessageReader()
    block = b"x" * 65_536
    with at_most(1 << 20):
        found = [message for _ in range(200) for message in reader.feed(block)]
    assert len(found) == 1
    assert plain(reader.feed(b'x\n{"type":"group","name":"after"}\n')) == [Group("after")]


def test_the_last_line_may_lack_its_end() -> None:
    reader = MessageReader()
    assert reader.feed(b'{"type":"group","name":"x"}') == []
    assert plain(reader.finish()) == [Group("x")]
    assert reader.feed(b'{"type":"group","na') == []
    assert plain(reader.finish()) == [Complaint("a message on the channel was ignored: its end is missing")]
    assert reader.finish() == []


def test_node_s_own_messages() -> None:
    reader = MessageReader()
    assert reader.feed(b'{"cmd":"NODE_DEBUG_ENABLED"}\n{"type":"group","name":"x","cmd":"NODE_OTHER"}\n') == []
    assert reader.feed(b'{"type":"group","name":"NODE_x","cmd":"NODE_"}\n') == [Heard(Group("NODE_x"))]
    assert reader.handles == 0
    found = plain(reader.feed(b'{"cmd":"NODE_HANDLE","type":"net.Socket","msg":{"type":"group","name":"x"}}\n'))
    assert found == [Complaint("a socket that came with a message on the channel was closed"), Group("x")]
    assert reader.handles == 1
    # However that message is, its sender waits for the answer.
    found = plain(reader.feed(b'{"cmd":"NODE_HANDLE","type":"net.Server","msg":"\\ud800"}\n'))
    assert [type(message) for message in found] == [Complaint, Complaint]
    assert reader.handles == 2
    for size in (70_000, 1000):
        line = b'{"cmd":"NODE_HANDLE","type":"net.Server","msg":"' + b"x" * 80_000 + b'"}\n'
        found = plain([m for start in range(0, len(line), size) for m in reader.feed(line[start : start + size])])
        assert found == [Complaint("a message on the channel was ignored: it has more than 65536 bytes")]
    assert reader.handles == 4


# -- into the log ------------------------------------------------------------------------------------------------------


def speech(*secrets: str) -> Speech:
    return Speech(mask=Masking(secrets).add_within_bounds)


def said(one: Speech, *messages: Message, now: float = 100.0) -> list[Event]:
    """Return the records of messages that have their place at once."""
    return one.say(one.hear([Heard(message) for message in messages])[0], now)


@pytest.mark.parametrize(
    ("more", "mark", "ack"),
    [
        (b'"ack":1', "", 1),
        (b'"ack":"a-1"', "", "a-1"),
        (b'"ack":null,"mark":""', "", None),
        (b'"mark":"x.7"', "x.7", None),
        (b'"mark":"x.7","ack":-5', "x.7", -5),
        (b'"mark":"mine","mark":"x.7"', "x.7", None),  # what was said last, as everywhere in JSON
    ],
)
def test_marks_and_answers(more: bytes, mark: str, ack: int | str | None) -> None:
    known: list[tuple[bytes, Message]] = [
        (b'"type":"group","name":"x"', Group("x")),
        (b'"type":"mask","value":"hunter2"', Mask("hunter2")),
    ]
    for message, expected in known:
        assert MessageReader().feed(b"{%b,%b}\n" % (message, more)) == [Heard(expected, mark, ack)]
    (bad,) = MessageReader().feed(b'{"type":"nonsense",%b}\n' % more)
    assert (type(bad.message), bad.mark, bad.ack) == (Complaint, mark, ack)


@pytest.mark.parametrize(
    "more", [b'"ack":[1]', b'"ack":1.5', b'"ack":"%b"' % (b"x" * 65), b'"mark":7', b'"mark":"%b"' % (b"x" * 65)]
)
def test_bad_marks_and_answers_cost_themselves(more: bytes) -> None:
    complaint, group = plain(MessageReader().feed(b'{"type":"group","name":"x",%b}\n' % more))
    assert group == Group("x")
    assert isinstance(complaint, Complaint)
    assert complaint.text.startswith("a message on the channel was ignored in part: ")


def test_what_is_dropped_is_answered_too() -> None:
    one = speech()
    heard = [Heard(Mask("hunter2"), "m", 1), Heard(Mask("x"), ack=2), *[Heard(Complaint("bad"), ack=3)] * 20]
    found, used = one.hear(heard)
    assert used
    assert [item.ack for item in found] == [1, 2, *[3] * 20]
    assert len(one.say(found, 0.0)) == MAX_REPORTS


def test_of_progress_the_last_counts() -> None:
    one = speech()
    assert said(one, Progress(0.1), Group("x"), now=100.0) == [Progress(0.1), Group("x")]
    due = [one.due]
    for i in range(2, 9):
        assert said(one, Progress(i / 10), now=100.05) == []
    due.append(one.due)
    assert one.held(100.09) == []
    assert one.held(100.1) == [Progress(0.8)]
    due.append(one.due)
    assert due == [None, 100.0 + PROGRESS_EVERY, None]
    # The same again says nothing; what is held isn't true any more if it is taken back.
    assert said(one, Progress(0.8), now=101.0) == []
    assert said(one, Progress(0.9), Group("y"), Progress(0.8), now=101.0) == [Progress(0.9), Group("y")]
    assert said(one, Progress(1), now=101.01) == []
    assert one.end() == [Progress(1)]
    assert one.end() == []


def test_a_flood_of_progress_is_ten_a_second() -> None:
    one = speech()
    found = [event for i in range(10_001) for event in said(one, Progress(i / 10_000), now=i / 1000)]
    assert 90 <= len(found) <= 101
    assert [*found, *one.end()][-1] == Progress(1)


def test_of_summaries_the_last_counts() -> None:
    one = speech()
    found = [event for i in range(2001) for event in said(one, Summary(f"{i}"), now=i / 1000)]
    assert found == [Summary("0"), Summary("1000"), Summary("2000")]
    assert said(one, Summary("2001"), now=2.001) == []
    assert one.end() == [Summary("2001")]


def test_too_many_remarks() -> None:
    one = speech()
    found = said(one, *[Group(str(i)) for i in range(MAX_REMARKS)])
    assert found == [Group(str(i)) for i in range(MAX_REMARKS)]
    found = said(one, *[Annotation("error", "x")] * 5000, Progress(1))
    assert found == [
        Notice("warning", f"annotations and groups beyond {MAX_REMARKS} in a step are dropped"),
        Progress(1),
    ]
    assert said(one, Group("x")) == []


def test_complaints_are_few() -> None:
    one = speech()
    heard, used = one.hear([Heard(Complaint(f"bad {i}")) for i in range(MAX_REPORTS + 5)])
    assert not used
    assert said(one, *[Mask("x")] * 20) == []
    found = [*one.say(heard, 0.0), *one.end()]
    assert found[:-1] == [Notice("warning", f"bad {i}") for i in range(MAX_REPORTS)]
    assert found[-1] == Notice("warning", "25 more messages on the channel were ignored")


def test_notices_are_printable() -> None:
    assert said(speech(), Complaint("bad \x1b[2J")) == [Notice("warning", "bad \ufffd[2J")]


def test_what_can_t_be_hidden() -> None:
    one = speech()
    found = said(one, Mask("abc"), Mask("  abc \n"), Mask("****"), Mask("x" * 5000))
    short = Notice("warning", "a value of fewer than 4 bytes can't be hidden")
    assert found == [short, short, short, Notice("warning", "a value of more than 4096 bytes can't be hidden")]
    assert said(one, Mask("x" * 4096), Mask("abcd")) == []


def test_too_many_values_to_hide() -> None:
    masking = Masking(["the platform's own"])
    one = Speech(mask=masking.add_within_bounds)
    found = said(one, *[Mask(f"secret-{i:03}") for i in range(300)])
    assert found == [Notice("warning", "too many values are hidden already: no more can be")] * MAX_REPORTS
    assert masking.hide("secret-000 secret-040 secret-299") == "*** *** secret-299"
    assert len(masking._spellings) <= MAX_SPELLINGS
    # One that is hidden already needs no room, and what the platform hides has it always.
    assert said(one, Mask("secret-000")) == []
    masking.add([f"another of the platform's {i}" for i in range(200)])
    assert masking.hide("another of the platform's 199") == "***"


@given(st.floats(0, 1))
def test_all_languages_write_progress_the_same_way(value: float) -> None:
    (progress,) = plain(MessageReader().feed(b'{"type":"progress","value":%s}\n' % json.dumps(value).encode()))
    assert isinstance(progress, Progress)
    assert abs(progress.value - value) <= 0.00005
    written = encoder.encode(progress)
    assert b"e" not in written.partition(b'"value":')[2]
    # As a browser does it, to check the digest: for such numbers Python's json writes what JSON.stringify does.
    assert json.dumps(json.loads(written), separators=(",", ":")).encode() == written
    assert lines_decoder.decode(encoder.encode(Lines(first=1, time=1, step=0, lines=[progress]))).lines == [progress]


@pytest.mark.parametrize(
    "record",
    [
        '{"type":"progress","value":2}',
        '{"type":"progress","value":-0.1}',
        '{"type":"progress","value":1.0}',
        '{"type":"progress","value":null}',
        '{"type":"progress","value":0.5,"label":7}',
        '{"type":"annotation","level":"fatal","message":"x"}',
        '{"type":"annotation","level":"error","message":"x","line":1.5}',
        '{"type":"annotation","level":"error","message":"' + "x" * 4001 + '"}',
        '{"type":"group"}',
        '{"type":"summary","markdown":"' + "x" * 32_769 + '"}',
        '{"type":"mask","value":"hunter2"}',
    ],
)
def test_what_a_builder_says_otherwise_says_nothing(record: str) -> None:
    """An unknown event may be a newer builder's, so it is kept as it came, but neither shown nor counted."""
    batch = lines_decoder.decode('{"type":"lines","first":1,"time":1,"step":0,"lines":[' + record + "]}")
    assert batch.lines == [msgspec.json.decode(record)]
    assert event_of(batch.lines[0]) is None
