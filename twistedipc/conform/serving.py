"""An apiserver, by a builder that runs nothing (docs/protocol.md, "Builder and apiserver", "Uploads")."""

from __future__ import annotations

import hashlib
import http.client
import secrets
import time
from typing import Any
from urllib.parse import urlsplit

from twistedipc.conform.cases import Subject, case
from twistedipc.conform.meeting import Meeting
from twistedipc.conform.wire import Failed, NotTried, shown

SECTION, UPLOADS = "Builder and apiserver", "Uploads"

APISERVER: tuple[Subject, ...] = ("apiserver",)


class Builder:
    """A builder's end of a link, synced."""

    def __init__(self, meeting: Meeting, *held: dict[str, Any], slots: int = 1) -> None:
        self.linked = meeting.link()
        self.wire = self.linked.wire
        self._sync = {"type": "sync", "slots": slots, "attempts": list(held), "version": "conform"}
        self._sync["features"] = ["caches", "settings", "protected", "environments"]
        self.orders = self.ask(self._sync)
        if self.orders.get("type") != "orders":
            raise Failed(f"it answers the sync by {shown(self.orders)}")

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the reply to a call, or the error."""
        answer = self.linked.answered(self.linked.call(request), 4 * self.wire.soon)
        return dict(answer["reply"]) if answer["type"] == "reply" else answer

    def again(self) -> dict[str, Any]:
        """Sync a second time."""
        return self.ask(self._sync)

    def offered(self, meeting: Meeting) -> dict[str, str]:
        """Accept the next offer; whose it is."""
        wait = float(meeting.about.options.get("wait") or 5.0)
        deadline = time.monotonic() + wait
        while (frame := self.wire.frame(max(0.0, deadline - time.monotonic()))) is not None:
            if frame["type"] == "offer":
                about = {"attempt": frame["attempt"], "lease": frame["lease"]}
                self.wire.send({"type": "accept", **about})
                self.until("go", about)
                self.wire.send({"type": "started", **about, "time": int(time.time() * 1000)})
                return about
        raise NotTried(f"it offers no build within {wait:.0f} s: ask it for some, and say how long to wait by --wait")

    def until(self, kind: str, about: dict[str, str], within: float | None = None) -> dict[str, Any]:
        """Return the next message of a type about this attempt."""
        mine = about["attempt"]
        return self.wire.until(
            lambda frame: frame["type"] == kind and frame.get("attempt") == mine,
            f"{kind} of {mine} must come",
            within or 4 * self.wire.soon,
        )

    def log(self, about: dict[str, str], first: int, *records: Any) -> None:
        """Send records."""
        batch = {"type": "lines", "first": first, "time": int(time.time() * 1000), "step": 0, "lines": list(records)}
        self.wire.send({"type": "log", **about, "batches": [batch]})

    def fail(self, about: dict[str, str], lines: int, sha256: str) -> None:
        """End the attempt, as failed."""
        now = int(time.time() * 1000)
        result = {"outcome": "failed", "lines": lines, "sha256": sha256, "started": now, "ended": now}
        result["reason"] = "a conformance test, which builds nothing"
        self.wire.send({"type": "final", **about, "result": result})
        self.until("final_ack", about)


def _nobody() -> dict[str, str]:
    return {"attempt": f"{9_000_000 + secrets.randbelow(1_000_000)}-1", "lease": secrets.token_hex(16)}


@case("8.1", SECTION, "the answer to `sync`: one order for each attempt", of=APISERVER)
def its_orders(meeting: Meeting) -> None:
    orders = Builder(meeting).orders
    if orders.get("orders") != [] or not isinstance(orders.get("credit"), int) or orders["credit"] <= 0:
        raise Failed(f"its orders aren't as they must be: {shown(orders)}")
    if urlsplit(str(orders.get("uploads"))).scheme not in ("http", "https"):
        raise Failed(f"its address for uploads is none: {orders.get('uploads')!r}")


@case("8.2", SECTION, "`stop`: the lease is not valid: kill the attempt, then forget it", of=APISERVER)
def an_attempt_that_it_does_not_know(meeting: Meeting) -> None:
    held = [{**_nobody(), "phase": phase, "next": 7} for phase in ("accepted", "running", "ended")]
    found = Builder(meeting, *held).orders["orders"]
    said = {(each["attempt"], each["lease"]): each["order"] for each in found}
    if said != {(each["attempt"], each["lease"]): "stop" for each in held}:
        raise Failed(f"it orders {shown(found)} of attempts that it never granted")


@case("8.3", SECTION, "this link has synced already", of=APISERVER)
def a_second_sync(meeting: Meeting) -> None:
    builder = Builder(meeting)
    answer = builder.again()
    if answer.get("code") != "synced":
        raise Failed(f"it answers a second sync by {shown(answer)}")
    builder.linked.lives()


@case("8.4", SECTION, "more is answered by `stop`", of=APISERVER)
def messages_about_a_lease_that_is_not_valid(meeting: Meeting) -> None:
    builder, about = Builder(meeting), _nobody()
    builder.log(about, 1, "hello")
    builder.until("stop", about)
    about = _nobody()
    builder.wire.send({"type": "accept", **about})
    builder.until("stop", about)
    builder.linked.lives()


@case("8.5", SECTION, "the lease is not valid (any more); a `stop` comes too", of=APISERVER)
def calls_about_a_lease_that_is_not_valid(meeting: Meeting) -> None:
    builder = Builder(meeting)
    for request in (
        {"type": "want_upload", "size": 100, "sha256": "a" * 64},
        {"type": "want_contents"},
        {"type": "want_secrets", "repository": "x", "uses": ["steps"]},
    ):
        answer = builder.ask({**request, **_nobody()})
        if answer.get("code") != "void":
            raise Failed(f"it answers {request['type']} under no lease by {shown(answer)}")


@case("8.6", SECTION, "A message whose fields are wrong is refused, and ends\n   alone.", of=APISERVER)
def a_builders_message_with_wrong_fields(meeting: Meeting) -> None:
    builder = Builder(meeting)
    builder.wire.send({"type": "accept", "attempt": 7, "lease": []})
    frame = builder.wire.next("error")
    if frame.get("code") != "bad-message" or "id" in frame:
        raise Failed(f"it says {shown(frame)} to a message with wrong fields")
    builder.linked.lives()


@case("8.7", SECTION, "the same peer has linked again", of=APISERVER, end="listens")
def the_same_builder_again(meeting: Meeting) -> None:
    older = Builder(meeting)
    newer = Builder(meeting)
    older.wire.ends("superseded")
    newer.linked.lives()


@case("8.8", UPLOADS, "the token isn't valid (any more)", of=APISERVER)
def an_upload_without_a_token(meeting: Meeting) -> None:
    uploads = Builder(meeting).orders["uploads"]
    for headers in ({}, {"Authorization": "Bearer tipu_conform"}):
        status, _ = _asked(uploads, "HEAD", f"/api/v1/uploads/{_nobody()['attempt']}", headers)
        if status != 401:
            raise Failed(f"it answers {status} to an upload without a token, and not 401")


@case(
    "8.9",
    SECTION,
    "The apiserver drops what it\n   has by its number, and answers a hole with `resend`, once.",
    of=APISERVER,
)
def the_log_of_an_attempt(meeting: Meeting) -> None:
    builder = Builder(meeting)
    about = builder.offered(meeting)
    builder.log(about, 1, "one", "two")
    if builder.until("ack", about)["next"] != 3:
        raise Failed("it doesn't acknowledge the two records that it has")
    builder.log(about, 6, "six")
    if (again := builder.until("resend", about))["next"] != 3:
        raise Failed(f"it says {shown(again)} where the records from 3 on are missing")
    builder.log(about, 7, "seven")
    builder.wire.quiet("resend")  # it has said so once
    builder.log(about, 2, "two", "three", "four", "five")
    builder.log(about, 6, "six")
    while (ack := builder.until("ack", about))["next"] < 7:
        pass
    if ack["next"] != 7:
        raise Failed(f"it acknowledges the records below {ack['next']}, and those below 7 were sent")
    lines = ["one", "two", "three", "four", "five", "six"]
    builder.fail(about, 6, hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest())
    builder.wire.quiet("resend")


@case("8.10", UPLOADS, "Broken off, an upload goes on from what `HEAD` says.", of=APISERVER)
def the_upload_of_an_attempt(meeting: Meeting) -> None:
    builder = Builder(meeting)
    about = builder.offered(meeting)
    uploads = builder.orders["uploads"]
    data = secrets.token_bytes(300_000)
    want = {"type": "want_upload", **about, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    if (answer := builder.ask({**want, "sha256": "no digits"})).get("code") != "refused":
        raise Failed(f"it answers want_upload with an impossible SHA-256 by {shown(answer)}")
    grant = builder.ask(want)
    if grant.get("type") != "upload_grant" or grant.get("complete"):
        raise Failed(f"it answers want_upload by {shown(grant)}")
    path, head = grant["path"], {"Authorization": f"Bearer {grant['token']}"}

    def put(offset: int, part: bytes, status: int, have: int | None) -> None:
        found, said = _asked(uploads, "PUT", path, {**head, "Upload-Offset": str(offset)}, part)
        if found != status or (have is not None and said != have):
            raise Failed(
                f"it answers {found} with Upload-Offset {said} to a part at {offset}, and not {status} with {have}"
            )

    if _asked(uploads, "HEAD", path, head) != (204, 0):
        raise Failed("it doesn't answer 204 with Upload-Offset 0 where nothing has arrived")
    put(0, data[:100_000], 204, 100_000)
    if _asked(uploads, "HEAD", path, head) != (204, 100_000):
        raise Failed("it doesn't say by HEAD what has arrived")
    put(5, data[5:], 409, 100_000)
    put(100_000, bytes(200_000), 422, None)
    if _asked(uploads, "HEAD", path, head) != (204, 0):
        raise Failed("it keeps an archive whose SHA-256 was wrong")
    put(0, data, 204, len(data))
    if _asked(uploads, "HEAD", path, head)[0] != 401:
        raise Failed("the token is valid behind the last byte")
    if not builder.ask(want).get("complete"):
        raise Failed("it doesn't say that it has the archive already")
    builder.fail(about, 0, hashlib.sha256().hexdigest())


def _asked(uploads: str, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> tuple[int, int | None]:
    """Return the status of an answer, and its Upload-Offset."""
    parts = urlsplit(uploads)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=20.0)
    try:
        connection.connect()
    except OSError as error:
        connection.close()
        raise NotTried(f"{uploads} can't be reached: {error}") from error
    try:
        connection.request(method, parts.path.rstrip("/") + path, body=body or None, headers=headers)
        answer = connection.getresponse()
        answer.read()
        offset = answer.getheader("Upload-Offset")
        return answer.status, None if offset is None else int(offset)
    except (OSError, http.client.HTTPException) as error:
        raise Failed(f"it doesn't answer {method} {path}: {type(error).__name__} {error}") from error
    finally:
        connection.close()
