"""
The log of an attempt: records, batches and digests. Bottom layer; the runner makes them, and all processes carry them.

A *record* is one line of output (a JSON string) or one event (a JSON object with a ``type``). The runner numbers
records 1..N once, at capture; everything after that is idempotent by those numbers.

A *batch* (`Lines`) is a run of consecutive records that were captured together, hence share a time and a step.
It has one JSON form, which is the journal's block, the store's chunk and the WebSocket's message alike::

    {"type":"lines","first":17,"time":1732300000123,"step":2,"lines":["added 41 packages","…"]}

A *gap* (`Gap`) stands where records would, and can't be had any more: the journal was damaged. It covers their numbers
as a batch does, so that everything after it keeps its own; whatever carries batches (`Batch`) carries gaps alike. It is
in the link's messages, the store's chunks and the WebSocket's messages, and never in a journal::

    {"type":"gap","from":17,"to":40,"reason":"the journal is damaged: the checksum doesn't match"}

All work is by the batch, in C: nothing here costs a Python call per line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, Protocol, TypeVar, overload

import msgspec

#: The longest line, in bytes of UTF-8. A longer one comes in fragments: `Lines.more` marks those that go on.
MAX_LINE_BYTES = 16 * 1024

#: The most bytes of output that go into one batch. Escaped as JSON it is still well below a link frame. What is read of
#: a build's output at once is shorter by a line (56 KiB), so that a batch of ordinary lines, and its frame for a
#: viewer, is as long as TCP sends at once over the loopback (65,483 bytes) or a little less.
MAX_BATCH_BYTES = 72 * 1024

#: The highest number that a gap may have. Lines are counted one by one, but a gap can claim any number.
MAX_RECORD = 1_000_000_000

#: The longest reason of a gap, in characters.
MAX_REASON = 200

#: Decimals of a progress. With so few, no JSON encoder writes an exponent.
PROGRESS_DIGITS = 4

#: The longest summary, in characters. Escaped as JSON it is still well below a link frame.
MAX_SUMMARY = 32 * 1024


class StepStarted(msgspec.Struct, tag="step_started", tag_field="type", frozen=True, gc=False):
    """A step began; the records after it, up to its `StepEnded`, are its output."""

    index: int  # from 0, in order
    name: str
    command: str  # as a person would type it; "" where the platform does the step itself


class StepEnded(msgspec.Struct, tag="step_ended", tag_field="type", frozen=True, gc=False, omit_defaults=True):
    """
    A step ended. ``outcome`` is "succeeded", "failed", "cancelled" or "timed_out"; ``exit_code`` is as a shell
    would give it (128 + N for signal N), None if it never ran.
    """

    index: int
    outcome: str
    milliseconds: int
    exit_code: int | None = None


class Notice(msgspec.Struct, tag="notice", tag_field="type", frozen=True, gc=False):
    """Something that the platform itself has to say in the log. ``level`` is "info", "warning" or "error"."""

    level: str
    message: str


# What a build sends on its channel comes as these events. A decoder must check them, since their texts come from
# programs that the platform doesn't trust.

_Label = Annotated[str, msgspec.Meta(max_length=200)]


class Progress(msgspec.Struct, tag="progress", tag_field="type", frozen=True, gc=False, omit_defaults=True):
    """
    How far the step is: ``value`` from 0 to 1, with at most `PROGRESS_DIGITS` decimals, and what it is at. The ends are
    integers, so that all languages write the same number the same way, and come to the same digest.
    """

    value: Annotated[int, msgspec.Meta(ge=0, le=1)] | Annotated[float, msgspec.Meta(gt=0, lt=1)]
    label: _Label = ""


#: The most characters of a remark.
MAX_REMARK = 4000


class Annotation(msgspec.Struct, tag="annotation", tag_field="type", frozen=True, gc=False, omit_defaults=True):
    """
    A remark on the sources: on a ``line`` (from 1) of a ``file``, maybe on a ``column`` of it, on a file, or on all of
    it. ``repeats``: the line right before it says the same, so that a viewer of all records needn't show it there.
    """

    level: Literal["notice", "warning", "error"]
    message: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_REMARK)]
    file: Annotated[str, msgspec.Meta(max_length=1000)] = ""
    line: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] = 0  # 0: none
    column: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] = 0  # 0: none
    repeats: bool = False


class Summary(msgspec.Struct, tag="summary", tag_field="type", frozen=True, gc=False):
    """What the build has to say in the end, as Markdown. The last one of an attempt counts."""

    markdown: Annotated[str, msgspec.Meta(max_length=MAX_SUMMARY)]


#: The most characters of a group's name.
MAX_NAME = 200


class Group(msgspec.Struct, tag="group", tag_field="type", frozen=True, gc=False, omit_defaults=True):
    """
    The records from here on, up to the next group or the step's end, belong together; "" ends a group. ``folded``:
    viewers begin with its heading alone.
    """

    name: Annotated[str, msgspec.Meta(max_length=MAX_NAME)]
    folded: bool = False


#: What comes from the build itself.
Said = Progress | Annotation | Summary | Group

Event = StepStarted | StepEnded | Notice | Said

#: An event as it came, since it has a type, a field or a value that isn't known here: a newer program's. It has its
#: number and its share in the digest as any record, and is passed on unchanged; `event_of` returns what is known of it.
Unknown = dict[str, Any]

Record = str | Event | Unknown

if TYPE_CHECKING:
    _ReadRecord = Record
else:
    _ReadRecord = str | Unknown  # what JSON becomes, before `with_events`


class Lines(msgspec.Struct, tag="lines", tag_field="type", omit_defaults=True, gc=False):
    """A batch: consecutive records. See the module's docstring for its JSON form."""

    first: int  # the first record's number; the others follow without holes
    time: int  # when they were captured: milliseconds since 1970-01-01T00:00:00Z
    step: int  # the index of the step whose output they are; -1 before the first step
    lines: list[_ReadRecord]
    #: indexes into `lines` of fragments that the next record continues (the line had no end yet)
    more: list[int] = []

    @property
    def end(self) -> int:
        """The number that the record after this batch will have."""
        return self.first + len(self.lines)


