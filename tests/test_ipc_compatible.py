"""What breaks between two versions of an interface, by their schemas; and the command that says so."""

from __future__ import annotations

import datetime
import enum
import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
import pytest

from twistedipc.ipc import BadVocabulary, Interface, Message, Request, StreamedRequest, StreamOf
from twistedipc.ipc.__main__ import main
from twistedipc.ipc.wire.compatible import compare


class Red(enum.Enum):
    RED = "red"


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Cat(msgspec.Struct, tag=True):
    lives: int = 9


class Dog(msgspec.Struct, tag=True):
    barks: bool


class Node(msgspec.Struct):
    value: int
    next: Node | None = None


class WideNode(msgspec.Struct):
    value: int | str
    next: WideNode | None = None


class Point(msgspec.Struct, array_like=True):
    x: int
    y: int = 0


class LongPoint(msgspec.Struct, array_like=True):
    x: int
    y: int
    z: int


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    value: int


class Pair(msgspec.Struct):
    value: int
    more: int = 1


#: Types of a field, each with values of it.
TYPES: list[tuple[Any, list[Any]]] = [
    (int, [0, -5, 2**40]),
    (float, [1.5]),
    (str, ["", "x"]),
    (bytes, [b"", b"x"]),
    (bool, [True]),
    (None, [None]),
    (int | None, [None, 5]),
    (int | str, [5, "x"]),
    (str | None, ["x", None]),
    (Any, [{"a": [1]}]),
    (list[int], [[], [1, 2, 3]]),
    (list[str], [["x"]]),
    (list[int | str], [[1, "x"]]),
    (tuple[int, int], [(1, 2)]),
    (tuple[int, int, int], [(1, 2, 3)]),
    (dict[str, int], [{"value": 1}, {}]),
    (dict[str, str], [{"a": "b"}]),
    (Red, [Red.RED]),
    (Colour, [Colour.RED, Colour.BLUE]),
    (Literal["red", "green"], ["red", "green"]),
    (Annotated[int, msgspec.Meta(ge=0)], [0, 2**40]),
    (Annotated[int, msgspec.Meta(ge=1, le=10)], [1, 10]),
    (Annotated[str, msgspec.Meta(max_length=1)], ["x"]),
    (Decimal, [Decimal("1.5")]),
    (Cat, [Cat()]),
    (Cat | Dog, [Cat(), Dog(True)]),
    (Dog | None, [Dog(False), None]),
    (Node, [Node(1, Node(2))]),
    (WideNode, [WideNode("x"), WideNode(1, WideNode("y"))]),
    (Point, [Point(1, 2)]),
    (LongPoint, [LongPoint(1, 2, 3)]),
    (Strict, [Strict(1)]),
    (Pair, [Pair(1)]),
]


def declared(field: Any) -> type[msgspec.Struct]:
    return msgspec.defstruct("Said", [("f", field)], bases=(Message,))


SCHEMAS = [Interface("x", declared(kind)).schema() for kind, _ in TYPES]


@pytest.mark.parametrize("sender", range(len(TYPES)), ids=[str(kind) for kind, _ in TYPES])
def test_what_is_said_to_be_taken_is_taken(sender: int) -> None:
    """What is said not to be taken may be, now and then: JSON Schema is stricter than msgspec in a few places."""
    kind, values = TYPES[sender]
    lines = [msgspec.json.encode(declared(kind)(f=value)) for value in values]
    for receiver, (other, _) in enumerate(TYPES):
        decoder = msgspec.json.Decoder(declared(other))
        taken = 0
        for line in lines:
            try:
                decoder.decode(line)
                taken += 1
            except msgspec.ValidationError:
                pass
        breaks = [each for each in compare(SCHEMAS[sender], SCHEMAS[receiver]).breaks if each.sender == "old"]
        if not breaks:
            assert taken == len(lines), (kind, other)


#: Fields of the old version and the new one, and what is wrong with that.
BROKEN: list[tuple[Any, Any, str]] = [
    (int, str, "$.f may be integer, and only string is taken"),
    (int | str, int, "$.f may be string, and only integer is taken"),
    (float, int, "$.f may be number, and only integer is taken"),
    (Any, int, "$.f may be anything, and only integer is taken"),
    (int | None, int, "$.f may be null, and only integer is taken"),
    (Colour, Red, "$.f may be 'blue', which isn't taken"),
    (str, Colour, "$.f may be string, and only 'blue' or 'red' is taken"),
    (int, Annotated[int, msgspec.Meta(ge=0)], "$.f: minimum is 0 there, and not set here"),
    (str, bytes, "$.f: contentEncoding is base64 there, and not set here"),
    (Cat | Dog, Cat, "$.f.type may be 'Dog', which isn't taken"),
    (list[int | str], list[int], "$.f[…] may be string, and only integer is taken"),
    (tuple[int, int, int], tuple[int, int], "$.f may have more items than 2"),
    (dict[str, int | str], dict[str, int], "$.f[…] may be string, and only integer is taken"),
    (Pair, Strict, "$.f.more isn't known, and unknown fields are refused"),
    (WideNode, Node, "$.f.value may be string, and only integer is taken"),
    (Point, LongPoint, "$.f: minItems is 3 there, and 1 here"),
]


@pytest.mark.parametrize(("old", "new", "problem"), BROKEN, ids=lambda each: str(each)[:30])
def test_what_is_wrong_is_said(old: Any, new: Any, problem: str) -> None:
    found = compare(Interface("x", declared(old)).schema(), Interface("x", declared(new)).schema())
    assert problem in [each.problem for each in found.breaks if each.sender == "old"]


