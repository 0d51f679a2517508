"""
Makes ``tests/fixtures/ledger-VERSION.sql``: a small ledger as this version of the package makes it.

    python -m tests.make_ledger

Each version that is released adds its own, with its own code, and none is ever made again: what a later version has to
migrate is what an earlier one really left behind. It has builds in every state, logs, releases, tokens and secrets.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from pathlib import Path

from sqlalchemy import Connection

import twistedipc
from tests.storage_fixtures import NOW, database
from twistedipc.builds.attempt import ArtifactFile, Outcome, Package, Publish, Published, Result, StepResult
from twistedipc.builds.gist import Gist
from twistedipc.builds.logs import (
    Annotation,
    Lines,
    LogDigest,
    Progress,
    Record,
    StepEnded,
    StepStarted,
    Summary,
    encoder,
    event_of,
)
from twistedipc.publish.permits import PACK
from twistedipc.publish.targets.registry import from_flat
from twistedipc.storage import (
    artifacts,
    attempts,
    audit,
    builds,
    logs,
    permits,
    projects,
    releases,
    reruns,
    tokens,
)
from twistedipc.storage.builds import Idempotency
from twistedipc.storage.logs import ChunkItem
from twistedipc.storage.rows import Actor, Holder
from twistedipc.storage.secrets import SecretBox

FOLDER = Path(__file__).parent / "fixtures"

REGISTRY = "https://npm.example.org/"
COMMIT = "5f0c" * 10
_STARTED = StepStarted(0, "build", "npm run build")
_ENDED = StepEnded(0, "failed", 1200, 2)
_LOG: list[Record] = [
    _STARTED,
    "\x1b[32mvite\x1b[0m building for production… ✓ 12 modules",
    Progress(0.5, "half"),
    Annotation("warning", "a chunk is large", "src/main.ts", 12),
    Annotation("error", "no such export", "src/app.ts", 7),
    Summary("## Sizes\n\n| file | KiB |\n| --- | --- |\n| main.js | 81 |\n"),
    _ENDED,
]

_STEP = StepResult(index=0, name="build", command="npm run build", outcome="succeeded", started=NOW, ended=NOW + 1)
_INTEGRITY = "sha512-" + "A" * 86 + "=="

#: What the builds of ui that got so far have a permit for. The one that is publishing is `PUBLISHING`.
PACKAGE = Package(file="team-ui-1.0.0.tgz", name="@team/ui", version="1.0.0", integrity=_INTEGRITY)
PUBLISHING = "15-1"


def fill(connection: Connection, folder: Path) -> None:
    """Put something of everything into a new ledger. Made attempts are "BUILD-N", their leases "lease-BUILD-N"."""
    box = SecretBox(folder / "secret.key")
    _row, _secret = tokens.issue(
        connection, random=os.urandom, name="ann", scopes=["admin"], projects=None, expires=None, now=NOW
    )
    tokens.issue(
        connection,
        random=os.urandom,
        name="ci",
        scopes=["build", "read"],
        projects=["shop"],
        expires=NOW + 10**9,
        now=NOW,
    )
    lapsed, _secret = tokens.issue(
        connection, random=os.urandom, name="bob", scopes=["read"], projects=None, expires=None, now=NOW
    )
    tokens.revoke(connection, lapsed.id, NOW + 1)
    for name, publish in (
        ("shop", Publish(static=True)),
        ("ui", Publish(npm=True, registry=REGISTRY, packages=["@team/*"])),
        ("both", Publish(static=True, npm=True, registry=REGISTRY)),
        ("gone", Publish()),
    ):
        projects.create(
            connection,
            name=name,
            repository=f"https://git.example.org/team/{name}.git",
            default_ref="main",
            targets=from_flat(publish),
            environment={"MODE": "production"} if name == "shop" else {},
            timeout=600.0,
            idle_timeout=60.0,
            on_lost="rerun" if name == "ui" else "lost",
            now=NOW,
        )
    projects.set_secret(connection, "ui", "npm_token", box.seal("npm_example"), NOW)
    projects.delete(connection, "gone", NOW + 2)
    detail = {"ref": "main"}
    by = Actor(who="ann", token=1, address="192.0.2.7", request="00ff")
    audit.record(connection, by=by, action="project.create", subject="shop", project="shop", detail=detail, now=NOW)

    # Of shop: three that went live one after another, of which the second was rolled back to the first.
    for number in (1, 2, 3):
        _release(connection, _build(connection, "shop"), number)
    releases.activate(connection, "shop", 2, NOW + 50, who="ann")
    _end(connection, _begin(connection, _build(connection, "shop")), "failed", log=True, reason="build: exit code 2")
    _end(connection, _begin(connection, _build(connection, "shop")), "timed_out", reason="no output for 60 s")
    cancelled = _build(connection, "shop")
    builds.request_cancel(connection, int(cancelled.split("-")[0]), "cancelled by ann", NOW + 60)
    cancelled = _begin(connection, _build(connection, "shop"))
    builds.request_cancel(connection, int(cancelled.split("-")[0]), "cancelled by ann", NOW + 61)
    _end(connection, cancelled, "cancelled", reason="cancelled by ann")
    # Lost: of shop it stays so, until somebody tries it again; of ui it is run again by itself.
    lost = _begin(connection, _build(connection, "shop"))
    reruns.lose(connection, lost, _holder(connection, lost), "its runner died", NOW + 70)
    builds.retry(connection, int(lost.split("-")[0]), "ann", NOW + 80)
    lost = _begin(connection, _build(connection, "ui"))
    reruns.lose(connection, lost, _holder(connection, lost), "its builder was away for 600 s", NOW + 71)

    # Of both: one in each state in which a builder has it, and one that waits.
    offered = _build(connection, "both")
    _offer(connection, offered)
    accepted = _build(connection, "both")
    _offer(connection, accepted)
    attempts.accept(connection, accepted, _holder(connection, accepted))
    _log(connection, _begin(connection, _build(connection, "both")))
    _begin(connection, _build(connection, "both"), builder="far")
    attempts.disconnected(connection, "far")
    _published(connection, _permitted(connection, _build(connection, "ui")))
    _permitted(connection, _build(connection, "ui"))
    _build(connection, "both", idempotency=Idempotency(key="once", token_id=1, body_sha256="0" * 64))


def _build(connection: Connection, project: str, idempotency: Idempotency | None = None) -> str:
    build, _created = builds.create(
        connection,
        project=project,
        ref="main",
        publish=True,
        parameters={"COLOUR": "blue"},
        by=Actor(who="ann"),
        now=NOW + 10,
        idempotency=idempotency,
    )
    return f"{build.id}-1"


def _offer(connection: Connection, attempt: str, builder: str = "one") -> None:
    build = builds.get(connection, int(attempt.split("-")[0]))
    assert build is not None
    project = projects.get(connection, build.project)
    assert project is not None
    lease = f"lease-{attempt}"
    permits.offer(connection, attempt, lease, builder, NOW + 20, project.targets, project.repository)


def _holder(connection: Connection, attempt: str) -> Holder:
    """Who has an attempt."""
    row = attempts.get(connection, attempt)
    assert row is not None
    return row.holder


def _begin(connection: Connection, attempt: str, builder: str = "one") -> str:
    lease = f"lease-{attempt}"
    _offer(connection, attempt, builder)
    attempts.accept(connection, attempt, Holder(lease, builder))
    attempts.started(connection, attempt, Holder(lease, builder), NOW + 30, NOW + 30)
    return attempt


def _log(connection: Connection, attempt: str) -> str:
    """Store the log; its digest."""
    digest, gist = LogDigest(), Gist()
    batch = Lines(1, NOW + 31, 0, list(_LOG))
    digest.add(batch)
    for record in _LOG:
        event = event_of(record)
        if event is not None:
            gist.add(event)
    data = encoder.encode(batch) + b"\n"
    events: list[tuple[int, StepStarted | StepEnded]] = [(NOW + 31, _STARTED), (NOW + 32, _ENDED)]
    logs.append(connection, [ChunkItem(attempt=attempt, first=1, count=len(_LOG), data=data, events=events, gist=gist)])
    return digest.hexdigest()


def _end(connection: Connection, attempt: str, outcome: Outcome, *, log: bool = False, reason: str = "") -> None:
    result = Result(
        outcome=outcome,
        reason=reason,
        lines=len(_LOG) if log else 0,
        sha256=_log(connection, attempt) if log else LogDigest().hexdigest(),
        started=NOW + 30,
        ended=NOW + 40,
        commit=COMMIT,
        subject="Add a basket",
        author="Ann <ann@example.org>",
    )
    attempts.finish(connection, attempt, _holder(connection, attempt), result, True, NOW + 41)


def _release(connection: Connection, attempt: str, number: int) -> None:
    _begin(connection, attempt)
    artifact = ArtifactFile(size=1000 + number, sha256=f"{number:064x}", files=3, unpacked=4000)
    artifacts.begin(connection, attempt, artifact.size, artifact.sha256, NOW + 35)
    artifacts.mark_complete(connection, attempt, artifact.sha256)
    release = releases.create(
        connection,
        attempt=attempt,
        target="static",
        project="shop",
        sha256=artifact.sha256,
        files=artifact.files,
        size=artifact.unpacked,
        commit=COMMIT,
        now=NOW + 36,
    )
    result = Result(
        outcome="succeeded",
        lines=len(_LOG),
        sha256=_log(connection, attempt),
        started=NOW + 30,
        ended=NOW + 40,
        commit=COMMIT,
        resolved=NOW + 30 + number,
        subject="Add a basket",
        author="Ann <ann@example.org>",
        steps=[_STEP],
        artifact=artifact,
    )
    attempts.finish(connection, attempt, _holder(connection, attempt), result, True, NOW + 41, NOW + 30 + number)
    releases.settle(connection, "shop", release.id, NOW + 42)


def _permitted(connection: Connection, attempt: str) -> str:
    """Bring it to `publishing`."""
    _begin(connection, attempt)
    started, ended = StepStarted(0, PACK, ""), StepEnded(0, "succeeded", 10, 0)
    data = encoder.encode(Lines(1, NOW + 33, 0, [started, ended])) + b"\n"
    events: list[tuple[int, StepStarted | StepEnded]] = [(NOW + 33, started), (NOW + 33, ended)]
    logs.append(connection, [ChunkItem(attempt=attempt, first=1, count=2, data=data, events=events)])
    answer = permits.give(connection, attempt, f"lease-{attempt}", "npm", [PACKAGE], "one", NOW + 34)
    assert answer.row is not None, answer.decision
    return attempt


def _published(connection: Connection, attempt: str) -> None:
    published = Published(name="@team/ui", version="1.0.0", integrity=_INTEGRITY, status="published", registry=REGISTRY)
    result = Result(
        outcome="succeeded",
        lines=2,
        sha256=logs.verify(connection, attempt)[1],
        started=NOW + 30,
        ended=NOW + 40,
        commit=COMMIT,
        published=[published],
    )
    attempts.finish(connection, attempt, _holder(connection, attempt), result, True, NOW + 41)


def make(path: Path) -> None:
    """Write the ledger's dump."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with database(folder) as connection:
            fill(connection, folder)
        with sqlite3.connect(folder / "ledger.sqlite") as made:
            path.write_text("".join(f"{line}\n" for line in made.iterdump()), "utf-8")


if __name__ == "__main__":
    make(FOLDER / f"ledger-{twistedipc.__version__}.sql")
