"""
How a secret can stand in a build's output: as it is, and as tools write it. Pure; used by ``masking``.

A `Spelling` is a sequence of characters, each with the byte strings that may stand for it. One spelling of a secret
covers JSON (also JSON within JSON), URLs, HTML and XML, shells and string literals, each in full or in part: letters
and digits stand for themselves in all of them, and `written` lists what may stand for another character. Base64 (at its
three alignments, in both alphabets), base64 of base64, and hexadecimal digits in both cases are spellings of their own.
None of them has a newline in it: a secret of several lines is looked for line by line, and as a whole where its
newlines are escaped.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from functools import cache

from twistedipc.builds.secrets import SHORTEST

#: Below this many bytes a secret has no other spelling than itself. Its encodings are too short to mean anything.
SHORT = SHORTEST

# A secret longer than this many characters is looked for in pieces, so that no pattern is huge.
_PIECE = 256

# Base64 of base64 is looked for if the inner one has this many known characters: else chance would find it.
_INNER = 7

# How many characters of a spelling are looked for at first, and which of its letters are the best to begin with: those
# that are rare in what builds print.
_ANCHOR = 10
_RARE = b"QXZJKWVYHGUBqjzxFMPLDOCNRISAET9876543kwvyg210bhpufmdclnsoriate"
_RANK = {letter: rank for rank, letter in enumerate(_RARE)}

_NAMED = {"&": ("amp",), "<": ("lt",), ">": ("gt",), '"': ("quot",), "'": ("apos",), "\xa0": ("nbsp",)}
_ESCAPED = {"\n": "n", "\r": "r", "\t": "t", "\b": "b", "\f": "f"}
_QUOTED = {"'": ("'\\''", "'\"'\"'")}  # within single quotes, as shells have it


class Spelling:
    """
    One way in which a secret may stand. ``characters`` has, for each character, what may stand for it. What is
    ``encoded`` has no letter of the secret in it: programs break it into lines anywhere.
    """

    def __init__(self, characters: Sequence[tuple[bytes, ...]], *, encoded: bool = False) -> None:
        self.characters = tuple(characters)
        self.encoded = encoded
        self._pattern: list[tuple[int, bytes]] | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spelling) and self.characters == other.characters and self.encoded == other.encoded

    def __hash__(self) -> int:
        return hash(self.characters)

    @property
    def longest(self) -> int:
        """The length of the longest spelling in bytes."""
        return sum(max(map(len, written)) for written in self.characters)

    def anchor(self) -> list[tuple[int, bytes]]:
        """Return what `pattern` does, for a part of the spelling that is seldom there by chance."""
        characters = self.characters
        at = 0
        known = [i for i, written in enumerate(characters) if len(written) == 1 and written[0] in _LETTERS]
        if known:
            # The later half of a short run would be found everywhere.
            known = [i for i in known if i + _ANCHOR <= len(characters)] or known[:1]
            at = min(known, key=lambda i: (_RANK[characters[i][0][0]], i))
        return _pattern(characters[at : at + _ANCHOR])

    def pattern(self) -> list[tuple[int, bytes]]:
        """Return, for each byte that the spelling may begin with, a regular expression for the rest."""
        if self._pattern is None:
            self._pattern = _pattern(self.characters)
        return self._pattern

    def may_go_on(self, text: bytes) -> bool:
        """Return whether ``text``, not empty, is a beginning of the spelling, and not all of it."""
        reached = {0}
        for written in self.characters:
            following: set[int] = set()
            for at in reached:
                for one in written:
                    if text.startswith(one, at):
                        following.add(at + len(one))
                    elif one.startswith(text[at:]):
                        return True
            reached = following
        return False


_LETTERS = frozenset(bytes([letter]) for letter in _RARE)


def spellings(secret: str) -> set[Spelling]:
    """Return all spellings of a secret; none if it is empty, or would be found in the masks."""
    whole = secret.encode("utf-8", "surrogatepass")
    lines = [line.strip("\r") for line in secret.split("\n")]
    if len(lines) == 1 and len(whole) < SHORT:
        return {Spelling([(bytes([byte]),) for byte in whole])} if whole.strip(b"*") else set()
    found: set[Spelling] = set()
    for part in {secret, *lines}:
        if _size(part) < SHORT or not part.strip("*\r\n"):
            continue
        for piece in _pieces(part):
            found.update(_spellings(piece, twice=len(lines) == 1 and piece == secret))
    return found


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _pieces(text: str) -> list[str]:
    pieces = [text[start : start + _PIECE] for start in range(0, len(text), _PIECE)]
    if len(pieces) > 1 and len(pieces[-1]) < SHORT:
        last = pieces.pop()
        pieces[-1] += last
    return [piece for piece in pieces if piece.strip("*\r\n")]


def _spellings(text: str, *, twice: bool) -> Iterable[Spelling]:
    yield Spelling([written(character) for character in text])
    data = text.encode("utf-8", "surrogatepass")
    for digits in {data.hex(), data.hex().upper()}:
        yield Spelling([(digit.encode(),) for digit in digits], encoded=True)
    for core in _base64(data):
        yield Spelling([_in_base64(character) for character in core.decode()], encoded=True)
        if twice and len(core) >= _INNER:
            for inner in {core, core.translate(_URL_SAFE)}:
                for outer in _base64(inner):
                    yield Spelling([_in_base64(character) for character in outer.decode()], encoded=True)


_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def _base64(data: bytes) -> Iterable[bytes]:
    """Yield what is known of the base64 of a text that holds ``data``, for each alignment of ``data`` in it."""
    for before in range(3):
        # The characters at both ends also hold bits of the neighbours: they aren't known.
        encoded = base64.b64encode(bytes(before) + data)
        unknown_before = (0, 2, 3)[before]
        unknown_after = (0, 3, 2)[(before + len(data)) % 3]
        core = encoded[unknown_before : len(encoded) - unknown_after]
        if len(core) >= SHORT:
            yield core


@cache
def _in_base64(character: str) -> tuple[bytes, ...]:
    other = {"+": "-", "/": "_"}.get(character)
    return written(character) + (written(other) if other else ())


@cache
def written(character: str) -> tuple[bytes, ...]:
    """Return what may stand for a character of a secret, the longest first. None of it holds a newline."""
    plain = character.encode("utf-8", "surrogatepass")
    if plain in _LETTERS:
        return (plain,)
    found = {plain, *_backslashed(character), *_for_urls(plain), *_for_markup(character)}
    if character == " ":
        found.add(b"+")
    found.update(one.encode() for one in _QUOTED.get(character, ()))
    return tuple(sorted((one for one in found if b"\n" not in one), key=lambda one: (-len(one), one)))


def _backslashed(character: str) -> Iterable[bytes]:
    """Yield what string literals and shells write, also within one another: each level doubles the backslashes."""
    code = ord(character)
    plain = character.encode("utf-8", "surrogatepass")
    for count in (1, 2, 3, 7):
        yield b"\\" * count + plain
    units = character.encode("utf-16-be", "surrogatepass").hex()
    escapes = {"".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))}
    if code < 256:
        escapes.add(f"\\x{code:02x}")
    if code > 127:
        escapes.add("".join(f"\\x{byte:02x}" for byte in plain))
    escapes |= {escape.upper().replace("U", "u").replace("X", "x") for escape in escapes}
    if code > 127:
        escapes.add("".join(f"\\{byte:03o}" for byte in plain))  # as git shows the names of files
    if code > 0xFFFF:
        escapes |= {f"\\U{code:08x}", f"\\U{code:08X}"}  # as Python does
    if character in _ESCAPED:
        escapes.add("\\" + _ESCAPED[character])
    for escape in escapes:
        for count in (1, 2, 4):
            yield escape.replace("\\", "\\" * count).encode()


def _for_urls(plain: bytes) -> Iterable[bytes]:
    for percent in ("%", "%25"):
        yield "".join(f"{percent}{byte:02x}" for byte in plain).encode()
        yield "".join(f"{percent}{byte:02X}" for byte in plain).encode()


def _for_markup(character: str) -> Iterable[bytes]:
    code = ord(character)
    for name in (*_NAMED.get(character, ()), f"#{code}"):
        yield f"&{name};".encode()
        yield f"&amp;{name};".encode()
    for name in (f"#{code:03}", f"#x{code:x}", f"#x{code:X}", f"#X{code:X}", f"#x{code:04x}", f"#x{code:04X}"):
        yield f"&{name};".encode()


def _pattern(characters: Sequence[tuple[bytes, ...]]) -> list[tuple[int, bytes]]:
    rest = b"".join(map(_any_of, characters[1:]))
    begins: dict[int, list[bytes]] = {}
    for one in characters[0]:
        begins.setdefault(one[0], []).append(one[1:])
    return [(first, _any_of(tuple(tails)) + rest) for first, tails in begins.items()]


@cache
def _any_of(words: tuple[bytes, ...]) -> bytes:
    """Return a regular expression for one of these words, the longest that lets the rest match."""
    if len(words) == 1:
        return re.escape(words[0])
    # As a tree, in which no two ways begin alike.
    ways: dict[int, list[bytes]] = {}
    for word in words:
        if word:
            ways.setdefault(word[0], []).append(word[1:])
    choices = [re.escape(bytes([first])) + _any_of(tuple(tails)) for first, tails in ways.items()]
    return b"(?:" + b"|".join(choices) + b")" + (b"?" if b"" in words else b"")
