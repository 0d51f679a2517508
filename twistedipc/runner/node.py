"""
The platform's own commands on the PATH of a build: `node`, which gives Node programs Node's own channel, and
`twistedipc-say` for all other programs. Used by ``course``; run by builds.

The command ``node`` connects to the step's channel, and becomes the real ``node``, the next one on PATH, which takes
the connection for the one that ``child_process.fork()`` would have given it: `process.send()` is there, in each Node
program of its own, also below ``npm run``, or below programs that close what they have inherited. (A descriptor
inherited from the step itself gets to none of these, while the variable that names it does; a Node that then sends
something dies of it.) A second connection is for ``ordered.cjs``, which Node runs first: messages that have their place
in the output go by that.

The program itself, the second half, imports as little as it can: builds start Node often.
"""

from __future__ import annotations

import os
import socket
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

#: The environment variable with the address of the step's channel.
VARIABLE = "TWISTEDIPC_CHANNEL"


#: The environment variable with the folder of the module `twistedipc_say`.
PYTHON = "TWISTEDIPC_PYTHON"

#: The environment variables with the file of the command ``node``, and with the real one below Yarn.
COMMAND = "TWISTEDIPC_NODE"
REAL = "TWISTEDIPC_REAL_NODE"

# Options of Node's with which no other program can be run first: it may not read that, or it isn't run at all.
_ALONE = ("--permission", "--experimental-permission", "--build-snapshot", "--experimental-sea-config")

# Seconds that a Node program waits for the platform's answer, where it must.
_PATIENCE = 60

_HERE = os.path.dirname(os.path.abspath(__file__))


def install(folder: Path, path: str) -> dict[str, str]:
    """
    Put the commands into ``folder``, for a build whose PATH is ``path``. Return the variables that let the build find
    them. Without a ``node`` on the PATH there is none here either; where no such command could be run, the PATH stays
    as it was. Raises OSError.
    """
    if ":" in str(folder):
        return {"PATH": path}
    module = folder / "python" / "twistedipc_say.py"
    module.parent.mkdir(parents=True, exist_ok=True)
    with open(os.path.join(_HERE, "say.py"), "rb") as source:
        module.write_bytes(source.read())
    say = _command(folder / "twistedipc-say", os.fspath(module))
    if _find(path, None) is not None:
        command = folder / "node"
        _command(command, os.path.abspath(__file__), os.fspath(command))
    return {"PATH": f"{folder}:{path}" if os.access(say, os.X_OK) else path, PYTHON: os.fspath(module.parent)}


def _command(command: Path, *words: str) -> Path:
    """Make a command that runs a Python program of the platform."""
    quoted = " ".join("'" + word.replace("'", "'\\''") + "'" for word in (sys.executable, "-I", "-S", *words))
    command.write_text(f'#!/bin/sh\nexec {quoted} "$@"\n')
    command.chmod(0o755)
    return command


def _find(path: str, but: str | None) -> str | None:
    """Return the first ``node`` on a PATH that isn't the file ``but``."""
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
    # Below Yarn the first `node` on PATH is Yarn's, which starts this command: see ordered.cjs.
    node = environment.get(REAL) or _find(environment.get("PATH", os.defpath), own)
    if node is None:
        print("node: not found on PATH", file=sys.stderr)
        return 127
    address = environment.get(VARIABLE, "")
    first: list[str] = []
    # A program that has a channel of its parent's keeps that.
    if address and "NODE_CHANNEL_FD" not in environment and (connection := _connect(address)) is not None:
        connection.set_inheritable(True)
        environment["NODE_CHANNEL_FD"] = str(connection.detach())
        environment["NODE_CHANNEL_SERIALIZATION_MODE"] = "json"
        options = [*rest, *environment.get("NODE_OPTIONS", "").split()]
        if not any(word.startswith(_ALONE) for word in options) and (ordered := _connect(address)) is not None:
            ordered.setblocking(True)
            # Kept by the socket itself, whatever program has it: seconds, microseconds (socket(7)).
            ordered.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", _PATIENCE, 0))
            ordered.set_inheritable(True)
            environment["TWISTEDIPC_ORDERED_FD"] = str(ordered.detach())
            environment[COMMAND] = own
            first = ["--require", os.path.join(_HERE, "ordered.cjs")]
    try:
        os.execve(node, ["node", *first, *rest], environment)
    except OSError as error:
        print(f"{node}: {error.strerror}", file=sys.stderr)
        return 126


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
