"""
The secrets of an attempt, which its runner asks for before it begins: asked of the apiserver, and handed to the runner
without a disk between. Called by ``looking`` at each look.
"""

from __future__ import annotations

import msgspec
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twistedipc.builder.forwarding import Forwarding
from twistedipc.builder.held import HeldAttempt
from twistedipc.builder.life import State
from twistedipc.builder.link import ApiserverLink, Uplink
from twistedipc.builder.ports import InThread
from twistedipc.builder.publishing import CALL_TIMEOUT
from twistedipc.builder.workflows import Workflows
from twistedipc.builds import messages as m
from twistedipc.builds.attempt import Secrets
from twistedipc.ipc import CallFailed, CallTimedOut, NotConnected

#: Seconds until secrets are asked for again that couldn't be given.
INTERVAL = 1.0


class Handing:
    """Asks for secrets, and hands them to runners."""

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, in_thread: InThread, uplink: Uplink, forwarding: Forwarding, workflows: Workflows
    ) -> None:
        self._clock = clock
        self._in_thread = in_thread
        self._uplink = uplink
        self._forwarding = forwarding
        self._workflows = workflows

    def look_at(self, held: HeldAttempt) -> None:
        """Begin what is due. Raises OSError and `DecodeError`, of the attempt's folder."""
        link, question = self._uplink.link, held.secrets
        if not held.spec.asks or link is None or not held.log.synced or held.life.state is not State.RUNNING:
            return
        if question.asking or self._clock.seconds() < question.again or held.folder.secrets_wanted() is None:
            return
        question.asking = True
        question.again = self._clock.seconds() + INTERVAL
        self._workflows.launch(self._ask(held, link), f"asking for the secrets of {held.name}")

    async def _ask(self, held: HeldAttempt, link: ApiserverLink) -> None:
        try:
            wanted = held.folder.secrets_wanted()
            if wanted is None:
                return
            self._forwarding.forward()  # the apiserver decides by what the log tells
            spec = held.spec
            want = m.WantSecrets(attempt=spec.attempt, lease=spec.lease, repository=spec.repository, uses=wanted.uses)
            secrets = await link.peer.call(want, timeout=CALL_TIMEOUT)
            assert isinstance(secrets, Secrets)
            await self._in_thread(held.folder.give_secrets, secrets)
        except (CallFailed, CallTimedOut, NotConnected) as error:
            self._log.info("no secrets for {name} yet: {error}", name=held.name, error=error)
        except (OSError, msgspec.DecodeError) as error:
            self._log.warn("the runner of {name} can't be given its secrets: {error}", name=held.name, error=error)
        finally:
            held.secrets.asking = False
