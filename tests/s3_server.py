"""
S3 for tests: moto's server, in a thread of this process, once for all tests; and a server in front of it that does what
a network and an overloaded S3 do.
"""

from __future__ import annotations

import http.client
import itertools
import logging
import threading
from collections.abc import Callable
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

from twistedipc.s3.bucket import Bucket, Place

_numbers = itertools.count(1)


@cache
def _server() -> tuple[str, int]:
    """Start moto's server, whose threads end with the process. Return its host and port."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    return host, port


def new_place(prefix: str = "") -> Place:
    """Make a bucket, and return where it is."""
    host, port = _server()
    name, endpoint = f"bucket-{next(_numbers)}", f"http://{host}:{port}"
    keys = {"aws_access_key_id": "tests", "aws_secret_access_key": "s3cret", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=endpoint, **keys).create_bucket(Bucket=name)
    return Place(name, endpoint=endpoint, prefix=prefix, access_key="tests", secret_key="s3cret")


#: What becomes of a request: it is given to the server (None), answered with a status, or with a body that ends early
#: ("half"), never ("stalls"), or that is another one ("other").
Fault = int | str | None


class Between:
    """A server between a client and S3: `fault` is asked for each request, by its method and path."""

    def __init__(self, place: Place) -> None:
        self.fault: Callable[[str, str], Fault] = lambda method, path: None
        self.asked: list[str] = []
        self.freed = threading.Event()  # what stalls goes on
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                outer._handle(self)

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._to = place.endpoint.removeprefix("http://")
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.place = Place(
            place.bucket,
            endpoint=f"http://127.0.0.1:{self._server.server_address[1]}",
            prefix=place.prefix,
            access_key=place.access_key,
            secret_key=place.secret_key,
        )

    def close(self) -> None:
        self.freed.set()
        self._server.shutdown()
        self._server.server_close()

    def bucket(self, tries: int = 2, read: float = 5.0) -> Bucket:
        return Bucket(self.place, connect=2.0, read=read, tries=tries)

    def _handle(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        self.asked.append(request.command)
        fault = self.fault(request.command, request.path)
        if fault == "stalls":
            self.freed.wait(30)
            request.close_connection = True
            return
        if isinstance(fault, int):
            names = {403: "AccessDenied", 404: "NoSuchBucket", 500: "InternalError", 503: "ServiceUnavailable"}
            said = f"<Error><Code>{names[fault]}</Code><Message>as the test wants it</Message></Error>".encode()
            request.send_response(fault)
            request.send_header("Content-Length", str(len(said)))
            request.end_headers()
            request.wfile.write(said)
            return
        asked = http.client.HTTPConnection(self._to)
        asked.request(request.command, request.path, body, dict(request.headers.items()))
        answer = asked.getresponse()
        data = answer.read()
        request.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "content-length", "date", "server", "transfer-encoding"):
                request.send_header(name, value)
        size = answer.getheader("Content-Length") if request.command == "HEAD" else str(len(data))
        request.send_header("Content-Length", size or "0")
        request.end_headers()
        if fault == "half":
            data, request.close_connection = data[: len(data) // 2], True
        elif fault == "other":
            data = bytes(len(data))
        request.wfile.write(data)
        asked.close()
