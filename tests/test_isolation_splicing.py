"""What a client and a host send to one another through the gate."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import Awaitable, Callable

from twistedipc.builds.host_rules import rule
from twistedipc.isolation.network.contacts import Contact
from twistedipc.isolation.network.gate import Gate
from twistedipc.isolation.network.hosts import Policy
from twistedipc.isolation.network.splicing import BLOCK, Splice, Upstream

#: Seconds.
DEADLINE = 60.0

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def through_gate(serve: Serve) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, asyncio.Server, Gate]:
    """Connect to a host by the gate's proxy."""
    host = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = host.sockets[0].getsockname()[1]
    gate = Gate({}, engine="loopback", program="", ours=[])
    await gate.do_step("install", False, [], ["127.0.0.1"], None, False)
    assert gate.policy == Policy(operators=[rule("127.0.0.1")], allowed=[])
    proxy = (await gate.do_loopback())["proxy"]
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy, limit=1 << 24)
    writer.write(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n".encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    return reader, writer, host, gate


def run(of: Awaitable[None]) -> None:
    async def within() -> None:
        async with asyncio.timeout(DEADLINE):
            await of

    asyncio.run(within())


def test_all_that_both_send_arrives_and_each_may_end_before_the_other() -> None:
    content = bytes(range(256)) * (1 << 13)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello\n")  # a host may speak first
        asked = await reader.read()  # to the client's end
        writer.write(hashlib.sha256(asked).hexdigest().encode() + content)
        writer.close()

    async def converse() -> None:
        reader, writer, host, gate = await through_gate(serve)
        assert await reader.readline() == b"220 hello\n"
        writer.write(content)
        writer.write_eof()
        assert await reader.readexactly(64) == hashlib.sha256(content).hexdigest().encode()
        assert await reader.read() == content
        writer.close()
        host.close()
        (contact,) = gate.contacts.report()["contacts"]
        assert (contact["sent"], contact["received"]) == (len(content), len(content) + 64 + 10)

    run(converse())


def test_what_one_breaks_off_is_broken_off_for_the_other() -> None:
    broken = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.readline() == b"you\n":
            writer.transport.abort()
        try:
            while await reader.read(BLOCK):
                pass
        except OSError:
            pass
        broken.set()

    async def converse() -> None:
        reader, writer, host, _ = await through_gate(serve)
        writer.write(b"you\n")
        try:
            assert await reader.read() == b""
        except ConnectionResetError:
            pass
        host.close()
        broken.clear()
        _, writer, host, gate = await through_gate(serve)
        writer.write(b"me\n")
        await writer.drain()
        await gate.do_ended()  # the step is over
        await broken.wait()
        host.close()

    run(converse())


class Reading(asyncio.Transport):
    """A host's connection, of which only this is known: whether it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = asyncio.Event()

    def pause_reading(self) -> None:
        self.reads.clear()

    def resume_reading(self) -> None:
        self.reads.set()


def test_a_client_that_does_not_read_has_its_host_wait() -> None:
    async def flood() -> None:
        ours, theirs = socket.socketpair()
        _, writer = await asyncio.open_connection(sock=ours)
        host, upstream = Reading(), Upstream()
        upstream.connection_made(host)
        assert not host.reads.is_set()  # nobody takes it yet
        upstream.begin(
            writer, Splice(writer.transport, host), Contact("host", 443, why="", step="install", first=0, udp=False)
        )
        sent = 0
        while host.reads.is_set():
            upstream.data_received(bytes(BLOCK))
            sent += BLOCK
        assert writer.transport.get_write_buffer_size() <= 2 * BLOCK
        left = sent
        theirs.setblocking(False)
        while left:
            left -= len(await asyncio.get_running_loop().sock_recv(theirs, BLOCK))
        await host.reads.wait()
        writer.close()
        theirs.close()

    run(flood())
