"""What a repository's host is asked without a build: what may be in an answer, and the process that asks."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import CancelledError
from twisted.internet.process import ProcessReader
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.attempt_folder import git, repository, until
from tests.git_servers import HttpServer, SshServer, needs_sshd
from tests.test_checkout_private import deploy_key, of_key, of_token
from twistedipc.attempts.programs import own_command
from twistedipc.builder.ports import NoRemoteAnswer
from twistedipc.builder.remotes import RemoteProcesses
from twistedipc.builder.settings import Settings, spec_of_remote
from twistedipc.builds.isolation import NOT_ISOLATED, Isolation
from twistedipc.builds.names import ref
from twistedipc.builds.remotes import (
    MAX_PULLS,
    MAX_REFS,
    MAX_REFS_BYTES,
    CommitList,
    CommitsQuestion,
    ListedRef,
    Moved,
    RefList,
    RefsQuestion,
    Remote,
    RemoteJob,
    checked,
    listed,
    wants,
)
from twistedipc.isolation.probe import Wanted, find_isolation

reactor: Any = global_reactor

A, B = "a" * 40, "b" * 40
ALL = RefsQuestion(tags=["tags/**"])


def lines(*refs: tuple[str, str]) -> list[bytes]:
    return [f"{commit}\t{name}".encode() for name, commit in refs]


def test_a_tag_is_the_commit_to_which_it_leads() -> None:
    said = lines(("refs/heads/main", A), ("refs/tags/v1", B), ("refs/tags/v1^{}", A), ("refs/tags/v2", B))
    assert listed(said, ALL).refs == [
        ListedRef("refs/heads/main", A),
        ListedRef("refs/tags/v1", A),
        ListedRef("refs/tags/v2", B),
    ]


def test_only_tags_that_are_named_are_told() -> None:
    said = lines(("refs/heads/main", A), ("refs/tags/v1", B), ("refs/tags/x", B))
    assert [each.name for each in listed(said, RefsQuestion()).refs] == ["refs/heads/main"]
    assert [each.name for each in listed(said, RefsQuestion(tags=["tags/v*"])).refs] == [
        "refs/heads/main",
        "refs/tags/v1",
    ]


@pytest.mark.parametrize(
    "line",
    [
        b"x\trefs/heads/main",
        A.encode() + b" refs/heads/main",
        A[:39].encode() + b"\trefs/heads/main",
        A.encode() + b"\trefs/pull/1/head",
        A.encode() + b"\trefs/heads/-x/../y",
        A.encode() + b"\trefs/heads/\x1b[2J",
        A.encode() + b"\trefs/heads/\xff\xfe",
        A.encode() + b"\trefs/heads/a b",
        A.encode() + b"\trefs/heads/" + b"x" * 1025,
        A.encode() + b"\trefs/heads/",
    ],
)
def test_what_is_no_ref_that_could_be_built_is_left_out_and_counted(line: bytes) -> None:
    found = listed([line, *lines(("refs/heads/main", A))], ALL)
    assert ([each.name for each in found.refs], found.unusable, found.failed) == (["refs/heads/main"], 1, "")


def test_pull_requests_are_told_if_they_are_asked_for_the_newest_of_them() -> None:
    said = lines(
        ("refs/heads/main", A),
        ("refs/merge-requests/3/head", B),
        ("refs/pull/12/head", B),
        ("refs/pull/2/head", A),
        ("refs/pull/2/merge", B),
    )
    asking = RefsQuestion(pulls=True)
    found = listed(said, asking)
    assert [each.name for each in found.refs] == [
        "refs/heads/main",
        "refs/pull/2/head",
        "refs/merge-requests/3/head",
        "refs/pull/12/head",
    ]
    assert (found.pulls_from, found.unusable) == (1, 1)
    assert checked(found) == found
    many = lines(*((f"refs/pull/{number}/head", A) for number in range(1, MAX_PULLS + 11)))
    found = checked(listed(many, asking))
    assert (found.pulls_from, len(found.refs), found.refs[0].name) == (11, MAX_PULLS, "refs/pull/11/head")
    assert listed(many, ALL).refs == []


def test_too_many_branches_are_narrowed_to_those_that_are_named() -> None:
    said = lines(*((f"refs/heads/b{number}", A) for number in range(MAX_REFS)), ("refs/heads/main", A))
    assert "5001 branches and tags" in listed(said, ALL).failed
    found = listed(said, RefsQuestion(branches=["main", "release/*"]))
    assert (found.failed, found.narrowed, found.refs) == ("", True, [ListedRef("refs/heads/main", A)])
    found = listed(said[:-1], ALL)
    assert (found.failed, found.narrowed, len(found.refs)) == ("", False, MAX_REFS)


def test_an_answer_fits_into_a_frame() -> None:
    quotes = '"' * 1000
    said = lines(*((f"refs/heads/{number}/{quotes}", A) for number in range(MAX_REFS)))
    assert listed(said, ALL).failed
    most = MAX_REFS_BYTES // (2 * 1000 + 40 + 8 + len("refs/heads/999/"))
    assert MAX_REFS_BYTES * 0.98 < len(msgspec.json.encode(listed(said[:most], ALL))) < 1 << 20


def test_the_own_branch_may_be_named_by_head() -> None:
    question = RefsQuestion(branches=["HEAD"])
    assert wants(question, "refs/heads/trunk", "trunk")
    assert not wants(question, "refs/heads/trunk", "")


@given(
    st.lists(
        st.one_of(st.binary(max_size=80), st.binary(max_size=40).map(lambda name: b"a" * 40 + b"\trefs/heads/" + name))
    )
)
def test_whatever_a_host_says_an_answer_has_only_refs_that_can_be_built(said: list[bytes]) -> None:
    for each in listed([line for whole in said for line in whole.split(b"\n")], ALL).refs:
        assert ref(each.name) == each.name
        assert each.name.startswith(("refs/heads/", "refs/tags/"))
        assert len(each.commit) in (40, 64)


# -- the process -----------------------------------------------------------------------------------------------------


class Asked:
    """A builder's folder, and processes that ask in it."""

    def __init__(self, base: Path, isolation: Isolation = NOT_ISOLATED) -> None:
        self.isolation = isolation
        self.settings = Settings(
            data=base / "data", path=os.environ["PATH"], environment={}, timeout=1, idle_timeout=1, grace=1
        )

    def start(self, address: str, *, timeout: float = 60.0, path: str = "", **asked: Any) -> subprocess.Popen[bytes]:
        """Start the process."""
        access = asked.pop("access", None)
        remote = Remote(project="demo", repository=address)
        settings = msgspec.structs.replace(self.settings, path=path or self.settings.path)
        job = RemoteJob(
            folder=str(self.settings.remotes / "one"),
            spec=spec_of_remote(remote, settings, isolation=self.isolation),
            timeout=timeout,
            access=access,
            **asked,
        )
        command = own_command("twistedipc.runner.remote")
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(job) + b"\n")
        process.stdin.flush()
        return process

    def answer(self, process: subprocess.Popen[bytes]) -> bytes:
        """Its answer; nothing is left of it."""
        assert process.stdout is not None
        assert process.stdin is not None
        with process:
            said = process.stdout.read()
            process.stdin.close()
        assert process.returncode == 0
        assert not list(self.settings.remotes.glob("*"))
        return said

    def refs(self, address: str, question: RefsQuestion = ALL, **more: Any) -> RefList:
        """Ask for the refs."""
        return msgspec.json.decode(self.answer(self.start(address, refs=question, **more)), type=RefList)

    def commits(self, address: str, *moved: Moved, watch: list[str] | None = None, **more: Any) -> CommitList:
        """Ask about commits."""
        question = CommitsQuestion(moved=list(moved), watch=watch or [])
        return msgspec.json.decode(self.answer(self.start(address, commits=question, **more)), type=CommitList)


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    return Asked(tmp_path)


