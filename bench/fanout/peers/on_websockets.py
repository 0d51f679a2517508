"""
The ``websockets`` package on asyncio, as its documentation says: ``broadcast`` for each line.

    python -m bench.fanout.peers.on_websockets PORT FEED_PORT
"""

from __future__ import annotations

import asyncio
import json
import sys

from websockets.asyncio.server import ServerConnection, broadcast, serve

from bench.common.processes import say

viewers: set[ServerConnection] = set()


async def view(connection: ServerConnection) -> None:
    """One viewer."""
    viewers.add(connection)
    try:
        await connection.wait_closed()
    finally:
        viewers.discard(connection)


async def feed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The lines."""
    async for line in reader:
        broadcast(viewers, json.dumps({"type": "line", "line": line[:-1].decode()}))
        # A turn for the viewers' buffers, which nothing else here would give.
        await asyncio.sleep(0)


async def main() -> None:
    """Serve until killed."""
    await asyncio.start_server(feed, "127.0.0.1", int(sys.argv[2]))
    async with serve(view, "127.0.0.1", int(sys.argv[1]), compression=None, backlog=1024, ping_interval=None):
        say(ready=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
