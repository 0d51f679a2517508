"""Tells one thing to one receiver: holds its exchange with the service, or sends its mail."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime

from twistedipc.builds.names import BadValue
from twistedipc.outgoing import mail
from twistedipc.outgoing.addresses import api_of, host_and_path, mail_addresses, path_of
from twistedipc.outgoing.exchange import Again, Answer, Exchange, Failed, NotTold, failed
from twistedipc.outgoing.kinds import KINDS
from twistedipc.outgoing.told import At, Destination, Told
from twistedipc.server.boundaries import MailSending, Requests
from twistedipc.storage.receivers import Secret
from twistedipc.storage.rows import DueRow
from twistedipc.storage.secrets import SecretBox, SecretUnreadable

#: The most requests of one exchange, and the seconds that all of them may take.
MOST_REQUESTS = 100
SECONDS = 120.0


class Telling:
    """
    Tells.

    :param now: milliseconds since the epoch
    :param address_of: where people find a build, and what it has released; the name at which that is served
    """

    def __init__(
        self,
        *,
        clock: IReactorTime,
        now: Callable[[], int],
        secret_box: SecretBox,
        requests: Requests,
        mail_sending: MailSending,
        address_of: Callable[[Told, str], At],
    ) -> None:
        self._clock = clock
        self._now = now
        self._secret_box = secret_box
        self._requests = requests
        self._mail = mail_sending
        self._address_of = address_of

    async def tell(self, row: DueRow) -> str | Failed:
        """Tell it. Return a note for people, or why it wasn't told and what follows."""
        kind = KINDS.get(row.kind)
        if kind is None or row.part not in kind.parts:
            return _never(f"a receiver of the kind {row.kind} is told no {row.part}")
        if row.void:
            return _never("its token was set for another repository than the project has now: set it again")
        try:
            secret = msgspec.json.decode(self._secret_box.open(row.sealed), type=Secret)
            to = self._destination(row, secret, host=kind.host)
        except SecretUnreadable as error:
            return _never(str(error))
        except BadValue as error:
            return _never(str(error))
        telling = kind.parts[row.part]
        at = self._address_of(row.told, row.served)
        work = self._by_mail(row, to, at) if telling is None else self._hold(telling(to, row.told, at))
        try:
            return await Deferred.fromCoroutine(work).addTimeout(SECONDS, self._clock)
        except NotTold as error:
            return failed(error.answer, to.now, quote=kind.quoted)
        except TimeoutError:
            return failed(Answer(problem=f"it took longer than {SECONDS:g} seconds"), to.now, quote=False)

    def _destination(self, row: DueRow, secret: Secret, *, host: bool) -> Destination:
        name = self._secret_box.name_for("deliveries")
        where, repository = secret.where, ""
        if host:
            assert row.kind in ("github", "gitlab", "gitea")
            where = secret.where.rstrip("/") or api_of(row.kind, row.repository)
            repository = path_of(row.kind, row.repository)
            if not host_and_path(row.repository)[2]:
                raise BadValue(f"{row.repository} has no path at a host")
        # Of each pull request another: what one shows to all can't be put into the next before ours is there.
        comment = f"comment {row.told.project} {row.told.number}"
        return Destination(
            where=where,
            repository=repository,
            secret=secret.secret,
            delivery=f"{name}-{row.id}",
            mark=f"{row.told.project} {self._secret_box.name_for(comment)}",
            now=self._now() // 1000,
        )

    async def _hold(self, exchange: Exchange) -> str:
        """Hold an exchange to its end. Return its note. Raises `NotTold`."""
        answer: Answer | None = None
        for _ in range(MOST_REQUESTS):
            try:
                request = next(exchange) if answer is None else exchange.send(answer)
            except StopIteration as end:
                note: str = end.value
                return note
            answer = await self._requests.send(request)
        exchange.close()
        raise NotTold(Answer(problem=f"it took more than {MOST_REQUESTS} requests"))

    async def _by_mail(self, row: DueRow, to: Destination, at: At) -> str:
        sender = self._mail.sender
        if not sender:
            raise NotTold(
                Answer(problem="the operator of the apiserver has set up no mail ([mail] in its configuration)")
            )
        addresses = mail_addresses(to.where)
        message = mail.message(row.told, at, sender=sender, to=addresses, delivery=to.delivery, now=to.now)
        answer = await self._mail.send(addresses, message)
        if not answer.good:
            raise NotTold(answer)
        return ""


def _never(reason: str) -> Failed:
    return Failed(reason=reason, again=Again.NEVER)
