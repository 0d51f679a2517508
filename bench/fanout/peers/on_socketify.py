"""
socketify (uWebSockets) with its own publish and subscribe: one ``publish`` for each line.

    python -m bench.fanout.peers.on_socketify PORT FEED_PORT turn|burst

turn: each line is published in a turn of the loop of its own, as lines that come one by one are. burst: all lines of a
read are published in one turn, and uWebSockets joins what it can.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from socketify import App, AppListenOptions, OpCode

from bench.common.processes import say


def main() -> None:
    """Serve until killed."""
    port, feed_port, form = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    app: Any = App()

    async def feed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for line in reader:
            app.publish("log", json.dumps({"type": "line", "line": line[:-1].decode()}), OpCode.TEXT)
            if form == "turn":
                await asyncio.sleep(0)

    async def ready() -> None:
        await asyncio.start_server(feed, "127.0.0.1", feed_port)
        say(ready=True)

    app.ws(
        "/*",
        {
            "compression": 0,
            "max_payload_length": 1 << 16,
            "max_backpressure": 1 << 30,  # what is over it would be dropped
            "idle_timeout": 0,
            "open": lambda viewer: viewer.subscribe("log"),
        },
    )
    app.listen(AppListenOptions(port=port, host="127.0.0.1"), lambda _: app.loop.run_async(ready()))
    app.run()


if __name__ == "__main__":
    main()
