"""Looks at what is served of a release: the addresses that a row names, and all that the first page needs."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import msgspec

from tests.corpus.rows import Row, Seen

#: Scripts and style sheets of a page that are its own.
_NEEDED = re.compile(r"""<(?:script|link)\b[^>]*?\s(?:src|href)\s*=\s*["']?(/[^/"'\s>][^"'\s>]*)""", re.IGNORECASE)

_TYPES = {".js": "javascript", ".mjs": "javascript", ".css": "text/css"}

#: The most files of the first page that are asked for.
_MOST = 40

_DEADLINE = 30.0  # seconds for one answer


class Answer(msgspec.Struct, frozen=True):
    """What a server answered."""

    status: int
    kind: str  # its content type
    body: str


def get(base: str, host: str, path: str) -> Answer:
    """Ask for a page as a browser does that goes there."""
    headers = {"Host": host, "Accept": "text/html,application/xhtml+xml,*/*;q=0.8", "Sec-Fetch-Mode": "navigate"}
    request = urllib.request.Request(base + path, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=_DEADLINE) as response:
            body: bytes = response.read()
            return Answer(response.status, response.headers.get("Content-Type", ""), body.decode("utf-8", "replace"))
    except urllib.error.HTTPError as error:
        with error:
            body = error.read()
            return Answer(error.code, error.headers.get("Content-Type", ""), body.decode("utf-8", "replace"))


def wrong_with(row: Row, ask: Callable[[str], Answer]) -> Iterator[str]:
    """Yield a sentence for each thing that isn't right with a row's release."""
    first = ask("/")
    if first.status != 200:
        yield f"/ answers {first.status}"
        return
    if "text/html" not in first.kind:
        yield f"/ is {first.kind}"
    needed = list(dict.fromkeys(_NEEDED.findall(first.body)))[:_MOST]
    for path in needed:
        yield from _wrong_asset(path, ask(path.replace("&amp;", "&")))
    for seen in (*row.see, Seen("/assets/is-not-there-0a1b2c3d.js", 404)):
        answer = ask(seen.path)
        if answer.status != seen.status:
            yield f"{seen.path} answers {answer.status}, not {seen.status}"
        elif seen.text not in answer.body:
            yield f"{seen.path} doesn't say {seen.text!r}"


def _wrong_asset(path: str, answer: Answer) -> Iterator[str]:
    if answer.status != 200:
        yield f"{path}, which the first page needs, answers {answer.status}"
        return
    for ending, kind in _TYPES.items():
        if path.partition("?")[0].endswith(ending) and kind not in answer.kind:
            yield f"{path} is {answer.kind}"
