"""
What can go wrong on a link, as exceptions, and the codes for it on the wire. Sans-IO; used by all of `twistedipc.ipc`.

As in h11, faults of the two sides are kept apart. `LocalProtocolError` is a bug on this side, and is raised in the
call that has the bug. `RemoteProtocolError` is a fault of the peer, and ends the link: the application never gets it as
an exception. An application that finds such a fault in a message raises it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any


class Code(StrEnum):
    """
    The codes that the framework itself gives: to a `CallFailed`, and to the end of a link. They are strings.
    Applications may use any others.
    """

    # of a ``bye``
    CLOSED = "closed"  # an orderly end
    VERSION = "version"  # no protocol version in common
    UNAUTHORIZED = "unauthorized"  # the message authentication code is missing or wrong
    REFUSED = "refused"  # the wrong role, another name than the key's, or a user that isn't allowed
    NOT_ACCEPTED = "not-accepted"  # proven, and the application doesn't want it
    NAME_TAKEN = "name-taken"  # another peer of this name is linked, and alive
    SUPERSEDED = "superseded"  # a newer link has the name
    BAD_HANDSHAKE = "bad-handshake"  # not what is expected before authentication
    HANDSHAKE_TIMEOUT = "handshake-timeout"  # not authenticated in time
    BAD_MESSAGE = "bad-message"  # malformed; of an ``error``: a message has the wrong fields
    FRAME_TOO_LONG = "frame-too-long"  # a line over the limit
    SILENT = "silent"  # nothing was received for too long
    OVERFLOW = "overflow"  # the peer doesn't read what it is sent
    CREDIT = "credit"  # more was sent of something numbered than may be under way
    # of an ``error``
    UNKNOWN_TYPE = "unknown-type"  # a type of message or request that this side doesn't receive
    BAD_REQUEST = "bad-request"  # a call's request has the wrong fields
    BAD_REPLY = "bad-reply"  # a reply has the wrong fields, as its caller finds
    TOO_LARGE = "too-large"  # the reply, or an item of a stream, is over the frame limit of one of the two sides
    NO_BODIES = "no-bodies"  # there is a `Blob` in it, and the peer takes none
    BAD_BODY = "bad-body"  # a body hasn't as many bytes as was said
    # of a stream's refusal
    BAD_ITEM = "bad-item"  # an item has the wrong fields
    # of both
    BUSY = "busy"  # too many calls in flight; too many connections
    INTERNAL = "internal"  # a bug on the side that says so


class LinkError(Exception):
    """The base of all errors of links and streams."""


class LocalProtocolError(LinkError):
    """
    This side tried to send what can't be sent on the link: it isn't of the interface, it is over the frame limit. A bug
    of the application, raised in the call that sends.
    """


class BadReply(LocalProtocolError):
    """
    A handler's reply can't be sent. ``str()`` says why, for this side's log.

    :param code: for the caller
    :param message: for the caller; less than ``complaint`` where that is this side's own affair
    """

    def __init__(self, complaint: str, code: str, message: str) -> None:
        super().__init__(complaint)
        self.code = code
        self.message = message


class RemoteProtocolError(LinkError):
    """The peer sent something that the protocol doesn't have. The ``bye`` to the peer has this ``code``."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class NotConnected(LinkError):
    """There is no link, or it has ended; ``str()`` says why. What was sent may or may not have arrived."""


class QueueFull(NotConnected):
    """There is no link, and no room for one more message that waits for the next; see `Unlinked`."""


class LinkRefused(NotConnected):
    """
    The two sides met, and one of them won't have the link: the keys differ, the interface or the protocol's version is
    another one, the name isn't wanted, a certificate isn't trusted. Only with ``dial(…, fail_on_refusal=True)``.

    :param code: for programs: a `Code`
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class CallTimedOut(LinkError):
    """
    There was no reply in time: the peer is asked to drop the call, and may or may not have acted on it. Or there
    was no link in time, as ``str()`` says with the reason: then the call was never sent.
    """


class CallFailed(LinkError):
    """
    A call was answered by an error instead of a reply.

    Raised by an application that answers calls; raised again at the caller, with the same fields.

    :param code: for programs: which error it is
    :param message: for people
    :param data: more about it, for programs: what JSON can hold
    """

    def __init__(self, code: str, message: str, data: Any = None) -> None:
        super().__init__(f"{message} [{code}]")
        self.code = code
        self.message = message
        self.data = data


class TooManyCalls(CallFailed):
    """
    This side has as many calls under way, or waiting for a link, as it allows itself (``max_calls``, 1024). The peer
    wasn't asked. ``code`` is ``busy``, as for a peer that refuses a call because it has too many.
    """

    def __init__(self, message: str) -> None:
        super().__init__(Code.BUSY, message)


class BadVocabulary(TypeError):
    """An `Interface` (or a `Vocabulary`) was declared with types that can't be sent, or can't be told apart."""


class BadService(TypeError):
    """A `Service` doesn't handle what its interface has, or something else. Raised when its class is made."""


class BadEndpoint(ValueError):
    """An endpoint's description can't be used; ``str()`` says why, for the person who wrote it."""


class BadKey(ValueError):
    """A key, or a key file, can't be used; ``str()`` says why, for the person who made it."""
