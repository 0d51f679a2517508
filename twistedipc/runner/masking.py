"""
Secrets out of a stream of bytes. No I/O; used by ``capture``.

Each secret is looked for in all its `spelling.spellings`, also where escape codes and other characters that can't be
seen are between its characters. What is found becomes ``***``; the escape codes that were in its middle follow that, so
that colours which began or ended there still do.

A line is looked at as a whole, so how it was split over writes is nothing to it. Of a line that has no end yet, so much
may be shown as no rest of the line can make part of a secret. The outcome is the same for every split, and no prefix of
it ever shows what the whole would have hidden.

Base64 and hexadecimal digits are also found where an encoder has broken them into lines, each of which ends in `WIDTH`
of them at least. Where such a line's end may be the beginning of a secret, that stays back until the next line is
there.

Limits, chosen: a secret (or a line of one) shorter than `SHORT` bytes is looked for only as it is, since its encodings
are too short to mean anything (lines that short aren't looked for). Digits that a program has broken into shorter lines
or into groups aren't recognised, nor is what was compressed, encrypted, or turned round.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence

from twistedipc.runner.spelling import SHORT, Spelling, spellings

MASK = b"***"

# What a text ends in that was cut.
_CUT = "…".encode()

#: The most bytes of a secret that a build may have hidden, and the most spellings of all that are hidden at its wish.
#: Looking for them costs time: with so many, about a second for 20 megabytes of output.
MAX_SECRET = 4096
MAX_SPELLINGS = 1500

#: The most bytes of a line without an end that are kept back before those of it are shown that can be.
MAX_HELD = 32 * 1024

#: How many digits a line ends in at least that goes on in the next one. Encoders' lines have 60 or more.
WIDTH = 32

# An escape code that has no end within so many bytes is taken for text.
_MAX_CODE = 4096

# What can't be seen, or is taken out where a log is shown as text: ECMA-48's escape codes (each part excludes what
# begins the next one, so that matching takes linear time), control characters but for tab, newline and carriage return,
# and those that order bidirectional text. None has a newline in it.
_STRING = rb"(?:[^\x07\x1b\n\xc2]|\xc2[^\x90\x98\x9c-\x9f\n])*"
_CODE = (
    rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_]" + _STRING + rb"(?:\x07|\x1b\\|\xc2\x9c)|[ -/]*[0-~])"
)  # fmt: skip
_UNSEEN = re.compile(
    _CODE + rb"|\xc2\x9b[0-?]*[ -/]*[@-~]"
    rb"|\xc2[\x90\x98\x9d-\x9f]" + _STRING + rb"(?:\x07|\x1b\\|\xc2\x9c)"
    rb"|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]"
    rb"|\xd8\x9c|\xe2\x80[\x8e\x8f\xaa-\xae]|\xe2\x81[\xa6-\xa9]"
)
_CONTROLS = bytes(byte for byte in range(32) if byte not in b"\t\n\r\x1b") + b"\x7f"
# What may stand in a CSI sequence before the byte that ends it.
_PARAMETERS = bytes(range(0x20, 0x40))
_NOT_ASCII = re.compile(rb"\xc2[\x80-\x9f]|\xd8\x9c|\xe2\x80[\x8e\x8f\xaa-\xae]|\xe2\x81[\xa6-\xa9]")

# One of those that isn't whole yet.
_BEGUN = re.compile(
    rb"(?:(?:\x1b\[|\xc2\x9b)[0-?]*[ -/]*"
    rb"|(?:\x1b[\]PX^_]|\xc2[\x90\x98\x9d-\x9f])(?:[^\x07\x1b\n\xc2]|\xc2[^\x90\x98\x9c-\x9f\n])*[\x1b\xc2]?"
    rb"|\x1b[ -/]*|\xc2|\xd8|\xe2[\x80\x81]?)\Z"
)

_DIGITS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_"
_UNSEEN_OR_BREAK = re.compile(_UNSEEN.pattern + rb"|(?<=[A-Za-z0-9+/_-]{%d})\n" % WIDTH)

#: Bytes of a secret that are in a file's name only if somebody has put them there.
UNLIKELY = 8

_Span = tuple[int, int]


class Masking:
    """The masking of one stream. `feed` takes its bytes, and returns those that are safe to show."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._spellings: set[Spelling] = set()
        self._finder: _Finder | None = None  # made when it is needed: many secrets may come at once
        self._held: list[bytes] = []  # the line that has no end yet; before it, lines that may end in half a secret
        self._size = 0  # its bytes
        self._before = b""  # the digits at the end of what was shown of that line, or of the first of those
        #: whether something of it may be shown that isn't yet
        self.pending = False
        self.add(secrets)

    def add(self, secrets: Iterable[str]) -> None:
        """Hide these secrets too, from now on."""
        found = self._spellings.union(*map(spellings, secrets))
        if len(found) > len(self._spellings):
            self._spellings = found
            self._finder = None

    def add_within_bounds(self, secrets: Iterable[str]) -> list[str]:
        """
        Hide those of these secrets that can be hidden, from now on. Return a sentence for each of the others, which
        says why not.
        """
        refused: list[str] = []
        known = set(self._spellings)
        for secret in secrets:
            size = len(secret.strip().encode("utf-8", "surrogatepass"))
            if size > MAX_SECRET:
                refused.append(f"a value of more than {MAX_SECRET} bytes can't be hidden")
                continue
            found = spellings(secret) if size >= SHORT else set()
            if not found:
                refused.append(f"a value of fewer than {SHORT} bytes can't be hidden")
            elif len(known | found) > max(MAX_SPELLINGS, len(known)):
                refused.append("too many values are hidden already: no more can be")
            else:
                known |= found
        if len(known) > len(self._spellings):
            self._spellings = known
            self._finder = None
        return refused

    def hide(self, text: str) -> str:
        """
        Return a text that isn't of the stream, without the secrets. If the text was cut, and ends in "…", the beginning
        of a secret before that is hidden too. The text never gets longer.
        """
        if not self._spellings:
            return text
        finder = self._find()
        data = text.encode("utf-8", "replace")
        rest = b""
        if data.endswith(_CUT):
            whole = data.removesuffix(_CUT)
            line = whole.rfind(b"\n") + 1
            safe = line + finder.safe(whole[line:], b"")
            if len(whole) - safe >= SHORT:  # fewer bytes are there by chance, and say little
                data, rest = whole[:safe], MASK + _CUT
        return (finder.mask(data) + rest).decode("utf-8", "replace")[: len(text)]

    def first_with_secret(self, names: Sequence[str]) -> str | None:
        """
        Return the first of these names that has a secret of `UNLIKELY` bytes or more in it; None if none has. A shorter
        one is in a name by chance: a hidden "main" mustn't keep a site with a ``main.js`` from being released.
        """
        wanted = [one for one in self._spellings if len(one.characters) >= UNLIKELY]
        if not wanted:
            return None
        finder = _Finder(wanted)

        def has_secret(text: str) -> bool:
            data = text.encode("utf-8", "replace")
            return finder.mask(data) != data

        return next(filter(has_secret, names), None) if has_secret("\n".join(names)) else None

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes of the stream; return those to show: whole lines, and the beginning of a long one."""
        if not self._spellings:
            return data
        end = data.rfind(b"\n") + 1
        shown = b""
        if end:
            lines = self._take() + data[:end]
            shown = self._show(lines, self._find().safe_lines(lines, self._before))
            data = data[end:]
        if data:
            self._held.append(data)
            self._size += len(data)
            self.pending = True
        return shown + self.flush() if self._size > MAX_HELD else shown

    def flush(self) -> bytes:
        """Return what can be shown of a line that has no end yet. What may be the beginning of a secret stays back."""
        text = self._take()
        return self._show(text, self._find().safe(text, self._before)) if text else b""

    def finish(self) -> bytes:
        """Return what was held back: the stream ends here."""
        text = self._take()
        return self._show(text, len(text)) if text else b""

    def _show(self, text: bytes, safe: int) -> bytes:
        """Mask the first ``safe`` bytes of what was held, and go on holding the rest."""
        shown, rest = (text[:safe], text[safe:]) if safe < len(text) else (text, b"")
        if rest:
            self._held = [rest]
            self._size = len(rest)
        masked = self._find().mask(shown, self._before)
        before = (self._before + shown).rpartition(b"\n")[2][-WIDTH:]
        self._before = before[len(before.rstrip(_DIGITS)) :]
        return masked

    def _take(self) -> bytes:
        line = b"".join(self._held)
        self._held = []
        self._size = 0
        self.pending = False
        return line

    def _find(self) -> _Finder:
        if self._finder is None:
            self._finder = _Finder(self._spellings)
        return self._finder


class _Finder:
    """Finds some spellings in text."""

    def __init__(self, wanted: Iterable[Spelling]) -> None:
        # The longest first: where one begins with another, the longer is the one that is there.
        self._wanted = sorted(wanted, key=lambda one: (-len(one.characters), one.characters))
        # Almost all output has no secret in it. One look for a rare part of each is what it costs then.
        self._maybe = _compiled(one.anchor() for one in self._wanted)
        self._exactly: re.Pattern[bytes] | None = None
        self._beginnings = _Beginnings(self._wanted)
        self._broken = _Broken([one for one in self._wanted if one.encoded])

    def mask(self, data: bytes, before: bytes = b"") -> bytes:
        """Return ``data``, whole lines, without the spellings. ``before`` are the digits right before it."""
        maybe = self._maybe.search
        codes, seen = _seen(data)
        # What stands in a line stands there too if the lines have no ends.
        if maybe(seen.replace(b"\n", b"")) is None and (not codes or maybe(data) is None):
            return data
        broken = self._broken.spans(data, before)
        lines = data.split(b"\n")
        at = 0
        for index, line in enumerate(lines):
            found = [(max(0, start - at), min(len(line), end - at)) for start, end in broken if start < at + len(line)]
            found = [(start, end) for start, end in found if start < end]
            if found or maybe(line) is not None or (seen is not data and maybe(_UNSEEN.sub(b"", line)) is not None):
                lines[index] = _masked(line, _joined(found + self._spans(line)))
            at += len(line) + 1
        return b"\n".join(lines)

    def safe_lines(self, lines: bytes, before: bytes) -> int:
        """Return how many bytes of whole lines can be masked and shown, whatever follows: mostly all."""
        if not _goes_on(lines if len(lines) > WIDTH else before + lines, -1):
            return len(lines)
        return self._safe(lines, before, len(lines))

    def safe(self, text: bytes, before: bytes) -> int:
        """Return the same for a line without an end, and lines before it that were held."""
        last = text.rfind(b"\n") + 1
        line = text[last:]
        safe = self._beginnings.place(line)
        begun = next((match.start() for match in _from_last(line, _BEGUN)), len(line))
        seen, raw = _view(line[:begun])
        safe = min(safe, begun, raw(self._beginnings.place(seen)))
        return self._safe(text, before, last + safe)

    def _safe(self, text: bytes, before: bytes, safe: int) -> int:
        """Return the same for lines that may go on in the next one; at most ``safe``."""
        first = max(0, self._broken.begin_of_lines(before + text) - len(before))
        if first:
            text, before = text[first:], b""
        place = min(safe - first, self._broken.begin(text, before))
        return first + self._outside(text, place, self._broken.spans(text, before))

    def _outside(self, text: bytes, place: int, broken: list[_Span]) -> int:
        """Return ``place``, or the beginning of the span that it is within."""
        while True:
            start = text.rfind(b"\n", 0, place) + 1
            end = text.find(b"\n", place)
            line = text[start : end if end >= 0 else len(text)]
            spans = [(start + first, start + last) for first, last in self._spans(line)] + broken
            outside = min((first for first, last in spans if first < place < last), default=place)
            if outside == place:
                return place
            place = outside

    def _spans(self, line: bytes) -> list[_Span]:
        """Return where the spellings stand in a line, in order; those that overlap are one span."""
        if self._exactly is None:
            self._exactly = _compiled(one.pattern() for one in self._wanted)
        spans = [match.span() for match in self._exactly.finditer(line)]
        seen, raw = _view(line)
        if len(seen) < len(line):
            spans += [(raw(start), raw(end - 1) + 1) for start, end in map(_span, self._exactly.finditer(seen))]
            spans = _joined(spans)
        return spans


class _Beginnings:
    """Finds what may be the beginning of a spelling at the end of a text."""

    def __init__(self, wanted: Sequence[Spelling]) -> None:
        self._wanted = wanted
        #: the most bytes of one
        self.longest = max((one.longest for one in wanted), default=0)
        self._by_first: dict[int, list[Spelling]] | None = None

    def place(self, text: bytes) -> int:
        """Return the first place whose rest may be the beginning of a spelling; the text's length if there is none."""
        if self._by_first is None:
            self._by_first = {}
            for one in self._wanted:
                for first in {written[0] for written in one.characters[0]}:
                    self._by_first.setdefault(first, []).append(one)
        for at in range(max(0, len(text) - self.longest + 1), len(text)):
            if (ones := self._by_first.get(text[at])) is not None:
                rest = text[at:]
                if any(one.may_go_on(rest) for one in ones):
                    return at
        return len(text)


