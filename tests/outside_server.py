"""A service of ``outside`` behind a port of 127.0.0.1, for apiservers that are processes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.outside import Service
from twistedipc.outgoing.exchange import Request


class OutsideServer:
    """
    Serves a service whose address begins with ``base``, as it would at a port of its own.

    :ivar before: called with each request before it is answered, and ``after`` once the answer is sent
    """

    def __init__(self, service: Service, base: str) -> None:
        self.service = service
        self.base = base
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None
        self._lock = threading.Lock()  # a service is asked one thing at a time
        handler = type("Handler", (_Handler,), {"served": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    served: OutsideServer

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        """Answer any request."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = Request(method=self.command, url=self.served.base + self.path, headers=dict(self.headers), body=body)
        with self.served._lock:
            self.served.before()
            answer = self.served.service.answer(request)
        try:
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)
        except OSError:
            pass  # the apiserver is gone
        self.served.after()

    do_GET = do_PUT = do_PATCH = do_POST
