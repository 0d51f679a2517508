"""
Saying why a build waits, while its log is followed: it has no lines meanwhile. Used by ``builds.show_log``.
"""

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

#: Seconds before it is asked first, since most builds don't wait that long, and between two times.
FIRST, INTERVAL = 1.5, 3.0

#: What changes each time that it is asked, and is no news.
_TIMES = re.compile(r"\b[0-9]+ (?:s|min|h)\b")


class WaitingNotes:
    """A context in which each new reason that a build waits for is given to ``say``, which is called in a thread."""

    def __init__(
        self,
        client: Client,
        build: int,
        say: Callable[[str], None],
        *,
        first: float = FIRST,
        interval: float = INTERVAL,
    ) -> None:
        # A client of its own: what it asks must not mix with what the log's is asked.
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
        self._over.set()  # it is not waited for: a request may be under way, and nothing depends on its answer

    def _watch(self) -> None:
        said = ""
        while not self._over.wait(next(self._pauses)):
            try:
                found = self._client.get(path("builds", self._build)).decode(BuildDetail)
            except Failure:
                continue  # the log's reader says so
            if found.ended is not None:
                return
            text = "" if found.waiting is None else found.waiting.text
            reason = _TIMES.sub("", text)
            if text and reason != said and not self._over.is_set():
                self._say(f"build {self._build} waits: {text}")
            said = reason