class _Broken:
    """Finds spellings that are broken into lines."""

    def __init__(self, encoded: Sequence[Spelling]) -> None:
        self._encoded = encoded
        self._beginnings = _Beginnings(encoded)
        self._maybe: re.Pattern[bytes] | None = None
        self._exactly: re.Pattern[bytes] | None = None

    def spans(self, text: bytes, before: bytes) -> list[_Span]:
        """Return where they stand in a text over the end of a line. ``before`` are the digits right before it."""
        if not self._encoded or b"\n" not in text:
            return []
        if self._maybe is None:
            self._maybe = _compiled(one.anchor() for one in self._encoded)
        if self._maybe.search(_UNSEEN.sub(b"", text).replace(b"\n", b"")) is None:
            return []
        if self._exactly is None:
            # At every place, so that it doesn't matter where the search has begun.
            self._exactly = re.compile(b"(?=(" + _either(one.pattern() for one in self._encoded) + b"))")
        seen, raw = _view(before + text, _UNSEEN_OR_BREAK)
        shift = len(before)
        spans = [match.span(1) for match in self._exactly.finditer(seen, shift)]
        found = [(raw(start) - shift, raw(end - 1) + 1 - shift) for start, end in spans]
        return [(start, end) for start, end in found if b"\n" in text[start:end]]

    def begin_of_lines(self, text: bytes) -> int:
        """Return where the last lines begin of which each goes on in the next; no further back than is of use."""
        start = text.rfind(b"\n", 0, max(0, len(text) - 1)) + 1
        while start and len(text) - start < 3 * self._beginnings.longest and _goes_on(text, start - 1):
            start = text.rfind(b"\n", 0, start - 1) + 1
        return start

    def begin(self, text: bytes, before: bytes) -> int:
        """Return the first place whose rest may be the beginning of a spelling; the text's length if there is none."""
        seen, raw = _view(before + text, _UNSEEN_OR_BREAK)
        return raw(len(before) + self._beginnings.place(seen[len(before) :])) - len(before)


