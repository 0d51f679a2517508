"""
HTTP to an apiserver, with the standard library. Used by the commands.

Every wait has a deadline and every answer a largest size. Any error is a `Failure` with the exit code that scripts
expect, in the words of the server's problem report if there is one.
"""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import IO, Final, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from twistedipc import __version__
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.web.http.problems import Problem

_T = TypeVar("_T")

Query = Mapping[str, str | int | None]

MAX_ANSWER = 64 << 20

#: The longest message of a followed log, in bytes; batches are far below it (`builds.logs.MAX_BATCH_BYTES`).
MAX_MESSAGE = 16 << 20

#: Seconds that a followed log may be silent before it is asked for again. The server sends a sign of life every 15
#: (docs/protocol.md), so the connection is dead, or the server is too old to send them.
SILENCE = 60.0

#: The same of a file: the server may have to put it together first.
FILE_SILENCE = 330.0

#: Pauses between attempts at a request that may be repeated, in seconds.
PAUSES: Final = (0.5, 1.0, 2.0)


class Unreachable(Failure):
    """The server can't be reached, broke off, or can't answer now. Trying again may help."""

    def __init__(self, message: str) -> None:
        super().__init__(ExitCode.UNAVAILABLE, message)


class Silent(Unreachable):
    """Nothing more of an answer came for `SILENCE` seconds."""


class AsksBack(Failure):
    """The server does this only if the caller says that it is meant."""

    def __init__(self, message: str) -> None:
        super().__init__(ExitCode.USAGE, message)


@dataclass(frozen=True)
class Answer:
    """The body of a successful answer."""

    body: bytes

    def decode(self, kind: type[_T]) -> _T:
        """Return the body as a ``kind``. Raises `Failure` if it isn't one."""
        try:
            return msgspec.json.decode(self.body, type=kind)
        except msgspec.DecodeError as error:
            raise Failure(ExitCode.UNAVAILABLE, f"the server's answer isn't understood: {error}") from error


def path(*parts: str | int) -> str:
    """Return a path of the API, each part escaped: ``path("projects", name)`` is "/api/v1/projects/NAME"."""
    return "/".join(["/api/v1", *(quote(str(part), safe="") for part in parts)])


