"""One connection to what is tried: lines out, frames in, with a deadline for each wait. Used by all cases."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any

#: Seconds for an answer that should come at once, unless the caller has more patience, or less.
SOON = 5.0

#: Seconds in which what mustn't come would have come.
QUIET = 0.4

#: What an end may say at any time, of itself: a case that waits for something else skips it.
OWN = ("ping", "pong", "call", "offer", "status")

#: The longest line that is read.
_LIMIT = 8 << 20


class Failed(Exception):
    """What is tried does otherwise than the document says. ``str()`` of it is a sentence about what it did."""


class NotTried(Exception):
    """The case can't be tried here. ``str()`` of it says why."""


def line_of(frame: Any) -> bytes:
    """Return a frame as it is sent."""
    return json.dumps(frame, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


class Wire:
    """A connection. What isn't a frame is `Failed`, whatever the case is about."""

    def __init__(self, connection: socket.socket, soon: float = SOON) -> None:
        self._socket = connection
        self.soon = soon
        self._buffer = b""
        self.closed = False  # the other end has closed it
        self.bye: dict[str, Any] | None = None
        self.pongs = False  # pings are answered, as long as somebody reads

    def send(self, *frames: Any) -> None:
        """Send frames, all in one piece."""
        self.send_bytes(b"".join(map(line_of, frames)))

    def send_bytes(self, data: bytes) -> None:
        """Send bytes. That the other end has closed meanwhile is seen by who reads."""
        self._socket.settimeout(30.0)
        with contextlib.suppress(OSError):
            self._socket.sendall(data)

    def finish_sending(self) -> None:
        """Shut the sending side down."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def frame(self, within: float | None = None) -> dict[str, Any] | None:
        """Return the next frame; None if none comes within these seconds, or the connection is closed."""
        within = self.soon if within is None else within
        deadline = time.monotonic() + within
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if self.closed or left <= 0:
                return None
            self._socket.settimeout(left)
            try:
                data = self._socket.recv(1 << 16)
            except TimeoutError:
                return None
            except OSError:
                data = b""
            self.closed = not data
            self._buffer += data
            if len(self._buffer) > _LIMIT:
                raise Failed("it sends a line of more than 8 MiB")
        line, _, self._buffer = self._buffer.partition(b"\n")
        frame = _decoded(line)
        if frame["type"] == "bye":
            self.bye = frame
        if frame["type"] == "ping" and self.pongs:
            self.send({"type": "pong"})
        return frame

    def next(self, *types: str, within: float | None = None, skip: Iterable[str] = OWN) -> dict[str, Any]:
        """Return the next frame, which must be of one of these types; those of ``skip`` don't count."""
        within = self.soon if within is None else within
        deadline = time.monotonic() + within
        while True:
            frame = self.frame(max(0.0, deadline - time.monotonic()))
            if frame is None:
                wanted = " or ".join(types)
                how = "closes the connection" if self.closed else f"is silent for {within:g} s"
                raise Failed(f"it {how} where {wanted} must come")
            if frame["type"] in types:
                return frame
            if frame["type"] not in skip:
                raise Failed(f"it says {shown(frame)} where {' or '.join(types)} must come")

    def until(self, wanted: Callable[[dict[str, Any]], bool], what: str, within: float | None = None) -> dict[str, Any]:
        """Return the first frame that is wanted; others before it don't matter."""
        within = self.soon if within is None else within
        deadline = time.monotonic() + within
        while (frame := self.frame(max(0.0, deadline - time.monotonic()))) is not None:
            if wanted(frame):
                return frame
            if frame["type"] == "bye":
                break
        how = f"says {shown(self.bye)}" if self.bye else "closes the connection" if self.closed else "doesn't"
        raise Failed(f"it {how} within {within:g} s where {what}")

    def ends(self, *codes: str, within: float | None = None) -> None:
        """The connection must end, by a ``bye`` with one of these codes if there is any."""
        self.until(lambda frame: frame["type"] == "bye", f"it must say bye ({' or '.join(codes)})", within)
        assert self.bye is not None
        if codes and self.bye.get("code") not in codes:
            raise Failed(f"it says {shown(self.bye)}, and the code must be {' or '.join(codes)}")
        self.frame(within)
        if not self.closed:
            raise Failed("it doesn't close the connection behind its bye")

    def quiet(self, *types: str) -> None:
        """No frame of these types (of any, without) may come just now; heartbeats don't count."""
        deadline = time.monotonic() + QUIET
        while (frame := self.frame(max(0.0, deadline - time.monotonic()))) is not None:
            if frame["type"] in types or (not types and frame["type"] not in ("ping", "pong")):
                raise Failed(f"it says {shown(frame)} where nothing may come")

    def close(self) -> None:
        """Close this end."""
        with contextlib.suppress(OSError):
            self._socket.close()


def _decoded(line: bytes) -> dict[str, Any]:
    try:
        frame = json.loads(line.decode(), parse_constant=_no_constant)
        json.dumps(frame, ensure_ascii=False).encode()  # half of a surrogate pair can't be, nor be printed
    except (ValueError, RecursionError) as error:
        raise Failed(f"it sends a line that is no JSON in UTF-8 ({error}): {line[:100]!r}") from error
    if not isinstance(frame, dict) or not isinstance(frame.get("type"), str):
        raise Failed(f"it sends a line that is no object with a type: {line[:100]!r}")
    return frame


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def shown(frame: object) -> str:
    """Return a frame as a sentence can have it."""
    text = json.dumps(frame, ensure_ascii=False)
    return text if len(text) <= 160 else f"{text[:159]}…"
