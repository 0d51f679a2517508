"""
What an attempt's runner is given of the apiserver: the secrets of the attempt, which it asks for before it begins, and
which are handed to it without a disk between; and which contents the apiserver has stored, so that they needn't be
packed. Called by ``looking`` at each look.
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

#: Seconds until it is asked again which contents are stored. Without an answer, all of them are packed.
CONTENTS_INTERVAL = 30.0


class Handing:
    """Asks, and hands it to runners."""

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
        link = self._uplink.link
        if link is None or not held.log.synced or held.life.state is not State.RUNNING:
            return
        self._look_at_secrets(held, link)
        self._look_at_contents(held, link)

    def _look_at_contents(self, held: HeldAttempt, link: ApiserverLink) -> None:
        question = held.contents
        if not held.spec.contents or question.asking or self._clock.seconds() < question.again:
            return
        question.again = self._clock.seconds() + CONTENTS_INTERVAL
        if not held.folder.has_stored:
            question.asking = True
            self._workflows.launch(self._ask_contents(held, link), f"asking what is stored for {held.name}")

    async def _ask_contents(self, held: HeldAttempt, link: ApiserverLink) -> None:
        try:
            want = m.WantContents(attempt=held.spec.attempt, lease=held.spec.lease)
            stored = await link.peer.call(want, timeout=CALL_TIMEOUT)
            assert isinstance(stored, m.StoredContents)
            await self._in_thread(held.folder.give_stored, stored.contents, stored.live)
        except (CallFailed, CallTimedOut, NotConnected, OSError) as error:
            self._log.info("it isn't known what is stored for {name}: {error}", name=held.name, error=error)
        finally:
            held.contents.asking = False

    def _look_at_secrets(self, held: HeldAttempt, link: ApiserverLink) -> None:
        question = held.secrets
        if not held.spec.asks:
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
