"""What the APIs of repositories' hosts have alike: JSON, pages, and a comment that is found again. Pure."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from twistedipc.outgoing.exchange import Answer, NotTold, Request, ask

#: How many entries a page is asked for, and how many pages are looked through.
PER_PAGE: Final = 50
MOST_PAGES: Final = 40

Asking = Generator[Request, Answer, Any]


class Api:
    """A host's API at ``base``, asked with these headers."""

    def __init__(self, base: str, headers: Mapping[str, str]) -> None:
        self._base = base.rstrip("/")
        self._headers = {"Accept": "application/json", **headers}

    def call(self, method: str, path: str, body: object = None, /, **query: object) -> Asking:
        """Ask, and return the answer's JSON. Raises `NotTold`."""
        answer = yield from ask(self.request(method, path, body, **query))
        return decoded(answer)

    def request(self, method: str, path: str, body: object = None, /, **query: object) -> Request:
        """Return a request."""
        url = f"{self._base}/{path}" + (f"?{urlencode(query)}" if query else "")
        if body is None:
            return Request(method=method, url=url, headers=self._headers)
        headers = {**self._headers, "Content-Type": "application/json"}
        return Request(method=method, url=url, headers=headers, body=msgspec.json.encode(body))

    def find(
        self, path: str, wanted: Callable[[dict[str, Any]], bool], size: str = "per_page", /, **query: object
    ) -> Asking:
        """
        Return the first entry of a list that is ``wanted``, or None. Pages are counted here: an address from the answer
        is never asked, since the token goes with each request.

        :param size: what the API calls the number of entries of a page
        """
        before: object = None
        for page in range(1, MOST_PAGES + 1):
            asked: dict[str, object] = {**query, size: PER_PAGE, "page": page}
            answer = yield from ask(self.request("GET", path, None, **asked))
            entries = decoded(answer)
            if not isinstance(entries, list):
                raise NotTold(Answer(problem="it answered with no list"))
            for entry in entries:
                if isinstance(entry, dict) and wanted(entry):
                    return entry
            if not _more(answer, len(entries)) or entries[:1] == before:
                return None  # the second: it doesn't know pages
            before = entries[:1]
        return None


def _more(answer: Answer, entries: int) -> bool:
    """Return whether there is another page."""
    headers = answer.headers
    if "x-next-page" in headers:  # GitLab
        return bool(headers["x-next-page"].strip())
    if "link" in headers:
        return 'rel="next"' in headers["link"]
    total = headers.get("x-total-count", "")
    return entries >= PER_PAGE and not total.isdigit()


def decoded(answer: Answer) -> Any:
    """Return the JSON of an answer. Raises `NotTold`."""
    if not answer.body.strip():
        return None
    try:
        return msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotTold(Answer(problem="it answered with what isn't JSON: is this the address of its API?")) from error


def field(entry: Any, name: str) -> Any:
    """Return a field of an answer. Raises `NotTold` if it isn't there."""
    if not isinstance(entry, dict) or name not in entry:
        raise NotTold(Answer(problem=f"its answer has no {name}: is this the address of its API?"))
    return entry[name]


def hidden(mark: str) -> str:
    """Return the mark as a comment's Markdown has it, where nobody sees it."""
    return f"<!-- twistedipc {mark} -->"


def is_marked(mark: str) -> Callable[[dict[str, Any]], bool]:
    """Return what recognises the comment with this mark, which is its first line."""
    return lambda entry: str(entry.get("body") or "").lstrip().startswith(hidden(mark))
