"""A builder, by an apiserver that offers it a small build (docs/protocol.md, "Builder and apiserver")."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twistedipc.conform.cases import Subject, case
from twistedipc.conform.meeting import Meeting
from twistedipc.conform.wire import Failed, NotTried, shown

SECTION = "Builder and apiserver"

BUILDER: tuple[Subject, ...] = ("builder",)

#: How many times as long as for an answer a small build may take: a builder may bring tools first.
_LONG = 12

_CREDIT = 1 << 20

#: How large one message of a log may be, by which more than the credit is under way.
_MESSAGE = 100_000

_ATTEMPT = re.compile(r"[1-9][0-9]*-[1-9][0-9]*\Z")
_PHASES = ("accepted", "running", "ended")

#: How many lines a build says: some 350 KB of log.
_LINES = 8000

#: It says them, and waits where it is asked to: for its being cancelled.
_SCRIPT = f"""i=0
while [ $i -lt {_LINES} ]; do i=$((i+1)); echo "line $i of the conformance build"; done
if [ "$CONFORM_WAITS" ]; then sleep 300; fi
mkdir -p out && echo '<h1>conform</h1>' > out/index.html
"""


class Server:
    """An apiserver's end of a link to a builder."""

    def __init__(self, meeting: Meeting) -> None:
        self.linked = meeting.link()
        self.wire = self.linked.wire
        first = self.wire.next("call", skip=("ping", "pong"))
        self.sync = first["request"]
        self._sync_id = first["id"]
        if self.sync.get("type") != "sync":
            raise Failed(f"its first message isn't sync: {shown(self.sync)}")

    def order(self, *orders: dict[str, Any], credit: int = _CREDIT) -> None:
        """Answer the sync."""
        reply = {"type": "orders", "orders": list(orders), "credit": credit, "uploads": "http://127.0.0.1:9"}
        self.wire.send({"type": "reply", "id": self._sync_id, "reply": reply})

    def stop_all(self) -> None:
        """Answer the sync by having it stop what it holds, which is of cases before."""
        orders = (
            {"attempt": each["attempt"], "lease": each["lease"], "order": "stop"} for each in self.sync["attempts"]
        )
        self.order(*orders)

    def say(self, kind: str, about: Offer, **more: Any) -> None:
        """Send a message about an attempt."""
        self.wire.send({"type": kind, "attempt": about.attempt, "lease": about.lease, **more})

    def said(self, *types: str, within: float | None = None) -> dict[str, Any]:
        """Return the next message of one of these types. A builder may say ``status`` at any time."""
        skip = {"ping", "pong", "status", "started", "checked_out", "tools"} - set(types)
        while True:
            frame = self.wire.next(*types, "call", within=within or _LONG * self.wire.soon, skip=skip)
            if frame["type"] != "call":
                return frame
            self._answer(frame["id"], frame["request"])

    def _answer(self, number: int, request: dict[str, Any]) -> None:
        """Answer a call: an archive that it wants to upload is there already."""
        if request.get("type") == "want_upload":
            grant = {"type": "upload_grant", "path": "/conform", "token": "", "complete": True}
            self.wire.send({"type": "reply", "id": number, "reply": grant})
            return
        error = {"code": "refused", "message": "this is a conformance test"}
        self.wire.send({"type": "error", "id": number, **error})


class Offer:
    """An attempt that is offered."""

    def __init__(self, repository: Path, **more: Any) -> None:
        number = 1_000_000 + secrets.randbelow(1_000_000)
        self.attempt, self.lease = f"{number}-1", secrets.token_hex(16)
        self.frame: dict[str, Any] = {
            "type": "offer",
            "attempt": self.attempt,
            "lease": self.lease,
            "build": number,
            "project": "conform",
            "repository": str(repository),
            "ref": "main",
            "targets": [],
            "settings": {"install": "", "build": "sh build.sh"},
            "timeout": 600.0,
            "idle_timeout": 600.0,
            "expires": 15.0,
            **more,
        }


