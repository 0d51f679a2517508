"""
``python -m twistedipc.isolation.network``: the process of one attempt's gate, started by its runner (``attempt``).

The runner asks on a socket, which is the standard input: a line of JSON is a question, and is answered by one. The
first says what the gate is to be. When the runner's end is closed, the gate ends, and with it all that it has started.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from typing import Any

#: The longest question.
MAX_QUESTION = 1 << 20


def main() -> int:
    """Serve until the runner has gone."""
    control = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # It is in no step's process group. The runner's end is its end.
        signal.signal(number, signal.SIG_IGN)
    # What is forked here has one thread, and little memory: what follows imports much more.
    from twistedipc.isolation.network.holder import Holder

    # The gate speaks no TLS itself: without this module it is 4 MB smaller.
    sys.modules["ssl"] = None  # type: ignore[assignment]
    holders = {} if sys.argv[1:] == ["loopback"] else {"closed": Holder(), "open": Holder()}
    import asyncio

    asyncio.run(_serve(control, holders))
    return 0


async def _serve(control: socket.socket, holders: Any) -> None:
    import asyncio

    from twistedipc.builds.host_rules import BadRule
    from twistedipc.isolation.network.gate import Gate
    from twistedipc.isolation.network.holder import HolderFailed

    async def sweep() -> None:
        while True:
            await asyncio.sleep(30.0)
            gate.sweep()

    reader, writer = await asyncio.open_connection(sock=control, limit=MAX_QUESTION)
    settings = json.loads(await reader.readline())
    gate = Gate(
        holders,
        engine=settings["engine"],
        program=settings["program"],
        ours=[(host, port) for host, port in settings["ours"]],
        project=settings["project"],
        credentials=settings["credentials"],
    )
    sweeping = asyncio.ensure_future(sweep())
    while line := await reader.readline():
        question = json.loads(line)
        try:
            answer = await getattr(gate, f"do_{question.pop('do')}")(**question)
        except (HolderFailed, BadRule) as error:
            answer = {"failed": str(error)}
        writer.write(json.dumps(answer).encode() + b"\n")
        await writer.drain()
    sweeping.cancel()


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # threads that resolve a name may hang
