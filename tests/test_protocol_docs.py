"""The transcripts of docs/protocol.md that are the domain's: of a viewer, and of a builder with its apiserver."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any, get_args

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from twistedipc.builds import messages as m
from twistedipc.builds.attempt import ArtifactFile, Permit, Published, Result, Secrets
from twistedipc.builds.logs import End, Gap, Lines, LogDigest, batch_decoder, encoder, lines_decoder, valid_shape
from twistedipc.builds.remotes import CommitList, RefList
from twistedipc.builds.retention import MAX_DAYS
from twistedipc.publish.archive import Manifest, ManifestFile, unpack
from twistedipc.server.boundaries import GistChange, StateChange

_TEXT = (Path(__file__).parent.parent / "docs" / "protocol.md").read_text("utf-8")


def fence(kind: str) -> list[str]:
    """The lines of the one transcript of this kind."""
    (found,) = re.findall(rf"^```{kind}\n(.*?)^```$", _TEXT, re.DOTALL | re.MULTILINE)
    return str(found).splitlines()


def test_each_frame_of_the_links_transcript_is_a_message_of_its_direction() -> None:
    """Decoded strictly by its type and encoded again, it is the same, but for calls' envelopes."""
    directions: dict[str, Any] = {"builder": m.FROM_BUILDER, "apiserver": m.FROM_APISERVER}
    replies = {1: m.Orders, 2: m.UploadGrant}
    seen: set[str] = set()
    for line in fence("link"):
        side, _, text = line.partition(":")
        frame = json.loads(text)
        seen.add(frame["type"])
        kind = directions[side]
        if frame["type"] == "call":
            frame = frame["request"]
            assert type(msgspec.convert(frame, kind)) in m.CALLS
        elif frame["type"] == "reply":
            frame, kind = frame["reply"], replies[frame["id"]]
        message = msgspec.convert(frame, kind)
        assert msgspec.to_builtins(message) == frame
    assert {"offer", "accept", "go", "started", "log", "ack", "final", "final_ack"} <= seen


@given(st.none() | st.integers(1, MAX_DAYS), st.integers(0, 1 << 53))
def test_what_an_offer_says_of_caches_arrives_as_it_was(days: int | None, cleared: int) -> None:
    """An older apiserver says nothing of days, which is as none."""
    (example,) = [frame for line in fence("link") if (frame := json.loads(line.partition(":")[2]))["type"] == "offer"]
    offer = msgspec.convert(example, m.FROM_APISERVER)
    assert isinstance(offer, m.Offer)
    assert (offer.caches_kept, offer.caches) == (None, 0)
    sent = msgspec.structs.replace(offer, caches_kept=days, caches=cleared)
    assert msgspec.json.decode(encoder.encode(sent), type=m.FROM_APISERVER) == sent
    assert (b"caches_kept" in encoder.encode(sent)) is (days is not None)


def test_the_batch_and_the_gap_are_as_they_are_sent() -> None:
    """The two examples of what a log is made of."""
    batches = [batch_decoder.decode(line) for line in re.findall(r"^```json\n(.*)\n```$", _TEXT, re.MULTILINE)]
    assert [type(batch) for batch in batches] == [Lines, Gap]
    for batch in batches:
        assert valid_shape(batch)
        assert encoder.encode(batch).decode() in _TEXT


def test_what_a_build_says_is_told_as_it_is_sent() -> None:
    (line,) = fence("said")
    message = msgspec.json.decode(line, type=GistChange)
    assert encoder.encode(message).decode() == line


def test_every_message_is_in_the_tables() -> None:
    """Each type, with each of its fields."""
    for kind in [*m.FROM_BUILDER.__args__, *m.FROM_APISERVER.__args__, *m.CALLS.values(), *m.QUESTIONS.values()]:
        if kind in (RefList, CommitList):  # without a type
            assert all(f"`{field.encode_name}`" in _TEXT for field in msgspec.structs.fields(kind)), kind
            continue
        if kind in (Permit, Secrets, m.StoredContents):  # described with their calls
            continue
        tag = kind.__struct_config__.tag
        rows = [line for line in _TEXT.splitlines() if line.startswith(f"| `{tag}`")]
        assert rows, f"{tag} is not in docs/protocol.md"
        for field in msgspec.structs.fields(kind):
            assert any(re.search(rf"\b{field.encode_name}\b", row) for row in rows), f"{tag}.{field.encode_name}"


def test_the_viewers_transcript_is_what_the_server_says() -> None:
    """The records are 1 to 4, once each, and their digest is the one in the end."""
    digest = LogDigest()
    ends: list[End] = []
    for line in fence("websocket"):
        if line.startswith("< {"):
            match json.loads(line[2:]):
                case {"type": "lines"}:
                    batch = lines_decoder.decode(line[2:])
                    assert batch.first == digest.count + 1
                    assert encoder.encode(batch).decode() == line[2:]
                    digest.add(batch)
                case {"type": "state"}:
                    msgspec.json.decode(line[2:], type=StateChange)
                case {"type": "end"}:
                    ends.append(msgspec.json.decode(line[2:], type=End))
    assert [(end.lines, end.sha256, end.complete) for end in ends] == [(4, digest.hexdigest(), True)]


def test_the_archive_of_the_document_is_taken(tmp_path: Path) -> None:
    """Its manifest, and its command."""
    manifest = re.search(r'^\{"format": 1, "files": .*?^\]\}$', _TEXT, re.MULTILINE | re.DOTALL)
    command = re.search(r"`(tar -czf site\.tar\.gz -C FOLDER [^`]*)`", _TEXT)
    assert manifest is not None
    assert command is not None
    files = {"assets/app-1a2b.js": "hello", "index.html": "<html>"}
    for path, content in files.items():
        (tmp_path / "FOLDER" / "files" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "FOLDER" / "files" / path).write_text(content)
    (tmp_path / "FOLDER" / "manifest.json").write_text(manifest[0])
    subprocess.run(shlex.split(command[1]), cwd=tmp_path, check=True)
    taken = unpack(tmp_path / "site.tar.gz", tmp_path / "site")
    assert [file.path for file in taken.files] == list(files)


def test_what_is_in_an_offer_and_a_manifest_is_in_the_document() -> None:
    """Each field of them, and each value that a field with few of them may have."""
    kinds: tuple[type[msgspec.Struct], ...] = (Manifest, ManifestFile, Result, Published, ArtifactFile)
    said = {field.encode_name for kind in kinds for field in msgspec.structs.fields(kind)}
    unsaid = {"resolved", "packed", "recognised", "tools", "used", "linted"}  # of the platform's own builder
    assert [name for name in sorted(said - unsaid) if not re.search(rf"\b{name}\b", _TEXT)] == []
    (status,) = (field.type for field in msgspec.structs.fields(Published) if field.name == "status")
    assert [value for value in get_args(status) if f"`{value}`" not in _TEXT] == []
