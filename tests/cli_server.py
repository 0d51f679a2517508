"""A real HTTP server in a thread that answers as it is told to, for the tests of the command."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit


@dataclass
class Asked:
    """A request that came."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, object]:
        found = json.loads(self.body)
        assert isinstance(found, dict)
        return found


@dataclass
class Say:
    """
    An answer. With ``chunks`` it is chunked, and ``cut`` breaks the connection off behind them, ``silent`` says nothing
    more until the client has gone; ``hang_up`` closes it without any answer.
    """

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    chunks: list[bytes] | None = None
    cut: bool = False
    silent: bool = False
    hang_up: bool = False


def problem(status: int, detail: str, **more: object) -> Say:
    body = {"type": "about:blank", "title": "Title", "status": status, "detail": detail, **more}
    return Say(status, json.dumps(body).encode(), "application/problem+json")


def as_json(value: object, status: int = 200) -> Say:
    return Say(status, json.dumps(value).encode())


Answer = Say | Callable[[Asked], Say]


@dataclass
class Server:
    """A server with answers to "METHOD /path": each answer once, the last one for ever."""

    url: str
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def on(self, what: str, *answers: Answer) -> None:
        self.answers[what] = list(answers)

    def answer(self, asked: Asked) -> Say:
        self.asked.append(asked)
        left = self.answers.get(f"{asked.method} {asked.path}")
        if left is None:
            return problem(404, f"nothing is at {asked.path}")
        answer = left.pop(0) if len(left) > 1 else left[0]
        return answer if isinstance(answer, Say) else answer(asked)


@contextmanager
def serving() -> Iterator[Server]:
    """A server on a free port."""

    class Answering(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def respond(self) -> None:
            parts = urlsplit(self.path)
            size = int(self.headers.get("Content-Length", 0))
            say = server.answer(
                Asked(
                    self.command,
                    parts.path,
                    dict(parse_qsl(parts.query)),
                    {name.lower(): value for name, value in self.headers.items()},
                    self.rfile.read(size),
                )
            )
            self.close_connection = True
            if say.hang_up:
                return
            self.send_response(say.status)
            self.send_header("Content-Type", say.content_type)
            self.send_header("Connection", "close")
            if say.chunks is None:
                self.send_header("Content-Length", str(len(say.body)))
                self.end_headers()
                self.wfile.write(say.body)
                return
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for chunk in say.chunks:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
                self.wfile.flush()
            if say.silent:
                self.rfile.read(1)
            elif say.cut:
                self.connection.shutdown(socket.SHUT_RDWR)
            else:
                self.wfile.write(b"0\r\n\r\n")

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = respond

        def log_message(self, format: str, *args: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    listening.daemon_threads = True
    server = Server(f"http://127.0.0.1:{listening.server_address[1]}")
    thread = threading.Thread(target=lambda: listening.serve_forever(poll_interval=0.01))
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()
