"""
The IPC framework: typed messages and calls between two processes, over a link that is made
again after each break. The bottom layer: it knows nothing of builds, and imports nothing else of `twistedipc`.

A connection, from the wire up::

    socket ⇄ transport            Twisted's TCP, UNIX or TLS
               ⇅ chunks
             JSONLineProtocol     connections/link.py   corks output, pauses and resumes, has the timers
               ⇅ chunks, events
             Session              wire/session.py       handshake, calls, heartbeat, driven by the table in states.py
               ⇅ blocks of lines, typed frames
             LineSplitter         wire/framing.py       complete lines, bounded
             FastPath             wire/fastpath.py      blocks of frames that are as they should be, at once
             Vocabulary           wire/messages.py      msgspec structs ⇄ JSON
               ⇅
             Peer ⇄ Application   connections/peer.py   the other side; this side's code

The rooms, each of which imports only those above it (each has its own map)::

    wire/          what goes over a wire, and its rules: no Twisted, no clock
    places/        endpoints, descriptors, children, keys: where the other side is
    connections/   one connection on a transport, in each of its formats
    links/         how a link is made: dialled, accepted, inherited
    streams/       what outlives a connection: reliable streams, messages that wait

and the face, which stands on all of them::

    handlers.py       `Service`: what you write to answer
    service.py        `listen`: the side that answers          remote.py    `dial`: the side that asks
    plain.py          `listen_plain`, `dial_plain`: lines of JSON, for programs without a session
    jsonrpc.py        `listen_jsonrpc`, `dial_jsonrpc`, `spawn_jsonrpc`: JSON-RPC 2.0
    sessionless.py    what those have in common
    spawn.py          `spawn`: a child, by its stdin and stdout, or by Node's own channel
    node.py           `spawn_node`, `parent_channel`: Node's own channel
    aio.py            the face for asyncio: `dial`, `listen`      threads.py    `SyncRemote`: for plain threads
    broadcast.py      `send_to`: one message to many peers
    services.py       `listening_service`, `dialling_service`: both for `twistd`
    handling.py       how handlers are run                       futures.py    between Deferreds and asyncio
    testing.py        links in memory, for tests                  __main__.py   `dump` and `diff` of interfaces
    typescript.py     an interface's types for the package for Node: `python -m twistedipc.ipc typescript`

``docs/ipc.md`` is the tutorial, ``docs/ipc-reference.md`` is drawn from the docstrings of the names below, and
``docs/protocol.md`` describes the link for other languages.

A service, whole::

    class Sum(msgspec.Struct):
        value: int

    class Add(Request[Sum]):
        a: int
        b: int

    CALCULATOR = Interface("calculator", Add)

    class Calculator(Service):
        interface = CALCULATOR

        @handles(Add)
        def add(self, request, peer):
            return Sum(request.a + request.b)

    listening = await listen(reactor, "unix:calculator.sock", Calculator())

and in another process::

    calculator = dial(reactor, "unix:calculator.sock", CALCULATOR)
    total = await calculator.call(Add(a=2, b=3), timeout=5)
"""

import importlib
from typing import TYPE_CHECKING, Any

from twistedipc.ipc.broadcast import send_to
from twistedipc.ipc.connections.eager import send_at_once
from twistedipc.ipc.connections.load import Load
from twistedipc.ipc.connections.peer import Application, ApplicationFactory, Complaint, Peer
from twistedipc.ipc.connections.streamed import StreamedReply
from twistedipc.ipc.connections.tracing import trace_context
from twistedipc.ipc.connections.traffic import Latencies, Queues, Traffic
from twistedipc.ipc.handlers import Service, handles, receives
from twistedipc.ipc.links.dial import DialService, dial_links
from twistedipc.ipc.links.listen import ListenService, listen_for_links
from twistedipc.ipc.places.child import ChildExit
from twistedipc.ipc.places.endpoints import LinkReactor, TLSFiles, check_listened
from twistedipc.ipc.places.keys import (
    make_key,
    make_named_key,
    read_key,
    read_named_key,
    write_key,
    write_named_key,
)
from twistedipc.ipc.remote import Remote, Unlinked, dial
from twistedipc.ipc.service import Listening, Offer, Served, listen
from twistedipc.ipc.spawn import Spawned, SpawnReactor, spawn
from twistedipc.ipc.streams.outbox import BadOutbox, FileOutbox, MemoryOutbox, Outbox, OutboxFull
from twistedipc.ipc.streams.receiver import Receiver, RefuseStream, StreamId
from twistedipc.ipc.streams.sender import Stream, StreamFailed
from twistedipc.ipc.wire.blob import Blob
from twistedipc.ipc.wire.credit import CreditWindow
from twistedipc.ipc.wire.errors import (
    BadEndpoint,
    BadKey,
    BadService,
    BadVocabulary,
    CallFailed,
    CallTimedOut,
    Code,
    LinkError,
    LinkRefused,
    LocalProtocolError,
    NotConnected,
    QueueFull,
    RemoteProtocolError,
    TooManyCalls,
)
from twistedipc.ipc.wire.framing import FrameTooLong, LineSplitter
from twistedipc.ipc.wire.identity import PeerCertificate, PeerInfo, names_by_certificate, names_by_uid
from twistedipc.ipc.wire.interface import Interface, Message, Request, StreamedRequest, StreamOf
from twistedipc.ipc.wire.keyring import Keys, NamedKey
from twistedipc.ipc.wire.messages import Vocabulary
from twistedipc.ipc.wire.names import Names
from twistedipc.ipc.wire.settings import SessionSettings
from twistedipc.ipc.wire.windows import Hole, ReceiveWindow, SendWindow

