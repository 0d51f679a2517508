"""
A small end of a link (either one), a plain server, a builder and an apiserver that do one thing wrong when they are
asked to: for the tests of ``twistedipc.conform``, each of whose cases must be able to fail. Blocking, in threads.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.conform_introduced import Introduced, Replies, WrongFrame
from twistedipc.conform.codes import HELLO, WELCOME, Key, agreed, code, of_welcome

LIMIT = 1 << 20
KEY = Key(bytes(range(32)))
LONE = re.compile(r"[\ud800-\udfff]")


class Ends(Exception):
    """The link is to end, by this code."""


class End:
    """
    One connection of an end. ``fault`` is what it does wrong; "" is nothing.

    :param memory: what outlives a connection
    """

    role, peer = "tried-server", "tried-client"
    beside = ""  # where it has several services, and its own isn't the first: another one

    def __init__(self, connection: socket.socket, fault: str, memory: dict[str, Any]) -> None:
        self.socket = connection
        self.fault = fault
        self.memory = memory
        self.ready = False
        self.buffer = b""
        self.refused: set[str] = set()
        self.waits: set[str] = set()
        self.heartbeat = 0.2
        self.socket.settimeout(10.0)

    def run(self, dials: bool) -> None:
        """Serve the connection to its end."""
        with contextlib.suppress(OSError), self.socket:
            try:
                (self.greet if dials else self.challenge)()
                self.ready = True
                self.begin()
                self.serve()
            except Ends as end:
                words = str(end).split()
                if self.fault == "wrong codes":
                    words[0] = "closed"
                if self.fault != "no bye":
                    self.send({"type": "bye", "code": words[0], "reason": "wrong"})
                if self.fault == "stays":
                    time.sleep(8)

    def send(self, frame: dict[str, Any]) -> None:
        self.socket.sendall(json.dumps(frame, ensure_ascii=False).encode() + b"\n")

    def say(self, frame: dict[str, Any]) -> None:
        """The application sends this."""
        self.send(frame)

    # -- lines

    def line(self) -> bytes:
        most = LIMIT if self.ready else 4096
        if self.fault == "longer lines":
            most = 1 << 30
        if self.fault == "shorter lines" and self.ready:
            most = 500_000
        begun = time.monotonic()
        while b"\n" not in self.buffer:
            if len(self.buffer) > most:
                raise Ends("frame-too-long")
            if not self.ready:
                left = (30.0 if self.fault == "waits" else 10.0) - (time.monotonic() - begun)
                if left <= 0:
                    raise Ends("handshake-timeout")
                self.socket.settimeout(left)
            try:
                data = self.socket.recv(1 << 16)
            except TimeoutError:
                if not self.ready:
                    raise Ends("handshake-timeout") from None
                self.silent()
                continue
            if not data:
                raise OSError
            self.quiet = 0
            self.buffer += data
            if self.fault == "one frame a piece" and self.buffer.count(b"\n") > 1:
                self.buffer = self.buffer[: self.buffer.index(b"\n") + 1]
            if self.fault == "whole pieces" and b"\n" not in self.buffer and self.ready:
                self.buffer = b""
        line, _, self.buffer = self.buffer.partition(b"\n")
        if len(line) > most:
            raise Ends("frame-too-long")
        return line

    quiet = 0

    def silent(self) -> None:
        """Nothing has come for a heartbeat."""
        self.quiet += 1
        if self.quiet > 3 and self.fault != "immortal":
            raise Ends("silent")
        if self.fault != "no pings":
            self.send({"type": "ping"})

    def frame(self) -> dict[str, Any]:
        bad = "bad-message" if self.ready else "bad-handshake"
        line = self.line()
        if self.fault == "no carriage returns" and line.endswith(b"\r"):
            raise Ends(bad)
        if not self.ready and line[:1] != b"{" and self.fault != "anything first":
            raise Ends(bad)
        lenient = self.fault.partition("takes ")[2]
        try:
            frame = _decoded(line, lenient)
        except RecursionError:
            if self.fault == "dies of nesting":
                self.memory["die"]()
                raise OSError from None
            raise Ends(bad) from None
        except ValueError:
            if not line and lenient == "nothing":
                return self.frame()
            if not self.ready and self.fault == "anything first":
                return self.frame()
            raise Ends(bad) from None
        if not isinstance(frame, dict) or not isinstance(frame.get("type"), str):
            if lenient == "everything":
                return {"type": "pong"}
            raise Ends(bad)
        if self.fault == "no unknown fields" and "newer" in frame:
            raise Ends(bad)
        return frame

    # -- the handshake

    def challenge(self) -> None:
        fault = self.fault
        nonce = "a" * 64 if fault == "same nonce" else secrets.token_hex(32)
        challenge: dict[str, Any] = {
            "type": "challenge",
            "versions": [1],
            "role": self.role,
            "name": "wrong",
            "nonce": nonce,
        }
        challenge |= {"frame_limit": LIMIT, "keys": True, "features": ["interface"]}
        challenge |= self.services()
        self.send(challenge)
        hello = self.frame()
        self.check_service(challenge, hello)
        if hello["type"] != "hello":
            if fault == "any frame first":
                hello = self.frame()
            raise Ends("bad-handshake")
        if hello.get("version") != 1 and fault != "any version":
            raise Ends("version")
        if fault == "role first" and hello["role"] != self.peer:
            raise Ends("refused")
        if hello.get("keys") and hello["keys"][0]["id"] == "conform-unknown" and fault == "names unknown keys":
            raise Ends("refused")
        fields = agreed(challenge, hello)
        right = {code(KEY, HELLO, fields)}
        if fault == "services unproven":
            said = {name: value for name, value in hello.items() if name != "service"}
            all_said = [said, *({**said, "service": each["role"]} for each in challenge["services"])]
            right |= {code(KEY, HELLO, agreed(challenge, each)) for each in all_said}
        if fault == "takes both labels":
            right.add(code(KEY, WELCOME, fields))
        if fault == "takes old codes":
            right |= self.memory.setdefault("codes", set())
        if fault == "takes other names":
            right.add(code(KEY, HELLO, agreed(challenge, {**hello, "name": "conform"})))
        others = {"takes other keys": len(hello["mac"]) == 64, "takes no code": not hello["mac"]}
        if hello["mac"] not in right and not others.get(fault, False):
            raise Ends("unauthorized")
        self.memory.setdefault("codes", set()).add(hello["mac"])
        if hello["role"] != self.peer and fault != "any role":
            raise Ends("refused")
        welcome = {"type": "welcome", "incarnation": "x", "heartbeat": 5 if fault == "short heartbeat" else 200}
        mac = code(KEY, HELLO if fault == "one label" else WELCOME, of_welcome(fields, welcome))
        self.send({**welcome, "mac": mac})
        self.heartbeat = 0.2
        self.introduce(challenge, hello)

    def services(self) -> dict[str, Any]:
        """What the challenge says of several services."""
        if not self.beside:
            return {}
        own = {"role": self.role, "frame_limit": LIMIT, "keys": True, "features": ["interface"]}
        services = [{"role": self.beside, "frame_limit": 4096}, own]
        return {"role": "tried-first", "services": services * (2 if self.fault == "services twice" else 1)}

    def check_service(self, challenge: dict[str, Any], hello: dict[str, Any]) -> None:
        if "service" not in hello:
            return
        if hello["service"] not in [each["role"] for each in challenge.get("services", ())]:
            raise Ends("bad-handshake" if self.fault == "services of any name" else "refused")
        if self.fault == "services never":
            raise Ends("refused")

    def greet(self) -> None:
        fault = self.fault
        challenge = self.frame()
        if challenge["type"] != "challenge":
            raise Ends("closed" if fault == "any frame first" else "bad-handshake")
        if 1 not in challenge["versions"] and fault != "any version":
            raise Ends("version")
        wanted = self.wanted(challenge)
        nonce = "a" * 64 if fault == "same nonce" else secrets.token_hex(32)
        hello: dict[str, Any] = {"type": "hello", "version": 1, "role": self.role, "name": "wrong", "nonce": nonce}
        hello["incarnation"] = "x"
        if wanted != challenge["role"]:
            hello["service"] = wanted
        if "frame_limit" in challenge:
            hello["frame_limit"] = LIMIT
        elif fault == "limits unasked":
            hello["frame_limit"] = LIMIT
            challenge["frame_limit"] = LIMIT
        if "features" in challenge:
            hello["features"] = ["interface"]
        said = {name: value for name, value in hello.items() if name != "service" or fault != "services unproven"}
        self.send({**hello, "mac": code(KEY, HELLO, agreed(challenge, said))})
        welcome = self.frame()
        fields = of_welcome(agreed(challenge, hello), welcome)
        right = {code(KEY, WELCOME, fields)}
        if fault == "takes both labels":
            right |= {code(KEY, HELLO, fields), code(KEY, HELLO, agreed(challenge, hello))}
        if welcome["mac"] not in right and fault != "takes no code":
            raise Ends("unauthorized")
        self.heartbeat = welcome["heartbeat"] / 1000
        self.introduce(hello, challenge)

    def wanted(self, challenge: dict[str, Any]) -> str:
        """The role of the service that it asks for."""
        if any(each["role"] == self.peer for each in challenge.get("services", ())):
            return self.peer
        if challenge["role"] != self.peer and self.fault not in ("any role", "services of any name"):
            raise Ends("refused")
        return str(challenge["role"])

    def introduce(self, own: dict[str, Any], other: dict[str, Any]) -> None:
        """Say what it takes, and hear it of the other end, if both have the feature; and end the handshake."""
        self.replies = Replies(self.fault, other.get("frame_limit", LIMIT))
        features = other.get("features", [])
        if self.fault == "ends on features" and any(each.startswith("conform") for each in features):
            raise Ends("bad-handshake")
        if "interface" not in features or "interface" not in own.get("features", []):
            return
        introduced = Introduced(self.fault)
        for frame in introduced.frames:
            self.send(frame)
        done = self.fault == "ready at once"
        while not done:
            frame = self.frame()
            if frame["type"] != "link-interface":
                raise Ends("bad-handshake")
            try:
                done = introduced.heard(frame)
            except WrongFrame:
                raise Ends("bad-handshake") from None

    # -- when it is ready

    def begin(self) -> None:
        """It is ready now."""
        self.socket.settimeout(self.heartbeat)

    def serve(self) -> None:
        while True:
            frame = self.frame()
            if frame["type"] == "bye":
                if self.fault == "hears on":
                    continue
                return
            self.received(frame)

    def received(self, frame: dict[str, Any]) -> None:
        kind, number = frame["type"], frame.get("id")
        if kind == "ping":
            if self.fault != "no pongs":
                self.send({"type": "pong"})
        elif kind == "pong":
            if self.fault == "no pong unasked" and not self.quiet:
                raise Ends("bad-message")
        elif kind in ("call", "call-more", "drop", "reply"):
            self.about_call(kind, number, frame)
        elif kind == "error":
            if "id" in frame:
                self.answered(frame["id"], frame)
            elif self.fault == "answers errors":
                raise Ends("bad-message")
        elif kind in ("hello", "challenge", "welcome"):
            if self.fault != "a second hello":
                raise Ends("bad-message")
        elif not self.took(frame) and self.fault != "silent about messages":
            self.send({"type": "error", "code": "unknown-type", "message": kind})

    def about_call(self, kind: str, number: Any, frame: dict[str, Any]) -> None:
        if not isinstance(number, int) or number < 1:
            if self.fault == "any id":
                return
            raise Ends("bad-message")
        if kind == "reply":
            self.answered(number, frame)
        elif kind == "call":
            request = frame.get("request")
            if not self.reply(lambda: self.replies.called(number, request, frame.get("credit", 0))):
                self.called(number, request)
        elif kind == "call-more":
            self.reply(lambda: self.replies.more(number, frame.get("credit")))
        elif not self.replies.drop(number) and self.fault == "no late drops":
            raise Ends("bad-message")

    def reply(self, work: Callable[[], list[dict[str, Any]] | None]) -> bool:
        """Send what is answered. Return whether the call is known."""
        try:
            said = work()
        except WrongFrame:
            raise Ends("bad-message") from None
        for frame in said or ():
            self.send(frame)
        return said is not None

    def called(self, number: int, request: Any) -> None:
        if self.fault == "first key" and number == 1:
            number = 7
        known = isinstance(request, dict) and isinstance(request.get("type"), str)
        if not known and self.fault == "ends on bad requests":
            raise Ends("bad-message")
        if known and self.fault == "silent about calls":
            return
        self.send({"type": "error", "id": number, "code": "unknown-type" if known else "bad-request", "message": "no"})

    def answered(self, number: int, frame: dict[str, Any]) -> None:
        if self.fault != "any answer":
            raise Ends("bad-message")

    def took(self, frame: dict[str, Any]) -> bool:
        """Streams; others know more. Return whether it is known."""
        kind, run = frame["type"], str(frame.get("id"))
        if not kind.startswith("stream-"):
            return False
        runs: dict[str, int] = self.memory.setdefault("runs", {})
        opening = 0 if self.fault == "no openings" else frame.get("opening", 0)
        if kind == "stream-open":
            if frame["stream"] != "lines":
                if self.fault == "ends on streams":
                    raise Ends("bad-message")
                self.refused.add(run)
                self.send({"type": "stream-refused", "id": run, "code": "stream", "message": "", "opening": opening})
            else:
                if self.fault == "forgets streams":
                    runs.clear()
                position = runs.setdefault(run, 5 if self.fault == "begins at 5" else 1)
                self.send({"type": "stream-position", "id": run, "next": position, "credit": 1000, "opening": opening})
        elif kind == "stream-close":
            if run in self.refused and self.fault == "no close of refused ones":
                raise Ends("bad-message")
        elif kind == "stream-items":
            if frame["first"] > runs[run] and self.fault != "takes holes":
                if run not in self.waits:
                    self.send({"type": "stream-position", "id": run, "next": runs[run], "credit": 1000})
                    self.waits.add(run)
                return True
            end = frame["first"] + len(frame["items"])
            runs[run] = runs[run] + len(frame["items"]) if self.fault == "counts twice" else max(runs[run], end)
            self.send({"type": "stream-ack", "id": run, "next": runs[run]})
        return True


def _decoded(line: bytes, lenient: str) -> Any:
    """Read a line; what is taken that is none."""
    if lenient == "two objects":
        return json.JSONDecoder().raw_decode(line.decode())[0]
    text = line.decode("utf-8", "replace" if lenient == "bytes" else "strict")
    if lenient == "marks":
        text = text.removeprefix("\ufeff")
    frame = json.loads(text, strict=lenient != "controls", parse_constant=_constant(lenient == "NaN"))
    if LONE.search(json.dumps(frame, ensure_ascii=False)) and lenient != "surrogates":
        raise ValueError
    return frame


def _constant(allowed: bool) -> Callable[[str], object]:
    def constant(name: str) -> object:
        if allowed:
            return 0.0
        raise ValueError(name)

    return constant


class Plain:
    """A server of plain lines."""

    def __init__(self, connection: socket.socket, fault: str, memory: dict[str, Any]) -> None:
        self.socket = connection
        self.fault = fault

    def run(self, dials: bool) -> None:
        """Serve the connection to its end."""
        fault = self.fault
        with contextlib.suppress(OSError), self.socket:
            if fault == "speaks first":
                self.say({"type": "challenge"})
            buffer = b""
            while True:
                data = self.socket.recv(1 << 16)
                if not data:
                    return
                if fault == "one frame a piece" and data.count(b"\n") > 1:
                    data = data[: data.index(b"\n") + 1]
                if fault == "forgets at the end" and data.count(b"\n") > 1:
                    return
                buffer += data
                if len(buffer) > LIMIT and b"\n" not in buffer[: LIMIT + 1] and fault != "longer lines":
                    self.say({"type": "bye", "code": "frame-too-long", "reason": ""})
                    return
                while b"\n" in buffer:
                    line, _, buffer = buffer.partition(b"\n")
                    if not self.line(line):
                        return

    def say(self, frame: dict[str, Any]) -> None:
        self.socket.sendall(json.dumps(frame).encode() + b"\n")

    def line(self, line: bytes) -> bool:
        fault = self.fault
        try:
            frame = json.loads(line.decode())
            if not isinstance(frame, dict) or not isinstance(frame.get("type"), str):
                raise ValueError
        except (ValueError, RecursionError) as error:
            if fault == "takes everything" or (fault == "silent about nesting" and isinstance(error, RecursionError)):
                return True
            self.say({"type": "bye", "code": "bad-message", "reason": ""})
            return False
        given = {"id": frame["id"]} if "id" in frame else {}
        number = frame.get("id", 0)
        fine = (isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 2**53) or (
            isinstance(number, str) and len(number) <= 64
        )
        if not fine:
            if fault == "ends on ids":
                return False
            self.say({"type": "error", "code": "bad-request", "message": ""})
            return True
        if frame["type"] == "ping" and fault == "answers pings":
            self.say({"type": "pong"})
            return True
        if fault == "ids of numbers" and isinstance(number, str):
            given = {}
        if fault == "ids of its own" and not given:
            given = {"id": 1}
        self.say({"type": "error", **given, "code": "unknown-type", "message": ""})
        return True


class Builder(End):
    """A builder, whose builds say 8000 lines and nothing is run."""

    role, peer = "builder", "apiserver"

    def begin(self) -> None:
        super().begin()
        self.held: dict[tuple[str, str], dict[str, Any]] = self.memory.setdefault("held", {})
        self.credit, self.synced, self.asked = 0, False, 1
        attempts = [
            {"attempt": a, "lease": b, "phase": "ended" if each["ended"] else "running", "next": len(each["log"]) + 1}
            for (a, b), each in self.held.items()
        ]
        if self.fault == "lists nothing":
            attempts = []
        if self.fault == "says status first":
            self.send({"type": "status", "slots": 1})
        slots: object = "two" if self.fault == "slots of words" else 2
        self.send({"type": "call", "id": 1, "request": {"type": "sync", "slots": slots, "attempts": attempts}})
        if self.fault == "says more before its orders":
            self.send({"type": "status", "slots": 1})

    def answered(self, number: int, frame: dict[str, Any]) -> None:
        if number != 1 or self.synced:
            return super().answered(number, frame)
        self.synced, self.credit = True, frame["reply"]["credit"]
        for order in frame["reply"]["orders"]:
            about = (order["attempt"], order["lease"])
            if order["order"] == "stop" and self.fault != "never stops":
                self.held.pop(about, None)
            elif about in self.held:
                self.rewind(about, order["next"])
        return None

    def rewind(self, about: tuple[str, str], first: int) -> None:
        self.held[about].update(sent=first - 1, acked=first - 1, said=False)
        self.forward(about)

    def forward(self, about: tuple[str, str]) -> None:
        held = self.held[about]
        attempt = {"attempt": about[0], "lease": about[1]}
        while held["sent"] < len(held["log"]):
            size = 45 * (held["sent"] - held["acked"])
            if size and size + 100 * 60 > self.credit and self.fault != "no credit":
                return
            first = held["sent"] + 1
            lines = held["log"][held["sent"] : held["sent"] + 100]
            held["sent"] += len(lines)
            if self.fault == "holes" and first > 1:
                first += 1
            batch = {"type": "lines", "first": first, "time": 1, "step": 0, "lines": lines}
            self.send({"type": "log", **attempt, "batches": [batch]})
        if held["ended"] and not held["said"]:
            held["said"] = True
            digest = hashlib.sha256()
            for record in held["log"]:
                text = record if isinstance(record, str) else json.dumps(record, separators=(",", ":"))
                digest.update(text.encode() + (b"" if self.fault == "another digest" else b"\n"))
            outcome = "succeeded" if self.fault == "always succeeds" else held["ended"]
            result = {
                "outcome": outcome,
                "lines": len(held["log"]),
                "sha256": digest.hexdigest(),
                "started": 1,
                "ended": 2,
            }
            self.send({"type": "final", **attempt, "result": result})

    def took(self, frame: dict[str, Any]) -> bool:
        kind, fault = frame["type"], self.fault
        if kind not in ("offer", "go", "stop", "cancel", "ack", "resend", "final_ack"):
            return False
        if not isinstance(frame["attempt"], str):
            if fault == "ends on wrong fields":
                raise Ends("bad-message")
            self.send({"type": "error", "code": "bad-message", "message": kind})
            return True
        about = (frame["attempt"], frame.get("lease", ""))
        if kind == "offer":
            self.offered(about, frame)
            return True
        if kind in ("ack", "resend"):
            about = next((each for each in self.held if each[0] == frame["attempt"]), ("", ""))
        if about in self.held:
            self.told(kind, about, frame)
        elif fault == "ends on unknown leases":
            raise Ends("bad-message")
        return True

    def offered(self, about: tuple[str, str], frame: dict[str, Any]) -> None:
        attempt = {"attempt": about[0], "lease": about[1]}
        if frame["targets"] and self.fault != "takes any target":
            self.send({"type": "decline", **attempt, "reason": "an unknown target"})
            return
        ended = None if frame.get("parameters") else "succeeded"
        self.held[about] = {"log": [], "ended": None, "then": ended, "sent": 0, "acked": 0, "said": False}
        self.send({"type": "accept", **attempt})
        if self.fault == "starts at once":
            self.go(about)

    def told(self, kind: str, about: tuple[str, str], frame: dict[str, Any]) -> None:
        held, fault = self.held[about], self.fault
        if kind == "go" and (not held["log"] or fault == "starts twice"):
            self.go(about)
        elif kind == "ack":
            held["acked"] = frame["next"] - 1
            self.forward(about)
        elif kind == "resend" and fault != "never resends":
            self.rewind(about, frame["next"])
        elif kind == "cancel" and fault != "never cancels":
            held["ended"] = held["ended"] or "cancelled"
            self.forward(about)
        elif kind in ("stop", "final_ack") and fault != "never stops":
            if kind == "final_ack" and fault == "says the end again":
                self.rewind(about, len(held["log"]) + 1)
            del self.held[about]

    def go(self, about: tuple[str, str]) -> None:
        held = self.held[about]
        index = 1 if self.fault == "steps from 1" else 0
        held["log"] += [{"type": "step_started", "index": index, "name": "build", "command": "x"}]
        held["log"] += [f"line {number} of the conformance build" for number in range(1, 8001)]
        held["ended"] = held["then"]
        self.forward(about)


class Apiserver(End):
    """An apiserver with builds to offer, each of which is over with its ``final``."""

    role, peer = "apiserver", "builder"

    def begin(self) -> None:
        super().begin()
        self.synced = False
        self.log: dict[str, Any] = {}
        before = self.memory.get("link")
        self.memory["link"] = self
        if before is not None and self.fault != "two of a name":
            with contextlib.suppress(OSError):
                before.send({"type": "bye", "code": "superseded", "reason": ""})
                before.socket.shutdown(socket.SHUT_RDWR)

    def called(self, number: int, request: Any) -> None:
        fault, kind = self.fault, request.get("type") if isinstance(request, dict) else None
        if kind == "sync":
            if self.synced and fault != "syncs twice":
                self.send({"type": "error", "id": number, "code": "synced", "message": ""})
                return
            self.synced = True
            order = "continue" if fault == "continues anything" else "stop"
            orders = [{"attempt": e["attempt"], "lease": e["lease"], "order": order} for e in request["attempts"]]
            credit = 0 if fault == "no credit" else 1000
            reply = {"type": "orders", "orders": orders, "credit": credit, "uploads": self.memory["uploads"]}
            self.send({"type": "reply", "id": number, "reply": reply})
            if not request["attempts"]:
                self.about = {"attempt": f"{secrets.randbelow(1000) + 1}-1", "lease": secrets.token_hex(16)}
                self.send({"type": "offer", **self.about})
        elif kind == "want_upload" and request["attempt"] == self.about["attempt"]:
            store = self.memory["store"]
            if len(request["sha256"]) != 64 and fault != "any digest":
                self.send({"type": "error", "id": number, "code": "refused", "message": ""})
                return
            complete = store.get("done") == request["sha256"]
            store.update(wanted=request["sha256"], size=request["size"], token="" if complete else secrets.token_hex(8))
            if not complete:
                store["data"] = b""
            grant = {"type": "upload_grant", "path": "/up", "token": store["token"], "complete": complete}
            self.send({"type": "reply", "id": number, "reply": grant})
        elif kind in ("want_upload", "want_contents", "want_secrets"):
            mild = "refused" if fault == "other words for void" else "void"
            self.send({"type": "error", "id": number, "code": mild, "message": ""})
        else:
            super().called(number, request)

    def took(self, frame: dict[str, Any]) -> bool:
        kind, fault = frame["type"], self.fault
        if kind not in ("accept", "started", "log", "final", "decline", "status"):
            return False
        if not isinstance(frame.get("attempt"), str):
            if fault == "ends on wrong fields":
                raise Ends("bad-message")
            self.send({"type": "error", "code": "bad-message", "message": kind})
            return True
        about = {"attempt": frame["attempt"], "lease": frame["lease"]}
        if about != self.about:
            if fault != "silent about leases":
                self.send({"type": "stop", **about})
        elif kind == "accept":
            self.log = {"next": 1, "asked": False}
            self.send({"type": "go", **about})
        elif kind == "log":
            (batch,) = frame["batches"]
            if batch["first"] > self.log["next"] and fault != "takes holes":
                if not self.log["asked"] or fault == "asks again and again":
                    self.log["asked"] = True
                    self.send({"type": "resend", "attempt": about["attempt"], "next": self.log["next"]})
                return True
            self.log["next"] = max(self.log["next"], batch["first"] + len(batch["lines"]))
            self.send({"type": "ack", "attempt": about["attempt"], "next": self.log["next"]})
        elif kind == "final":
            self.send({"type": "final_ack", **about})
        return True


def _store(memory: dict[str, Any], fault: str) -> type[http.server.BaseHTTPRequestHandler]:
    store: dict[str, Any] = memory.setdefault("store", {})

    class Store(http.server.BaseHTTPRequestHandler):
        """Uploads."""

        def reply(self, status: int, have: int | None = None) -> None:
            """Answer."""
            self.send_response(status)
            if have is not None:
                self.send_header("Upload-Offset", str(have))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def allowed(self) -> bool:
            """Whether there is a token, and it is right."""
            token = store.get("token")
            right = bool(token) and self.headers.get("Authorization") == f"Bearer {token}"
            if not right and fault != "any token":
                self.reply(401)
            return right or fault == "any token"

        def do_HEAD(self) -> None:
            if self.allowed():
                self.reply(204, 0 if fault == "forgets parts" else len(store.get("data", b"")))

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if not self.allowed():
                return
            offset = int(self.headers["Upload-Offset"])
            if offset != len(store["data"]) and fault != "any offset":
                self.reply(409, len(store["data"]))
                return
            store["data"] = store["data"][:offset] + body
            if len(store["data"]) < store["size"]:
                self.reply(204, len(store["data"]))
            elif hashlib.sha256(store["data"]).hexdigest() != store["wanted"] and fault != "any content":
                store["data"] = b""
                self.reply(422)
            else:
                store.update(done=store["wanted"], token="")
                self.reply(204, store["size"])

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    return Store


def _broken_off(handler: http.server.BaseHTTPRequestHandler) -> None:
    """Answer an upload by nothing."""
    handler.close_connection = True


class Several(End):
    """An end with several services, of which its own is the last."""

    beside = "tried-other"


class Wrong:
    """A program with one fault, at a UNIX socket: it listens there, or dials it again and again."""

    def __init__(self, kind: type[End] | type[Plain], place: str, fault: str, *, dials: bool) -> None:
        self._kind, self._place, self._fault, self._dials = kind, place, fault, dials
        self._memory: dict[str, Any] = {"die": self.end}
        self._ended = threading.Event()
        self._server: socket.socket | None = None
        self._http: http.server.ThreadingHTTPServer | None = None
        if kind is Apiserver:
            store = _store(self._memory, fault)
            if fault == "breaks uploads off":
                store.do_PUT = _broken_off  # type: ignore[attr-defined]
            self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), store)
            self._memory["uploads"] = f"http://127.0.0.1:{self._http.server_port}"
            threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        if not dials:
            self._server = socket.socket(socket.AF_UNIX)
            self._server.bind(place)
            self._server.listen()
        threading.Thread(target=self._dial if dials else self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._server is not None
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                end = self._kind(connection, self._fault, self._memory)
                threading.Thread(target=end.run, args=(False,), daemon=True).start()
        self._server.close()

    def _dial(self) -> None:
        while not self._ended.is_set():
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(self._place)
            except OSError:
                connection.close()
                self._ended.wait(0.01)
                continue
            self._kind(connection, self._fault, self._memory).run(True)

    def end(self) -> None:
        """Take no more connections."""
        self._ended.set()
        if self._server is not None:
            with contextlib.suppress(OSError):
                self._server.shutdown(socket.SHUT_RDWR)
            self._server.close()
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
