"""
The bell: what wakes those who look into the ledger when something may be there for them. It carries no truth, only a
hint: a listener looks. Made by ``compose``.

There are two ways to it. What happens in this process is rung by who does it, once that is committed and noted in
memory (`Bell.ring`), and wakes listeners here. What is committed is also told to other apiservers on the same ledger,
by a `Wire`: the ledger gives the bell what each group of its writes has noted (``storage.rings``), and the bell has it
carried once for the whole group. Where no other apiserver listens, nothing is sent at all.

A ring may be lost: so all listeners look anyway when the wire had been cut, and every `POLL` seconds while there are
other apiservers. A bell that is dead makes them slow, never wrong.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from typing import Final, Protocol

import msgspec
from sqlalchemy import Connection
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from twistedipc.storage.rings import Rings, Topic, add

#: Called with which one of a topic something has happened to; None: to any. Returns at once.
Heard = Callable[[str | None], object]

#: Seconds between two looks at everything, while there are other apiservers.
POLL: Final = 1.0

#: Seconds between two rings about logs, which grow all the time: what comes meanwhile is told together.
LOG_INTERVAL: Final = 0.05

#: Bytes of what is sent at once. PostgreSQL takes less than 8000.
MAX_BYTES: Final = 7900


class Wire(Protocol):
    """What carries rings from one apiserver to all of them."""

    #: Whether it carries what is said in a transaction (`carry`) with its commit; else `send` carries it.
    transactional: bool

    def start(self, heard: Callable[[str], None], missed: Callable[[], None]) -> None:
        """
        Listen from now on, again and again if need be: ``heard`` gets what any apiserver has sent, and ``missed`` is
        called whenever something may not have been heard. Both in the reactor's thread.
        """

    def stop(self) -> None:
        """Listen no more."""

    def carry(self, connection: Connection, text: str) -> None:
        """Send it with the commit of this transaction. In the ledger's thread."""

    def send(self, text: str) -> None:
        """Send it now, if that is possible. In the reactor's thread."""


class _Sent(msgspec.Struct, frozen=True):
    """What one apiserver tells the others: by topic, to which of it something has happened; none: to any."""

    by: str
    rings: dict[str, list[str]]


_decoder = msgspec.json.Decoder(_Sent)


def _nothing() -> None:
    pass


class Bell:
    """
    :param wire: to other apiservers; None: there are none.
    :param elsewhere: to which topics other apiservers listen. Called in the ledger's thread too.
    :param write: has the ledger make a write, of nothing, which carries what waits.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        wire: Wire | None = None,
        *,
        elsewhere: Callable[[], frozenset[Topic]] = frozenset,
        write: Callable[[], object] = _nothing,
    ) -> None:
        self._clock = clock
        self._wire = wire
        self._elsewhere = elsewhere
        self._write = write
        self._id = secrets.token_hex(8)
        self._listeners: dict[Topic, dict[object, Heard]] = {topic: {} for topic in Topic}
        self._polling = LoopingCall(self._poll)
        self._polling.clock = clock
        # Of logs: what waits, since when the next may be sent (on the clock), and what sends it then.
        self._lock = threading.Lock()
        self._logs: set[str] = set()
        self._next_logs = 0.0
        self._timer: IDelayedCall | None = None

    def listen(self, topic: Topic, heard: Heard) -> Callable[[], None]:
        """Call ``heard`` whenever something has happened to the topic. Return what ends that."""
        key = object()
        self._listeners[topic][key] = heard

        def deafen() -> None:
            self._listeners[topic].pop(key, None)

        return deafen

    def ring(self, topic: Topic, hint: str = "") -> None:
        """Wake who listens to the topic here."""
        self._call(topic, hint or None)

    def start(self) -> None:
        """Begin to hear other apiservers."""
        if self._wire is not None:
            self._wire.start(self._heard, self.resync)
            self._polling.start(POLL, now=False)

    def stop(self) -> None:
        """Hear other apiservers no more, and send nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._wire is not None:
            self._wire.stop()
        if self._polling.running:
            self._polling.stop()

    def resync(self) -> None:
        """Tell every listener that anything may have happened."""
        for topic in Topic:
            self._call(topic, None)

    # -- what the ledger calls (`storage.rings.Ringing`)

    def carry(self, connection: Connection, rings: Rings) -> None:
        """See `Ringing`."""
        if self._wire is not None and self._wire.transactional and (text := self._due(rings)):
            self._wire.carry(connection, text)

    def committed(self, rings: Rings) -> None:
        """See `Ringing`."""
        if self._wire is None:
            return
        if not self._wire.transactional and (text := self._due(rings)):
            self._wire.send(text)
        if self._logs and self._timer is None:
            self._timer = self._clock.callLater(max(0.0, self._next_logs - self._clock.seconds()), self._send_logs)

    # -- to others

    def _due(self, rings: Rings) -> str:
        """Return what is to be sent now of this and of what waits; "": nothing."""
        wanted = self._elsewhere()
        sent: Rings = {}
        add(sent, {topic: hints for topic, hints in rings.items() if topic in wanted and topic is not Topic.LOG})
        with self._lock:
            if Topic.LOG not in wanted:
                self._logs.clear()
            else:
                self._logs |= rings.get(Topic.LOG, set())
            if self._logs and self._clock.seconds() >= self._next_logs:
                self._next_logs = self._clock.seconds() + LOG_INTERVAL
                sent[Topic.LOG] = self._logs
                self._logs = set()
        return self._text(sent) if sent else ""

    def _text(self, rings: Rings) -> str:
        told = {topic.value: [] if "" in hints else sorted(hints) for topic, hints in rings.items()}
        text = msgspec.json.encode(_Sent(self._id, told))
        if len(text) > MAX_BYTES:
            text = msgspec.json.encode(_Sent(self._id, {topic: [] for topic in told}))
        return text.decode()

    def _send_logs(self) -> None:
        self._timer = None
        if self._wire is not None and self._wire.transactional:
            self._write()
        else:
            self.committed({})

    # -- from others

    def _heard(self, text: str) -> None:
        try:
            sent = _decoder.decode(text)
        except msgspec.DecodeError:
            return  # by something else on the channel
        if sent.by == self._id:
            return
        for name, hints in sent.rings.items():
            try:
                topic = Topic(name)
            except ValueError:
                continue  # of a later version
            for hint in hints:
                self._call(topic, hint)
            if not hints:
                self._call(topic, None)

    def _poll(self) -> None:
        if self._elsewhere():
            self.resync()

    def _call(self, topic: Topic, hint: str | None) -> None:
        for heard in list(self._listeners[topic].values()):
            try:
                heard(hint)
            except Exception:
                self._log.failure("a listener to {topic} failed", topic=topic.value)
