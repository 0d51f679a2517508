"""One connection through the gate: what a client and a host send to one another. Used by ``gate``."""

from __future__ import annotations

import asyncio
import time
from typing import cast

from twistedipc.isolation.network.contacts import Contact

#: The most bytes of a client that are read at once; and how many may wait for a client before its host has to: what is
#: read of the host at once (by asyncio, up to 256 KiB) comes on top.
BLOCK = 64 << 10


class Splice:
    """One connection through the gate."""

    def __init__(self, client: asyncio.WriteTransport, host: asyncio.WriteTransport) -> None:
        self._transports = [client, host]
        self.active = time.monotonic()

    def abort(self) -> None:
        """End it at once."""
        for transport in self._transports:
            transport.abort()


class Upstream(asyncio.Protocol):
    """
    The connection to a host. What comes is passed on where it comes, without a stream and a task's turn for each block:
    of what a build downloads, that is nearly all.
    """

    def __init__(self) -> None:
        #: fires when no more comes
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport
        self._takes_more = asyncio.Event()
        self._takes_more.set()
        self._lost = False
        self._draining: asyncio.Task[None] | None = None

    def begin(self, client: asyncio.StreamWriter, splice: Splice, contact: Contact) -> None:
        """Pass on to this client, from now on, what comes."""
        self._client, self._splice, self._contact = client, splice, contact
        self.transport.resume_reading()

    async def send(self, data: bytes) -> None:
        """Send to the host, and wait until it takes more. Raises OSError: the connection is lost."""
        self.transport.write(data)
        await self._takes_more.wait()
        if self._lost:
            raise ConnectionResetError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`. Nothing is read before there is a client."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`. A client that doesn't read has the host wait."""
        client = self._client.transport
        if client.is_closing():
            self._splice.abort()
            return
        self._splice.active = time.monotonic()
        self._contact.received += len(data)
        client.write(data)
        if client.get_write_buffer_size() > BLOCK:
            self.transport.pause_reading()
            self._draining = asyncio.ensure_future(self._drain())

    async def _drain(self) -> None:
        try:
            await self._client.drain()
        except OSError:
            self._splice.abort()
        else:
            self.transport.resume_reading()

    def eof_received(self) -> bool:
        """See `asyncio.Protocol`. The client may go on."""
        if not self._client.transport.is_closing():
            self._client.write_eof()
        self._end()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._lost = True
        self._takes_more.set()
        if exc is not None:
            self._splice.abort()
        self._end()

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._takes_more.clear()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._takes_more.set()

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


async def send(data: bytes, reader: asyncio.StreamReader, upstream: Upstream, splice: Splice, contact: Contact) -> None:
    """Send these bytes to the host, and then what the client says."""
    try:
        while data or (data := await reader.read(BLOCK)):
            splice.active = time.monotonic()
            contact.sent += len(data)
            await upstream.send(data)
            data = b""
        upstream.transport.write_eof()
    except (OSError, RuntimeError):
        splice.abort()
