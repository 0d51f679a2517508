"""
A builder that lies: whatever it says, in whatever field, the ledger never says what the apiserver hasn't seen.

The builder here speaks by the link's messages to an apiserver in memory. It does its work honestly, and then lies.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, select
from twisted.internet.task import Clock

from tests.apiserver_world import Apiserver
from tests.instant import InstantLedger
from tests.properties import examples
from tests.test_server_builders import Builder
from twistedipc.builds import messages as m
from twistedipc.builds import names, word
from twistedipc.builds.attempt import ArtifactFile, Package, Packed, Permit, Published, Result, StepResult, Tool, Used
from twistedipc.builds.egress import Contact, Egress
from twistedipc.builds.lint import Linted, LintedPackage, Message
from twistedipc.builds.logs import Lines, LogDigest, StepEnded, StepStarted
from twistedipc.builds.names import shown
from twistedipc.builds.recognition.recognised import Finding
from twistedipc.builds.states import AttemptState, ReleaseState
from twistedipc.builds.word import TOLERANCE, Believed, Permitted, Seen, believe
from twistedipc.publish.archive import create
from twistedipc.publish.targets.npm.target import NpmSettings
from twistedipc.publish.targets.static.target import StaticSettings
from twistedipc.storage import artifacts, projects, releases
from twistedipc.storage.rows import AttemptRow
from twistedipc.storage.tables import audit

COMMIT, OTHER = "c" * 40, "d" * 40
REGISTRY = "https://registry.example/"
PACKAGE = Package(file="package/p.tgz", name="p", version="1.0.0", integrity="sha512-x")
PUBLISHED = Published(name="p", version="1.0.0", integrity="sha512-x", status="published", registry=REGISTRY)
EVENTS: list[StepStarted | StepEnded] = [
    StepStarted(0, "checkout", ""),
    StepEnded(0, "succeeded", 1, 0),
    StepStarted(1, "build", "make"),
    StepEnded(1, "succeeded", 1, 0),
    StepStarted(2, "pack", ""),
    StepEnded(2, "succeeded", 1, 0),
]
NOW = 1_732_300_000_000


class World:
    """An apiserver, a builder, and an attempt that it has built, packed and uploaded, with a permit for one package."""

    def __init__(self, folder: Path, *, permit: bool = True, upload: bool = True, ref: str = "main") -> None:
        self.folder = folder
        self.ledger = InstantLedger()
        self.apiserver = Apiserver(folder, self.ledger, Clock())
        self.apiserver.time = NOW
        npm = [NpmSettings(registry=REGISTRY, publish_at="builder")] if permit else []
        self.attempt = self.ledger.queue(targets=(StaticSettings(), *npm), ref=ref)
        sealed = self.apiserver.secret_box.seal("s3cret-token")
        self.ledger.now(projects.set_secret, "hello", "npm_token", sealed, 7)
        self.builder = Builder(self.apiserver)
        self.builder.sync()
        (self.offer,) = self.builder.take(m.Offer)
        self.builder.run(self.offer)
        self.batch = Lines(1, NOW, 0, list(EVENTS))
        self.builder.log(self.offer, self.batch)
        self.archive = self._upload() if upload else None
        if permit:
            want = m.WantPermit(attempt=self.offer.attempt, lease=self.offer.lease, package=PACKAGE)
            assert self.builder.call(want, Permit).granted
        digest = LogDigest()
        digest.add(self.batch)
        self.digest = digest.hexdigest()
        #: what an honest builder says
        self.honest = Result(
            outcome="succeeded",
            lines=len(EVENTS),
            sha256=self.digest,
            started=NOW,
            ended=NOW + 9,
            commit=COMMIT,
            subject="Fix it",
            author="Ann",
            artifact=self.archive,
            published=[PUBLISHED] if permit else [],
        )

    def _upload(self) -> ArtifactFile:
        output = self.folder / "output"
        output.mkdir()
        (output / "index.html").write_text("hello")
        path = self.folder / "archive.tar.gz"
        manifest = create(output, path)
        data = path.read_bytes()
        archive = ArtifactFile(
            size=len(data), sha256=hashlib.sha256(data).hexdigest(), files=len(manifest.files), unpacked=5
        )
        offer = self.offer
        want = m.WantUpload(attempt=offer.attempt, lease=offer.lease, size=archive.size, sha256=archive.sha256)
        self.builder.call(want, m.UploadGrant)
        self.apiserver.artifacts.append(offer.attempt, 0, data)
        self.apiserver.artifacts.complete(offer.attempt, archive.size, archive.sha256)
        self.ledger.now(artifacts.mark_complete, offer.attempt, archive.sha256)
        return archive

    def ends(self, resolved_ago: int | None = None, **lies: Any) -> AttemptRow:
        """The builder says how it ended, with these lies."""
        result = msgspec.structs.replace(self.honest, **lies)
        offer = self.offer
        self.builder.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=result, resolved_ago=resolved_ago))
        self.apiserver.clock.advance(1)
        return self.apiserver.row(self.attempt)

    def audited(self, action: str) -> list[dict[str, str]]:
        """What the audit says of an action."""
        return self.ledger.now(_audited, action)

    def check(self, row: AttemptRow) -> None:
        """Nothing that the ledger says is more than what the apiserver has seen."""
        live = self.ledger.now(releases.live, "hello", "static")
        made = self.ledger.now(releases.list_page, "hello")
        if row.state is AttemptState.SUCCEEDED:
            assert row.complete
            assert row.published == [PUBLISHED]
        else:
            assert live is None
            assert not [each for each in made if each.state is ReleaseState.LIVE]
        for release in made:
            assert self.archive is not None
            assert release.sha256 == self.archive.sha256
            assert release.commit == row.commit or row.state is not AttemptState.SUCCEEDED
            if release.state is ReleaseState.LIVE:
                assert (release.files, release.size) == (self.archive.files, self.archive.unpacked)
        assert [msgspec.structs.replace(each, notice="") for each in row.published] in ([], [PUBLISHED])
        assert row.lines == len(EVENTS)
        assert row.sha256 in ("", self.digest)
        assert not row.complete or row.sha256 == self.digest
        assert row.commit == "" or (len(row.commit) in (40, 64) and int(row.commit, 16) > 0)
        since = row.offered or 0
        for time in (row.started, row.ended, *(step.started for step in row.steps)):
            assert time is not None
            assert since - TOLERANCE <= time <= self.apiserver.time + TOLERANCE
        assert row.started is not None
        assert row.ended is not None
        assert row.started <= row.ended
        assert row.resolved is None or since <= row.resolved <= self.apiserver.time
        for text, limit in ((row.subject, word.MAX_SUBJECT), (row.author, word.MAX_AUTHOR)):
            assert text == shown(text, limit)
        assert row.author_email is None or names.is_email(row.author_email)
        assert row.reason == shown(row.reason, word.MAX_REASON, lines=True)
        steps = [(step.index, step.name, step.outcome) for step in row.steps]
        true = [(0, "checkout", "succeeded"), (1, "build", "succeeded"), (2, "pack", "succeeded")]
        assert [step for step in steps if step[0] <= 2] == true
        if row.complete:
            assert steps == true
        project = self.ledger.now(projects.get, "hello")
        assert project is not None
        assert project.head == ""
        for each in (*row.recognised,):
            assert each.value == shown(each.value, 1000)


@contextmanager
def world(**how: Any) -> Iterator[World]:
    with tempfile.TemporaryDirectory() as folder:
        yield World(Path(folder), **how)


def _audited(connection: Connection, action: str) -> list[dict[str, str]]:
    rows = connection.execute(select(audit.c.who, audit.c.detail).where(audit.c.action == action))
    return [{"who": row.who, **msgspec.json.decode(row.detail)} for row in rows]


def test_an_honest_builder_is_believed() -> None:
    with world() as it:
        row = it.ends()
        it.check(row)
        assert (row.state, row.reason, row.commit, row.subject) == (AttemptState.SUCCEEDED, "", COMMIT, "Fix it")
        assert it.ledger.now(releases.live, "hello", "static") is not None
        assert it.audited("attempt.doubt") == []


DOUBTS: dict[str, tuple[dict[str, Any], str]] = {
    "another's package": (
        {"published": [PUBLISHED, Published(name="left-pad", version="9.9.9", integrity="x", status="published")]},
        "published left-pad@9.9.9, for which it had no permit",
    ),
    "another version": (
        {"published": [msgspec.structs.replace(PUBLISHED, version="1.0.1")]},
        "published p@1.0.1, for which it had no permit",
    ),
    "another content": (
        {"published": [msgspec.structs.replace(PUBLISHED, integrity="sha512-y")]},
        "for which it had no permit",
    ),
    "another target": (
        {"published": [msgspec.structs.replace(PUBLISHED, target="static")]},
        "for which it had no permit",
    ),
    "another registry": (
        {"published": [msgspec.structs.replace(PUBLISHED, registry="https://evil.example/")]},
        "to https://evil.example/, for which it had no permit",
    ),
    "nothing published": ({"published": []}, "it has not published p to npm"),
    "no commit": ({"commit": "HEAD"}, "commit 'HEAD', which is none"),
    "a commit with capitals": ({"commit": "C" * 40}, "which is none"),
    "another archive": (
        {"artifact": ArtifactFile(size=1, sha256="e" * 64, files=1, unpacked=1)},
        "what it says that it has built has not arrived",
    ),
}


@pytest.mark.parametrize("lie", DOUBTS)
def test_a_doubt_fails_the_attempt_and_is_in_the_audit(lie: str) -> None:
    lies, sentence = DOUBTS[lie]
    with world() as it:
        row = it.ends(**lies)
        it.check(row)
        assert row.state is AttemptState.FAILED
        assert row.reason.startswith("builder one says that it has succeeded, and the record here contradicts that: ")
        assert sentence in row.reason
        (line,) = it.audited("attempt.doubt")
        assert (line["who"], line["attempt"]) == ("one", it.attempt)
        assert sentence in line["doubts"]


def test_a_failed_attempt_keeps_its_reason_and_what_it_was_permitted() -> None:
    with world() as it:
        other = Published(name="x", version="1.0.0", integrity="x", status="published")
        row = it.ends(outcome="failed", reason="the registry is away", published=[other, PUBLISHED, PUBLISHED])
        it.check(row)
        assert (row.state, row.reason, row.published) == (AttemptState.FAILED, "the registry is away", [PUBLISHED])
        assert len(it.audited("attempt.doubt")) == 1


def test_the_commit_is_the_one_that_was_asked_for() -> None:
    with world(ref=COMMIT, permit=False) as it:
        row = it.ends(commit=OTHER)
        assert (row.state, row.commit) == (AttemptState.FAILED, "")
        assert f"it has built commit {OTHER}, and commit {COMMIT} was asked for" in row.reason
    with world(ref=COMMIT.upper(), permit=False) as it:
        assert it.ends().state is AttemptState.SUCCEEDED
    with world(ref=COMMIT, permit=False) as it:
        assert it.ends(commit=COMMIT + "0" * 24).state is AttemptState.SUCCEEDED, "it is the beginning of a longer id"


def test_an_attempt_that_was_to_publish_and_asked_for_no_permit_has_not_succeeded() -> None:
    with world(permit=False, upload=False) as it:
        it.ledger.now(projects.update, "hello", {"targets": (NpmSettings(registry=REGISTRY),)}, 9)
        it.ledger.queue()
        it.apiserver.dispatch.wake()
        (offer,) = it.builder.take(m.Offer)
        it.builder.run(offer)
        end = msgspec.structs.replace(it.honest, lines=0, sha256=LogDigest().hexdigest())
        it.builder.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=end))
        row = it.apiserver.row(offer.attempt)
        assert row.state is AttemptState.FAILED
        assert "it has asked for no permit to publish to npm" in row.reason


def test_a_step_that_the_log_shows_to_have_failed_has_failed() -> None:
    with world(permit=False) as it:
        more = Lines(len(EVENTS) + 1, NOW, 3, [StepStarted(3, "test", "make test"), StepEnded(3, "failed", 1, 1)])
        it.builder.log(it.offer, more)
        digest = LogDigest()
        digest.add(it.batch)
        digest.add(more)
        row = it.ends(lines=digest.count, sha256=digest.hexdigest())
        assert row.state is AttemptState.FAILED
        assert "its log shows that step test has not succeeded" in row.reason


INCOMPLETE: dict[str, tuple[Callable[[World], dict[str, Any]], str]] = {
    "the builder can't vouch for it": (lambda it: {"sha256": ""}, "lines of it are missing"),
    "another content": (lambda it: {"sha256": "e" * 64}, "it isn't what its runner wrote"),
    "fewer lines than came": (
        lambda it: {"lines": 3},
        "6 lines have come, and its builder has only 3 of them any more",
    ),
}


@pytest.mark.parametrize("how", INCOMPLETE)
def test_a_log_that_isnt_whole_never_succeeds(how: str) -> None:
    """Nor does anything go live; what was published before stays said."""
    lies, why = INCOMPLETE[how]
    with world() as it:
        row = it.ends(**lies(it))
        it.check(row)
        assert (row.state, row.complete, row.published) == (AttemptState.FAILED, False, [PUBLISHED])
        assert row.reason == (
            f"every step succeeded, but its log isn't whole, so it counts as failed: {why}. Build again"
        )
        assert it.audited("attempt.doubt") == []


def test_what_the_log_has_lost_of_the_steps_is_taken_from_the_result() -> None:
    with world(permit=False) as it:
        it.builder.log(it.offer, Lines(7, NOW, 3, [StepStarted(3, "upload", "")]))
        said = [
            StepResult(index=index, name=name, command="", outcome="succeeded", started=-5, ended=1 << 60)
            for index, name in ((1, "forged"), (3, "upload"), (4, "lo\x1bst"))
        ]
        row = it.ends(lines=7, sha256="", steps=said)
        assert [(step.index, step.name) for step in row.steps] == [
            (0, "checkout"),
            (1, "build"),
            (2, "pack"),
            (3, "upload"),
            (4, "lo\N{REPLACEMENT CHARACTER}st"),
        ]
        assert row.offered is not None
        assert row.steps[-1].started == row.offered
        assert row.steps[-1].ended <= it.apiserver.time


@pytest.mark.parametrize(
    ("said", "stored"), [(0, NOW), (1 << 60, NOW + 500), (NOW - TOLERANCE, NOW - TOLERANCE), (NOW + 7, NOW + 7)]
)
def test_times_are_within_the_attempts_own(said: int, stored: int) -> None:
    assert word.within(said, NOW, NOW + 500) == stored


def test_what_is_shown_does_nothing() -> None:
    assert shown("a\x1b[31mb\u202ec\r\nd\te\0\ud800", 99) == "a�[31mb�c��d�e��"
    assert shown("a\r\nd\te", 99, lines=True) == "a�\nd\te"
    assert shown("x" * 10, 5) == "xxxx…"
    assert shown("\N{WOMAN}\u200d\N{PERSONAL COMPUTER} ünï", 99) == "\N{WOMAN}\u200d\N{PERSONAL COMPUTER} ünï"


# -- the properties ---------------------------------------------------------------------------------------------------

#: A world is an apiserver: too much to be made as often as shrinking would.
NO_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)

numbers = st.one_of(
    st.integers(-(1 << 62), 1 << 62), st.integers(-3, 9), st.integers(NOW - 2 * TOLERANCE, NOW + 2 * TOLERANCE)
)
texts = st.one_of(
    st.sampled_from(["", "p", "1.0.0", "main", "HEAD", REGISTRY, COMMIT, OTHER, "f" * 64, "\x1b[2J", "x" * 9000]),
    st.text(max_size=30),
)
published = st.builds(
    Published,
    name=texts,
    version=texts,
    integrity=texts,
    status=st.sampled_from(["published", "already-published"]),
    registry=texts,
    target=st.sampled_from(["npm", "static", "x"]),
    notice=texts,
)
steps = st.builds(
    StepResult,
    index=numbers,
    name=texts,
    command=texts,
    outcome=texts,
    started=numbers,
    ended=numbers,
    exit_code=numbers,
)
LIES: dict[str, st.SearchStrategy[Any]] = {
    "tools": st.lists(
        st.builds(Tool, name=texts, version=texts, uri=texts, digests=st.dictionaries(texts, texts, max_size=2)),
        max_size=2,
    ),
    "used": st.one_of(st.none(), st.builds(Used, processes=numbers, memory=numbers)),
    "egress": st.one_of(
        st.none(),
        st.builds(
            Egress,
            contacts=st.lists(
                st.builds(Contact, host=texts, port=numbers, first=numbers, step=texts, why=texts), max_size=2
            ),
        ),
    ),
    "linted": st.one_of(
        st.none(),
        st.builds(
            Linted,
            version=texts,
            packages=st.lists(
                st.builds(
                    LintedPackage,
                    target=texts,
                    name=texts,
                    version=texts,
                    messages=st.lists(st.builds(Message, level=st.just("error"), text=texts), max_size=2),
                    more=numbers,
                    why=texts,
                ),
                max_size=2,
            ),
            why=texts,
        ),
    ),
    "outcome": st.sampled_from(["succeeded", "failed", "cancelled", "timed_out", "lost"]),
    "reason": texts,
    "lines": st.integers(-(1 << 60), len(EVENTS)),  # more is asked for, and the attempt goes on
    "sha256": texts,
    "started": numbers,
    "ended": numbers,
    "commit": texts,
    "resolved": numbers,
    "head": texts,
    "protected": st.one_of(st.none(), texts),
    "host_keys": st.lists(texts, max_size=3),
    "subject": texts,
    "author": texts,
    "author_email": texts,
    "steps": st.lists(steps, max_size=4),
    "artifact": st.one_of(
        st.none(), st.builds(ArtifactFile, size=numbers, sha256=texts, files=numbers, unpacked=numbers)
    ),
    "packed": st.lists(
        st.builds(Packed, target=texts, position=numbers, file=texts, size=numbers, sha256=texts), max_size=2
    ),
    "published": st.lists(st.one_of(st.just(PUBLISHED), published), max_size=4),
    "recognised": st.lists(
        st.builds(Finding, what=texts, value=texts, why=texts, file=texts, line=numbers), max_size=3
    ),
}


def test_every_field_of_a_result_is_lied_about() -> None:
    assert LIES.keys() == {*Result.__struct_fields__}


@settings(max_examples=examples(8), phases=NO_SHRINKING)
@given(
    chosen=st.sets(st.sampled_from(sorted(LIES)), max_size=5),
    ago=st.one_of(st.none(), numbers),
    data=st.data(),
)
def test_a_builder_that_lies_in_any_field(chosen: set[str], ago: int | None, data: st.DataObject) -> None:
    lies = {name: data.draw(LIES[name], label=name) for name in sorted(chosen)}
    with world() as it:
        row = it.ends(resolved_ago=ago, **lies)
        assert row.state in {*AttemptState} - {AttemptState.RUNNING, AttemptState.PUBLISHING}
        it.check(row)


@settings(max_examples=examples(100))
@given(
    data=st.data(),
    seen=st.builds(
        Seen,
        builder=st.just("one"),
        since=st.just(NOW),
        now=st.just(NOW + 1000),
        commit=st.sampled_from(["", COMMIT]),
        asked_head=st.booleans(),
        lines=st.integers(0, 9),
        sha256=st.sampled_from(["", "a" * 64]),
        steps=st.lists(steps, max_size=2),
        artifact=st.sampled_from([None, (1, "a" * 64)]),
        permitted=st.lists(
            st.builds(
                Permitted,
                target=st.sampled_from(["npm", "x"]),
                place=st.sampled_from(["", REGISTRY]),
                packages=st.sampled_from([[], [PACKAGE]]),
            ),
            max_size=2,
        ),
    ),
)
def test_judging_never_fails_and_is_the_same_twice(data: st.DataObject, seen: Seen) -> None:
    fields = {name: data.draw(strategy, label=name) for name, strategy in LIES.items()}
    first = believe(Result(**fields), seen)
    assert isinstance(first, Believed)
    assert first.result.outcome != "succeeded" or (first.complete and not first.doubts)
    again = believe(first.result, seen)
    if first.complete:
        assert again.result == first.result