def _goes_on(text: bytes, end: int) -> bool:
    """Return whether a value in the line with this end may go on in the next line."""
    end %= len(text)
    digits = text[max(0, end - WIDTH) : end]
    return len(digits) == WIDTH and not digits.translate(None, _DIGITS)


def _seen(data: bytes) -> tuple[bool, bytes]:
    """Return what can be seen of ``data``; and whether what can't be seen may hold a text of its own."""
    if len(data.translate(None, _CONTROLS)) < len(data) or (not data.isascii() and _NOT_ASCII.search(data)):
        return True, _UNSEEN.sub(b"", data)
    if b"\x1b" not in data:
        return False, data
    first, *rest = data.split(b"\x1b[")
    if data.count(b"\x1b") > len(rest):
        return True, _UNSEEN.sub(b"", data)
    # Colours, most likely, and many: this takes a fifth of the time that a regular expression does.
    return False, b"".join([first, *[piece.lstrip(_PARAMETERS)[1:] for piece in rest]])


def _span(match: re.Match[bytes]) -> _Span:
    return match.span()


def _joined(spans: list[_Span]) -> list[_Span]:
    joined: list[_Span] = []
    for start, end in sorted(spans):
        if joined and start < joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined


def _masked(line: bytes, spans: list[_Span]) -> bytes:
    shown: list[bytes] = []
    position = 0
    for start, end in spans:
        shown += (line[position:start], MASK, *_UNSEEN.findall(line[start:end]))
        position = end
    shown.append(line[position:])
    return b"".join(shown)


