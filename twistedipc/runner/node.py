"""
Node's own channel for the Node programs of a build: the command ``node`` that they find on their PATH, and what it
runs. Used by ``course``; run by builds.

It connects to the step's channel, and becomes the real ``node``, the next one on PATH, which takes the connection for
the one that ``child_process.fork()`` would have given it: `process.send()` is there, in each Node program of its own,
also below ``npm run``, or below programs that close what they have inherited. (A descriptor inherited from the step
itself gets to none of these, while the variable that names it does; a Node that then sends something dies of it.)

The program itself, the second half, imports as little as it can: builds start Node often.
"""

from __future__ import annotations

import os
import socket
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

#: The environment variable with the address of the step's channel.
VARIABLE = "TWISTEDIPC_CHANNEL"


def install(folder: Path, path: str) -> str:
    """
    Put the command into ``folder``, for a build whose PATH is ``path``: its PATH from now on. Without a ``node`` on it,
    or where the command couldn't be run, that is the same as before. Raises OSError.
    """
    command = folder / "node"
    if _find(path, None) is None or ":" in str(folder):
        return path
    folder.mkdir(exist_ok=True)
    words = (sys.executable, "-I", "-S", os.path.abspath(__file__), os.fspath(command))
    quoted = " ".join("'" + word.replace("'", "'\\''") + "'" for word in words)
    command.write_text(f'#!/bin/sh\nexec {quoted} "$@"\n')
    command.chmod(0o755)
    return f"{folder}:{path}" if os.access(command, os.X_OK) else path


def _find(path: str, but: str | None) -> str | None:
    """The first ``node`` on a PATH that isn't the file ``but``."""
    for folder in path.split(":"):
        found = os.path.join(folder or ".", "node")
        try:
            itself = but is not None and os.path.samefile(found, but)
        except OSError:  # one of them isn't there
            itself = False
        if not itself and os.path.isfile(found) and os.access(found, os.X_OK):
            return found
    return None


def _connect(address: str) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX)
    connection.setblocking(False)  # where too many wait already, it goes without
    try:
        connection.connect(address)
    except OSError:
        connection.close()
        return None
    return connection


def main(arguments: list[str]) -> int:
    """Become Node. ``arguments``: this command's own file, and Node's arguments."""
    own, *rest = arguments
    environment = dict(os.environ)
    node = _find(environment.get("PATH", os.defpath), own)
    if node is None:
        print("node: not found on PATH", file=sys.stderr)
        return 127
    address = environment.get(VARIABLE, "")
    # Whoever has a channel of its parent's keeps that.
    if address and "NODE_CHANNEL_FD" not in environment and (connection := _connect(address)) is not None:
        connection.set_inheritable(True)
        environment["NODE_CHANNEL_FD"] = str(connection.detach())
        environment["NODE_CHANNEL_SERIALIZATION_MODE"] = "json"
    try:
        os.execve(node, ["node", *rest], environment)
    except OSError as error:
        print(f"{node}: {error.strerror}", file=sys.stderr)
        return 126


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