class Left(Message, tag="said", omit_defaults=True):
    a: int = 1


class Unset(Message, tag="said"):
    a: int | msgspec.UnsetType = msgspec.UNSET


class Always(Message, tag="said"):
    a: int = 1


class Needs(Message, tag="said"):
    a: int


@pytest.mark.parametrize(("sender", "breaks"), [(Left, True), (Unset, True), (Always, False), (Needs, False)])
def test_what_a_sender_may_leave_out(sender: type[Message], breaks: bool) -> None:
    found = compare(Interface("x", sender).schema(), Interface("x", Needs).schema())
    assert ["may be left out" in each.problem for each in found.breaks if each.sender == "old"] == [True] * breaks


def test_requests_that_are_answered_by_items() -> None:
    def asked(item: Any, extra: Any = None) -> dict[str, Any]:
        class Rows(StreamedRequest[item], tag="rows"):
            above: int = 0

        kinds = [Rows] if extra is None else [Rows, extra]
        return Interface("x", *kinds).schema()

    class More(StreamedRequest[int]):
        pass

    assert compare(asked(int), asked(int)).compatible
    (found,) = compare(asked(int), asked(str | int)).breaks
    assert str(found).startswith("item rows, new sender, old receiver: $ may be string")
    assert "bad-reply" in found.costs
    assert compare(asked(int), asked(int, More)).added == [("request", "more")]
    (found,) = compare(asked(int, More), asked(int)).breaks
    assert (found.part, found.name, found.costs) == ("request", "more", "the call fails, unknown-type")


def test_what_has_no_schema() -> None:
    class Odd(Message):
        raw: msgspec.Raw = msgspec.Raw(b"1")

    with pytest.raises(BadVocabulary, match="no JSON Schema"):
        Interface("x", Odd).schema()


@pytest.mark.parametrize("wrong", [{}, [], None, {"format": 2, "interface": "x"}, {"format": 1}])
def test_what_is_no_schema_of_an_interface(wrong: Any) -> None:
    with pytest.raises(ValueError, match="isn't the JSON Schema of an interface"):
        compare(wrong, SCHEMAS[0])


# -- the command -----------------------------------------------------------------------------------------------------


class Sum(msgspec.Struct):
    value: int


class Add(Request[Sum]):
    a: int


OLD = Interface("adding", Add)


class LaterAdd(Request[Sum], tag="add"):
    a: int
    b: int


NEW = Interface("adding", LaterAdd, Always, streams=[StreamOf("sums", Sum)])
LARGER = Interface("adding", Add, Always)


@pytest.fixture
def dumped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    for name in ("OLD", "NEW", "LARGER"):
        assert main(["dump", f"{__name__}:{name}"]) == 0
        (tmp_path / f"{name}.json").write_text(capsys.readouterr().out)
    return tmp_path


def test_a_change_that_breaks(dumped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["diff", str(dumped / "OLD.json"), str(dumped / "NEW.json")]
    assert main(words) == 1
    assert capsys.readouterr().out.splitlines() == [
        "not compatible:",
        "  request add, old sender, new receiver: $.b is required, and isn't sent (the call fails, bad-request)",
        "  message said is new: older peers don't take it, which Peer.understands tells",
        "  stream sums is new: older peers don't take it, which Peer.understands tells",
    ]
    assert main([*words, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["compatible"], len(found["breaks"]), found["breaks"][0]["sender"]) == (False, 1, "old")


def test_a_change_that_does_not(dumped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", str(dumped / "OLD.json"), str(dumped / "LARGER.json")]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "compatible"
    # The other way round it is removed.
    assert main(["diff", str(dumped / "LARGER.json"), str(dumped / "OLD.json")]) == 1
    assert "unknown-type" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["dump", "nothing"],
        ["dump", "no.such.module:X"],
        ["dump", f"{__name__}:NOTHING"],
        ["dump", f"{__name__}:Sum"],
        ["diff", "nothing.json", "nothing.json"],
        ["diff", __file__, __file__],
    ],
)
def test_what_can_not_be_done(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1


def test_it_is_run_as_a_module(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from twistedipc.ipc import Interface\nMINE = Interface('mine')\n")
    command = [sys.executable, "-m", "twistedipc.ipc", "dump", "mine:MINE"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert json.loads(found.stdout)["interface"] == "mine", found.stderr


T = TypeVar("T")


class Leaf(msgspec.Struct):
    a: int


class Boxed(msgspec.Struct, Generic[T], omit_defaults=True):
    inside: T
    b: int = 1


def test_times_are_texts_but_not_all_texts_are_times() -> None:
    """msgspec's own schema doesn't tell a text from a time that needs no zone."""
    kinds: list[tuple[Any, Any]] = [
        (str, datetime.datetime),
        (list[str], list[datetime.datetime]),
        (dict[str, str | None], dict[str, datetime.datetime | None]),
        (tuple[int, str], tuple[int, datetime.time]),
        (dict[str, int], dict[datetime.datetime, int]),
        (Leaf | str, Leaf | datetime.datetime),
        (Boxed[str], Boxed[datetime.datetime]),
        (datetime.datetime, datetime.time),
        (datetime.datetime, Annotated[datetime.datetime, msgspec.Meta(tz=True)]),
    ]
    for text, time in kinds:
        old, new = (Interface("x", declared(kind)).schema() for kind in (text, time))
        assert {each.sender for each in compare(old, new).breaks} >= {"old"}, (text, time)
        assert "old" not in {each.sender for each in compare(new, old).breaks} or text is datetime.datetime
        for same in (old, new):
            assert compare(same, same).compatible
