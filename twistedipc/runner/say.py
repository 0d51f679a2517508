"""
Send a message to the build's log, for programs that aren't Node's. The platform puts this
file into each build as the command `twistedipc-say`, and for Python programs as the module `twistedipc_say`, in the
folder that the environment variable TWISTEDIPC_PYTHON names. It needs Python 3.6 and nothing else, and may be copied.

    twistedipc-say group NAME
    twistedipc-say progress VALUE [LABEL]
    twistedipc-say annotation LEVEL MESSAGE [FILE [LINE]]
    twistedipc-say summary [MARKDOWN]
    twistedipc-say mask [VALUE]
    twistedipc-say json [MESSAGE]

The last argument of the last three is read from standard input if it isn't there; of `json`, one message on each line.
So a value that is to be hidden is in no list of processes.

What was printed before comes before it in the log, and what is printed after it has ended comes after it: it waits for
the platform's answer. A program that has printed something itself flushes that before it runs this. Outside of a build
nothing happens, and the exit code is 0; it is 2 if the arguments make no message.
"""

from __future__ import annotations

import json
import os
import socket
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

#: Seconds that the platform may take for an answer: it may be waiting for room on its disk.
TIMEOUT = 60.0

#: The most bytes of a message. Of a longer one the platform reads nothing, and so gives no answer.
LIMIT = 64 * 1024

_USAGE = (__doc__ or "").partition("\n\n")[2].partition("\n\n")[0]


class _Channel:
    """This process's connection, made when it is needed, and again after a fork."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._pid = 0
        self._count = 0

    def say(self, message: Mapping[str, Any]) -> bool:
        self._count += 1
        line = json.dumps(dict(message, ack=self._count), allow_nan=False).encode("ascii") + b"\n"
        if len(line) > LIMIT:
            raise ValueError(f"a message has at most {LIMIT} bytes")
        address = os.environ.get("TWISTEDIPC_CHANNEL")
        if not address:
            return False
        try:
            connection = self._connected(address)
            connection.sendall(line)
            return self._answered(connection)
        except OSError:
            self._socket = None
            return False

    def _connected(self, address: str) -> socket.socket:
        if self._socket is None or self._pid != os.getpid():
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(TIMEOUT)
            connection.connect(address)
            self._socket, self._pid = connection, os.getpid()
        return self._socket

    def _answered(self, connection: socket.socket) -> bool:
        answers = b""
        while True:
            data = connection.recv(4096)
            if not data:
                self._socket = None
                return False
            *whole, answers = (answers + data).split(b"\n")
            if any(json.loads(line.decode()).get("ack") == self._count for line in whole):
                return True


_channel = _Channel()


def say(message: Mapping[str, Any]) -> bool:
    """
    Send a message, a dictionary as docs/protocol.md has it ("What a build says"). Return whether it has its place in
    the log. What this process has printed is flushed first. Never raises OSError. Raises TypeError or ValueError if the
    message has no JSON, or if its JSON is too long.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):  # there is none, or it is closed
            pass
    return _channel.say(message)


def _messages(kind: str, words: Sequence[str]) -> list[dict[str, Any]]:
    """Return the messages that these arguments make. Raises ValueError if they make none."""
    if kind == "group":
        (name,) = words
        return [{"type": "group", "name": name}]
    if kind == "progress":
        value, label = words if len(words) == 2 else (*words, "")
        return [{"type": "progress", "value": float(value), "label": label}]
    if kind == "annotation":
        level, message, file, line = (*words, *("", "0")[max(0, len(words) - 2) :])
        return [{"type": "annotation", "level": level, "message": message, "file": file, "line": int(line)}]
    if kind not in ("summary", "mask", "json") or len(words) > 1:
        raise ValueError(kind)
    text = words[0] if words else sys.stdin.read()
    if kind == "summary":
        return [{"type": "summary", "markdown": text}]
    if kind == "mask":
        return [{"type": "mask", "value": text.rstrip("\n")}]
    found = [json.loads(line) for line in text.splitlines() if line.strip()]
    if not all(isinstance(one, dict) for one in found):
        raise ValueError("a message is an object")
    return found


def main(arguments: Sequence[str]) -> int:
    """Run the command. Return its exit code."""
    try:
        for message in _messages(arguments[0], arguments[1:]):
            say(message)
    except (IndexError, ValueError) as error:
        sys.stderr.write(f"twistedipc-say: {error}\n{_USAGE}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
