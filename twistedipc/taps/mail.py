"""Sends mail by SMTP, as the operator has set it up. Implements `server.boundaries.MailSending`."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.ssl import optionsForClientTLS

from twistedipc.outgoing.exchange import Answer
from twistedipc.taps.mail_server import MailServer

#: Seconds for one answer of the server, and for all of it.
ANSWER_SECONDS: Final = 20
SECONDS: Final = 60.0


class SmtpMail:
    """Sends. ``server``: None if mail can't be sent. ``authorities``: None for those of the system."""

    def __init__(self, reactor: Any, server: MailServer | None, authorities: Any = None) -> None:
        self._reactor = reactor
        self._server = server
        self._authorities = authorities

    @property
    def sender(self) -> str:
        """See `MailSending`."""
        return "" if self._server is None else self._server.sender

    async def send(self, to: Sequence[str], message: bytes) -> Answer:
        """See `MailSending`."""
        # Not above: it imports the reactor, and this module is imported before a service has chosen one.
        from twisted.mail.smtp import ESMTPSenderFactory

        server = self._server
        assert server is not None, "there is no sender, so nothing is sent"
        done: Deferred[Any] = Deferred()
        tls = optionsForClientTLS(server.host, trustRoot=self._authorities)
        factory = ESMTPSenderFactory(
            server.user.encode() or None,
            server.password.encode() or None,
            server.sender,
            list(to),
            BytesIO(message.replace(b"\r\n", b"\n")),  # Twisted makes the ends of lines, of these
            done,
            retries=0,
            timeout=ANSWER_SECONDS,
            contextFactory=tls if server.security == "starttls" else None,
            requireAuthentication=bool(server.user),
            requireTransportSecurity=server.security == "starttls",
            hostname=server.host if server.security == "starttls" else None,
        )
        if server.security == "tls":
            connector = self._reactor.connectSSL(server.host, server.port, factory, tls, timeout=ANSWER_SECONDS)
        else:
            connector = self._reactor.connectTCP(server.host, server.port, factory, timeout=ANSWER_SECONDS)
        try:
            taken, results = await done.addTimeout(SECONDS, self._reactor)
        except TimeoutError:
            connector.disconnect()
            return Answer(problem=f"{server.host} didn't take the mail within {SECONDS:g} seconds")
        except CancelledError:
            connector.disconnect()
            raise
        except Exception as error:  # what SMTP says, and what the connection does
            return Answer(problem=f"{server.host} didn't take the mail: {_said(error)}")
        if not taken:
            return Answer(problem=f"{server.host} takes mail for none of {', '.join(to)}")
        return Answer(status=200, body=f"{taken} of {len(results)}".encode())


def _said(error: Exception) -> str:
    """Return what an error says, in one line and without the log of the conversation."""
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
