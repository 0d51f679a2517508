"""
The API as one leaf resource: method and path → route → caller → query and body → the route's function → response.
``web.api``; ``web.site`` puts it on a port.

A request that only reads is given up when its caller goes away. A request that changes something is not: the change
may be committed already, and what follows a commit (telling the builders, say) must happen. What such a request asks
other routes (`Call.ask`) is given up alike, where that only reads.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from twistedipc.builds.names import BadValue
from twistedipc.builds.roles import ROLES, SCOPE_OF
from twistedipc.builds.scopes import WARNED_DAYS, allow
from twistedipc.storage import builds, projects
from twistedipc.storage.errors import (
    IdempotencyConflict,
    LedgerConflict,
    LedgerUnavailable,
    NameTaken,
    NotAllowed,
    NotFound,
    NotPossible,
)
from twistedipc.storage.rows import BuildRow, ProjectRow, TokenRow
from twistedipc.web.access.auth import Authentication, check_origin, forbidden, may
from twistedipc.web.access.cookies import SessionCookie
from twistedipc.web.access.held import HeldOpen, Holding
from twistedipc.web.api.call import Call, Reply, Takeover, moment
from twistedipc.web.api.context import WebContext
from twistedipc.web.api.route import Route
from twistedipc.web.api.routes import Match, Options, match
from twistedipc.web.http.bodies import body_of, check_json, check_uncompressed
from twistedipc.web.http.channel import BodySink, BoundedRequest, send
from twistedipc.web.http.problems import CONTENT_TYPE, ProblemError, conflict, invalid, not_found, unavailable
from twistedipc.web.http.queries import pairs_of, query_of
from twistedipc.web.logs.stream import LogStreams

#: The header that says when the caller's token expires, if that is soon.
TOKEN_EXPIRES = "Token-Expires"

#: Seconds after which a client of a service that is stopping should ask again.
DRAINING_SECONDS = 2


class Api(Resource):
    """All routes. Implements `channel.Front`."""

    isLeaf = True

    def __init__(self, context: WebContext) -> None:
        super().__init__()
        self._context = context
        cookie = SessionCookie(
            context.secret_box.name_for("session cookie"),
            context.hosts,
            always_secure=context.secure_cookies,
            api_url=context.api_url,
        )
        self._authentication = Authentication(
            context.clock, context.now, context.ledger, context.tickets, context.visits, cookie
        )
        self._running: set[Deferred[None]] = set()
        self.streams = LogStreams()

    @property
    def held(self) -> HeldOpen:
        """What tokens hold open now."""
        return self._authentication.held

    async def refresh(self) -> None:
        """Another apiserver may have changed what tokens may: look again. Raises `LedgerUnavailable`."""
        await self._authentication.refresh()

    async def stop(self) -> None:
        """Break streams off, and wait for what is being changed."""
        self.streams.stop()
        await self._authentication.refusals.flush()
        await DeferredList([_followed(running) for running in self._running])

    def head_received(self, request: BoundedRequest) -> BodySink | None:
        """See `channel.Front`."""
        try:
            found: Match | Options | None = match(request.method.decode("latin-1"), request.path)
        except ProblemError:
            found = None  # `render` answers with the problem, when the body has come
        if self._context.draining() and not (isinstance(found, Match) and found.route.while_draining):
            raise unavailable("the service is stopping; ask again", retry_after=DRAINING_SECONDS)
        if isinstance(found, Match):
            request.max_body = found.route.max_body
        if isinstance(found, Match) and found.route.receive is not None:
            return found.route.receive(self._context, request, found.path)
        return None

    def render(self, request: BoundedRequest) -> int:
        """Twisted calls this when the request has arrived."""
        answering = _Answering(self, self._context.clock, request)
        running = answering.begin()
        self._running.add(running)
        running.addBoth(lambda _: self._running.discard(running))
        return NOT_DONE_YET

    # -- the way of a request

    async def admit(self, request: BoundedRequest, body: bytes, found: Match | Options) -> Holding | None:
        """
        Return what the caller's token holds while the request is answered; None where no token is needed. Raises
        `ProblemError`.
        """
        if isinstance(found, Options):
            return None
        _check_upgrade(found.route, request)
        _check_content(found.route, request, body)
        return await self._caller(found.route, request)

    async def answer(
        self, request: BoundedRequest, body: bytes, found: Match | Options, holding: Holding | None
    ) -> Reply[Any] | Takeover:
        """
        Return the route's answer. Raises `ProblemError`, and whatever the route's function raises.

        :param body: the request's body, which the request itself loses when its client goes away.
        :param holding: what the caller's token holds, as `admit` returned it.
        """
        if isinstance(found, Options):
            return Reply(body=None, headers={"Allow": found.allow})
        token = None if holding is None else holding.token
        answer = await self._answer(request, request.uri, body, found, token)
        return _with_warning(answer, token, self._context.now()) if isinstance(answer, Reply) else answer

    async def _answer(
        self, request: BoundedRequest, uri: bytes, body: bytes, found: Match, token: TokenRow | None
    ) -> Reply[Any] | Takeover:
        route = found.route
        if token is not None and route.scope is not None:
            _check_scope(token, route)
        project, build = await self._bound(found, token)
        call: Call[Any, Any] = Call(
            context=self._context,
            request=request,
            streams=self.streams,
            authentication=self._authentication,
            address=request.remote.address,
            path=found.path,
            query=None if route.query is None else query_of(uri, route.query),  # without a type, it is ignored
            body=_body(route, body),
            content=body,
            caller=token,
            ask=partial(self._ask, request, token),
            bound_project=project,
            bound_build=build,
        )
        return await route.function(call)

    async def _ask(
        self, request: BoundedRequest, token: TokenRow | None, method: str, uri: str, body: bytes = b""
    ) -> Reply[Any] | Takeover:
        """See `Call.ask`."""
        found = match(method, uri.partition("?")[0].encode())
        assert isinstance(found, Match), "nobody asks for options"
        # A request that changes something isn't given up, but what it reads on its way is.
        if found.route.safe and (request.gone or request.finished):
            raise CancelledError
        answering = Deferred.fromCoroutine(self._answer(request, uri.encode(), body, found, token))
        if found.route.safe:
            request.notifyFinish().addBoth(lambda _: answering.cancel())
        try:
            return await answering
        except Exception as error:
            if (problem := _problem(Failure())) is None:
                raise
            raise problem from error

    async def _caller(self, route: Route, request: BoundedRequest) -> Holding | None:
        context = self._context
        if route.scope is None:
            if route.for_browsers and not route.safe:
                check_origin(request, None, context.allowed_origins, websocket=False)
            return None
        credential = self._authentication.credential_of(request, _ticket(request) if route.websocket else None)
        if route.websocket or not route.safe:
            check_origin(request, credential, context.allowed_origins, route.websocket)
        return await self._authentication.holding_of(request, credential)

    async def _bound(self, found: Match, token: TokenRow | None) -> tuple[ProjectRow | None, BuildRow | None]:
        """
        Return the path's project or build. The 404 is the same if there is none and if the caller may not see it.
        Raises 403 if the caller may see it, but not do there what the route does.
        """
        if found.route.binding == "none" or token is None:
            return None, None
        if found.route.binding == "project":
            name = found.path["project"]
            project = await self._context.ledger.read(projects.get, name)
            if project is None or not may(token, "read", name):
                raise not_found(f"there is no project {name}")
            _check_role(token, found.route, name)
            return project, None
        number = found.path["build"]
        build = await self._context.ledger.read(builds.get, number)
        if build is None or not may(token, "read", build.project):
            raise not_found(f"there is no build {number}")
        _check_role(token, found.route, build.project)
        return None, build


def _check_scope(token: TokenRow, route: Route) -> None:
    """Refuse what the token's scopes don't allow anywhere, and what is about no one project if its person may not."""
    assert route.scope is not None, "the caller has looked"
    if not allow(token.scopes, route.scope):
        raise forbidden(f"this needs a token with the scope {route.scope}")
    if route.binding == "none" and not token.allowance.allows_somewhere(route.scope):
        raise forbidden(f"{token.who} may not do this: it is for admins of the platform")


def _check_role(token: TokenRow, route: Route, project: str) -> None:
    """Refuse what the person whose token it is may not do in the project."""
    if route.scope is not None and not may(token, route.scope, project):
        needed = next(role for role in ROLES if SCOPE_OF[role] == route.scope)
        raise forbidden(
            f"{token.who} may not do this in {project}: it is for its members with the role {needed}; its maintainers "
            "can give it"
        )


class _Answering:
    """One request while it is answered: exactly one response, whatever happens."""

    _log = Logger()

    def __init__(self, api: Api, clock: IReactorTime, request: BoundedRequest) -> None:
        self._api = api
        self._clock = clock
        self._request = request
        self._body = request.body.getvalue()
        self._answered = False
        self._timer: IDelayedCall | None = None
        self._running: Deferred[None] | None = None
        self._route: Route | None = None

    def begin(self) -> Deferred[None]:
        self._request.notifyFinish().addErrback(self._gone)
        self._running = running = Deferred.fromCoroutine(self._run())
        return running

    async def _run(self) -> None:
        request = self._request
        holding: Holding | None = None
        try:
            found = match(request.method.decode("latin-1"), request.path)
            if isinstance(found, Match):
                self._route = found.route
                if found.route.seconds is not None:
                    seconds = found.route.seconds
                    self._timer = self._clock.callLater(seconds, self._too_late, seconds)
            holding = await self._api.admit(request, self._body, found)
            answer = await self._api.answer(request, self._body, found, holding)
            if not isinstance(answer, Reply) and holding is not None and not self._answered:
                self._answered = True
                taken, holding = holding, None  # the response releases it
                answer.take_over(request, taken)
                return
        except CancelledError:
            return
        except Exception:
            problem = _problem(Failure())
            if problem is None:
                self._log.failure(
                    "request {id} failed: {method} {path}",
                    id=request.id,
                    method=request.method.decode("latin-1"),
                    path=request.path.decode("latin-1"),
                )
                problem = ProblemError(500, f"this went wrong here, not with you (incident {request.id})")
            self._send(problem.status, problem.body(), CONTENT_TYPE, problem.headers)
            return
        finally:
            self._stop_timer()
            if holding is not None:
                holding.release()
        if isinstance(answer, Reply):
            status = found.route.status if isinstance(found, Match) else 204
            self._send(answer.status or status, answer.encoded(), answer.content_type, dict(answer.headers))

    def _send(self, status: int, body: bytes, content_type: str, headers: dict[str, str]) -> None:
        if not self._answered:
            self._answered = True
            if not self._request.gone:
                send(self._request, status, body, content_type, headers)

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _too_late(self, seconds: float) -> None:
        problem = unavailable(f"there was no answer within {seconds:g} seconds; what was asked may still be done")
        self._send(problem.status, problem.body(), CONTENT_TYPE, problem.headers)
        self._give_up()

    def _gone(self, _: Failure) -> None:
        self._answered = True
        self._give_up()

    def _give_up(self) -> None:
        if self._route is not None and self._route.safe and self._running is not None:
            self._running.cancel()


def _with_warning(reply: Reply[Any], token: TokenRow | None, now: int) -> Reply[Any]:
    """Return the reply with a header that says when the caller's token (no session, which is short) expires soon."""
    if token is None or token.session or token.expires is None:
        return reply
    if token.expires - now > WARNED_DAYS * 86_400_000:
        return reply
    expires = moment(token.expires).isoformat(timespec="seconds")
    return replace(reply, headers={**reply.headers, TOKEN_EXPIRES: expires})


