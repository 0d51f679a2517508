"""
The secrets by which what an attempt has made is published: those that the project has, unsealed, and the ID tokens that
are signed for it, each for one service and for some minutes. Used by whatever starts a process that publishes, or
hands a permit to a builder that does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping

from twisted.internet.interfaces import IReactorTime

from twistedipc.publish.targets.registry import TARGETS
from twistedipc.publish.targets.target import Settings
from twistedipc.server.boundaries import InThread
from twistedipc.storage.id_tokens import LIFETIME, Claims, Issuer
from twistedipc.storage.secrets import SecretBox, SecretUnreadable
from twistedipc.storage.signing import KeyUnusable

#: Seconds after which an ID token is renewed while it may still be needed: half of those for which it is good.
RENEWED = LIFETIME / 2


class NoSecret(Exception):
    """A secret can't be had. ``str()`` of it is a sentence for people."""


class TargetSecrets:
    """Unseals, and signs."""

    def __init__(self, secret_box: SecretBox, issuer: Issuer, in_thread: InThread, clock: IReactorTime) -> None:
        self._secret_box = secret_box
        self._issuer = issuer
        self._in_thread = in_thread
        self._clock = clock

    def why_not(self, settings: Settings, packages: Collection[str]) -> str:
        """Return why nothing can be signed for the services of these packages; "" if it can be, or needn't."""
        return TARGETS.why_no_word(settings, self._issuer.address, packages)

    async def open(
        self, settings: Settings, sealed: Mapping[str, bytes], claims: Claims | None, packages: Collection[str]
    ) -> dict[str, str]:
        """
        Return all that is needed to publish these packages by these settings, by name. Raises `NoSecret`.

        :param sealed: what the project has
        :param claims: what is said of the attempt; None: it isn't known which it is
        """
        if why := self.why_not(settings, packages):
            raise NoSecret(why)
        try:
            found = {name: self._secret_box.open(value) for name, value in sealed.items()}
        except SecretUnreadable as error:
            raise NoSecret(f"a secret can't be read: {error}") from error
        for secret in TARGETS.of(settings).secrets_for(settings, packages):
            if secret.audience:
                found[secret.name] = await self._signed(secret.audience, claims)
        return found

    def renewing(
        self, settings: Settings, claims: Claims | None, packages: Collection[str]
    ) -> Callable[[], Awaitable[dict[str, str] | None]]:
        """
        Return what is to be called from time to time while what `open` has returned is used. It returns the ID tokens
        that take the place of those that would end soon, by name; None if they are good for a while.
        """
        due = self._clock.seconds() + RENEWED

        async def renew() -> dict[str, str] | None:
            nonlocal due
            wanted = [secret for secret in TARGETS.of(settings).secrets_for(settings, packages) if secret.audience]
            if not wanted or self._clock.seconds() < due:
                return None
            due = self._clock.seconds() + RENEWED
            return {secret.name: await self._signed(secret.audience, claims) for secret in wanted}

        return renew

    async def _signed(self, audience: str, claims: Claims | None) -> str:
        if claims is None:
            raise NoSecret("the apiserver can say nothing to the registry: it has published nothing of the project yet")
        try:
            return await self._in_thread(self._issuer.mint, claims, audience)
        except (KeyUnusable, OSError) as error:
            raise NoSecret(f"the apiserver can't sign its word: {error}") from error
