"""
An open WebSocket in little memory, and everything in this package that depends on Autobahn's private names.
``web.live``; used by ``viewers``.

Autobahn's protocol has some hundred attributes. Most of an idle viewer's memory was what only the handshake needs (the
request, in three forms), options copied from the factory, and flags about an end that has not come. Here the class
gets what is alike for all open sockets, and an instance keeps what differs.

The names are those of Autobahn 26, and pyproject.toml admits no later version. If the names differ all the same, the
first open socket shows it: a warning is logged, and sockets stay as Autobahn makes them.
"""

from __future__ import annotations

from typing import Any, TypeVar

from autobahn.twisted.websocket import WebSocketServerFactory
from autobahn.websocket.protocol import TrafficStats
from twisted.logger import Logger

#: Attributes that the handshake leaves behind and nothing reads afterwards.
HANDSHAKE = (
    "_transport_details",
    "_wskey",
    "http_headers",
    "http_request_data",
    "http_request_host",
    "http_request_params",
    "http_request_path",
    "http_request_uri",
    "http_response_data",
    "http_status_line",
    "is_open",
    "peer",
    "websocket_extensions",
    "websocket_extensions_in_use",
    "websocket_origin",
    "websocket_protocols",
)

#: Attributes that open sockets share: a buffer that isn't used, and counters that nothing reads.
REPLACED = ("send_queue", "trafficStats")

#: The attributes of an open socket on which nothing has happened yet. Setting one gives an instance its own.
AT_REST: dict[str, Any] = {
    **dict.fromkeys(HANDSHAKE),
    "_perMessageCompress": None,
    "autoPingPending": None,
    "autoPingPendingCall": None,
    "autoPingPendingSent": None,
    "autoPingPendingSeq": 0,
    "autoPingTimeoutCall": None,
    "closeHandshakeTimeoutCall": None,
    "closedByMe": False,
    "connected": 1,
    "current_frame": None,
    "data": b"",
    "droppedByMe": False,
    "failedByMe": False,
    "inside_message": False,
    "localCloseCode": None,
    "localCloseReason": None,
    "openHandshakeTimeoutCall": None,
    "remoteCloseCode": None,
    "remoteCloseReason": None,
    "send_queue": (),  # for writes in pieces, which this package doesn't make; a tuple refuses them
    "send_state": 0,
    "trackedTimings": None,
    "triggered": False,
    "wasClean": False,
    "wasCloseHandshakeTimeout": False,
    "wasMaxFramePayloadSizeExceeded": False,
    "wasMaxMessagePayloadSizeExceeded": False,
    "wasNotCleanReason": None,
    "wasOpenHandshakeTimeout": False,
    "wasServerConnectionDropTimeout": False,
    "wasServingFlashSocketPolicyFile": False,
    "websocket_protocol_in_use": None,
    "websocket_version": 13,
}

_P = TypeVar("_P", bound=type)


class Lean:
    """Makes the sockets of one factory lean, if Autobahn has the names that are known here."""

    _log = Logger()

    def __init__(self) -> None:
        self._known: bool | None = None  # None until the first socket is open

    @staticmethod
    def class_of(protocol: _P, factory: WebSocketServerFactory) -> _P:
        """
        Return the protocol's class with the factory's options, which Autobahn then neither copies to each connection
        nor lists for its debugging messages (0.14 ms each time), and with the values of `AT_REST`.
        """
        options = {name: getattr(factory, name) for name in getattr(protocol, "CONFIG_ATTRS", ())}
        options = {name: staticmethod(value) if callable(value) else value for name, value in options.items()}
        shared = {**AT_REST, **options, "CONFIG_ATTRS": (), "trafficStats": TrafficStats()}
        return type(protocol.__name__, (protocol,), shared)  # type: ignore[return-value]

    def settle(self, protocol: Any) -> None:
        """Remove from the protocol what its class has alike. To be called once, after the handshake."""
        if self._known is None:
            unknown = sorted({*HANDSHAKE, *REPLACED} - vars(protocol).keys())
            self._known = not unknown
            if unknown:
                self._log.warn("WebSockets take more memory: Autobahn has no {names}", names=", ".join(unknown))
        if not self._known:
            return
        alike = vars(type(protocol))
        gone = {*HANDSHAKE, *REPLACED, "perMessageCompressionAccept"}
        protocol.__dict__ = {
            name: value
            for name, value in vars(protocol).items()
            if name not in gone and (name not in alike or alike[name] is not value)
        }


def deflates(protocol: Any) -> bool:
    """Return whether the protocol's handshake, which is done, agreed on permessage-deflate."""
    return getattr(protocol, "_perMessageCompress", None) is not None


def forget_inflater(protocol: Any) -> None:
    """
    Drop the object that inflates a client's messages, with its window of 32 KiB. Each message is compressed by itself,
    so that Autobahn makes a new one for the next message anyway.
    """
    protocol._perMessageCompress._decompressor = None
