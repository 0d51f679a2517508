"""The lines that a benchmark prints: one JSON object each, told apart by ``kind``. Written by runs, read by report."""

from __future__ import annotations

import msgspec


class Machine(msgspec.Struct, kw_only=True, tag_field="kind", tag="machine"):
    """The first line of a run: where and when. ``load``: how many processes wanted to run in the minute before."""

    date: str
    command: str
    cores: int
    processor: str
    system: str
    versions: dict[str, str]
    load: float = 0.0


class Bar(msgspec.Struct):
    """What must be reached, by a figure or a ratio: at least ``bound``, or at most."""

    bound: float
    at_most: bool = False

    def reached(self, value: float) -> bool:
        return value <= self.bound if self.at_most else value >= self.bound

    def __str__(self) -> str:
        return f"{'<=' if self.at_most else '>='} {self.bound:,.10g}"


class Question(msgspec.Struct, kw_only=True, tag_field="kind", tag="question"):
    """
    What the samples after it measure.

    ``bars``: for peers by their names, what our value divided by theirs must be. ``must``: what figures of ours must
    be by themselves: the value by ``""``, others by their names in `Sample.more`. ``axis`` names what `Sample.at`
    counts. ``repetitions``: it is measured so often at most; 0: as often as asked for. ``fits``: a figure of each
    sample, in milliseconds, and the figures that count what it is a sum of (`bench.common.fit`).
    """

    name: str
    title: str
    unit: str
    ours: str
    bars: dict[str, Bar] = {}
    must: dict[str, Bar] = {}
    axis: str = ""
    lower_is_better: bool = False
    repetitions: int = 0
    fits: dict[str, list[str]] = {}


class Sample(msgspec.Struct, kw_only=True, tag_field="kind", tag="sample", omit_defaults=True):
    """One measurement of one candidate. ``more`` holds further figures by their names, units included."""

    question: str
    candidate: str
    repetition: int
    value: float
    at: float = 0.0
    more: dict[str, float] = {}


class Skipped(msgspec.Struct, kw_only=True, tag_field="kind", tag="skipped"):
    """A candidate that couldn't be measured here, and what would be needed."""

    question: str
    candidate: str
    reason: str


class Broken(msgspec.Struct, kw_only=True, tag_field="kind", tag="broken"):
    """A measurement that failed: lines were lost, a program ended, nothing came in time."""

    question: str
    candidate: str
    repetition: int
    reason: str
    at: float = 0.0


class Note(msgspec.Struct, kw_only=True, tag_field="kind", tag="note"):
    """What a measurement says besides its figures: some lines of text, shown as they are."""

    question: str
    candidate: str
    text: str


Record = Machine | Question | Sample | Skipped | Broken | Note

decoder = msgspec.json.Decoder(Record)
encode = msgspec.json.Encoder().encode