def _problem(failure: Failure) -> ProblemError | None:
    """Return what the caller is told about this error; None if it is the platform's own fault."""
    match failure.value:
        case ProblemError() as problem:
            return problem
        case BadValue() as error:
            return invalid(str(error))
        case IdempotencyConflict() as error:
            return invalid(str(error), name="idempotency-conflict")
        case NotFound() as error:
            return not_found(str(error))
        case NotAllowed() as error:
            return forbidden(str(error))
        case NotPossible() as error:
            return conflict(str(error), name="not-possible")
        case NameTaken() as error:
            return conflict(str(error), name="name-taken")
        case LedgerConflict():
            return conflict("something else was changed at the same moment: look again, and try again")
        case LedgerUnavailable() as error:
            return unavailable(str(error))
        case _:
            return None


def _followed(running: Deferred[None]) -> Deferred[None]:
    """Return a Deferred that fires after ``running``, whose result stays untouched."""
    done: Deferred[None] = Deferred()

    def tell(result: Failure | None) -> Failure | None:
        done.callback(None)
        return result

    running.addBoth(tell)
    return done


# -- decoding --------------------------------------------------------------------------------------------------------


def _check_upgrade(route: Route, request: BoundedRequest) -> None:
    if route.websocket and (
        request.method != b"GET" or (request.getHeader("upgrade") or "").strip().lower() != "websocket"
    ):
        raise ProblemError(
            426, "this is a WebSocket: ask for it with Upgrade: websocket", headers={"Upgrade": "websocket"}
        )


def _check_content(route: Route, request: BoundedRequest, body: bytes) -> None:
    check_uncompressed(request)
    if route.body is not None and (body or not route.body_optional):
        check_json(request)


def _body(route: Route, data: bytes) -> Any:
    if route.body is None:
        return None
    return body_of(data or b"{}" if route.body_optional else data, route.body)


def _ticket(request: BoundedRequest) -> str | None:
    tickets = [value for name, value in pairs_of(request.uri) if name == "ticket"]
    return tickets[0] if len(tickets) == 1 else None
