"""
Logs on sockets. ``web.live``; the conversations say which log goes where.

A follower pulls its own cursor while its socket takes more. A follower that has written all there is joins the crowd
of those that are at the same place of the same log and want it in the same form. A crowd has one cursor for all, and
writes what comes to one socket after the other, with nothing between but the system's call. Most viewers are in a
crowd most of the time. A follower whose socket can't take what comes leaves the crowd, with a cursor of its own at its
place, and comes back once it has caught up.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from twistedipc.builds.frames import Form
from twistedipc.server.boundaries import NO_FILE, Cursor, LogRun, Logs
from twistedipc.storage.ledger import LedgerUnavailable
from twistedipc.web.http.closing import CloseCode
from twistedipc.web.live.output import Output

#: Bytes that are taken from a cursor at a time.
TAKE_BYTES = 1 << 16


class Wanted(NamedTuple):
    """The log that a viewer wants: which attempt's, and in which form."""

    attempt: str
    form: Form


class Follower:
    """One log on one socket."""

    __slots__ = ("_crowds", "_cursor", "_ended", "_fetching", "crowd", "output", "wanted")

    _log = Logger()

    def __init__(self, crowds: Crowds, output: Output, wanted: Wanted, after: int, ended: Callable[[], None]) -> None:
        self.output = output
        self.wanted = wanted
        self.crowd: Crowd | None = None
        self._crowds = crowds
        self._ended = ended
        self._fetching = False
        self._cursor: Cursor | None = crowds.logs.cursor(
            wanted.attempt, after, self.wake
        )  # None: in a crowd, or closed

    def wake(self) -> None:
        """
        The cursor calls this when records have come. They have come for the crowd too, which writes them first (as it
        would in this round anyway), so that both are at the same place afterwards.
        """
        self._crowds.write_to_crowd(self.wanted)
        self.write_entries()

    def write_entries(self, *, once: bool = False) -> bool:
        """
        Write all entries there are, as far as the socket takes them; or only some, ``once``. Return whether there may
        be more at once.
        """
        output = self.output
        while self._cursor is not None and not (self._fetching or output.paused):
            run = self._cursor.take(TAKE_BYTES)
            if run is None:
                self._fetching = True
                fetching = Deferred.fromCoroutine(self._fetch(self._cursor))
                fetching.addErrback(lambda failure: self._log.failure("reading a log failed", failure))
                return False
            if run:
                try:
                    output.write_frames(run.frames[self.wanted.form].data)
                except Exception:
                    self.fail()
                    return False
                if run.final:
                    self.finish()
                    return False
            if not run.more:
                self.crowd = self._crowds.join(self, self._cursor)
                if self.crowd is not None:
                    self._cursor = None
                return False
            if once:
                return True
        return False

    async def _fetch(self, cursor: Cursor) -> None:
        try:
            await cursor.fetch()
        except LedgerUnavailable:
            self.output.say_goodbye(CloseCode.UNAVAILABLE, "the log can't be read now; try again")
            return
        except Exception:
            self.output.say_goodbye(CloseCode.INTERNAL, "the log can't be read")
            raise
        finally:
            self._fetching = False
        self.write_entries()

    def leave(self, cursor: Cursor) -> None:
        """Leave the crowd, and go on with this cursor."""
        self.crowd = None
        self._cursor = cursor

    def finish(self) -> None:
        """Leave the log, whose end was written, and call ``ended``."""
        self.close()
        self._ended()

    def fail(self) -> None:
        """
        Close the socket: writing to it raised the exception that is being handled, so that nothing may follow but a
        close. Its client connects again, and resumes where it is.
        """
        self._log.failure("a viewer of {attempt} failed", attempt=self.wanted.attempt)
        self.close()
        self.output.say_goodbye(CloseCode.INTERNAL, "the log can't be sent")

    def close(self) -> None:
        """Leave the log. Idempotent."""
        if self._cursor is not None:
            self._cursor.close()
            self._cursor = None
        elif self.crowd is not None:
            self.crowd.lose(self)
            self.crowd = None


