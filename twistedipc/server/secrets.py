"""
The secrets of projects' builds, which builders ask for on behalf of runners. Called by ``builder_link``; which of them
an attempt is given is `storage.build_secrets`' to say.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from twistedipc.builds import names
from twistedipc.builds.access import ANY_USER, Access
from twistedipc.builds.attempt import Secrets
from twistedipc.builds.messages import WantSecrets
from twistedipc.builds.secrets import GivenSecret
from twistedipc.ipc import CallFailed
from twistedipc.storage import build_secrets
from twistedipc.storage.access import SealedAccess
from twistedipc.storage.ledger import Ledger
from twistedipc.storage.secrets import SecretBox, SecretUnreadable


class BuildSecrets:
    """
    Answers builders' requests for secrets.

    :param now: milliseconds since the epoch
    """

    _log = Logger()

    def __init__(self, ledger: Ledger, secret_box: SecretBox, now: Callable[[], int]) -> None:
        self._ledger = ledger
        self._secret_box = secret_box
        self._now = now

    async def give(self, want: WantSecrets, builder: str) -> Secrets:
        """
        The answer to ``builder``. Raises `CallFailed`: ``void`` if the lease is not valid. All that the attempt's log
        tells must have been committed.
        """
        asked = (want.attempt, want.lease, builder, want.repository, want.uses, self._now())
        answer = await self._ledger.write(build_secrets.give, *asked)
        if answer.void:
            raise CallFailed("void", "this lease is not valid any more")
        if answer.refused:
            self._log.warn("no secrets for {attempt}: {reason}", attempt=want.attempt, reason=answer.refused)
            return Secrets(granted=False, reason=answer.refused)
        try:
            return Secrets(
                granted=True,
                checkout=None if answer.access is None else self.opened(answer.access, want.repository),
                steps=[
                    GivenSecret(name=each.name, value=self._secret_box.open(each.sealed), steps=each.steps)
                    for each in answer.secrets
                ],
            )
        except SecretUnreadable as error:
            self._log.error("no secrets for {attempt}: {error}", attempt=want.attempt, error=error)
            return Secrets(granted=False, reason="the apiserver can't read them: its key is another than they had")

    def opened(self, sealed: SealedAccess, repository: str) -> Access:
        """Return what a checkout is given. Raises `SecretUnreadable`."""
        opened = self._secret_box.open
        return Access(
            host=sealed.host,
            username=names.user(repository) or ANY_USER,
            token="" if sealed.git_token is None else opened(sealed.git_token),
            key="" if sealed.deploy_key is None else opened(sealed.deploy_key),
            known_hosts=sealed.known_hosts,
        )
