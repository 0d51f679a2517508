"""An interface with all kinds of types, for the tests of what is made of it in TypeScript."""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypedDict, TypeVar

import msgspec

from twistedipc.ipc import Interface, Message, Request, StreamedRequest, StreamOf

T = TypeVar("T")


class Colour(enum.Enum):
    """What an item looks like."""

    RED = "red"
    DARK_GREEN = "dark green"


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


class Circle(msgspec.Struct, tag=True):
    radius: float


class Square(msgspec.Struct, tag=True, tag_field="type"):
    side: float


class Triangle(msgspec.Struct, tag="three's", tag_field="type"):
    sides: tuple[float, float, float]


class Node(msgspec.Struct):
    """
    A tree. It holds itself.

    */ and not the end of this.
    """

    name: str
    children: list[Node] = []
    parent: Node | None = None


class Point(msgspec.Struct, array_like=True):
    x: float
    y: float
    label: str | None = None


class Page(msgspec.Struct, Generic[T]):
    rows: list[T]
    next: int | None


@dataclass
class Place:
    shelf: int
    row: int = 0


class Options(TypedDict, total=False):
    fast: bool


class Pair(NamedTuple):
    left: int
    right: str = ""


class Renamed(msgspec.Struct, rename={"class_": "class", "two_words": "two words"}):
    class_: str
    two_words: int | msgspec.UnsetType = msgspec.UNSET


class Everything(msgspec.Struct, kw_only=True, rename="camel"):
    at_time: datetime.datetime
    day: datetime.date
    how_long: datetime.timedelta
    id: uuid.UUID
    price: decimal.Decimal
    data: bytes
    raw: msgspec.Raw
    anything: Any
    amount: Annotated[int, msgspec.Meta(ge=0)]
    tags: set[str] | None = None
    mixed: list[int | str | None] = []
    by_name: dict[str, Place] = {}
    by_number: dict[int, list[Point]] = {}
    word: Literal["one", "two's", 3, None] = "one"
    colour: Colour = Colour.RED
    size: Size = Size.SMALL
    pair: Pair | None = None
    options: Options | None = None
    renamed: Renamed | None = None


class Find(Request[Everything]):
    """Look something up."""

    id: int
    shape: Square | Triangle | None = None


class List(Request[Page[Node]], tag="list all"):
    page: int = 0


class Count(Request[int]):
    pass


class Stock(StreamedRequest[Page[Node] | None]):
    """All that there is, by the page."""

    above: int = 0


class Stop(Message):
    pass


class Log(Message, tag="log.line"):
    text: str


class Drawn(msgspec.Struct):
    shape: Square | Triangle
    circle: Circle


DRAWINGS = StreamOf("drawings", Drawn)
WAREHOUSE = Interface("big-warehouse", Find, List, Count, Stock, Stop, Log, streams=[DRAWINGS])
