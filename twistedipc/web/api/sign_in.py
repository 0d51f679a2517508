"""
Signing in by OpenID Connect: a browser is sent to the provider, and comes back with a code. ``web.api``; ``routes`` has
these functions.

What belongs to a sign-in (state, nonce, PKCE's verifier) is sealed in a cookie of the browser that has begun it, for
ten minutes. So nothing is kept for those that never come back, and what comes back in another browser is refused.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any, Final

import msgspec
from sqlalchemy import Connection
from twisted.logger import Logger

from twistedipc.storage import members, people
from twistedipc.storage.rows import PersonRow
from twistedipc.storage.secrets import SecretUnreadable
from twistedipc.web.access.auth import SESSION_SECONDS
from twistedipc.web.access.cookies import SessionCookie, SeveralCookies
from twistedipc.web.access.oidc import SENTENCES, Settings, Shown, SignInFailed, roles_by_groups
from twistedipc.web.access.provider import Provider
from twistedipc.web.api import sessions
from twistedipc.web.api.call import Call, Reply
from twistedipc.web.api.schemas import ProviderButton, SignInWays
from twistedipc.web.http.problems import ProblemError, not_found
from twistedipc.web.http.queries import pairs_of

#: Where a sign-in begins and ends; the second one is what the provider must know as ``redirect_uri``.
BEGIN: Final = "/api/v1/sign-in/oidc"
CALLBACK: Final = "/api/v1/sign-in/oidc/callback"

#: Seconds that a person has at the provider.
SECONDS: Final = 600

#: The longest code, and what else a provider can bring.
MAX_VALUE: Final = 4096

_log = Logger()


class _Begun(msgspec.Struct, frozen=True, kw_only=True, tag="sign-in"):
    """What a browser keeps of its sign-in, sealed. The tag keeps it apart from all else that is sealed."""

    state: str
    nonce: str
    verifier: str
    expires: int


async def show(call: Call[None, None]) -> Reply[SignInWays]:
    """Show how people can sign in, beside by a token."""
    provider = call.context.provider
    button = None
    if provider is not None:
        name = provider.settings.name or "OpenID Connect"
        # Cookies are of one host: it must be the one to which the provider sends the browser back.
        button = ProviderButton(name=name, url=f"{call.context.api_url}{BEGIN}")
    return Reply(
        body=SignInWays(provider=button, failures={str(code): sentence for code, sentence in SENTENCES.items()})
    )


async def begin(call: Call[None, None]) -> Reply[None]:
    """Send a browser to the provider."""
    provider, context = _provider(call), call.context
    begun = _Begun(
        state=_random(call), nonce=_random(call), verifier=_random(call), expires=context.now() + SECONDS * 1000
    )
    try:
        address = await provider.address(state=begun.state, nonce=begun.nonce, verifier=begun.verifier)
    except SignInFailed as failed:
        return _failed(call, failed)
    sealed = context.secret_box.seal(msgspec.json.encode(begun).decode()).decode()
    return Reply(body=None, headers={"Location": address} | _cookie(call).set(call.request, sealed, SECONDS))


async def end(call: Call[None, None]) -> Reply[None]:
    """
    Let in a browser that comes back from the provider: with the page's cookie, or, if that fails, to the page with the
    code of what is wrong.
    """
    provider, context = _provider(call), call.context
    try:
        query = _query(call)
        begun = _begun(call, query.get("state", ""))
        if "error" in query:
            said = f"{query['error']} {query.get('error_description', '')}"
            raise SignInFailed("denied", f"the provider refuses: {said[:300]!r}")
        code, issuer = query.get("code", ""), query.get("iss")
        if not provider.first_use(begun.state):
            raise SignInFailed("browser", "the same sign-in has ended before")
        shown = await provider.who(code, issuer, nonce=begun.nonce, verifier=begun.verifier)

        def change(connection: Connection, now: int) -> tuple[PersonRow, str, bool]:
            return _let_in(call, connection, provider.settings, shown, now)

        person, secret, changed = await context.ledger.write(change, context.now())
    except SignInFailed as failed:
        return _failed(call, failed)
    if changed:
        call.authentication.person_changed(person.id)
    cookie = call.authentication.cookie.set(call.request, secret, SESSION_SECONDS)
    return Reply(body=None, headers={"Location": f"{context.api_url}/"} | cookie)


def _let_in(
    call: Call[None, None], connection: Connection, settings: Settings, shown: Shown, now: int
) -> tuple[PersonRow, str, bool]:
    """Begin a session of whom the provider has signed in; the person, its secret, and whether their roles changed."""
    found, person = people.sign_in(
        connection,
        issuer=shown.issuer,
        subject=shown.subject,
        name=shown.name,
        email=shown.email,
        allow_new=settings.allow_new,
        now=now,
    )
    if person is None:
        assert found in ("disabled", "taken", "unknown"), "who has an account is somebody"
        raise SignInFailed(
            found, f"{shown.name!r} ({shown.email or 'no verified address'}, {shown.subject!r}): {found}"
        )
    by = sessions.actor_of(call, person)
    if found != "known":
        detail = {"issuer": shown.issuer, "subject": shown.subject, "account": "made" if found == "new" else "invited"}
        call.audit(connection, "person.join", person.name, detail, by=by)
    role, roles = roles_by_groups(shown.groups, settings.groups)
    changed = members.set_by_groups(connection, person.id, roles, now)
    for project, change in changed.items():
        call.audit(connection, "member.set", person.name, {"role": change, "by": "groups"}, by=by, project=project)
    if role != person.group_role:
        people.set_group_role(connection, person.id, role)
        detail = {"group_role": f"{person.group_role or '—'} → {role or '—'}"}
        call.audit(connection, "person.change", person.name, detail, by=by)
    secret = sessions.begin_as(call, connection, person, now)
    return person, secret, bool(changed) or role != person.group_role


def _provider(call: Call[Any, Any]) -> Provider:
    if call.context.provider is None:
        raise not_found("people sign in by tokens here: sign_in.oidc isn't set in the configuration")
    return call.context.provider


def _query(call: Call[None, None]) -> dict[str, str]:
    """Return what the provider has sent with the browser, which may be more than matters. Raises `SignInFailed`."""
    try:
        pairs = pairs_of(call.request.uri)
    except ProblemError as error:
        raise SignInFailed("invalid", "the provider has sent a query that isn't well formed") from error
    query = dict(pairs)
    if len(query) < len(pairs) or any(len(value) > MAX_VALUE for value in query.values()):
        raise SignInFailed("invalid", "the provider has sent something twice, or something too long")
    return query


def _begun(call: Call[None, None], state: str) -> _Begun:
    """Return what this browser has begun, if the provider answers that. Raises `SignInFailed`."""
    try:
        sealed = _cookie(call).value(call.request)
        opened = "" if sealed is None else call.context.secret_box.open(sealed.encode("latin-1", "replace"))
        begun = msgspec.json.decode(opened, type=_Begun)
    except (SeveralCookies, SecretUnreadable, msgspec.DecodeError, msgspec.ValidationError) as error:
        raise SignInFailed("browser", f"the browser shows no sign-in that it has begun: {error!r}") from error
    if begun.expires <= call.context.now():
        raise SignInFailed("browser", "the sign-in has begun too long ago")
    if not hmac.compare_digest(_digest(begun.state), _digest(state)):
        raise SignInFailed("browser", "the state isn't that of the sign-in which this browser has begun")
    return begun


def _failed(call: Call[None, None], failed: SignInFailed) -> Reply[None]:
    """Send the browser to the page, which says what is wrong."""
    _log.warn("a sign-in from {address} has failed: {why}", address=call.address, why=str(failed))
    call.authentication.refusals.note(call.address, "oidc")
    return Reply(body=None, headers={"Location": f"{call.context.api_url}/#sign-in-failed={failed.code}"})


def _cookie(call: Call[Any, Any]) -> SessionCookie:
    context = call.context
    return SessionCookie(
        context.secret_box.name_for("sign-in cookie"),
        context.hosts,
        always_secure=context.secure_cookies,
        api_url=context.api_url,
        same_site="Lax",  # the provider sends the browser back
    )


def _random(call: Call[Any, Any]) -> str:
    return base64.urlsafe_b64encode(call.context.random(32)).decode().rstrip("=")


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
