"""
Secrets out of a stream of bytes. No I/O; used by ``capture``.

Each secret is looked for as it is, in base64 at its three alignments (standard and URL-safe alphabet), URL-encoded, and
as JSON has it inside a string; a secret of several lines also line by line. What is found becomes ``***``.

A secret that is split over writes is still found: a suffix that may be the beginning of one is held back until more
has come. The outcome is the same for every split, and no prefix of it ever shows what the whole would have hidden.

Limits, chosen: a secret (or a line of one) shorter than `SHORT` bytes is looked for only as it is, since its encodings
are too short to mean anything (lines that short aren't looked for); base64 that a program has broken into lines isn't
recognised.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from urllib.parse import quote_from_bytes

import msgspec

MASK = b"***"

#: Below this many bytes a secret has no encoded forms.
SHORT = 4

#: The most bytes of a secret that a build may have hidden, and the most forms of all that are hidden at its wish.
#: Looking for them costs time: with so many, about a second for each megabyte of output.
MAX_SECRET = 4096
MAX_FORMS = 400


def forms(secret: str) -> set[bytes]:
    """All byte strings that give ``secret`` away. None of them has a newline in it."""
    whole = secret.encode("utf-8", "surrogatepass")
    parts = [line.strip(b"\r") for line in whole.split(b"\n")]
    if len(parts) == 1 and len(whole) < SHORT:
        return {whole} if whole.strip(b"*") else set()
    found: set[bytes] = set()
    for part in {whole, *parts}:
        if len(part) >= SHORT and part.strip(b"*\r\n"):
            found.update(_encoded(part))
    # A form made of mask characters alone would be found in the masks.
    return {form for form in found if b"\n" not in form and form.strip(b"*")}


def _encoded(secret: bytes) -> Iterable[bytes]:
    yield secret
    for before in range(3):
        # The characters at both ends also hold bits of the neighbours: they aren't known.
        encoded = base64.b64encode(bytes(before) + secret)
        unknown_before = (0, 2, 3)[before]
        unknown_after = (0, 3, 2)[(before + len(secret)) % 3]
        core = encoded[unknown_before : len(encoded) - unknown_after]
        if len(core) >= SHORT:
            yield core
            yield core.translate(bytes.maketrans(b"+/", b"-_"))
    quoted = quote_from_bytes(secret, safe="")
    for url in (quoted, quoted.replace("%20", "+"), quote_from_bytes(secret, safe="/")):
        yield url.encode()
        yield re.sub(r"%..", lambda match: match[0].lower(), url).encode()
    text = secret.decode("utf-8", "replace")
    escaped = msgspec.json.encode(text).decode()[1:-1]
    ascii_only = "".join(c if c < "\x7f" else _escape(c) for c in escaped)
    for form in (escaped, ascii_only):
        yield form.encode()
        yield form.replace("/", "\\/").encode()


def _escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


class Masking:
    """The stream's state: feed it bytes, and it gives back those that are safe to show."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._forms: list[bytes] = []
        self._search: re.Pattern[bytes] | None = None
        self._begins: re.Pattern[bytes] | None = None
        self._longest = 0
        self._held = b""
        self.add(secrets)

    def add(self, secrets: Iterable[str]) -> None:
        """Hide these too, from now on."""
        found = set(self._forms).union(*map(forms, secrets))
        # Longest first: where one form begins with another, the longer is the one that is there.
        self._forms = sorted(found, key=lambda form: (-len(form), form))
        if self._forms:
            self._search = re.compile(b"|".join(map(re.escape, self._forms)))
            self._begins = re.compile(
                b"[" + b"".join(re.escape(bytes([b])) for b in {f[0] for f in self._forms}) + b"]"
            )
            self._longest = len(self._forms[0])

    def add_within_bounds(self, secrets: Iterable[str]) -> list[str]:
        """Hide those of these that can be, from now on: for each of the others, a sentence that says why not."""
        refused: list[str] = []
        accepted: list[str] = []
        known = set(self._forms)
        for secret in secrets:
            size = len(secret.strip().encode("utf-8", "surrogatepass"))
            if size > MAX_SECRET:
                refused.append(f"a value of more than {MAX_SECRET} bytes can't be hidden")
                continue
            found = forms(secret) if size >= SHORT else set()
            if not found:
                refused.append(f"a value of fewer than {SHORT} bytes can't be hidden")
            elif len(known | found) > max(MAX_FORMS, len(known)):
                refused.append("too many values are hidden already: no more can be")
            else:
                known |= found
                accepted.append(secret)
        if len(known) > len(self._forms):
            self.add(accepted)
        return refused

    def hide(self, text: str) -> str:
        """A text that is no part of the stream, without the secrets."""
        if self._search is None:
            return text
        return self._search.sub(MASK, text.encode("utf-8", "replace")).decode("utf-8", "replace")

    def feed(self, data: bytes) -> bytes:
        """The next bytes to show; what may be the beginning of a secret stays back."""
        if self._search is None:
            return data
        data = self._held + data
        return self._mask(data, self._hold_from(data, 0))

    def finish(self) -> bytes:
        """What was held back: the stream ends here, so it wasn't a whole secret."""
        held = self._held
        return self._mask(held, len(held)) if held else b""

    def _mask(self, data: bytes, hold: int) -> bytes:
        search = self._search
        assert search is not None
        shown: list[bytes] = []
        position = 0
        # A match that begins before `hold` can't become a longer one; one at `hold` or after it can.
        while (match := search.search(data, position)) is not None and match.start() < hold:
            shown += (data[position : match.start()], MASK)
            position = match.end()
            if position > hold:
                hold = self._hold_from(data, position)
        self._held = data[hold:]
        shown.append(data[position:hold])
        return b"".join(shown)

    def _hold_from(self, data: bytes, start: int) -> int:
        """The first place from ``start`` on whose rest may be the beginning of a secret (or of a longer one)."""
        # No form has a newline in it, so only the last line can be unfinished: mostly there is none.
        start = max(start, data.rfind(b"\n") + 1, len(data) - self._longest + 1)
        assert self._begins is not None
        while (match := self._begins.search(data, start)) is not None:
            rest = data[match.start() :]
            if any(len(form) > len(rest) and form.startswith(rest) for form in self._forms):
                return match.start()
            start = match.end()
        return len(data)