def test_refs_and_head_of_a_repository(asked: Asked, tmp_path: Path) -> None:
    first = repository(tmp_path / "r", {"a": "1"})
    git(tmp_path / "r", "tag", "-a", "v1", "-m", "one")
    git(tmp_path / "r", "branch", "feature/größe#1")
    second = repository(tmp_path / "r", {"a": "2"})
    found = asked.refs(str(tmp_path / "r"), RefsQuestion(head=True, tags=["tags/v*"]))
    assert found == RefList(
        refs=[
            ListedRef("refs/heads/feature/größe#1", first),
            ListedRef("refs/heads/main", second),
            ListedRef("refs/tags/v1", first),
        ],
        head="main",
    )


def test_pull_requests_of_a_repository(asked: Asked, tmp_path: Path) -> None:
    first = repository(tmp_path / "r", {"a": "1"})
    git(tmp_path / "r", "tag", "-a", "v1", "-m", "one")
    for name in ("pull/7/head", "pull/7/merge", "merge-requests/8/head", "x/refs/heads/y"):
        git(tmp_path / "r", "update-ref", f"refs/{name}", first)
    found = asked.refs(str(tmp_path / "r"), RefsQuestion(pulls=True, tags=["tags/v*"]))
    names = ["refs/heads/main", "refs/tags/v1", "refs/pull/7/head", "refs/merge-requests/8/head"]
    assert found.refs == [ListedRef(name, first) for name in names]
    (moved,) = asked.commits(str(tmp_path / "r"), Moved(ref="refs/pull/7/head", commit=first)).commits
    assert moved.commit == first


