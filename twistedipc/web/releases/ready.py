"""
Answers that were given before, ready to be given again: a request's way through rules, names of files and encodings
takes longer than all else. ``web.releases``; used by ``site``, which makes each of them first.

An answer is ready only for the same address, host, encodings and scheme, as long as the project's settings, its live
release and what is known of its names are the same. Once they are others, all answers of the project are dropped.
Requests with conditions or ranges, from a marked file, or for a file that a cookie may decide on, have none; neither do
releases that aren't for everybody.

Anybody can ask for any number of addresses: with queries, or below a page that answers for all paths. So what was asked
for once has a small part of the memory, and moves to the large part when it is asked for again. Addresses with a query
never do.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from weakref import ref

from twistedipc.publish.targets.static.history import History
from twistedipc.publish.targets.static.release import Release
from twistedipc.web.access.audience import Sought
from twistedipc.web.http.channel import BoundedRequest
from twistedipc.web.releases.origin import COOKIE

#: What all answers take of the memory together, in bytes, with what each takes beside its content.
MAX_BYTES = 16 << 20
_LEAST = 1000

#: The part of it for what was asked for once, and for all addresses with a query.
MAX_PASSING = 2 << 20

#: A larger answer is made each time: a few of them would leave no room for others.
MAX_ANSWER = 256 << 10

#: What Python takes for a text, beside its characters.
_TEXT = 60

#: Seconds that an answer is ready: what is served of earlier releases ends with time.
SECONDS = 600.0

#: So often those are dropped that are older.
_DROPPED_EVERY = 60.0

#: Headers of a request by which more is decided than what is looked up here.
_DECIDING = frozenset({b"Range", b"If-Match", b"If-None-Match", b"If-Range", b"Service-Worker"})

#: Headers of an answer that are each one's own, or the connection's.
_OWN = frozenset({b"Server", b"Date", b"X-Request-Id", b"Content-Length", b"Connection", b"Transfer-Encoding"})

_COOKIE = COOKIE.encode()

#: The address, what of it names the project, whether it is asked for by https, the hosts, and the encodings.
Key = tuple[bytes, str, bool, tuple[bytes, ...], tuple[bytes, ...]]


class Standing(NamedTuple):
    """What an answer holds for."""

    sought: Sought
    release: Release
    history: History


class _Answer(NamedTuple):
    project: str
    until: float  # seconds of the clock
    names: Sequence[bytes]  # of its headers, but for its own
    head: bytes  # their lines
    body: bytes
    size: int  # what is counted of it, in bytes


class _Project:
    """What all answers of a project hold for, and where they are."""

    def __init__(self, standing: Standing) -> None:
        self._sought = standing.sought
        # A release may take more memory than all answers. How many there are in memory is the store's to say.
        self._release, self._history = ref(standing.release), ref(standing.history)
        self.keys: set[Key] = set()
        self.size = _LEAST + sum(_TEXT + len(header) for header in standing.sought.settings.headers)

    def holds(self, standing: Standing) -> bool:
        """Return whether everything is as it was."""
        return (
            self._release() is standing.release
            and self._history() is standing.history
            and self._sought == standing.sought
        )


def key_of(request: BoundedRequest, prefix: str) -> Key | None:
    """
    Return what an answer is looked up by; None: it is made each time. ``prefix``: the part of the address that names
    the project; "": the host does. A host of no project may become one's.
    """
    headers = dict(request.requestHeaders.getAllRawHeaders())
    if request.method != b"GET" or not headers.keys().isdisjoint(_DECIDING):
        return None
    if any(b"/~r" in line for line in headers.get(b"Referer", ())):
        return None
    if b"Sec-Fetch-Dest" in headers and any(_COOKIE in line for line in headers.get(b"Cookie", ())):
        return None
    secure = request.isSecure() or request.remote.secure
    hosts, encodings = tuple(headers.get(b"Host", ())), tuple(headers.get(b"Accept-Encoding", ()))
    return request.uri, prefix, secure, hosts, encodings


class ReadyAnswers:
    """The answers that are ready: those that were asked for last."""

    def __init__(self) -> None:
        self._projects: dict[str, _Project] = {}  # those that have answers
        self._passing: OrderedDict[Key, _Answer] = OrderedDict()
        self._lasting: OrderedDict[Key, _Answer] = OrderedDict()  # what was asked for again
        self._size_of_passing = 0
        self.size = 0  # in bytes
        self._next_drop = 0.0

    def give(self, key: Key, standing: Standing, request: BoundedRequest, now: float) -> bytes | None:
        """Set up the response that is ready, and return its body; None: none is."""
        self._drop_expired(now)
        project = self._project_of(standing)
        if project is None or key not in project.keys:
            return None
        found = self._lasting.get(key) or self._passing[key]
        if now >= found.until:
            return None
        self._move_up(key, found)
        for name in found.names:
            request.responseHeaders.removeHeader(name)
        request.setHeader(b"Content-Length", b"%d" % len(found.body))
        request.ready_head = found.head
        return found.body

    def keep(self, key: Key, standing: Standing, request: BoundedRequest, body: bytes, now: float) -> None:
        """Keep a response that has been set up, with this body, unless it is large."""
        headers = {name: values for name, values in request.responseHeaders.getAllRawHeaders() if name not in _OWN}
        head = b"".join(b"%b: %b\r\n" % (name, value) for name, values in headers.items() for value in values)
        size = _size(key, headers, head, body)
        self._drop(key)
        if size > MAX_ANSWER:
            return
        name = standing.sought.project
        project = self._project_of(standing)
        if project is None:
            project = self._projects[name] = _Project(standing)
            self.size += project.size
        project.keys.add(key)
        self._passing[key] = _Answer(name, now + SECONDS, tuple(headers), head, body, size)
        self._size_of_passing += size
        self.size += size
        while self._size_of_passing > MAX_PASSING:
            self._drop(next(iter(self._passing)))
        while self.size > MAX_BYTES:
            self._drop(next(iter(self._lasting or self._passing)))

    def _project_of(self, standing: Standing) -> _Project | None:
        """Return the project, if it has answers. Those that hold no more are dropped."""
        project = self._projects.get(standing.sought.project)
        if project is None or project.holds(standing):
            return project
        for key in list(project.keys):
            self._drop(key)
        return None

    def _move_up(self, key: Key, answer: _Answer) -> None:
        """An answer was asked for again."""
        if key in self._lasting:
            self._lasting.move_to_end(key)
        elif b"?" in key[0]:
            self._passing.move_to_end(key)
        else:
            del self._passing[key]
            self._size_of_passing -= answer.size
            self._lasting[key] = answer

    def _drop_expired(self, now: float) -> None:
        if now >= self._next_drop:
            self._next_drop = now + _DROPPED_EVERY
            for part in (self._passing, self._lasting):
                for key in [key for key, answer in part.items() if now >= answer.until]:
                    self._drop(key)

    def _drop(self, key: Key) -> None:
        answer = self._lasting.pop(key, None)
        if answer is None:
            answer = self._passing.pop(key, None)
            if answer is None:
                return
            self._size_of_passing -= answer.size
        self.size -= answer.size
        project = self._projects[answer.project]
        project.keys.remove(key)
        if not project.keys:
            del self._projects[answer.project]
            self.size -= project.size


def _size(key: Key, names: Iterable[bytes], head: bytes, body: bytes) -> int:
    uri, prefix, _, hosts, encodings = key
    texts = (uri, prefix, *hosts, *encodings, *names, head, body)
    return _LEAST + sum(_TEXT + len(text) for text in texts)