class Log:
    """What has come of a log: each record once, by its number."""

    def __init__(self) -> None:
        self.next = 1
        self.lines: list[Any] = []

    def take(self, frame: dict[str, Any]) -> int:
        """Take a ``log``; how many bytes its batches have. Raises `Failed` at a hole."""
        for batch in frame["batches"]:
            if batch["type"] != "lines" or batch["first"] < 1 or not batch["lines"]:
                raise Failed(f"a batch of its log isn't as it must be: {shown(batch)}")
            if batch["first"] > self.next:
                raise Failed(f"its log has a hole: record {batch['first']} comes where {self.next} must")
            self.lines += batch["lines"][self.next - batch["first"] :]
            self.next = max(self.next, batch["first"] + len(batch["lines"]))
        return sum(
            len(json.dumps(batch, separators=(",", ":"), ensure_ascii=False).encode()) for batch in frame["batches"]
        )

    @property
    def sha256(self) -> str:
        """The digest of all."""
        digest = hashlib.sha256()
        for record in self.lines:
            event = not isinstance(record, str)
            text = json.dumps(record, separators=(",", ":"), ensure_ascii=False) if event else record
            digest.update(text.encode() + b"\n")
        return digest.hexdigest()


def _with_repository(run: Callable[[Meeting, Path], None]) -> Callable[[Meeting], None]:
    """Give a case a repository that can be built."""

    def with_repository(meeting: Meeting) -> None:
        with tempfile.TemporaryDirectory(prefix="conform-") as folder:
            where = Path(meeting.about.options.get("folder") or folder) / f"repository-{secrets.token_hex(4)}"
            where.mkdir(mode=0o755, parents=True)
            Path(folder).chmod(0o755)
            (where / "build.sh").write_text(_SCRIPT)
            identity = ["-c", "user.name=conform", "-c", "user.email=conform@example.org"]
            for words in (["init", "-q", "-b", "main"], ["add", "-A"], [*identity, "commit", "-q", "-m", "conform"]):
                done = subprocess.run(["git", *words], cwd=where, capture_output=True, text=True, check=False)
                if done.returncode:
                    raise NotTried(f"git {words[0]} fails here: {done.stderr.strip()[:200]}")
            run(meeting, where)

    with_repository.__name__ = run.__name__
    return with_repository


def _accepted(meeting: Meeting, repository: Path, **more: Any) -> tuple[Server, Offer]:
    server = Server(meeting)
    server.stop_all()
    offer = Offer(repository, **more)
    server.wire.send(offer.frame)
    answer = server.said("accept", "decline")
    if answer["type"] == "decline":
        raise NotTried(f"it declines the build: {str(answer.get('reason'))[:200]}")
    if (answer.get("attempt"), answer.get("lease")) != (offer.attempt, offer.lease):
        raise Failed(f"it accepts what it wasn't offered: {shown(answer)}")
    return server, offer


def _to_its_end(server: Server, log: Log, *, acknowledge: bool = True) -> dict[str, Any]:
    """Take its log up to the ``final``."""
    while (frame := server.said("log", "final"))["type"] == "log":
        log.take(frame)
        if acknowledge:
            server.wire.send({"type": "ack", "attempt": frame["attempt"], "next": log.next})
    return frame


def _check_final(final: dict[str, Any], log: Log, outcome: str) -> None:
    result = final["result"]
    said = (result.get("outcome"), result.get("lines"), result.get("sha256"))
    right = (outcome, log.next - 1, log.sha256)
    if said != right:
        raise Failed(f"its result has (outcome, lines, sha256) {said}, and it is {right}")


@case("7.1", SECTION, "the first message on a new link: all attempts that it holds", of=BUILDER)
def its_sync(meeting: Meeting) -> None:
    server = Server(meeting)
    sync = server.sync
    if not isinstance(sync.get("slots"), int) or sync["slots"] < 0 or not isinstance(sync.get("attempts"), list):
        raise Failed(f"its sync has no slots or no attempts: {shown(sync)}")
    for each in sync["attempts"]:
        if not _ATTEMPT.match(each["attempt"]) or each["phase"] not in _PHASES or each["next"] < 1:
            raise Failed(f"an attempt in its sync isn't as it must be: {shown(each)}")
    server.wire.quiet()  # before its sync is answered it says nothing else
    server.stop_all()
    server.linked.lives()


