"""
Which file names have a hash of the file's content in them, as bundlers write them. ``publish`` layer; pure, used by
``history`` and by the releases' site.

Such a file may be kept for a year, and an open page may ask for it after the next release. Whether a name's last part
is a hash can only be guessed, and a wrong guess is a year of staleness that no rollback mends. So documents (HTML, PDF,
text, feeds) are never believed, nor is what people write: words, dates, sizes, versions, numbers of photos.

The guess: a hash is drawn at random from its alphabet, which costs so many bits. What people write is cheaper if it is
told letter by letter, each from the one before it (`_BITS`). The name is a hash if telling it as a name costs more by
some bits (`_ALONE`) than telling it as a hash. Fewer will do (`_AMONG_OTHERS`) where it stands among others of its
form: in a bundler's own folder, or beside two that are believed by themselves.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

#: Kinds of files that pages load. All others are documents: people link to them, and they are withdrawn.
_ASSETS = frozenset(
    "js mjs cjs css wasm json webmanifest map png jpg jpeg gif svg webp avif ico bmp woff woff2 ttf otf eot "
    "mp4 webm ogg ogv mp3 wav m4a aac flac vtt glb gltf bin ktx2 hdr".split()
)

#: Kinds among them that nobody withdraws, since they are of no use without the pages of their release.
_PARTS_OF_PAGES = frozenset("js mjs cjs css wasm woff woff2 ttf otf eot".split())

#: What bundlers put between the hash and the extension: ``2.4f2a9c1b.chunk.js``, ``about.md.BvJ3kT9a.lean.js``,
#: ``p-4f2a9c1b.entry.js``.
_BETWEEN = frozenset("min chunk bundle lean iframe async entry system module esm js mjs cjs css".split())

#: Folders in which bundlers write nothing but hashed names (or data of one build): Astro, Next.js, Nuxt, SvelteKit.
_BUNDLERS_FOLDERS = re.compile(r"(?:^|/)(?:_astro|_next/static|_nuxt|_app/immutable)/")

#: The lengths that bundlers use. (11 are ids of videos, 21 and 24 of database rows.)
_LENGTHS = frozenset({8, 10, 12, 16, 20, 22, 32, 40, 43, 64})

#: How many bits more as a name than as a hash: by itself; among others of its form; and for `may_be_hashed`.
_ALONE = 3
_AMONG_OTHERS = 0
_IN_DOUBT = -8

#: A form counts in a folder if so many of its names are believed by themselves.
_ENOUGH = 2

_PLAIN = re.compile(r"(?P<separator>[.\-_])(?P<token>[A-Za-z0-9]+)\Z")

#: Base64url's "-" and "_" can be in a hash; looked for at Rollup's length only, since words are separated by them too.
_URL_SAFE = re.compile(r"(?P<separator>[.-])(?P<token>(?=.*[-_])[A-Za-z0-9_-]{8})\Z")

#: Astro's images: a hash of the file, and one of what was done with it.
_ASTRO_IMAGE = re.compile(r"(?P<separator>\.)(?P<token>[A-Za-z0-9_-]{8})_[A-Za-z0-9]{4,8}\Z")

#: WebAssembly's and Next's fonts' own endings, after the hash.
_ENDINGS = re.compile(r"(?:_bg|-s|-s\.p)\Z")

_ALPHABETS = [
    (re.compile(r"[0-9a-f]+|[0-9A-F]+"), 16),
    (re.compile(r"[A-Z2-7]+"), 32),
    (re.compile(r"[0-9a-z]+|[0-9A-Z]+"), 36),
    (re.compile(r"[0-9A-Za-z_-]+"), 64),
]

#: What is never a hash, however odd: numbers in several parts, words alone (capitalised or not), years and dates,
#: sizes, rates, episodes, times, versions.
_NEVER = [
    re.compile(r"(?=.*[_-])[0-9_-]+\Z"),
    re.compile(r"[A-Za-z]?[a-z]+\Z"),
    re.compile(r"(?=.{,15}\Z).*(?<![0-9])(?:19|20)[0-9]{2}(?:[0-9]{2}|[0-9]{4}|[0-9]{8,10})?(?![0-9])"),
    re.compile(r".*[0-9]{2}x[0-9]{2}", re.IGNORECASE),
    re.compile(r".*[0-9](?:kbps|fps|khz|px|dpi|bit)", re.IGNORECASE),
    re.compile(r"s[0-9]{2}e[0-9]{2}", re.IGNORECASE),
    re.compile(r"[0-9]{1,2}h[0-9]{2}m", re.IGNORECASE),
    re.compile(r"v?[0-9]+(?:alpha|beta|rc|dev|pre|post|final|preview|canary|next)(?:[0-9]|\Z)", re.IGNORECASE),
]

#: What a few hashes are like, but most such names are something else.
_DOUBTFUL = [
    # Numbers, alone or after one word.
    re.compile(r"(?=.{,15}\Z)[A-Za-z]*[0-9]{3,}\Z"),
    # Names of products, licence plates, formulas. esbuild's capitals have no 0, 1, 8 or 9.
    re.compile(r"(?=.{,15}\Z)(?=.*[A-Z])(?=.*[0189])[0-9A-Z]+\Z"),
    # ``ipv6addr``: Bun's hashes have no i, l, o or u, and others' of 8 have capitals.
    re.compile(r"(?=.{8}\Z)(?=.*[ilou])(?=.*[0-9])[0-9a-z]+\Z"),
    # Hashes of 10 or 12 characters are hexadecimal digits, or of small letters and digits (.NET).
    re.compile(r"(?=.*[A-Z])(?:.{10}|.{12})\Z"),
]

#: ``XboxOneX``, ``Html5Doc``: words in a row, perhaps with short numbers. Believed among others of the form only.
_WORDS = re.compile(r"(?:[A-Z]?[a-z]{2,}|[A-Z]{2,})(?:[0-9]{,2}[A-Z][a-z]{2,})+[0-9A-Z]{,2}\Z")

#: An id, of which the content can change.
_UUID = re.compile(
    r"(?<![0-9a-f])[0-9a-f]{8}-?[0-9a-f]{4}-?[1-8][0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}(?![0-9a-f])",
    re.IGNORECASE,
)

#: For each letter, and "^" for a word's beginning: the bits of each letter after it, a to z, as hexadecimal digits.
#: Counted in the most frequent words of 18 languages that are written in Latin letters.
_BITS = {
    "^": "44445555565545548434655b88",
    "a": "6545875757534395a343667867",
    "b": "35882ca937b3883ab3574aac6b",
    "c": "3a693aa34945aa2a94744ccd68",
    "d": "3886286828967639b557477d68",
    "e": "57536668687453769234767678",
    "f": "3999348a29a4aa3ac4654bac6b",
    "g": "39b8295439857549c3564a9c6b",
    "h": "289729c839966639b574487b5a",
    "i": "4645465887645246953485b896",
    "j": "2996289a49588638a968389a98",
    "k": "3888289738558538c545477c5b",
    "l": "3885277928737838c95547ad4b",
    "m": "257928aa3bb74734d9584aac7b",
    "n": "49433638486795499843679b68",
    "o": "6655765768644255b344455878",
    "p": "399939954b949934d3554abd7b",
    "q": "78888888688788888888088888",
    "r": "376527683a665537b544578c58",
    "s": "48493894395567448842487d67",
    "t": "397a28a42a968849d445498c59",
    "u": "5555475858634375b333779897",
    "v": "3ba81a9a29b7b739c68869cc79",
    "w": "278727a42a768439b5588b8b6a",
    "x": "48393895299789528983578769",
    "y": "3645376748644445b534686a87",
    "z": "2786297728867548a786577a45",
}

#: The bits of the other steps from one character to the next.
_HUMP, _CAPITAL, _DIGIT, _FIRST_DIGIT, _TO_DIGIT, _FROM_DIGIT = 4, 3, 3.3, 5, 7, 9
_SEPARATOR, _SEPARATOR_AGAIN = 4, 9


class Form(NamedTuple):
    """How a bundler writes hashes into names."""

    separator: str  # before the hash
    length: int


@lru_cache(maxsize=4096)
def is_hashed(path: str, forms: frozenset[Form] = frozenset()) -> bool:
    """
    Whether the file with this path has a hash of its content in its name, so surely that it may be kept for a year.
    ``forms``: those of its folder, see `forms_among`.
    """
    return any(
        bits >= (_AMONG_OTHERS if form in forms or _BUNDLERS_FOLDERS.search(path) else _ALONE)
        for form, bits, _ in _guesses(path)
    )


@lru_cache(maxsize=4096)
def may_be_hashed(path: str, forms: frozenset[Form]) -> bool:
    """
    Whether an open page may ask for the file with this path when its release isn't live any more: it is hashed, or
    it has the form of its folder's hashes and isn't plainly a name. Chunks that are gone break open pages.
    """
    return is_hashed(path, forms) or any(
        bits >= _IN_DOUBT and (form in forms or _BUNDLERS_FOLDERS.search(path) is not None)
        for form, bits, _ in _guesses(path)
    )


def could_be_hashed(path: str) -> bool:
    """Return whether `is_hashed` or `may_be_hashed` could be true of this path, whatever stands beside it."""
    return any(bits >= _IN_DOUBT for _, bits, _ in _guesses(path))


@lru_cache(maxsize=4096)
def may_be_chunk(path: str, likely: frozenset[Form]) -> bool:
    """
    Whether this is a script, a style or a font that an open page of an earlier release may ask for, as far as its name
    can say: less is enough than for `may_be_hashed`, which is about pictures and data too. There is one rule for all
    of a folder, since a hash can have any letters: of Rollup's, one in two hundred is as likely a name, and of a site
    that has two hashed files, one in six isn't believed.

    :param likely: the forms of hashes that one name of the folder may have, see `likely_forms_among`
    """
    if path.rpartition(".")[2].lower() not in _PARTS_OF_PAGES:
        return False
    return could_be_hashed(path) or any(form in likely for form, _ in _tokens(path))


def without_hash(path: str, forms: frozenset[Form]) -> str:
    """
    Return the path with a star in place of what `may_be_hashed` takes for a hash, and as it is if that finds none: of
    two builds, the same file has the same path so.
    """
    for form, bits, token in _guesses(path):
        among = form in forms or _BUNDLERS_FOLDERS.search(path) is not None
        if bits >= (_IN_DOUBT if among else _ALONE):
            before, _, after = path.rpartition(token)
            return f"{before}*{after}"
    return path


def is_asset(path: str) -> bool:
    """Return whether the file is of a kind that pages load; all others are documents, to which people link."""
    return path.rpartition(".")[2].lower() in _ASSETS


def in_bundlers_folder(path: str) -> bool:
    """Return whether the path is below a folder in which bundlers write only hashed names, or data of one build."""
    return _BUNDLERS_FOLDERS.search(path) is not None


def forms_among(paths: Iterable[str]) -> frozenset[Form]:
    """The forms of hashes of a folder whose files have these paths."""
    found = Counter(form for path in paths for form, bits, _ in _guesses(path) if bits >= _ALONE)
    return frozenset(form for form, count in found.items() if count >= _ENOUGH)


def likely_forms_among(paths: Iterable[str]) -> frozenset[Form]:
    """The forms that are a hash's in any name of a folder whose files have these paths, more likely than a name's."""
    return frozenset(form for path in paths for form, bits, _ in _guesses(path) if bits >= _AMONG_OTHERS)


def _guesses(path: str) -> Iterator[tuple[Form, float, str]]:
    """What in a path can be a hash: its form, how many bits more it costs as a name, and itself."""
    if _UUID.search(path.rpartition("/")[2]):
        return
    for form, token in _tokens(path):
        if (bits := _dearer(token)) is not None:
            yield form, bits, token


def _tokens(path: str) -> Iterator[tuple[Form, str]]:
    """What in a path is where bundlers write hashes, and as long as those."""
    name = _stem(path.rpartition("/")[2])
    if name is None:
        return
    # A hash can end as the endings do.
    for stem in dict.fromkeys((_ENDINGS.sub("", name), name)):
        yield from _tokens_of(stem, path)


def _tokens_of(stem: str, path: str) -> Iterator[tuple[Form, str]]:
    whole = _BUNDLERS_FOLDERS.search(path) is not None or (len(stem) == 20 and _ALPHABETS[0][0].fullmatch(stem))
    # Of the whole name: by SvelteKit and Nuxt, and by webpack for what a script imports.
    if whole and "." not in stem and len(stem) in _LENGTHS:
        yield Form("", len(stem)), stem
    for pattern in (_PLAIN, _URL_SAFE, *([_ASTRO_IMAGE] if "_astro/" in path else [])):
        found = pattern.search(stem)
        if found is not None and len(found["token"]) in _LENGTHS:
            yield Form(found["separator"], len(found["token"])), found["token"]


def _stem(name: str) -> str | None:
    """The name without what comes after a hash; None if it is no asset's name."""
    stem, _, extension = name.rpartition(".")
    if not stem or extension.lower() not in _ASSETS:
        return None
    while "." in stem and (parts := stem.rpartition("."))[2] in _BETWEEN:
        stem = parts[0]
    return stem


