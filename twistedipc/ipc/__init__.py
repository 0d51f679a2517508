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

    dial.py        keeps one connection to an endpoint          handshake.py    who are you, and can you prove it
    listen.py      accepts connections, bounded                 credit.py       how much may be under way
    endpoints.py   tcp:, unix: and tls: strings                 keys.py         key files
    credentials.py who is at a UNIX socket                      errors.py       exceptions, and the codes on the wire
    eager.py       writing to a socket at once
    testing.py     a pair of ends in memory, for your tests

``errors``, ``framing``, ``messages``, ``handshake``, ``session`` and ``credit`` import no Twisted and know no clock.
``docs/protocol.md`` is the link's normative description.

An echo service, whole::

    class Echo(msgspec.Struct, tag="echo", tag_field="type"):
        text: str

    class Server:                       # an `Application`
        def __init__(self, peer): self.peer = peer
        def message_received(self, message): ...
        def call_received(self, request): return request
        def connection_lost(self, reason): ...
        def writing_paused(self): ...
        def writing_resumed(self): ...

    settings = SessionSettings(
        name="echo-1", role="server", peer_role="client", incarnation=secrets.token_hex(8),
        key=read_key(Path("link.key")), vocabulary=Vocabulary(answers={Echo: Echo}),
    )
    listen(reactor, "tcp:8700", settings, Server).startService()

and at the other end, once the application's factory has been given its ``peer``::

    reply = await peer.call(Echo(text="hello"), timeout=5)
"""

from twistedipc.ipc.credit import CreditWindow
from twistedipc.ipc.dial import DialService, dial
from twistedipc.ipc.eager import send_at_once
from twistedipc.ipc.endpoints import LinkReactor, TLSFiles
from twistedipc.ipc.errors import (
    BadEndpoint,
    BadKey,
    BadVocabulary,
    CallFailed,
    CallTimedOut,
    Code,
    LinkError,
    LocalProtocolError,
    NotConnected,
    RemoteProtocolError,
)
from twistedipc.ipc.keys import make_key, read_key, write_key
from twistedipc.ipc.listen import ListenService, listen
from twistedipc.ipc.messages import Vocabulary
from twistedipc.ipc.peer import Application, ApplicationFactory, Peer
from twistedipc.ipc.protocol import JSONLineProtocol
from twistedipc.ipc.session import PeerInfo, SessionSettings

__all__ = [
    "Application",
    "ApplicationFactory",
    "BadEndpoint",
    "BadKey",
    "BadVocabulary",
    "CallFailed",
    "CallTimedOut",
    "Code",
    "CreditWindow",
    "DialService",
    "JSONLineProtocol",
    "LinkError",
    "LinkReactor",
    "ListenService",
    "LocalProtocolError",
    "NotConnected",
    "Peer",
    "PeerInfo",
    "RemoteProtocolError",
    "SessionSettings",
    "TLSFiles",
    "Vocabulary",
    "dial",
    "listen",
    "make_key",
    "read_key",
    "send_at_once",
    "write_key",
]
