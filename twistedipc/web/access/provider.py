"""
A provider of OpenID Connect over the network: its documents, kept for a while, and the exchange of a code for who it
was. ``web.access``; used by ``web.api``. What can be believed is said by ``oidc``.
"""

from __future__ import annotations

import base64
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote

import msgspec
from twisted.internet.defer import DeferredLock

from twistedipc.web.access.oidc import (
    Discovery,
    Settings,
    Shown,
    SignInFailed,
    UnknownKey,
    authorization_url,
    discovery_of,
    discovery_url,
    keys_of,
    shown_by,
)
from twistedipc.web.http.outgoing import Outgoing, Unanswered

#: Milliseconds for which the provider's documents are kept; and the least time between two looks for a new key.
KEPT: Final = 3_600_000
KEY_PAUSE: Final = 30_000

#: How many states of sign-ins that have ended are known. (A provider takes each code but once, too.)
MOST_USED: Final = 10_000


class _Tokens(msgspec.Struct, frozen=True):
    """The answer of a token endpoint, as far as it matters here."""

    id_token: str


class Provider:
    """The provider that the configuration names. ``now``: milliseconds since the epoch."""

    def __init__(self, settings: Settings, outgoing: Outgoing, now: Callable[[], int], redirect_uri: str) -> None:
        self.settings = settings
        self._outgoing = outgoing
        self._now = now
        self._redirect_uri = redirect_uri
        self._discovery: tuple[int, Discovery] | None = None
        self._keys: tuple[int, list[dict[str, Any]]] | None = None
        self._used: OrderedDict[str, None] = OrderedDict()  # states, the oldest first
        self._alone = DeferredLock()  # many that sign in at once have the documents fetched once

    async def address(self, *, state: str, nonce: str, verifier: str) -> str:
        """Return where a browser is to sign in. Raises `SignInFailed`."""
        discovery = await self._configuration()
        return authorization_url(
            discovery,
            self.settings,
            redirect_uri=self._redirect_uri,
            state=state,
            nonce=nonce,
            verifier=verifier,
        )

    async def who(self, code: str, issuer: str | None, *, nonce: str, verifier: str) -> Shown:
        """
        Return who has signed in, for the code that a browser has brought. Raises `SignInFailed`.

        :param issuer: who has given the code, as the browser's address says it (RFC 9207)
        """
        discovery = await self._configuration()
        if issuer != self.settings.issuer and (
            issuer is not None or discovery.authorization_response_iss_parameter_supported
        ):
            raise SignInFailed("invalid", f"the code is of {issuer!r}, and not of {self.settings.issuer!r}")
        token = await self._exchange(discovery, code, verifier)
        for look_again in (False, True):
            keys = await self._known_keys(discovery, look_again)
            try:
                return shown_by(token, keys, self.settings, nonce=nonce, now=self._now() / 1000)
            except UnknownKey as error:
                unknown = error
        raise SignInFailed("invalid", str(unknown)) from unknown

    def first_use(self, state: str) -> bool:
        """Return whether a sign-in with this state ends for the first time, as far as is known."""
        if state in self._used:
            return False
        self._used[state] = None
        if len(self._used) > MOST_USED:
            self._used.popitem(last=False)
        return True

    async def _exchange(self, discovery: Discovery, code: str, verifier: str) -> str:
        settings = self.settings
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_uri,
            "client_id": settings.client_id,
            "code_verifier": verifier,
        }
        headers: dict[str, str] = {}
        methods = discovery.token_endpoint_auth_methods_supported
        if settings.client_secret and ("client_secret_basic" in methods or "client_secret_post" not in methods):
            # RFC 6749, section 2.3.1: each is encoded as in a form before they are put together.
            pair = f"{quote(settings.client_id, safe='')}:{quote(settings.client_secret, safe='')}"
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        elif settings.client_secret:
            form["client_secret"] = settings.client_secret
        try:
            status, body = await self._outgoing.post_form(discovery.token_endpoint, form, headers)
        except Unanswered as error:
            raise SignInFailed("unreachable", str(error)) from error
        if status != 200:
            said = body[:300].decode("utf-8", "replace")
            raise SignInFailed(
                "invalid" if status < 500 else "unreachable", f"the code wasn't taken ({status}): {said}"
            )
        try:
            return msgspec.json.decode(body, type=_Tokens).id_token
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise SignInFailed("invalid", f"the provider's answer has no ID token: {error}") from error

    async def _configuration(self) -> Discovery:
        async with self._alone:
            if self._discovery is None or self._now() - self._discovery[0] >= KEPT:
                issuer = self.settings.issuer
                self._discovery = self._now(), discovery_of(await self._get(discovery_url(issuer)), issuer)
            return self._discovery[1]

    async def _known_keys(self, discovery: Discovery, look_again: bool) -> list[dict[str, Any]]:
        """Return the provider's keys; with ``look_again``, as they are now, unless they have just been fetched."""
        async with self._alone:
            good_for = KEY_PAUSE if look_again else KEPT
            if self._keys is None or self._now() - self._keys[0] >= good_for:
                self._keys = self._now(), keys_of(await self._get(discovery.jwks_uri))
            return self._keys[1]

    async def _get(self, url: str) -> bytes:
        try:
            status, body = await self._outgoing.get(url)
        except Unanswered as error:
            raise SignInFailed("unreachable", str(error)) from error
        if status != 200:
            raise SignInFailed("unreachable", f"{url} answers {status}")
        return body