def test_an_empty_repository_has_none_and_one_that_is_not_there_says_so(asked: Asked, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", "--bare", str(tmp_path / "empty")], check=True)
    assert asked.refs(f"file://{tmp_path}/empty") == RefList()
    found = asked.refs(str(tmp_path / "nowhere"))
    assert found.failed.startswith(f"{tmp_path}/nowhere can't be fetched")


def test_what_of_a_commit_decides_whether_it_builds(asked: Asked, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    first = repository(folder, {"apps/shop/a": "1", "docs/x": "1"})
    second = repository(folder, {"docs/x": "2"}, message="Fix the docs\n\n[skip ci]")
    git(folder, "branch", "other", first)
    main = Moved(ref="refs/heads/main", commit=second, before=first)
    (one,) = asked.commits(str(folder), main).commits
    assert (one.subject, one.skip, one.touches) == ("Fix the docs", True, None)
    moved = (main, Moved(ref="refs/heads/other", commit=first))
    found = asked.commits(str(folder), *moved, watch=["apps/shop"]).commits
    assert [(each.ref, each.skip, each.touches) for each in found] == [
        ("refs/heads/main", True, False),
        ("refs/heads/other", False, None),
    ]
    (one,) = asked.commits(str(folder), main, watch=["docs"]).commits
    assert one.touches is True


def test_a_ref_that_has_moved_on_is_told_where_it_is_now(asked: Asked, tmp_path: Path) -> None:
    commit = repository(tmp_path / "r", {"a": "1"})
    git(tmp_path / "r", "tag", "-a", "v1", "-m", "one")
    moved = [Moved(ref=f"refs/{name}", commit=A, before=commit) for name in ("heads/main", "heads/no", "tags/v1")]
    found = asked.commits(str(tmp_path / "r"), *moved).commits
    assert [(each.ref, each.commit) for each in found] == [("refs/heads/main", commit), ("refs/tags/v1", commit)]
    away = Moved(ref="refs/heads/main", commit=commit, before=B)
    (one,) = asked.commits(str(tmp_path / "r"), away, watch=["a"]).commits
    assert one.touches is None


@needs_sshd
def test_by_ssh_the_key_is_shown_and_the_host_is_pinned(asked: Asked, tmp_path: Path) -> None:
    server = SshServer(tmp_path / "sshd")
    server.start()
    try:
        private, public = deploy_key(tmp_path)
        commit = repository(tmp_path / "r", {"a": "1"})
        address = server.address(tmp_path / "r")
        found = asked.refs(address, access=of_key(server, private))
        assert "doesn't accept the project's deploy key" in found.failed
        assert [line.split()[2] for line in found.host_keys if "ed25519" in line] == [server.host_key.split()[1]]
        server.authorized.write_text(public)
        found = asked.refs(address, access=of_key(server, private, found.host_keys))
        assert (found.refs, found.host_keys) == ([ListedRef("refs/heads/main", commit)], [])
    finally:
        server.stop()


@pytest.fixture
def http(tmp_path: Path) -> Iterator[HttpServer]:
    (tmp_path / "served").mkdir()
    server = HttpServer(tmp_path / "served")
    yield server
    server.stop()


def test_by_http_the_token_is_shown(asked: Asked, tmp_path: Path, http: HttpServer) -> None:
    commit = repository(tmp_path / "served" / "r", {"a": "1"})
    address = f"{http.url}/r/.git"
    assert asked.refs(address, access=of_token(http)).refs == [ListedRef("refs/heads/main", commit)]
    (one,) = asked.commits(address, Moved(ref="refs/heads/main", commit=commit), access=of_token(http)).commits
    assert one.subject == "first commit"
    assert "doesn't accept the project's git_token" in asked.refs(address, access=of_token(http, "wrong")).failed


class Deaf:
    """A server of git's own protocol that takes connections, and says nothing; or refs without an end."""

    def __init__(self, endless: bool = False) -> None:
        self.connections: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"git://127.0.0.1:{self._listening.getsockname()[1]}/r.git"
        self._endless = endless
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.connections.append(connection)
            if self._endless:
                threading.Thread(target=self._say, args=(connection,), daemon=True).start()

    def _say(self, connection: socket.socket) -> None:
        number = 0
        try:
            while True:
                said = b"".join(_packet(f"{A} refs/heads/b{number + each:09}\n") for each in range(1000))
                connection.sendall(said)
                number += 1000
        except OSError:
            pass

    def close(self) -> None:
        for each in [self._listening, *self.connections]:
            each.close()


def _packet(text: str) -> bytes:
    return f"{len(text) + 4:04x}{text}".encode()


@pytest.mark.parametrize("endless", [False, True])
def test_a_host_that_does_not_come_to_an_end_has_a_deadline(asked: Asked, endless: bool) -> None:
    server = Deaf(endless)
    try:
        found = asked.refs(server.address, timeout=1.0)
        assert found.failed == f"{server.address} can't be asked: its host hasn't answered within 1 seconds"
    finally:
        server.close()


def test_what_a_host_lists_has_a_bound(asked: Asked, tmp_path: Path) -> None:
    fake = tmp_path / "git"
    fake.write_text("#!/bin/sh\nexec yes 'the same again'\n")
    fake.chmod(0o755)
    found = asked.refs("https://git.example/r.git", path=f"{tmp_path}:{os.environ['PATH']}")
    assert found.failed == "the host of https://git.example/r.git lists branches without an end"


def test_a_hundred_thousand_refs_are_refused_unless_few_are_named(asked: Asked, tmp_path: Path) -> None:
    commit = repository(tmp_path / "r", {"a": "1"})
    packed = "".join(f"{commit} refs/heads/b{number:06}\n" for number in range(100_000))
    (tmp_path / "r" / ".git" / "packed-refs").write_text(f"# pack-refs with: peeled fully-peeled sorted \n{packed}")
    found = asked.refs(str(tmp_path / "r"))
    assert (found.refs, found.failed.partition(":")[0]) == (
        [],
        "it has 100001 branches and tags that the project's filters let through, and at most 5000 can be looked after "
        "by polling (640 KiB with their names)",
    )
    found = asked.refs(str(tmp_path / "r"), RefsQuestion(branches=["main", "b00000*"]))
    assert (len(found.refs), found.narrowed, found.failed) == (11, True, "")


def test_it_ends_when_nobody_waits_for_it(asked: Asked) -> None:
    server = Deaf()
    try:
        process = asked.start(server.address, refs=ALL)
        until(lambda: server.connections, "git has connected")
        assert process.stdin is not None
        process.stdin.close()
        with process:
            process.wait(30)
        assert not list(asked.settings.remotes.glob("*"))
        server.connections[0].settimeout(30)
        while server.connections[0].recv(4096):  # git is gone too
            pass
    finally:
        server.close()


def test_it_is_isolated_as_a_checkout_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It sees the repository, and nothing of the builder's folder."""
    probe = Asked(tmp_path)
    found = find_isolation(
        Wanted(
            kind="auto", path=os.environ["PATH"], environment={}, data=str(probe.settings.data), readable=[], hidden=[]
        )
    )
    if found.kind == "none":
        pytest.skip("needs bubblewrap or Landlock")
    commit = repository(tmp_path / "r", {"a": "1"})
    isolated = Asked(tmp_path, found)
    secret = probe.settings.data / "attempts" / "seen"
    secret.parent.mkdir(parents=True)
    subprocess.run(["git", "clone", "--quiet", "--bare", str(tmp_path / "r"), str(secret)], check=True)
    assert isolated.refs(str(tmp_path / "r")).refs == [ListedRef("refs/heads/main", commit)]
    (tmp_path / "r" / ".git" / "config").write_text(f"[include]\n\tpath = {secret}/config\n[core]\n\tbare = false\n")
    (one,) = isolated.commits(str(tmp_path / "r"), Moved(ref="refs/heads/main", commit=commit)).commits
    assert one.subject == "first commit"


class Processes(TestCase):
    """The builder's way to the process."""

    timeout = 60

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.asked = Asked(self.folder)
        self.processes = RemoteProcesses(reactor, self.asked.settings.remotes)

    def job(self, address: str, path: str = "") -> RemoteJob:
        settings = msgspec.structs.replace(self.asked.settings, path=path or self.asked.settings.path)
        spec = spec_of_remote(Remote(project="demo", repository=address), settings)
        return RemoteJob(folder=str(settings.remotes / "one"), spec=spec, timeout=50.0, refs=ALL)

    async def test_it_answers(self) -> None:
        commit = repository(self.folder / "r", {"a": "1"})
        said = await self.processes.ask(self.job(str(self.folder / "r")))
        self.assertEqual([ListedRef("refs/heads/main", commit)], msgspec.json.decode(said, type=RefList).refs)

    async def test_a_question_that_nobody_waits_for_is_ended(self) -> None:
        server = Deaf()
        self.addCleanup(server.close)
        asking = self.processes.ask(self.job(server.address))
        while not server.connections:
            await deferLater(reactor, 0.01)
        asking.cancel()
        with self.assertRaises(CancelledError):
            await asking
        while any(isinstance(each, ProcessReader) for each in reactor.getReaders()):
            await deferLater(reactor, 0.01)
        self.assertEqual([], list(self.asked.settings.remotes.glob("*")))

    async def test_a_process_that_breaks_is_an_error(self) -> None:
        job = msgspec.structs.replace(self.job("https://git.example/r.git"), timeout=cast(Any, "soon"))
        with self.assertRaisesRegex(NoRemoteAnswer, "timeout"):
            await self.processes.ask(job)
        self.flushLoggedErrors()

    def test_what_was_left_is_removed(self) -> None:
        left = self.asked.settings.remotes / "old" / "credentials"
        left.mkdir(parents=True)
        (left / "key").write_text("secret")
        self.processes.clear()
        self.processes.clear()
        self.assertFalse(self.asked.settings.remotes.exists())
