"""
The IPC framework: typed messages and calls between two processes, over a link that comes back by itself. Bottom layer:
it knows nothing of builds, and nothing in `twistedipc` that isn't here.

A connection, from the wire up::

    socket ⇄ transport            Twisted's TCP, UNIX or TLS
               ⇅ chunks
             JSONLineProtocol     protocol.py   corks output, pauses and resumes, has the timers
               ⇅ chunks, events
             Session              session.py    handshake, calls, heartbeat: a state machine without I/O
               ⇅ blocks of lines, typed frames
             LineSplitter         framing.py    complete lines, bounded
             Vocabulary           messages.py   msgspec structs ⇄ JSON
               ⇅
             Peer ⇄ Application   peer.py       what you talk to; what you write

    interface.py   what two sides say to one another, declared once       handshake.py    who are you, can you prove it
    service.py     `listen`: the side that answers                         credit.py       how much may be under way
    remote.py      `dial`: the side that asks                              keys.py         key files
    spawn.py       `spawn`: a child, by its stdin and stdout               child.py        how a child ends
    inherited.py   fd:, stdio: and systemd:                                pipes.py        two descriptors, as one
    once.py        a link that doesn't come back                           plain.py        newline-JSON, no session
    listen_plain.py   `listen_plain`: the server for that
    streams.py     reliable streams, by the rules of stream.py             outbox.py       what isn't acknowledged yet
    dial.py        keeps one connection to an endpoint                     errors.py       exceptions, codes on the wire
    listen.py      accepts connections, bounded                            credentials.py  who is at a UNIX socket
    endpoints.py   tcp:, unix: and tls: strings                            testing.py      links in memory, for tests
    load.py        what messages have set going, bounded                   tap.py         paused by the transport
    node.py        Node's own `process.send()` channel, on node_channel.py eager.py        writing to a socket at once
    drains.py      who waits until there is room again                     pending.py     the Deferred of a call
    polling.py     not to sleep while the next message is about to come
    said.py        what waits for a link, in order                         finite.py       NaN, which JSON doesn't have

``errors``, ``framing``, ``messages``, ``interface``, ``handshake``, ``session``, ``credit``, ``stream``, ``outbox``,
``plain`` and ``node_channel`` import no Twisted and know no clock. ``docs/ipc.md`` is the tutorial,
``docs/ipc-reference.md`` is drawn from the docstrings of the names below, ``docs/protocol.md`` describes the link for
other languages.

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

from twistedipc.ipc.child import ChildExit
from twistedipc.ipc.credit import CreditWindow
from twistedipc.ipc.dial import DialService, dial_links
from twistedipc.ipc.endpoints import LinkReactor, TLSFiles
from twistedipc.ipc.errors import (
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
from twistedipc.ipc.interface import Interface, Message, Request
from twistedipc.ipc.keys import make_key, read_key, write_key
from twistedipc.ipc.listen import ListenService, listen_for_links
from twistedipc.ipc.listen_plain import listen_plain
from twistedipc.ipc.messages import Vocabulary
from twistedipc.ipc.node import (
    NodeApplication,
    NodeApplicationFactory,
    NodePeer,
    NodeProcess,
    NoParentChannel,
    parent_channel,
    spawn_node,
)
from twistedipc.ipc.outbox import BadOutbox, FileOutbox, MemoryOutbox, Outbox, OutboxFull
from twistedipc.ipc.peer import Application, ApplicationFactory, Peer
from twistedipc.ipc.remote import Remote, Unlinked, dial
from twistedipc.ipc.service import Listening, Service, handles, listen
from twistedipc.ipc.session import PeerInfo, SessionSettings
from twistedipc.ipc.spawn import Spawned, spawn
from twistedipc.ipc.streams import Receiver, RefuseStream, Stream, StreamFailed, StreamId

__all__ = [
    "Application",
    "ApplicationFactory",
    "BadEndpoint",
    "BadKey",
    "BadOutbox",
    "BadService",
    "BadVocabulary",
    "CallFailed",
    "CallTimedOut",
    "ChildExit",
    "Code",
    "CreditWindow",
    "DialService",
    "FileOutbox",
    "Interface",
    "LinkError",
    "LinkReactor",
    "LinkRefused",
    "ListenService",
    "Listening",
    "LocalProtocolError",
    "MemoryOutbox",
    "Message",
    "NoParentChannel",
    "NodeApplication",
    "NodeApplicationFactory",
    "NodePeer",
    "NodeProcess",
    "NotConnected",
    "Outbox",
    "OutboxFull",
    "Peer",
    "PeerInfo",
    "QueueFull",
    "Receiver",
    "RefuseStream",
    "Remote",
    "RemoteProtocolError",
    "Request",
    "Service",
    "SessionSettings",
    "Spawned",
    "Stream",
    "StreamFailed",
    "StreamId",
    "TLSFiles",
    "TooManyCalls",
    "Unlinked",
    "Vocabulary",
    "dial",
    "dial_links",
    "handles",
    "listen",
    "listen_for_links",
    "listen_plain",
    "make_key",
    "parent_channel",
    "read_key",
    "spawn",
    "spawn_node",
    "write_key",
]