def _dearer(token: str) -> float | None:
    """Return how many bits more a token costs as a name than as a hash; None if it can't be a hash."""
    if any(pattern.match(token) for pattern in _NEVER):
        return None
    if any(pattern.match(token) for pattern in _DOUBTFUL):
        return _IN_DOUBT
    size = next(size for alphabet, size in _ALPHABETS if alphabet.fullmatch(token))
    bits = _bits_as_name(token) - len(token) * math.log2(size)
    return min(bits, _ALONE - 1) if _WORDS.match(token) else bits


def _bits_as_name(token: str) -> float:
    """Return what it costs to tell a token as people write names."""
    shouted = token.upper() == token
    return sum(_bits_of_step(before, after, shouted) for before, after in zip("-" + token, token, strict=False))


def _bits_of_step(before: str, after: str, shouted: bool) -> float:
    """The bits of one character after another; ``shouted``: all letters of the token are capitals."""
    if after in "-_":
        return _SEPARATOR_AGAIN if before in "-_" else _SEPARATOR
    if after.isdigit():
        return _DIGIT if before.isdigit() else _FIRST_DIGIT if before in "-_" else _TO_DIGIT
    letter = ord(after.lower()) - ord("a")
    if before.isdigit():
        return _FROM_DIGIT
    if before in "-_":
        return int(_BITS["^"][letter], 16) + 1
    if after.isupper() and before.islower():
        return int(_BITS["^"][letter], 16) + _HUMP
    bits = int(_BITS[before.lower()][letter], 16)
    # Capitals in a row are an abbreviation: any letter can follow any other.
    return min(bits, math.log2(26)) + _CAPITAL if after.isupper() and not shouted else bits