if TYPE_CHECKING:
    from twistedipc.ipc.connections.node import NodeApplication, NodeApplicationFactory, NodePeer
    from twistedipc.ipc.jsonrpc import JsonRpcOptions, dial_jsonrpc, listen_jsonrpc, spawn_jsonrpc
    from twistedipc.ipc.node import NodeProcess, NodeReactor, NoParentChannel, parent_channel, spawn_node
    from twistedipc.ipc.plain import PlainOptions, dial_plain, listen_plain
    from twistedipc.ipc.services import (
        CannotStart,
        DiallingService,
        ListeningService,
        dialling_service,
        listening_service,
    )
    from twistedipc.ipc.threads import SyncRemote, SyncStream, SyncStreamedReply
    from twistedipc.ipc.wire.conversation import Asked, Dropped, Ended, Failed, Misunderstood, Refused, Replied
    from twistedipc.ipc.wire.jsonrpc import JsonRpcConversation, JsonRpcFormat

#: What many programs don't use is imported when it is first asked for.
_LATER = {
    "twistedipc.ipc.jsonrpc": ("JsonRpcOptions", "dial_jsonrpc", "listen_jsonrpc", "spawn_jsonrpc"),
    "twistedipc.ipc.connections.node": ("NodeApplication", "NodeApplicationFactory", "NodePeer"),
    "twistedipc.ipc.node": ("NodeProcess", "NodeReactor", "NoParentChannel", "parent_channel", "spawn_node"),
    "twistedipc.ipc.plain": ("PlainOptions", "dial_plain", "listen_plain"),
    "twistedipc.ipc.services": (
        "CannotStart",
        "DiallingService",
        "ListeningService",
        "dialling_service",
        "listening_service",
    ),
    "twistedipc.ipc.threads": ("SyncRemote", "SyncStream", "SyncStreamedReply"),
    "twistedipc.ipc.wire.conversation": (
        "Asked",
        "Dropped",
        "Ended",
        "Failed",
        "Misunderstood",
        "Refused",
        "Replied",
    ),
    "twistedipc.ipc.wire.jsonrpc": ("JsonRpcConversation", "JsonRpcFormat"),
}

__all__ = [
    "Application",
    "ApplicationFactory",
    "Asked",
    "BadEndpoint",
    "BadKey",
    "BadOutbox",
    "BadService",
    "BadVocabulary",
    "Blob",
    "CallFailed",
    "CallTimedOut",
    "CannotStart",
    "ChildExit",
    "Code",
    "Complaint",
    "CreditWindow",
    "DialService",
    "DiallingService",
    "Dropped",
    "Ended",
    "Failed",
    "FileOutbox",
    "FrameTooLong",
    "Hole",
    "Interface",
    "JsonRpcConversation",
    "JsonRpcFormat",
    "JsonRpcOptions",
    "Keys",
    "Latencies",
    "LineSplitter",
    "LinkError",
    "LinkReactor",
    "LinkRefused",
    "ListenService",
    "Listening",
    "ListeningService",
    "Load",
    "LocalProtocolError",
    "MemoryOutbox",
    "Message",
    "Misunderstood",
    "NamedKey",
    "Names",
    "NoParentChannel",
    "NodeApplication",
    "NodeApplicationFactory",
    "NodePeer",
    "NodeProcess",
    "NodeReactor",
    "NotConnected",
    "Offer",
    "Outbox",
    "OutboxFull",
    "Peer",
    "PeerCertificate",
    "PeerInfo",
    "PlainOptions",
    "QueueFull",
    "Queues",
    "ReceiveWindow",
    "Receiver",
    "RefuseStream",
    "Refused",
    "Remote",
    "RemoteProtocolError",
    "Replied",
    "Request",
    "SendWindow",
    "Served",
    "Service",
    "SessionSettings",
    "SpawnReactor",
    "Spawned",
    "Stream",
    "StreamFailed",
    "StreamId",
    "StreamOf",
    "StreamedReply",
    "StreamedRequest",
    "SyncRemote",
    "SyncStream",
    "SyncStreamedReply",
    "TLSFiles",
    "TooManyCalls",
    "Traffic",
    "Unlinked",
    "Vocabulary",
    "check_listened",
    "dial",
    "dial_jsonrpc",
    "dial_links",
    "dial_plain",
    "dialling_service",
    "handles",
    "listen",
    "listen_for_links",
    "listen_jsonrpc",
    "listen_plain",
    "listening_service",
    "make_key",
    "make_named_key",
    "names_by_certificate",
    "names_by_uid",
    "parent_channel",
    "read_key",
    "read_named_key",
    "receives",
    "send_at_once",
    "send_to",
    "spawn",
    "spawn_jsonrpc",
    "spawn_node",
    "trace_context",
    "write_key",
    "write_named_key",
]


def __getattr__(name: str) -> Any:
    for module, names in _LATER.items():
        if name in names:
            value = globals()[name] = getattr(importlib.import_module(module), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