class Client:
    """One apiserver, and the token that is sent to it."""

    def __init__(
        self, url: str, token: str, *, timeout: float = 30.0, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        parts = urlsplit(url)
        try:
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
            raise Failure(ExitCode.USAGE, f"{url!r} isn't the address of a server, such as http://127.0.0.1:8080")
        if not token.isascii() or not token.isprintable() or " " in token:
            raise Failure(ExitCode.USAGE, "a token has no spaces, newlines or letters beyond ASCII")
        self.url = url.rstrip("/")
        self.sleep = sleep
        self._secure = parts.scheme == "https"
        self._host = host
        self._port = port
        self._prefix = parts.path.rstrip("/")
        self.token = token
        self.expires = ""  # when the token does, once an answer has said that this is soon
        self.answered = ""  # when the server has answered last, by its own clock, as HTTP has it
        self._timeout = timeout

    def get(self, where: str, query: Query | None = None) -> Answer:
        """``GET``."""
        return self._request("GET", where, query, None, {})

    def post(self, where: str, body: msgspec.Struct | None = None, query: Query | None = None) -> Answer:
        """``POST``."""
        return self._request("POST", where, query, body, {})

    def post_once(self, where: str, body: msgspec.Struct, key: str) -> Answer:
        """``POST`` with an Idempotency-Key: if the answer gets lost, the request is repeated, and takes effect once."""
        headers = {"Idempotency-Key": key}
        for pause in PAUSES:
            try:
                return self._request("POST", where, None, body, headers)
            except Unreachable:
                self.sleep(pause)
        return self._request("POST", where, None, body, headers)

    def put(self, where: str, body: msgspec.Struct | None = None) -> Answer:
        """``PUT``."""
        return self._request("PUT", where, None, body, {})

    def patch(self, where: str, body: msgspec.Struct) -> Answer:
        """``PATCH``."""
        return self._request("PATCH", where, None, body, {})

    def delete(self, where: str, query: Query | None = None) -> Answer:
        """``DELETE``."""
        return self._request("DELETE", where, query, None, {})

    def stream(self, where: str, query: Query) -> Iterator[bytes]:
        """
        Yield the lines of an answer whose length the server decides, without their newlines. Raises `Unreachable` if
        it breaks off within a line, and `Silent` if nothing comes for `SILENCE`.
        """
        connection, response = self._open("GET", where, query, None, {}, timeout=SILENCE)
        with closing(connection), closing(response):
            while True:
                try:
                    line = response.readline(MAX_MESSAGE)
                except TimeoutError as error:
                    raise Silent(f"the server at {self.url} has said nothing for {SILENCE:.0f} s") from error
                except (OSError, http.client.HTTPException) as error:
                    raise self._unreachable(error) from error
                if not line:
                    return
                if not line.endswith(b"\n"):
                    raise Unreachable(f"the server at {self.url} broke off in the middle of a message")
                yield line[:-1]

    def save(self, where: str, query: Query, into: IO[bytes]) -> int:
        """``GET`` a file, write it, and return its size. Raises `Unreachable` if it breaks off, and OSError."""
        connection, response = self._open("GET", where, query, None, {}, timeout=FILE_SILENCE)
        written = 0
        with closing(connection), closing(response):
            while True:
                try:
                    block = response.read(1 << 20)
                except (OSError, http.client.HTTPException) as error:
                    raise self._unreachable(error) from error
                if not block:
                    break
                written += into.write(block)
            if response.length:
                raise Unreachable(f"the server at {self.url} broke off {response.length} bytes before the end")
        return written

    def _request(
        self, method: str, where: str, query: Query | None, body: msgspec.Struct | None, headers: Mapping[str, str]
    ) -> Answer:
        connection, response = self._open(method, where, query, body, headers, timeout=self._timeout)
        with closing(connection), closing(response):
            return Answer(self._read(response))

    def _open(
        self,
        method: str,
        where: str,
        query: Query | None,
        body: msgspec.Struct | None,
        headers: Mapping[str, str],
        *,
        timeout: float,
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """
        Send a request, and return the connection and the beginning of the response. Raises `Failure` unless it is a
        success.
        """
        connection: http.client.HTTPConnection
        if self._secure:
            connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=timeout, context=ssl.create_default_context()
            )
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout)
        sent = {"Accept": "application/json", "User-Agent": f"twistedipc/{__version__}", **headers}
        if self.token:
            sent["Authorization"] = f"Bearer {self.token}"
        content: bytes | None = None
        if body is not None:
            content = msgspec.json.encode(body)
            sent["Content-Type"] = "application/json"
        given = {name: value for name, value in (query or {}).items() if value is not None}
        target = self._prefix + where + ("?" + urlencode(given) if given else "")
        try:
            connection.request(method, target, content, sent)
            response = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._unreachable(error) from error
        self.answered = response.getheader("Date") or self.answered
        if 200 <= response.status < 300:
            self.expires = response.getheader("Token-Expires") or self.expires
            return connection, response
        with closing(connection), closing(response):
            raise self._failure(response.status, self._read(response))

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        try:
            body = response.read(MAX_ANSWER + 1)
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error
        if len(body) > MAX_ANSWER:
            raise Failure(ExitCode.UNAVAILABLE, f"the server's answer has more than {MAX_ANSWER} bytes")
        return body

    def _unreachable(self, error: Exception) -> Unreachable:
        if isinstance(error, TimeoutError):
            reason = "it doesn't answer"
        elif isinstance(error, OSError):
            reason = error.strerror or str(error)
        else:
            reason = f"it broke off ({type(error).__name__})"
        return Unreachable(f"can't reach the server at {self.url}: {reason}")

    def _failure(self, status: int, body: bytes) -> Failure:
        """Return the error that an unsuccessful answer means."""
        name = ""
        try:
            problem = msgspec.json.decode(body, type=Problem)
            message, name = problem.detail or problem.title, problem.type.rpartition(":")[2]
            # The detail may contain the errors already.
            message += "".join(f"\n  {one}" for one in problem.errors if one not in message)
        except msgspec.DecodeError:
            message = f"the server at {self.url} answered {status} {http.client.responses.get(status, '')}".rstrip()
        if status in (401, 403):
            hint = "" if self.token else " (sign in with `twistedipc login`, or give --token or TWISTEDIPC_TOKEN)"
            return Failure(ExitCode.NOT_ALLOWED, message + hint)
        if status == 404:
            return Failure(ExitCode.NOT_FOUND, message)
        if status == 429 or status >= 500:
            return Unreachable(message)
        if status == 409 and name == "confirm":
            return AsksBack(message)
        if status < 400:
            return Failure(ExitCode.USAGE, f"{message}: is {self.url} the right address?")
        return Failure(ExitCode.USAGE, message)
