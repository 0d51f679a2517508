"""The tests' registry by HTTP: to real npm it is a registry too."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.registry.faults import Fault, Faults
from tests.registry.state import Account, Packument, Refused, Staged, State, names_in, wants_otp

#: Seconds that a busy registry asks for.
AFTER = 1


@dataclass(frozen=True)
class Asked:
    """A request, as it arrived."""

    method: str
    path: str
    headers: dict[str, str]  # names in small letters
    body: bytes

    @property
    def document(self) -> Any:
        """Its body, as JSON."""
        return json.loads(self.body)


class _Cut(Exception):
    """The connection ends without an answer."""


class Registry(ThreadingHTTPServer):
    """A registry. What it has is in ``state``; what goes wrong, in ``faults``; and all requests are in ``asked``."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, faults: Faults | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.state = State(address=self.url)
        self.faults = faults or Faults()
        self.asked: list[Asked] = []
        #: headers of every answer, "npm-notice" for one
        self.headers: dict[str, str] = {}

    @property
    def url(self) -> str:
        """The registry's address."""
        return f"http://127.0.0.1:{self.server_address[1]}/"

    @property
    def packages(self) -> dict[str, Packument]:
        """What there is of each package."""
        return self.state.packages

    @property
    def uploads(self) -> list[Asked]:
        """The requests that upload a package, whatever came of them."""
        return [asked for asked in self.asked if asked.body.startswith(b"{") and b'"_attachments":{' in asked.body]

    @property
    def uploaded(self) -> list[str]:
        """The packages of these requests, in their order."""
        return [asked.document["name"] for asked in self.uploads]

    def names_in(self, name: str, version: str) -> list[str]:
        """Return the names in the tarball of a version."""
        return names_in(self.state.contents[f"{name}/-/{name.rpartition('/')[2]}-{version}.tgz"])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that were killed."""


class _Answers(BaseHTTPRequestHandler):
    server: Registry
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        self._serve()

    do_PUT = do_POST = do_DELETE = do_GET

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = Asked(self.command, self.path, {name.lower(): value for name, value in self.headers.items()}, body)
        self.server.asked.append(asked)
        try:
            self._answered(asked)
        except _Cut:
            self.close_connection = True
        except Refused as refused:
            self._send(refused.status, json.dumps(refused.body).encode(), refused.headers)

    def _answered(self, asked: Asked) -> None:
        request = _Request(self.server, asked)
        what, act = request.act()
        fault = self.server.faults.choose(what)
        match fault:
            case Fault.CUT_BEFORE:
                raise _Cut
            case Fault.FAIL_BEFORE:
                raise Refused(503, "Service Unavailable")
            case Fault.BUSY:
                raise Refused(429, "Too many requests", {"Retry-After": str(AFTER)})
            case Fault.REFUSE_OTP:
                raise wants_otp()
            case Fault.PAGE:
                self._send(502, b"<html><title>Bad Gateway</title></html>", {"Content-Type": "text/html"})
                return
        status, found = act(fault)
        if fault is Fault.CUT_AFTER:
            raise _Cut
        if fault is Fault.FAIL_AFTER:
            raise Refused(500, "Internal Server Error")
        data = found if isinstance(found, bytes) else json.dumps(found).encode()
        self._send(status, data, {}, cut=fault is Fault.CUT_IN_ANSWER)

    def _send(self, status: int, data: bytes, headers: dict[str, str], *, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **self.server.headers, **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        self.close_connection = self.close_connection or cut

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


Act = Callable[[Fault | None], tuple[int, object]]


class _Request:
    """A request, understood."""

    def __init__(self, server: Registry, asked: Asked) -> None:
        self._state, self._faults, self._asked = server.state, server.faults, asked
        parts = urlsplit(asked.path)
        self._path = unquote(parts.path.strip("/"))
        self._query = {name: values[-1] for name, values in parse_qs(parts.query).items()}

    def act(self) -> tuple[str, Act]:
        """Return what it does, as `Change` calls it, and how that is done. Raises `Refused`."""
        for method, pattern, what, act in self._routes():
            if method == self._asked.method and (match := re.fullmatch(pattern, self._path)):
                return what(self) if callable(what) else what, self._bound(act, match.groups())
        raise Refused(404, "no such address")

    def _bound(self, act: Any, found: Sequence[str]) -> Act:
        return lambda fault: act(self, fault, *found)

    def _routes(self) -> list[tuple[str, str, Any, Any]]:
        return _STAGE_ROUTES + _ROUTES if self._state.has_stages else _ROUTES

    # -- who asks

    @property
    def _account(self) -> Account:
        return self._state.account(self._asked.headers.get("authorization"))

    def _check_otp(self) -> None:
        self._state.check_otp(self._asked.headers.get("npm-otp"))

    # -- what is asked

    def read(self, fault: Fault | None, name: str) -> tuple[int, object]:
        if self._state.private:
            _ = self._account
        found = self._state.seen(name)
        if found is None:
            raise Refused(404, "document not found")
        return 200, found

    def read_version(self, fault: Fault | None, name: str, version: str) -> tuple[int, object]:
        _, found = self.read(fault, name)
        assert isinstance(found, dict)
        if version not in found["versions"]:
            raise Refused(404, f"version not found: {version}")
        return 200, found["versions"][version]

    def read_tarball(self, fault: Fault | None, path: str) -> tuple[int, object]:
        if self._state.private:
            _ = self._account
        if path not in self._state.contents:
            raise Refused(404, "file not found")
        return 200, self._state.contents[path]

    def search(self, fault: Fault | None) -> tuple[int, object]:
        text = self._query.get("text", "").lower()
        found = [name for name in self._state.snapshot if text in name.lower()]
        return 200, {"objects": [{"package": {"name": name}} for name in found], "total": len(found)}

    def read_tags(self, fault: Fault | None, name: str) -> tuple[int, object]:
        _, found = self.read(fault, name)
        assert isinstance(found, dict)
        return 200, found["dist-tags"]

    def put(self, fault: Fault | None, name: str) -> tuple[int, object]:
        account, document = self._account, self._asked.document
        if account.otp_to_publish:
            self._check_otp()
        if "_attachments" in document:
            keep_tag = fault is not Fault.LOSE_TAG
            self._state.publish(name, document, account, self._faults.lagging(), keep_tag=keep_tag)
        else:
            self._state.change(name, document, account.name, self._faults.lagging())
        return 201, {"ok": True, "success": True}

    def set_tag(self, fault: Fault | None, name: str, tag: str) -> tuple[int, object]:
        account = self._account
        if account.otp_to_tag:
            self._check_otp()
        self._state.set_tag(name, tag, self._asked.document, account.name, self._faults.lagging())
        return 201, {"ok": True}

    def remove_tag(self, fault: Fault | None, name: str, tag: str) -> tuple[int, object]:
        account = self._account
        if account.otp_to_tag:
            self._check_otp()
        self._state.remove_tag(name, tag, account.name, self._faults.lagging())
        return 200, {"ok": True}

    def stage(self, fault: Fault | None, name: str) -> tuple[int, object]:
        return 201, {"stageId": self._state.stage(name, self._asked.document, self._account).id}

    def list_stages(self, fault: Fault | None) -> tuple[int, object]:
        _ = self._account
        page, size = int(self._query.get("page", 0)), int(self._query.get("perPage", 20))
        wanted = self._query.get("package")
        with self._state.lock:
            found = [_described(each) for each in self._state.stages.values() if wanted in (None, each.name)]
        return 200, {"items": found[page * size : (page + 1) * size], "total": len(found)}

    def view_stage(self, fault: Fault | None, stage_id: str) -> tuple[int, object]:
        _ = self._account
        return 200, _described(self._state.staged(stage_id))

    def stage_tarball(self, fault: Fault | None, stage_id: str) -> tuple[int, object]:
        _ = self._account
        staged = self._state.staged(stage_id)
        data = staged.document["_attachments"][f"{staged.name}-{staged.version}.tgz"]["data"]
        return 200, base64.b64decode(data)

    def approve(self, fault: Fault | None, stage_id: str) -> tuple[int, object]:
        account = self._account
        self._check_otp()
        if fault is Fault.SOMEBODY_ELSE:
            self._state.approve(stage_id, "somebody else", self._faults.lagging())
        if fault is Fault.SOMEBODY_REJECTS:
            self._state.reject(stage_id, "somebody else")
        keep_tag = fault is not Fault.LOSE_TAG
        self._state.approve(stage_id, account.name, self._faults.lagging(), keep_tag=keep_tag)
        return 200, {"ok": True}

    def reject(self, fault: Fault | None, stage_id: str) -> tuple[int, object]:
        account = self._account
        self._check_otp()
        self._state.reject(stage_id, account.name)
        return 200, {"ok": True}

    def exchange(self, fault: Fault | None, name: str) -> tuple[int, object]:
        id_token = self._asked.headers.get("authorization", "").removeprefix("Bearer ")
        return 201, {"token": self._state.exchange(id_token, name), **self._state.exchanged_says}

    def list_tokens(self, fault: Fault | None) -> tuple[int, object]:
        _ = self._account
        listed = [
            {
                "token": f"{token[:8]}...{token[-4:]}",
                "expiry": account.expires,
                "bypass_2fa": not account.otp_to_publish,
            }
            for token, account in self._state.accounts.items()
            if account.expires
        ]
        return 200, {"objects": listed, "urls": {}}

    def _what_put(self) -> str:
        return "publish" if b'"_attachments"' in self._asked.body else "deprecate"


def _described(staged: Staged) -> dict[str, object]:
    """A stage, in the words that npm shows of it."""
    dist = staged.document["versions"][staged.version]["dist"]
    return {
        "id": staged.id,
        "packageName": staged.name,
        "version": staged.version,
        "tag": staged.tag,
        "createdAt": "2026-11-29T08:00:00.000Z",
        "actor": staged.by,
        "actorType": "user",
        "shasum": dist["shasum"],
    }


_NAME = r"((?:@[^/]+/)?[^/@-][^/]*)"
_STAGE_ROUTES: list[tuple[str, str, Any, Any]] = [
    ("POST", rf"-/stage/package/{_NAME}", "stage", _Request.stage),
    ("GET", r"-/stage", "read", _Request.list_stages),
    ("GET", r"-/stage/([^/]+)", "read", _Request.view_stage),
    ("GET", r"-/stage/([^/]+)/tarball", "read", _Request.stage_tarball),
    ("POST", r"-/stage/([^/]+)/approve", "approve", _Request.approve),
    ("DELETE", r"-/stage/([^/]+)", "reject", _Request.reject),
]
_ROUTES: list[tuple[str, str, Any, Any]] = [
    ("GET", rf"-/package/{_NAME}/dist-tags", "read", _Request.read_tags),
    ("GET", r"-/npm/v1/tokens", "read", _Request.list_tokens),
    ("GET", r"-/v1/search", "read", _Request.search),
    ("POST", rf"-/npm/v1/oidc/token/exchange/package/{_NAME}", "exchange", _Request.exchange),
    ("PUT", rf"-/package/{_NAME}/dist-tags/([^/]+)", "tag", _Request.set_tag),
    ("DELETE", rf"-/package/{_NAME}/dist-tags/([^/]+)", "untag", _Request.remove_tag),
    ("GET", _NAME, "read", _Request.read),
    ("PUT", _NAME, _Request._what_put, _Request.put),
    ("GET", rf"{_NAME}/(\d[^/]*)", "read", _Request.read_version),
    ("GET", r"(.+/-/.+\.tgz)", "read", _Request.read_tarball),
]


@contextmanager
def running(faults: Faults | None = None) -> Iterator[Registry]:
    """A registry, while it is needed."""
    server = Registry(faults)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
