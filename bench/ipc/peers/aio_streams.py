"""
asyncio's streams with lines of JSON by msgspec: what one writes by hand, without timeouts, authentication or limits.
``answer PATH`` and ``call PATH WARM COUNT IN_FLIGHT``.
"""

from __future__ import annotations

import asyncio
import sys

import msgspec

from bench.common.processes import say
from bench.ipc.message import AT, BUILD, FIRST, TEXT, Echo, Tally


class Frame(msgspec.Struct, gc=False):
    id: int
    body: Echo


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Frame).decode


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        frame = decode(line)
        writer.write(encode(Frame(frame.id, frame.body)) + b"\n")
        await writer.drain()


class Client:
    """Calls, and futures of their replies by number."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._next = 0
        self._waiting: dict[int, asyncio.Future[Echo]] = {}

    async def read(self) -> None:
        while line := await self._reader.readline():
            frame = decode(line)
            self._waiting.pop(frame.id).set_result(frame.body)

    async def call(self, body: Echo) -> Echo:
        self._next += 1
        reply = self._waiting[self._next] = asyncio.get_running_loop().create_future()
        self._writer.write(encode(Frame(self._next, body)) + b"\n")
        answered: Echo = await reply
        return answered


async def main(role: str, path: str, *arguments: str) -> None:
    if role == "answer":
        server = await asyncio.start_unix_server(answer, path)
        say(ready=True)
        await server.serve_forever()
    warm, count, in_flight = map(int, arguments)
    client = Client(*await asyncio.open_unix_connection(path))
    reading = asyncio.create_task(client.read())
    seqs = iter(range(FIRST, FIRST + warm + count))
    tally = Tally(warm, count)

    async def caller() -> None:
        for seq in seqs:
            reply = await client.call(Echo(BUILD, seq, AT, TEXT))
            tally.sum += reply.seq
            tally.left -= 1
            if not tally.left:
                tally.reached()

    await asyncio.gather(*(caller() for _ in range(in_flight)))
    reading.cancel()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