class Gap(msgspec.Struct, tag="gap", tag_field="type", frozen=True, gc=False, rename={"first": "from"}):
    """Records ``first`` ("from") to ``to`` of a log are lost; ``reason`` says why, for people."""

    first: int
    to: int
    reason: str

    @property
    def end(self) -> int:
        """The number that the record after this gap has."""
        return self.to + 1


Batch = Lines | Gap


class End(msgspec.Struct, frozen=True, tag="end", tag_field="type"):
    """The last message of a log. ``complete``: the server has checked that it has all ``lines`` records."""

    lines: int
    sha256: str
    state: str
    complete: bool


#: The messages of a log, from its first record to its end.
Message = Batch | End

encoder = msgspec.json.Encoder()

_B = TypeVar("_B", Lines, Lines | Gap)


class BatchDecoder(Generic[_B]):
    """Decodes batches of one of these types; raises `msgspec.DecodeError` for anything else."""

    def __init__(self, kind: Any) -> None:
        self._decoder: msgspec.json.Decoder[_B] = msgspec.json.Decoder(kind)

    def decode(self, data: bytes | str) -> _B:
        """Return the batch, with its events."""
        return with_events(self._decoder.decode(data))


def with_events(batch: _B) -> _B:
    """Return the same batch, just decoded, with each event as one of `Event`, if that loses nothing of it."""
    if isinstance(batch, Lines) and dict in set(map(type, batch.lines)):
        batch.lines = [_as_event(record) if isinstance(record, dict) else record for record in batch.lines]
    return batch