def _view(line: bytes, unseen: re.Pattern[bytes] = _UNSEEN) -> tuple[bytes, Callable[[int], int]]:
    """Return what can be seen of a line, and a function from a place in that to the same place in the line."""
    starts = [0]  # in what is seen: of each piece
    shifts = [0]  # how much longer the line is by then
    pieces: list[bytes] = []
    position = size = 0
    for match in unseen.finditer(line):
        start, end = match.span()
        pieces.append(line[position:start])
        size += start - position
        position = end
        starts.append(size)
        shifts.append(position - size)
    pieces.append(line[position:])
    return b"".join(pieces), lambda place: place + shifts[bisect_right(starts, place) - 1]


def _from_last(line: bytes, begun: re.Pattern[bytes]) -> Iterable[re.Match[bytes]]:
    """Yield the match that goes to the end of a line, if there is one."""
    match = begun.search(line, max(0, len(line) - _MAX_CODE))
    return () if match is None else (match,)


def _compiled(ones: Iterable[Iterable[tuple[int, bytes]]]) -> re.Pattern[bytes]:
    return re.compile(_either(ones))


def _either(ones: Iterable[Iterable[tuple[int, bytes]]]) -> bytes:
    """Return one regular expression for all, by their first bytes, so that most places cost one look at a table."""
    by_first: dict[int, list[bytes]] = {}
    for one in ones:
        for first, rest in one:
            by_first.setdefault(first, []).append(rest)
    return b"|".join(
        re.escape(bytes([first])) + b"(?:" + b"|".join(dict.fromkeys(rests)) + b")" for first, rests in by_first.items()
    )
