"""
Which link writes which log, and the group commit's answers to it. Used by ``builders`` and its links.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IReactorTime

from twistedipc.ipc import Peer
from twistedipc.server.boundaries import GistFeed
from twistedipc.server.fanout.commits import LogCommits
from twistedipc.server.fanout.live import LiveLog
from twistedipc.server.fanout.store import LogStore
from twistedipc.storage.columns import split_attempt
from twistedipc.storage.ledger import Ledger


class LogWriter(Protocol):
    """A link that writes logs. Implemented by `builder_link.BuilderLink`."""

    peer: Peer

    def acknowledge(self, live: LiveLog) -> None:
        """Tell the builder that records of this log have been committed."""


class LogWriters:
    """One writer at most for each log; ``commits`` is where it adds records."""

    def __init__(self, clock: IReactorTime, ledger: Ledger, logs: LogStore, gists: GistFeed) -> None:
        self._logs = logs
        self._gists = gists
        self._writers: dict[LiveLog, LogWriter] = {}
        self.commits = LogCommits(clock, ledger, self._committed, self._refused, self._gist_changed)

    def __len__(self) -> int:
        return len(self._writers)

    def begin(self, live: LiveLog, link: LogWriter) -> None:
        """Note that ``link`` writes this log from now on."""
        live.active = True
        self._writers[live] = link

    def end(self, live: LiveLog) -> None:
        """Forget the writer of a log that has ended."""
        self._writers.pop(live, None)

    def end_all(self, link: LogWriter) -> None:
        """Forget ``link``, which is lost: its logs have no writer until the builder links again."""
        for live, writer in list(self._writers.items()):
            if writer is link:
                del self._writers[live]
                live.active = False
                self._logs.release(live)

    def _committed(self, live: LiveLog) -> None:
        link = self._writers.get(live)
        if link is not None:
            link.acknowledge(live)

    def _refused(self, live: LiveLog) -> None:
        """The ledger's log is another than ours: forget ours, so that builder and viewers begin again from there."""
        self._logs.changed(live)
        self._logs.release(live)
        self._gist_changed(live)  # perhaps by a commit that was made, and said to have failed
        link = self._writers.get(live)
        if link is not None:
            link.peer.close("log_order", f"the log of {live.attempt} is not what was expected")

    def _gist_changed(self, live: LiveLog) -> None:
        build, _number = split_attempt(live.attempt)
        self._gists.changed(build)
