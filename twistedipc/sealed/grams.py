"""
The row beside a chunk, by which a search knows that something isn't in it: a Bloom filter of the trigrams of its text.
Pure; ``storage`` keeps rows and asks them.

Trigrams are of bytes, with A to Z as small letters. A row is as long as it takes for a
third of its bits to be set, so a text of few words has a short one: each trigram that isn't in the text is found to be
missing with a chance of two in three, and a word of eight letters has six of them.

A row ends with the CRC-32 of its bits, little-endian: a bit that a disk has lost would hide what is there, and the
search would be called complete. A row that isn't what was written says that everything may be there.

It never says no to what is there. That holds for searches that ignore case as well: see `grams_of`.
"""

from __future__ import annotations

import zlib
from typing import Final

from twistedipc.sealed import arrays

#: Bits of the longest and of the shortest row, as powers of two.
_MOST: Final = 17
_LEAST: Final = 9

#: Beyond this share of set bits a row isn't folded any more.
_FULL: Final = 0.36

#: Bytes of the checksum.
_CHECKSUM: Final = 4

#: Knuth's multiplier, which spreads numbers over 32 bits, times 256: of a number of four bytes the highest one doesn't
#: count then, so that a trigram needn't be cut out of it.
_FACTOR: Final = 2654435761 << 8 & 0xFFFFFFFF

#: The two letters beyond ASCII that are an ASCII letter where case is ignored: the long s, and the sign for kelvin.
TO_ASCII: Final = ((b"\xc5\xbf", b"s"), (b"\xe2\x84\xaa", b"k"))


def row_of(text: bytes) -> bytes:
    """Return the row of a text (`words.searchable`): bits, as many as a power of two, and their checksum."""
    arrays.load()
    import numpy as np

    folded = _folded(text) + b"\n"  # so that the last trigram has a fourth byte, too
    bits = np.zeros(1 << _MOST, np.bool_)
    # Four views, each beginning a byte later, have every trigram once, in the lower bytes of a number.
    for offset in range(4):
        count = (len(folded) - offset) // 4
        grams = np.frombuffer(folded, "<u4", max(0, count), min(offset, len(folded))) * np.uint32(_FACTOR)
        grams >>= np.uint32(32 - _MOST)
        bits[grams.astype(np.intp)] = True
    while len(bits) > 1 << _LEAST:
        # The lowest bit of each number goes: all bytes of a trigram have their share in the higher ones.
        shorter = bits[::2] | bits[1::2]
        if np.count_nonzero(shorter) > _FULL * len(shorter):
            break
        bits = shorter
    packed = np.packbits(bits, bitorder="little").tobytes()
    return packed + zlib.crc32(packed).to_bytes(_CHECKSUM, "little")


def bits_of(row: bytes) -> bytes:
    """Return the bits of a row, for `may_hold`; none, if the row isn't what `row_of` has made."""
    bits, checksum = row[:-_CHECKSUM], row[-_CHECKSUM:]
    return bits if zlib.crc32(bits) == int.from_bytes(checksum, "little") else b""


def grams_of(literal: str) -> frozenset[int]:
    """
    Return what a row must have if its text has ``literal``, or the same in other cases. Empty, which every row has, if
    that is shorter than three bytes. A letter beyond ASCII has its own bytes in each case, so none of its trigrams
    count.
    """
    found: set[int] = set()
    for part in _ascii_parts(literal):
        folded = part.encode().lower()
        for index in range(len(folded) - 2):
            if b"\n" not in (gram := folded[index : index + 3]):
                found.add((int.from_bytes(gram, "little") * _FACTOR & 0xFFFFFFFF) >> 32 - _MOST)
    return frozenset(found)


def may_hold(bits: bytes, grams: frozenset[int]) -> bool:
    """Return False if what has these trigrams is surely not in the text of the row with these bits (`bits_of`)."""
    size = (len(bits) * 8).bit_length() - 1
    if len(bits) * 8 != 1 << max(3, size) or size > _MOST:
        return True
    shift = _MOST - size
    return all(bits[gram >> shift + 3] >> (gram >> shift & 7) & 1 for gram in grams)


def _folded(text: bytes) -> bytes:
    for other, letter in TO_ASCII:
        if may_have_bytes(text, other):
            text = text.replace(other, letter)
    return text.lower()


def may_have_bytes(text: bytes, wanted: bytes) -> bool:
    """Return False if these bytes are nowhere in a text, mostly: many times as fast as ``in``."""
    if text.isascii():
        return wanted.isascii()
    if not all(byte in text for byte in wanted):
        return False  # nearly always: what is beyond ASCII in logs are other letters, and signs
    import numpy as np

    array = np.frombuffer(text, np.uint8)
    return bool(((array[:-1] == wanted[0]) & (array[1:] == wanted[1])).any())


def _ascii_parts(literal: str) -> list[str]:
    return "".join(letter if letter.isascii() else "\n" for letter in literal).split("\n")
