"""The lines that a benchmark prints: one JSON object each, told apart by ``kind``. Written by runs, read by report."""

from __future__ import annotations

import msgspec


class Machine(msgspec.Struct, kw_only=True, tag_field="kind", tag="machine"):
    """The first line of a run: where and when."""

    date: str
    command: str
    cores: int
    processor: str
    system: str
    versions: dict[str, str]


class Bar(msgspec.Struct):
    """What our value divided by a peer's must be: at least ``ratio``, or at most."""

    ratio: float
    at_most: bool = False

    def reached(self, ratio: float) -> bool:
        return ratio <= self.ratio if self.at_most else ratio >= self.ratio

    def __str__(self) -> str:
        return f"{'<=' if self.at_most else '>='} {self.ratio:g}"


class Question(msgspec.Struct, kw_only=True, tag_field="kind", tag="question"):
    """What the samples after it measure. ``bars`` holds peers' names; ``axis`` names what `Sample.at` counts."""

    name: str
    title: str
    unit: str
    ours: str
    bars: dict[str, Bar] = {}
    axis: str = ""
    lower_is_better: bool = False


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


Record = Machine | Question | Sample | Skipped

decoder = msgspec.json.Decoder(Record)
encode = msgspec.json.Encoder().encode