@case("7.2", SECTION, "A builder declines an offer with a target that it doesn't know.", of=BUILDER)
def a_target_that_it_does_not_know(meeting: Meeting) -> None:
    server = Server(meeting)
    server.stop_all()
    offer = Offer(Path("/nowhere"), targets=[{"type": "conform-nobody"}])
    server.wire.send(offer.frame)
    answer = server.said("accept", "decline")
    if answer["type"] != "decline" or answer.get("lease") != offer.lease or not answer.get("reason"):
        raise Failed(f"it says {shown(answer)} to an offer with a target that nobody has")


@case("7.3", SECTION, "A message whose fields are wrong is refused, and ends\n   alone.", of=BUILDER)
def a_message_with_wrong_fields(meeting: Meeting) -> None:
    server = Server(meeting)
    server.stop_all()
    server.wire.send({"type": "ack", "attempt": 7, "next": "one"})
    frame = server.said("error", within=server.wire.soon)
    if frame.get("code") != "bad-message" or "id" in frame:
        raise Failed(f"it says {shown(frame)} to a message with wrong fields")
    server.linked.lives()


@case("7.4", SECTION, "about a lease that isn't valid any", of=BUILDER)
def messages_about_a_lease_that_it_does_not_have(meeting: Meeting) -> None:
    server = Server(meeting)
    server.stop_all()
    nobody = Offer(Path("/nowhere"))
    for kind in ("go", "stop", "final_ack"):
        server.say(kind, nobody)
    server.wire.send({"type": "ack", "attempt": nobody.attempt, "next": 1})
    server.linked.lives()


@case("7.5", SECTION, "Records are numbered at capture and never again.", of=BUILDER)
@_with_repository
def a_build_from_its_offer_to_its_end(meeting: Meeting, repository: Path) -> None:
    server, offer = _accepted(meeting, repository)
    server.wire.quiet("started", "log", "final")  # it starts when it is told to
    server.say("go", offer)
    log = Log()
    final = _to_its_end(server, log)
    _check_final(final, log, "succeeded")
    if sum(isinstance(line, str) and "of the conformance build" in line for line in log.lines) != _LINES:
        raise Failed("its log doesn't have what the build has printed")
    begun = [each["index"] for each in log.lines if isinstance(each, dict) and each["type"] == "step_started"]
    if not begun or begun != list(range(len(begun))):
        raise Failed(f"its steps have the numbers {begun}")
    server.say("final_ack", offer)
    server.wire.quiet("log", "final")
    server.linked.lives()


@case("7.6", SECTION, "Told `go` twice, it starts once.", of=BUILDER)
@_with_repository
def go_twice(meeting: Meeting, repository: Path) -> None:
    server, offer = _accepted(meeting, repository)
    server.say("go", offer)
    server.say("go", offer)
    log = Log()
    final = _to_its_end(server, log)
    _check_final(final, log, "succeeded")
    server.wire.quiet("log", "final")
    if sum(line == "line 1 of the conformance build" for line in log.lines) != 1:
        raise Failed("it has built twice")
    server.say("final_ack", offer)


@case("7.7", SECTION, "bytes of unacknowledged records (of the batches' JSON)", of=BUILDER)
@_with_repository
def no_more_than_its_credit(meeting: Meeting, repository: Path) -> None:
    server = Server(meeting)
    orders = [{"attempt": each["attempt"], "lease": each["lease"], "order": "stop"} for each in server.sync["attempts"]]
    credit = 100_000
    server.order(*orders, credit=credit)
    offer = Offer(repository)
    server.wire.send(offer.frame)
    if server.said("accept", "decline")["type"] == "decline":
        raise NotTried("it declines the build")
    server.say("go", offer)
    log, under_way = Log(), 0
    deadline = time.monotonic() + _LONG * server.wire.soon
    while time.monotonic() < deadline:
        try:
            # Of a busy machine the first may be late; behind it comes what the credit allows.
            frame = server.said("log", "final", within=None if log.next == 1 else 0.4 * server.wire.soon)
        except Failed:
            break  # it waits
        if frame["type"] == "final":
            raise Failed(f"it sends all of its log, with a credit of {credit} bytes")
        under_way += log.take(frame)
    if under_way > credit + _MESSAGE:
        raise Failed(f"it has {under_way} bytes under way, and a credit of {credit}")
    if log.next < 2:
        raise Failed("it sends nothing although it has credit")
    server.wire.send({"type": "ack", "attempt": offer.attempt, "next": log.next})
    _check_final(_to_its_end(server, log), log, "succeeded")
    server.say("final_ack", offer)


