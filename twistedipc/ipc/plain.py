"""
The plain profile, for programs that have no session: `listen_plain` serves the same `Service` as ``listen``, and
`dial_plain` gives the same `Remote` as ``dial``. See ``wire/plain.py`` for what goes over the wire.

::

    listening = await listen_plain(reactor, "tcp:8700", Calculator())

    calculator = dial_plain(reactor, "tcp:localhost:8700", CALCULATOR)
    total = await calculator.call(Add(a=2, b=3), timeout=5)

Peers don't authenticate: every process that can connect may ask. So the plain profile is for UNIX sockets, whose peers
the kernel knows, for this machine, and for holders of a certificate; and it has functions of its own.
"""

from __future__ import annotations

import random as random_module
from collections.abc import Callable
from typing import TypedDict, Unpack

import msgspec

from twistedipc.ipc.connections.plain import OUTBOUND_LIMIT
from twistedipc.ipc.handlers import Service
from twistedipc.ipc.links.listen import CONNECTIONS
from twistedipc.ipc.places.endpoints import LinkReactor, TLSFiles
from twistedipc.ipc.remote import Remote, Unlinked
from twistedipc.ipc.service import Listening
from twistedipc.ipc.sessionless import dial_without_session, listen_without_session
from twistedipc.ipc.wire.conversation import FRAME_LIMIT, Conversation
from twistedipc.ipc.wire.interface import Interface
from twistedipc.ipc.wire.plain import PlainConversation, PlainFormat
from twistedipc.ipc.wire.settings import MAX_CALLS, SessionSettings, Side


class PlainOptions(TypedDict, total=False):
    """
    How lines are written and bounded, for `listen_plain` and `dial_plain` alike.

    - ``type_field``: the member of a line that says its type; by default ``"type"``. None: lines have none (bare
      objects), and all that come are of the ``default_type``
    - ``default_type``: the class that a line without a type is of; by default such a line isn't understood
    - ``request_id``: the member that has a request's id; by default ``"id"``
    - ``idle_timeout``: seconds without a line, either way, and without a request at work, after which a connection is
      closed; by default never
    - ``line_limit``: bytes of a line, either way; 1 MiB
    - ``outbound_limit``: bytes that may wait for a peer that doesn't read; over it, its connection is closed; 64 MiB
    - ``max_calls``: the calls of this side's that may wait for their answers; 1024
    - ``trace``: the member of a request that has its `trace_context`; by default it is neither sent nor looked for
    - ``busy_poll``: as for `listen`; 0 keeps the process from looking for the next message instead of sleeping
    """

    type_field: str | None
    default_type: type[msgspec.Struct] | None
    request_id: str
    idle_timeout: float | None
    line_limit: int
    outbound_limit: int
    max_calls: int
    trace: str | None
    busy_poll: float


async def listen_plain(
    reactor: LinkReactor,
    endpoint: str,
    service: Service,
    *,
    calls: Interface | None = None,
    tls: TLSFiles | None = None,
    uids: frozenset[int] | None = None,
    connections: int = CONNECTIONS,
    **options: Unpack[PlainOptions],
) -> Listening:
    """
    Listen at ``endpoint``, as `listen` does, for tools that speak the plain profile: a line of JSON for each message.

    A handler's ``peer`` can be sent messages, and called if there are ``calls``. Its name proves nothing.

    :param calls: the interface that the peers answer, if this side calls them as well
    :param tls: certificates, for ``tls:``, with an ``authority``: without a key, only the certificate proves a peer
    :param uids: for ``unix:``, the users whose processes may connect; by default this user and root
    :param connections: how many connections there may be
    :param options: see `PlainOptions`
    :raises BadEndpoint: it can't be listened there
    :raises BadVocabulary: the service has streams, or a request with a field ``id``
    """

    def converse() -> Conversation:
        return _conversation(service.interface, calls, options, Side.LISTENER)

    return listen_without_session(
        reactor,
        endpoint,
        service,
        converse,
        calls=calls,
        tls=tls,
        uids=uids,
        connections=connections,
        idle_timeout=options.get("idle_timeout"),
        outbound_limit=options.get("outbound_limit", OUTBOUND_LIMIT),
        busy_poll=options.get("busy_poll", SessionSettings.busy_poll),
    )


def dial_plain(
    reactor: LinkReactor,
    endpoint: str,
    interface: Interface,
    *,
    service: Service | None = None,
    unlinked: Unlinked = Unlinked(),  # noqa: B008  (immutable)
    fail_on_refusal: bool = False,
    tls: TLSFiles | None = None,
    uids: frozenset[int] | None = None,
    random: Callable[[], float] = random_module.random,
    **options: Unpack[PlainOptions],
) -> Remote:
    """
    Stay connected with a server of lines of JSON at ``endpoint``, until `Remote.close`: Node's ``net.createServer``,
    say, or a `listen_plain`. Otherwise like `dial`: it connects again whenever the connection is lost.

    A call is a line with an id. Its answer is the line that has the same id: an answer of the plain profile; or the
    reply's own members, ``{"id":1,"value":5}``; or an error, ``{"id":1,"error":"no such row"}``, which is a string (the
    message of the `CallFailed`, whose code is ``error``) or an object with ``code``, ``message`` and ``data``. What the
    server says that isn't understood is logged, and not answered.

    There is no handshake: a connection counts as the link as soon as it is made, and is sent what waits.

    :param interface: the server's
    :param service: takes the messages that the server sends, and answers its requests
    :param unlinked: what happens while there is no connection
    :param fail_on_refusal: as for `dial`: whether what waits fails at once if the other side turns out to be a link, or
        a certificate isn't trusted
    :param tls: certificates, for ``tls:``
    :param uids: for ``unix:``, whose process may answer; by default this user's and root's
    :param random: gives numbers from 0 to 1, by which the delays between attempts are scattered
    :param options: see `PlainOptions`
    :raises BadEndpoint: the endpoint can't be dialled; ``str()`` says why
    :raises BadVocabulary: an interface has streams, or a request with a field ``id``; or the options don't fit it
    """
    answered = None if service is None else service.interface

    def converse() -> Conversation:
        return _conversation(answered, interface, options, Side.DIALLER)

    return dial_without_session(
        reactor,
        endpoint,
        interface,
        service,
        converse,
        unlinked=unlinked,
        fail_on_refusal=fail_on_refusal,
        tls=tls,
        uids=uids,
        random=random,
        idle_timeout=options.get("idle_timeout"),
        outbound_limit=options.get("outbound_limit", OUTBOUND_LIMIT),
        busy_poll=options.get("busy_poll", SessionSettings.busy_poll),
    )


def _conversation(
    answered: Interface | None, asked: Interface | None, options: PlainOptions, side: Side
) -> PlainConversation:
    how = PlainFormat(
        type_field=options.get("type_field", "type"),
        default_type=options.get("default_type"),
        request_id=options.get("request_id", "id"),
        line_limit=options.get("line_limit", FRAME_LIMIT),
        trace=options.get("trace"),
    )
    return PlainConversation(answered, asked, how, side=side, max_calls=options.get("max_calls", MAX_CALLS))
