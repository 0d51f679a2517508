"""The transcripts in docs/protocol*.md, replayed: what they say that an end answers by itself is what it answers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.ipc_example import Ask, Note, Told, apiserver, builder
from twistedipc.ipc.wire.keyring import Keys, NamedKey
from twistedipc.ipc.wire.session import Session
from twistedipc.ipc.wire.settings import Side
from twistedipc.ipc.wire.states import State

_DOCS = Path(__file__).parent.parent / "docs"
_TRANSCRIPT = re.compile(r"^```transcript (key|after|named|services)=([\w:]+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)

#: Frames that a session sends by itself; everything else is an application's, or time's.
_BY_ITSELF = {"challenge", "hello", "welcome", "link-interface", "pong", "error", "bye"}


def transcripts() -> list[tuple[str, str, list[tuple[Side, str]]]]:
    """The condition, its value, and the lines, of every transcript."""
    found = []
    for path in sorted(_DOCS.glob("protocol*.md")):
        for condition, value, text in _TRANSCRIPT.findall(path.read_text("utf-8")):
            lines = [line.split(":", 1) for line in text.splitlines()]
            found.append((condition, value, [(Side(side), frame.strip()) for side, frame in lines]))
    return found


def ends(key: bytes | None, named: str = "", service: str = "") -> dict[Side, Session]:
    names = {"name": "builder-1", "incarnation": "6b1f0c"}, {"name": "apiserver-1", "incarnation": "92ad77"}
    keys = {side: None if not named else Keys(named_key(named, side)) for side in Side}
    settings = {
        Side.DIALLER: builder(key=key, keys=keys[Side.DIALLER], **names[0]),
        Side.LISTENER: apiserver(key=key, keys=keys[Side.LISTENER], **names[1]),
    }
    if service:
        archive = apiserver(role="archive", peer_role="archivist", key=key, frame_limit=65536, **names[1])
        settings[Side.LISTENER] = apiserver(key=key, others=(archive,), **names[1])
        if service == "archive":
            settings[Side.DIALLER] = builder(
                role="archivist", peer_role=service, key=key, name="archivist-1", incarnation="6b1f0c"
            )
    return {
        side: Session(side, settings[side], nonce=nonce, now=0.0)
        for side, nonce in ((Side.DIALLER, "4f" * 32), (Side.LISTENER, "a1" * 32))
    }


def named_key(text: str, side: Side) -> NamedKey:
    """The key ``ID:SECRET`` as this side has it; the dialler alone is bound to a name."""
    id_, secret = text.split(":")
    if side is Side.DIALLER:
        return NamedKey(id_, bytes.fromhex(secret), role="apiserver")
    return NamedKey(id_, bytes.fromhex(secret), "builder-1", "builder")


def perform(session: Session, frame: dict[str, Any]) -> None:
    """Have an application do what leads to this frame, if one can."""
    match frame:
        case {"type": "note", "n": int(n), "text": str(text)}:
            session.send(Note(n, text))
        case {"type": "call", "request": {"type": "ask", "what": str(what)}}:
            session.call(Ask(what), deadline=5.0)
        case {"type": "reply", "id": int(id_), "reply": {"answer": str(answer)}}:
            session.answer(id_, Told(answer))
        case {"type": "drop", "id": int(id_)}:
            session.drop(id_)
        case {"type": "ping"}:
            session.tick(10.0)


def other(side: Side) -> Side:
    return Side.LISTENER if side is Side.DIALLER else Side.DIALLER


def test_there_are_transcripts() -> None:
    assert len(transcripts()) >= 5


@pytest.mark.parametrize(("condition", "value", "lines"), transcripts())
def test_replay(condition: str, value: str, lines: list[tuple[Side, str]]) -> None:
    if condition == "named":
        sessions = ends(None, value)
    else:
        wanted = json.loads(lines[1][1]).get("service", "apiserver") if condition == "services" else ""
        sessions = ends(bytes.fromhex(value) if condition != "after" else bytes(range(32)), service=wanted)
    if condition == "after":
        for side in (Side.LISTENER, Side.DIALLER, Side.LISTENER, Side.DIALLER):
            sessions[other(side)].receive(sessions[side].data_to_send(), 0.0)
        assert all(session.state is State.READY for session in sessions.values())
    pending: dict[Side, list[str]] = {side: [] for side in Side}
    replaced: set[Side] = set()
    for side, frame in lines:
        perform(sessions[side], json.loads(frame))
        for end, session in sessions.items():
            pending[end] += session.data_to_send().decode("utf-8").splitlines()
        if pending[side][:1] == [frame]:
            pending[side].pop(0)
        elif json.loads(frame)["type"] in _BY_ITSELF:
            # The hello of another dialler, which takes the place of this one.
            assert json.loads(frame)["type"] == "hello", f"{side} says {pending[side]} instead of {frame}"
            pending[side].clear()
            replaced.add(side)
        if json.loads(frame)["type"] == "call":
            # A call that no application of ours would make was made all the same: its answer is expected.
            sessions[side]._outgoing.last_id = json.loads(frame)["id"]
        if other(side) not in replaced:
            sessions[other(side)].receive(frame.encode("utf-8") + b"\n", 0.0)
    left = [line for side in Side for line in pending[side] + sessions[side].data_to_send().decode().splitlines()]
    assert left == []