@case("7.8", SECTION, "records are missing: send again from `next`, and the `final` again", of=BUILDER)
@_with_repository
def it_sends_again_what_is_missing(meeting: Meeting, repository: Path) -> None:
    server, offer = _accepted(meeting, repository)
    server.say("go", offer)
    _to_its_end(server, Log(), acknowledge=False)
    server.wire.send({"type": "resend", "attempt": offer.attempt, "next": 1})
    log = Log()
    _check_final(_to_its_end(server, log), log, "succeeded")
    server.say("final_ack", offer)


@case("7.9", SECTION, "it sends again after the next sync, from `next` on", of=BUILDER)
@_with_repository
def it_goes_on_over_another_link(meeting: Meeting, repository: Path) -> None:
    server, offer = _accepted(meeting, repository)
    server.say("go", offer)
    log = Log()
    log.take(server.said("log"))
    server.wire.close()
    server = Server(meeting)
    mine = [
        each for each in server.sync["attempts"] if (each["attempt"], each["lease"]) == (offer.attempt, offer.lease)
    ]
    if len(mine) != 1 or mine[0]["phase"] == "accepted":
        raise Failed(f"its sync doesn't have the attempt that runs: {shown(server.sync)}")
    server.order({"attempt": offer.attempt, "lease": offer.lease, "order": "continue", "next": 1})
    log = Log()
    _check_final(_to_its_end(server, log), log, "succeeded")
    # The end was not acknowledged: it comes again on the next link, and then is forgotten.
    server.wire.close()
    server = Server(meeting)
    if [each["phase"] for each in server.sync["attempts"] if each["attempt"] == offer.attempt] != ["ended"]:
        raise Failed(f"its sync doesn't have the attempt that has ended: {shown(server.sync)}")
    server.order({"attempt": offer.attempt, "lease": offer.lease, "order": "continue", "next": log.next})
    server.said("final")
    server.say("final_ack", offer)
    server.linked.lives()
    server.wire.close()
    server = Server(meeting)
    if any(each["attempt"] == offer.attempt for each in server.sync["attempts"]):
        raise Failed("its sync has an attempt whose end was acknowledged")
    server.stop_all()


@case("7.10", SECTION, "the attempt is to end; the end comes as a `final`, as always", of=BUILDER)
@_with_repository
def a_build_that_is_cancelled(meeting: Meeting, repository: Path) -> None:
    server, offer = _accepted(meeting, repository, parameters={"CONFORM_WAITS": "1"})
    server.say("go", offer)
    log = Log()
    while log.next < 500:
        log.take(server.said("log"))
    server.say("cancel", offer, reason="the case is over")
    _check_final(_to_its_end(server, log), log, "cancelled")
    server.say("final_ack", offer)


@case("7.11", SECTION, "kill what runs of the attempt, and forget it", of=BUILDER)
@_with_repository
def a_build_that_is_stopped(meeting: Meeting, repository: Path) -> None:
    server, offer = _accepted(meeting, repository, parameters={"CONFORM_WAITS": "1"})
    server.say("go", offer)
    server.said("log")
    server.say("stop", offer)
    server.linked.lives()
    # Nothing answers a stop: only a sync shows whether the builder has forgotten the attempt, once all is killed.
    deadline = time.monotonic() + 2 * server.wire.soon
    forgotten = False
    while not forgotten:
        late = time.monotonic() > deadline
        server.wire.close()
        server = Server(meeting)
        forgotten = all(each["attempt"] != offer.attempt for each in server.sync["attempts"])
        if late and not forgotten:
            raise Failed("its sync has an attempt that it was to forget")
    server.stop_all()
