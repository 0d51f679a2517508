"""
aiohttp, as its documentation says: ``send_str`` for each line and viewer.

    python -m bench.fanout.peers.on_aiohttp PORT FEED_PORT
"""

from __future__ import annotations

import asyncio
import json
import sys

from aiohttp import web

from bench.common.processes import say

viewers: set[web.WebSocketResponse] = set()


async def view(request: web.Request) -> web.WebSocketResponse:
    """One viewer."""
    viewer = web.WebSocketResponse(compress=False)
    await viewer.prepare(request)
    viewers.add(viewer)
    try:
        async for _ in viewer:
            pass
    finally:
        viewers.discard(viewer)
    return viewer


async def feed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The lines."""
    async for line in reader:
        message = json.dumps({"type": "line", "line": line[:-1].decode()})
        for viewer in list(viewers):
            await viewer.send_str(message)


async def main() -> None:
    """Serve until killed."""
    await asyncio.start_server(feed, "127.0.0.1", int(sys.argv[2]))
    application = web.Application()
    application.router.add_get("/{path:.*}", view)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(sys.argv[1]), backlog=1024).start()
    say(ready=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
