"""Tells why a build waits, while its log is followed: it has no lines meanwhile. Used by ``builds.show_log``."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from twistedipc.cli.client import Client, path
from twistedipc.cli.failures import Failure
from twistedipc.web.api.schemas import BuildDetail

#: Seconds before the first question, since most builds don't wait that long, and between two questions.
FIRST, INTERVAL = 1.5, 3.0

#: The part of a reason that changes all the time, and doesn't make it a new one.
_TIMES = re.compile(r"\b[0-9]+ (?:s|min|h)\b")


class WaitingNotes:
    """A context in which ``say`` is called, in a thread, with each new reason for which a build waits."""

    def __init__(
        self,
        client: Client,
        build: int,
        say: Callable[[str], None],
        *,
        first: float = FIRST,
        interval: float = INTERVAL,
    ) -> None:
        # A client of its own: the log's client is used in another thread.
        self._client = Client(client.url, client.token)
        self._build = build
        self._say = say
        self._pauses = itertools.chain([first], itertools.repeat(interval))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="waiting", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()  # the thread isn't waited for: a request may be under way, and nothing depends on its answer

    def _watch(self) -> None:
        said = ""
        while not self._over.wait(next(self._pauses)):
            try:
                found = self._client.get(path("builds", self._build)).decode(BuildDetail)
            except Failure:
                continue  # the reader of the log tells about it
            if found.ended is not None:
                return
            text = "" if found.waiting is None else found.waiting.text
            reason = _TIMES.sub("", text)
            if text and reason != said and not self._over.is_set():
                self._say(f"build {self._build} waits: {text}")
            said = reason