class Crowd:
    """Followers that are at the same place of the same log, and want it in the same form."""

    __slots__ = ("_crowds", "_cursor", "_members", "_wanted")

    _log = Logger()

    def __init__(self, crowds: Crowds, wanted: Wanted, cursor: Cursor) -> None:
        self._crowds = crowds
        self._wanted = wanted
        self._cursor = cursor
        self._members: dict[Output, Follower] = {}
        cursor.wake = self.write_entries

    @property
    def place(self) -> object:
        """The place of the crowd's cursor."""
        return self._cursor.place

    def add(self, follower: Follower) -> None:
        """Add a follower that is at the crowd's place."""
        follower.wanted = self._wanted  # one object for all
        self._members[follower.output] = follower

    def lose(self, follower: Follower) -> None:
        """Drop a follower whose connection is lost."""
        if self._members.pop(follower.output, None) is not None and not self._members:
            self._dissolve()

    def write_entries(self) -> None:
        """Write all entries there are to all members."""
        while self._members:
            before = self._cursor.place
            run = self._cursor.take(TAKE_BYTES)
            if run is None:  # the rest must be fetched from the store: each goes on by itself
                for follower in self._part(list(self._members.values()), before):
                    follower.write_entries()
                return
            if run:
                self._part(self._write(run), before)
                if run.final:
                    for follower in list(self._members.values()):
                        self._alone(follower.finish)
                    return
            if not run.more:
                return

    def _write(self, run: LogRun) -> list[Follower]:
        """Write to all. Return the followers that couldn't be written to at all, since their sockets are still full."""
        try:
            shared = run.frames[self._wanted.form]
        except Exception:  # out of memory
            for follower in list(self._members.values()):
                self._alone(follower.fail)
            return []
        data = shared.data
        size = len(data)
        file = shared.file_for(len(self._members))
        late: list[Follower] = []
        for output, follower in list(self._members.items()):
            direct = output.direct
            try:
                if direct is not None:
                    try:
                        sent = direct.send(data) if file == NO_FILE else os.sendfile(direct.fileno(), file, 0, size)
                    except OSError:  # the socket is full; or lost, which the transport will find out by itself
                        sent = 0
                    if sent < size:
                        output.keep(data, sent)
                elif output.paused:
                    late.append(follower)
                else:
                    output.write_frames(data)
            except Exception:
                self._alone(follower.fail)
        return late

    def _alone(self, call: Callable[[], None]) -> None:
        """Call this, and keep one viewer's trouble from the others."""
        try:
            call()
        except Exception:
            self._log.failure("a viewer of {attempt} failed", attempt=self._wanted.attempt)

    def _part(self, followers: list[Follower], place: object) -> list[Follower]:
        """Let these followers leave the crowd, and go on from that place by themselves."""
        for follower in followers:
            if follower.crowd is self:  # else it was closed meanwhile
                follower.leave(self._cursor.branch(place, follower.wake))
                self.lose(follower)
        return followers

    def _dissolve(self) -> None:
        self._crowds.forget(self._wanted)
        self._cursor.close()


class Crowds:
    """All crowds, and where followers are made."""

    def __init__(self, logs: Logs) -> None:
        self.logs = logs
        self._crowds: dict[Wanted, Crowd] = {}

    def follow(
        self, output: Output, attempt: str, after: int, ended: Callable[[], None], *, tagged: bool = False
    ) -> Follower:
        """
        Return a follower of this attempt's log from behind record ``after``, to be told `Follower.write_entries`.
        ``ended`` is called when the last message was written. ``tagged``: build and attempt are to be in each message.
        """
        wanted = Wanted(attempt, Form.of(tagged=tagged, deflated=output.deflates))
        return Follower(self, output, wanted, after, ended)

    def write_to_crowd(self, wanted: Wanted) -> None:
        """Have the crowd that wants this, if there is one, write what has come."""
        crowd = self._crowds.get(wanted)
        if crowd is not None:
            crowd.write_entries()

    def join(self, follower: Follower, cursor: Cursor) -> Crowd | None:
        """
        Return the crowd that takes in this follower, and takes over its cursor; None if the crowd is at another place.
        """
        wanted = follower.wanted
        crowd = self._crowds.get(wanted)
        if crowd is None:
            crowd = self._crowds[wanted] = Crowd(self, wanted, cursor)
        elif crowd.place == cursor.place:
            cursor.close()
        else:
            return None
        crowd.add(follower)
        return crowd

    def forget(self, wanted: Wanted) -> None:
        """Remove a crowd that has no members any more."""
        del self._crowds[wanted]

    def __len__(self) -> int:
        return len(self._crowds)