def _as_event(record: Unknown) -> Record:
    """Return a record as an `Event`, if that loses nothing of it; else the record."""
    event = event_of(record)
    return record if event is None or encoder.encode(event) != encoder.encode(record) else event


def event_of(record: Record) -> Event | None:
    """
    Return a record as an event, to be shown or counted, without the fields that aren't known here. None for a line, and
    for an event whose type or values aren't known here: viewers skip it.
    """
    if isinstance(record, dict):
        try:
            event: Event = msgspec.convert(record, Event)
            return event
        except msgspec.ValidationError:
            return None
    return None if isinstance(record, str) else record


lines_decoder: BatchDecoder[Lines] = BatchDecoder(Lines)
batch_decoder: BatchDecoder[Batch] = BatchDecoder(Batch)


class Hash(Protocol):
    """A hash object, as hashlib's functions return it."""

    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


class LogDigest:
    """
    The SHA-256 of a log, record by record: of a line, its UTF-8 bytes and ``\\n``; of an event, its compact JSON
    (members in the order in which they came, no spaces, non-ASCII characters as they are) and ``\\n``.
    Fragments count as lines. ``docs/protocol.md`` has it for other languages. A log with a gap has no digest.

    ``sha256`` is an empty SHA-256 for it to use; mostly that is hashlib's.
    """

    def __init__(self, sha256: Hash | None = None) -> None:
        if sha256 is None:
            import hashlib  # not above: it loads OpenSSL, which the runner does without

            sha256 = hashlib.sha256()
        self._sha256 = sha256
        self.count = 0
        self.missing = 0  # how many of those are in gaps

    def add(self, batch: Batch) -> None:
        """Add the next batch's records. The caller has checked that it is the next."""
        if isinstance(batch, Gap):
            self.count += batch.end - batch.first
            self.missing += batch.end - batch.first
            return
        records = batch.lines
        try:
            joined = "\n".join(records)  # type: ignore[arg-type]  # all strings, unless it raises
        except TypeError:
            joined = "\n".join([r if isinstance(r, str) else encoder.encode(r).decode() for r in records])
        if records:
            self._sha256.update(joined.encode("utf-8", "surrogatepass"))
            self._sha256.update(b"\n")
        self.count += len(records)

    def hexdigest(self) -> str:
        """Return the digest of what was added so far; "" if some of it is missing."""
        return "" if self.missing else self._sha256.hexdigest()


@overload
def trim(batch: Lines, first: int) -> Lines | None: ...


@overload
def trim(batch: Gap, first: int) -> Gap | None: ...


@overload
def trim(batch: Batch, first: int) -> Batch | None: ...


def trim(batch: Batch, first: int) -> Batch | None:
    """
    Return the part of ``batch`` from number ``first`` on; None if nothing is left. Duplicates are dropped this way: by
    number, never by content.
    """
    skip = first - batch.first
    if skip <= 0:
        return batch
    if first >= batch.end:
        return None
    if isinstance(batch, Gap):
        return Gap(first, batch.to, batch.reason)
    return Lines(
        first=first,
        time=batch.time,
        step=batch.step,
        lines=batch.lines[skip:],
        more=[index - skip for index in batch.more if index >= skip],
    )


def valid_shape(batch: Batch) -> bool:
    """
    Return whether a decoded batch from another process also keeps the rules that its type can't express. Lines: numbers
    from 1 up, at least one record, `more` ascending and within the batch. A gap: an end, and a printable reason.
    """
    if isinstance(batch, Gap):
        reason = batch.reason
        return 1 <= batch.first <= batch.to <= MAX_RECORD and 0 < len(reason) <= MAX_REASON and reason.isprintable()
    more = batch.more
    return (
        batch.first >= 1
        and batch.time >= 0
        and batch.step >= -1
        and len(batch.lines) > 0
        and all(isinstance(record.get("type"), str) for record in batch.lines if isinstance(record, dict))
        and (not more or (more[0] >= 0 and more[-1] < len(batch.lines) and more == sorted(set(more))))
    )
