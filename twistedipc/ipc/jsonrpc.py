"""
JSON-RPC 2.0 for the same `Service`, `Interface` and `Remote`: `listen_jsonrpc`, `dial_jsonrpc`, `spawn_jsonrpc`. See
``wire/jsonrpc.py`` for how classes are methods.

::

    class Hover(Request[Contents], tag="textDocument/hover"):
        position: Position

    server = spawn_jsonrpc(reactor, ["language-server", "--stdio"], SERVER, framing="content-length")
    contents = await server.call(Hover(position=…), timeout=5)

As in the plain profile, nobody authenticates.
"""

from __future__ import annotations

import os
import random as random_module
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypedDict, Unpack

from twistedipc.ipc.connections.plain import OUTBOUND_LIMIT, PlainOwner, PlainProtocol
from twistedipc.ipc.handlers import Service
from twistedipc.ipc.links.listen import CONNECTIONS
from twistedipc.ipc.places.endpoints import LinkReactor, TLSFiles
from twistedipc.ipc.places.ways import Pipes
from twistedipc.ipc.remote import Remote, Unlinked
from twistedipc.ipc.service import Listening
from twistedipc.ipc.sessionless import dial_without_session, listen_without_session
from twistedipc.ipc.spawn import GRACE, Spawned, SpawnReactor
from twistedipc.ipc.wire.conversation import FRAME_LIMIT
from twistedipc.ipc.wire.interface import Interface
from twistedipc.ipc.wire.jsonrpc import BATCH_LIMIT, JsonRpcConversation, JsonRpcFormat
from twistedipc.ipc.wire.settings import MAX_CALLS, SessionSettings, check_busy_poll


class JsonRpcOptions(TypedDict, total=False):
    """
    How JSON-RPC is spoken and bounded. Both sides must agree on the framing.

    - ``framing``: what is around a message: ``"lines"``, the default, is one on each line; ``"content-length"`` is a
      header with its length before each, as language servers have it
    - ``cancel``: the notification by which a call is cancelled: ``"$/cancelRequest"``, the default, as language servers
      have it; ``"notifications/cancelled"``, as the Model Context Protocol has it; None: there is none
    - ``batch_limit``: messages of a batch; a longer one is refused. 256; 0 refuses all
    - ``frame_limit``: bytes of a message or a batch, either way; 1 MiB
    - ``max_calls``: calls in flight, each way; 1024
    - ``idle_timeout``: seconds without a message, either way, and without a call at work, after which a connection is
      closed; by default never
    - ``outbound_limit``: bytes that may wait for a peer that doesn't read; over it, its connection is closed; 64 MiB
    - ``trace``: the member of a call, beside its ``method``, that has its `trace_context`; by default it is neither
      sent nor looked for
    - ``busy_poll``: as for `listen`; 0 keeps the process from looking for the next message instead of sleeping
    """

    framing: Literal["lines", "content-length"]
    cancel: Literal["$/cancelRequest", "notifications/cancelled"] | None
    batch_limit: int
    frame_limit: int
    max_calls: int
    idle_timeout: float | None
    outbound_limit: int
    trace: str | None
    busy_poll: float


async def listen_jsonrpc(
    reactor: LinkReactor,
    endpoint: str,
    service: Service,
    *,
    calls: Interface | None = None,
    tls: TLSFiles | None = None,
    uids: frozenset[int] | None = None,
    connections: int = CONNECTIONS,
    **options: Unpack[JsonRpcOptions],
) -> Listening:
    """
    Listen at ``endpoint``, as `listen` does, for peers that speak JSON-RPC 2.0. At ``stdio:`` it serves the program
    that has started this one, as language servers do.

    A request's tag is its method: ``class Hover(Request[Contents], tag="textDocument/hover")``. A `Message` is a
    notification. Parameters come by name, or by position in the order of the fields. What a link can't have needs
    ``tag_field="method"`` in its class, which is for JSON-RPC only then: a method whose name is the link's own
    (``ping``), a parameter that is called ``type``, parameters that are sent by position (``array_like=True``).

    A handler answers by an error by raising `CallFailed`. Its code is the number where it is one (``"-32050"``);
    ``unknown-type``, ``bad-request`` and ``internal`` are -32601, -32602 and -32603. Any other is -32000, with
    ``{"code": …, "data": …}`` as the error's data, of which `dial_jsonrpc` makes the same `CallFailed` again.

    :param calls: the interface that the peers answer, if this side calls them as well
    :param tls: certificates, for ``tls:``, with an ``authority``: without a key, only the certificate proves a peer
    :param uids: for ``unix:``, the users whose processes may connect; by default this user and root
    :param connections: how many connections there may be
    :param options: see `JsonRpcOptions`
    :raises BadEndpoint: it can't be listened there
    :raises BadVocabulary: an interface has streams
    """
    converse = _converse(service.interface, calls, options)
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


