"""
``grpc.aio`` over a UNIX socket, with msgspec in place of protobuf, so that the messages are the same. ``answer PATH``
and ``call PATH WARM COUNT IN_FLIGHT``.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc
import msgspec

from bench.common.processes import say
from bench.ipc.message import AT, BUILD, FIRST, TEXT, Echo, Tally

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Echo).decode


async def echo(request: Echo, context: Any) -> Echo:
    return request


async def main(role: str, path: str, *arguments: str) -> None:
    if role == "answer":
        server = grpc.aio.server()
        method = grpc.unary_unary_rpc_method_handler(echo, request_deserializer=decode, response_serializer=encode)
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("Echo", {"echo": method})])
        server.add_insecure_port(f"unix:{path}")
        await server.start()
        say(ready=True)
        await server.wait_for_termination()
    warm, count, in_flight = map(int, arguments)
    async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
        call = channel.unary_unary("/Echo/echo", request_serializer=encode, response_deserializer=decode)
        seqs = iter(range(FIRST, FIRST + warm + count))
        tally = Tally(warm, count)

        async def caller() -> None:
            for seq in seqs:
                reply = await call(Echo(BUILD, seq, AT, TEXT), timeout=60)
                tally.sum += reply.seq
                tally.left -= 1
                if not tally.left:
                    tally.reached()

        await asyncio.gather(*(caller() for _ in range(in_flight)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
