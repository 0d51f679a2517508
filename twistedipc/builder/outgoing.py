"""
One attempt's log on its way out: from the journal, within the link's credit. Used by ``held``; read by ``forwarding``.
"""

from __future__ import annotations

from twisted.logger import Logger

from twistedipc.builder.patience import Patience
from twistedipc.builder.ports import Journal
from twistedipc.builds.logs import Batch
from twistedipc.ipc import CreditWindow, SendWindow


class OutgoingLog:
    """
    How far an attempt's journal has been sent. Nothing is sent before `begin`: on each link, the apiserver first says
    from which record on it needs the log.
    """

    _log = Logger()

    def __init__(self, name: str, journal: Journal) -> None:
        self.synced = False  # True between `begin` and the loss of the link
        self.may_have_more = True  # the journal may have grown since it was read to its end
        self._name = name
        self._journal = journal
        self._window = SendWindow(CreditWindow(1))
        self._patience = Patience()
        self._lines: int | None = None  # how many records there are, once that is known

    @property
    def next(self) -> int:
        """The number of the record that is sent next."""
        return self._journal.next

    @property
    def all_sent(self) -> bool:
        """True when the number of records is known, and all of them were sent."""
        return self._lines is not None and self._journal.next > self._lines

    @property
    def searching(self) -> bool:
        """True when `read` is to be called again soon though it found nothing: it looks for the end of some damage."""
        return self.synced and self._window.free > 0 and self._journal.searching

    def ends_at(self, lines: int) -> None:
        """Note that the journal has so many records, and gets no more."""
        self._lines = lines
        self._journal.ends_at(lines)
        self.may_have_more = True

    def begin(self, next: int, credit: CreditWindow) -> None:
        """On this link, send from record ``next`` on; ``credit`` bounds what is under way."""
        self._window.begin(next, credit)
        self.synced = True
        self._go_to(next)

    def rewind(self, next: int) -> None:
        """Send from record ``next`` on again. Raises `RemoteProtocolError` if it was never sent."""
        self._window.rewind(next)
        self._go_to(next)

    def _go_to(self, next: int) -> None:
        self._journal.seek(next)
        self.may_have_more = True

    def acknowledged(self, next: int) -> None:
        """Give back the credit of all records below ``next``. Raises `RemoteProtocolError` if they weren't sent."""
        self._window.acknowledged(next)

    def unsync(self) -> None:
        """Forget what is under way: the link is lost."""
        self._window.forget()
        self.synced = False

    def close(self) -> None:
        """Close the journal, and send no more of it."""
        self.unsync()
        self._journal.close()

    def read(self, limit: int, now: float) -> list[Batch]:
        """
        Return the next batches to send, within the credit; they count as sent. An empty list: there is nothing now, no
        credit, or the journal is `searching`.

        :param limit: about how many bytes
        :param now: seconds on the monotonic clock
        """
        if self._window.free <= 0:
            return []
        if self._patience.failing and not self._patience.due(now):
            self.may_have_more = False
            return []
        try:
            read = self._journal.read(min(limit, self._window.free))
        except OSError as error:
            self._could_not_read(now, error)
            return []
        if self._patience.failing:
            self._patience.succeeded()
        if not read:
            self.may_have_more = self._journal.searching
            return []
        self._window.sent(read[-1][0].end, sum(size for _batch, size in read))
        return [batch for batch, _size in read]

    def _could_not_read(self, now: float, error: OSError) -> None:
        if not self._patience.failing:
            self._log.error("the journal of {name} can't be read now: {error}", name=self._name, error=error)
        if self._patience.exhausted(now, error):
            self._journal.give_up()
            self._log.error("a part of the journal of {name} is given up: {error}", name=self._name, error=error)
        else:
            self.may_have_more = False