def dial_jsonrpc(
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
    **options: Unpack[JsonRpcOptions],
) -> Remote:
    """
    Stay connected with a server of JSON-RPC 2.0 at ``endpoint``, until `Remote.close`, as `dial_plain` does.

    A call that is answered by an error fails by `CallFailed`: -32601, -32602 and -32603 are the codes ``unknown-type``,
    ``bad-request`` and ``internal``, -32700 and -32600 are ``bad-message``; any other number is the code as a string.

    :param interface: the server's
    :param service: answers the server, if it calls as well, and takes its notifications
    :param unlinked: what happens while there is no connection
    :param fail_on_refusal: as for `dial`: whether what waits fails at once if a certificate isn't trusted
    :param tls: certificates, for ``tls:``
    :param uids: for ``unix:``, whose process may answer; by default this user's and root's
    :param random: gives numbers from 0 to 1, by which the delays between attempts are scattered
    :param options: see `JsonRpcOptions`
    :raises BadEndpoint: the endpoint can't be dialled; ``str()`` says why
    :raises BadVocabulary: an interface has streams
    """
    return dial_without_session(
        reactor,
        endpoint,
        interface,
        service,
        _converse(None if service is None else service.interface, interface, options),
        unlinked=unlinked,
        fail_on_refusal=fail_on_refusal,
        tls=tls,
        uids=uids,
        random=random,
        idle_timeout=options.get("idle_timeout"),
        outbound_limit=options.get("outbound_limit", OUTBOUND_LIMIT),
        busy_poll=options.get("busy_poll", SessionSettings.busy_poll),
    )


def spawn_jsonrpc(
    reactor: SpawnReactor,
    command: Sequence[str | Path],
    interface: Interface,
    *,
    service: Service | None = None,
    unlinked: Unlinked = Unlinked(),  # noqa: B008  (immutable)
    environment: Mapping[str, str] | None = None,
    folder: str | Path | None = None,
    printed: Callable[[bytes], None] | None = None,
    grace: float = GRACE,
    **options: Unpack[JsonRpcOptions],
) -> Spawned:
    """
    Start a program, and speak JSON-RPC 2.0 with it by its standard input and output: a language server
    (``framing="content-length"``), say, or a server of the Model Context Protocol. Otherwise like `spawn`.

    :param command: the program and its arguments
    :param interface: the program's
    :param service: answers the program, if it calls as well, and takes its notifications
    :param environment: the child's; None is this process's
    :param folder: the child's working directory; None is this process's
    :param printed: called with bytes of what it prints to standard error; None: they go where this process's go
    :param grace: seconds that it has to exit once its standard input has ended, before a SIGTERM, and again before a
        SIGKILL
    :param options: see `JsonRpcOptions`
    :raises OSError: the program isn't there, or no process can be made
    :raises BadVocabulary: an interface has streams
    """
    conversation = _converse(None if service is None else service.interface, interface, options)()
    busy_poll = options.get("busy_poll", SessionSettings.busy_poll)
    check_busy_poll(busy_poll)

    def make_link(owner: PlainOwner) -> PlainProtocol:
        return PlainProtocol(
            reactor,
            owner,
            conversation,
            spawned.application,
            f"the child {os.path.basename(os.fspath(command[0]))}",
            outbound_limit=options.get("outbound_limit", OUTBOUND_LIMIT),
            busy_poll=busy_poll,
            idle_timeout=options.get("idle_timeout"),
        )

    spawned = Spawned(
        reactor,
        interface,
        service,
        unlinked,
        printed,
        grace,
        named=False,
        frame_limit=conversation.limit,
        max_calls=conversation.max_calls,
    )
    spawned.begin(command, environment, folder, make_link, Pipes())
    return spawned


def _converse(
    answered: Interface | None, asked: Interface | None, options: JsonRpcOptions
) -> Callable[[], JsonRpcConversation]:
    how = JsonRpcFormat(
        framing=options.get("framing", "lines"),
        cancel=options.get("cancel", "$/cancelRequest"),
        batch_limit=options.get("batch_limit", BATCH_LIMIT),
        frame_limit=options.get("frame_limit", FRAME_LIMIT),
        trace=options.get("trace"),
    )
    max_calls = options.get("max_calls", MAX_CALLS)
    return lambda: JsonRpcConversation(answered, asked, how, max_calls=max_calls)
