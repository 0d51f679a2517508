"""A server's WebSocket frames as a client reads them."""

from __future__ import annotations

from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, OPEN, Protocol


def read(data: bytes, *, takeover: bool = False, texts: bool = False) -> list[bytes]:
    """
    The messages in a server's frames, by the ``websockets`` package, with or without keeping its inflater. ``texts``:
    those alone, without what pings and closes say.
    """
    client = Protocol(CLIENT, state=OPEN)
    client.extensions = [PerMessageDeflate(not takeover, True, 15, 15)]
    client.receive_data(data)
    if client.parser_exc is not None:
        raise client.parser_exc
    frames = [frame for frame in client.events_received() if isinstance(frame, Frame)]
    return [bytes(frame.data) for frame in frames if frame.opcode is Opcode.TEXT or not texts]
