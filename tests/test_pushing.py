"""The commit with the versions of a build, pushed to real servers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attempt_folder import Attempt, git, repository
from tests.git_servers import HttpServer, SshServer, needs_sshd
from tests.test_checkout_private import deploy_key, of_key, of_token
from twistedipc.builds.access import Access
from twistedipc.builds.attempt import Checkout, Release
from twistedipc.disk.files import write_file
from twistedipc.runner.checkout.failures import why_not_pushed
from twistedipc.runner.checkout.pushing import NotPushed, push

HOOK = "#!/bin/sh\n"
FILES = {
    "packages/a/package.json": '{"name": "a", "version": "1.0.0"}\n',
    "packages/a/run.sh": "exit 0\n",
    ".changeset/blue.md": "---\n---\n",
    "README.md": "Hello\n",
}
RELEASE = Release(
    message="Release a@1.1.0\n\n[skip ci]\n",
    author="Release Ünit <release@example.org>",
    time=1_700_000_000_123,
    files={
        "packages/a/package.json": b'{"name": "a", "version": "1.1.0"}\n',
        "packages/a/CHANGELOG.md": b"# a\n\n## 1.1.0\n",
        "packages/a/run.sh": b"exit 1\n",
        ".changeset/blue.md": None,
    },
)


@pytest.fixture
def ssh(tmp_path: Path) -> Iterator[SshServer]:
    server = SshServer(tmp_path / "sshd")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def http(tmp_path: Path) -> Iterator[HttpServer]:
    (tmp_path / "served").mkdir()
    server = HttpServer(tmp_path / "served")
    yield server
    server.stop()


class Remote:
    """A bare repository of a host, with one commit, and the attempts that push to it."""

    def __init__(self, base: Path, bare: Path | None = None, address: str = "", access: Access | None = None) -> None:
        self.base = base
        self.source = base / "source"
        repository(self.source, FILES)
        os.chmod(self.source / "packages/a/run.sh", 0o755)
        self.built = repository(self.source, {})
        self.bare = bare or base / "host.git"
        git(base, "clone", "--quiet", "--bare", str(self.source), str(self.bare))
        git(self.bare, "config", "receive.autogc", "false")  # it goes on in the background, and packs the refs
        self.address = address or str(self.bare)
        self.access = access
        self.slept: list[float] = []
        self._attempts = 0

    def push(self, release: Release = RELEASE, *, ref: str = "main", commit: str = "") -> str:
        self._attempts += 1
        one = Attempt(self.base, Path("/"), name=f"{self._attempts}-1", ref=ref)
        fields = {name: getattr(one.spec, name) for name in one.spec.__struct_fields__}
        write_file(one.folder / "spec.json", type(one.spec)(**(fields | {"repository": self.address})))
        checkout = Checkout(commit=commit or self.built, subject="x", author="Ada")
        write_file(one.folder / "checkout.json", checkout)
        write_file(one.folder / "release.json", release)
        if self.access is not None:
            (one.folder / "credentials").mkdir(mode=0o700)
            write_file(one.folder / "credentials" / "access.json", self.access, mode=0o600)
        return push(one.folder, self.slept.append)

    def refused(self, release: Release = RELEASE, *, ref: str = "main", commit: str = "") -> str:
        """Return why it isn't pushed; the host's branch is as it was."""
        before = self.tip
        with pytest.raises(NotPushed) as caught:
            self.push(release, ref=ref, commit=commit)
        assert self.tip == before
        return str(caught.value)

    @property
    def tip(self) -> str:
        return git(self.bare, "rev-parse", "refs/heads/main")

    def hook(self, name: str, script: str) -> None:
        path = self.bare / "hooks" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(HOOK + script)
        path.chmod(0o755)

    def another_commit(self) -> str:
        """Have somebody else push."""
        git(self.source, "fetch", "--quiet", str(self.bare), "main")
        git(self.source, "reset", "--quiet", "--hard", "FETCH_HEAD")
        made = repository(self.source, {"more": "x"}, message="more")
        git(self.source, "push", "--quiet", str(self.bare), "HEAD:main")
        return made


def test_the_commit_has_the_versions_and_nothing_else(tmp_path: Path) -> None:
    remote = Remote(tmp_path)
    commit = remote.push()
    assert remote.tip == commit
    assert git(remote.bare, "rev-parse", f"{commit}^") == remote.built
    shown = git(remote.bare, "show", "--no-patch", "--format=%an <%ae>|%cn|%at %ct|%B", commit)
    assert shown == "Release Ünit <release@example.org>|Release Ünit|1700000000 1700000000|Release a@1.1.0\n\n[skip ci]"
    changed = git(remote.bare, "diff", "--name-status", remote.built, commit).splitlines()
    assert changed == [
        "D\t.changeset/blue.md",
        "A\tpackages/a/CHANGELOG.md",
        "M\tpackages/a/package.json",
        "M\tpackages/a/run.sh",
    ]
    assert git(remote.bare, "ls-tree", commit, "packages/a/run.sh").startswith("100755 ")
    assert git(remote.bare, "show", f"{commit}:packages/a/package.json") == '{"name": "a", "version": "1.1.0"}'
    git(remote.bare, "fsck", "--strict")


def test_what_has_arrived_is_not_pushed_again(tmp_path: Path) -> None:
    """By a later attempt of the same build, even if others have pushed since."""
    remote = Remote(tmp_path)
    commit = remote.push()
    assert remote.push() == commit
    above = remote.another_commit()
    assert remote.push() == commit
    assert remote.tip == above


def test_a_lost_answer(tmp_path: Path) -> None:
    """The host has taken the commit, and dies before it says so."""
    remote = Remote(tmp_path)
    remote.hook("post-update", "kill -9 $PPID\n")
    commit = remote.push()
    assert remote.tip == commit
    assert git(remote.bare, "rev-list", "--count", "main") == "3"


def test_a_ref_that_has_moved_is_left_alone(tmp_path: Path) -> None:
    remote = Remote(tmp_path)
    moved = remote.another_commit()
    why = remote.refused()
    assert why.startswith(f"main has moved since commit {remote.built[:12]} was built: it is at {moved[:12]} now")
    assert why.endswith("nothing is published: a build of the newer commit does it")
    # Back, to something that never had the commit: as after a push by force.
    git(remote.source, "checkout", "--quiet", "--orphan", "other")
    other = repository(remote.source, {}, message="other")
    git(remote.source, "push", "--quiet", "--force", str(remote.bare), "HEAD:main")
    assert f"it is at {other[:12]} now" in remote.refused()


def test_somebody_else_is_faster(tmp_path: Path) -> None:
    remote = Remote(tmp_path)
    other = git(remote.source, "commit-tree", "-p", remote.built, "-m", "x", f"{remote.built}^{{tree}}")
    git(remote.source, "push", "--quiet", str(remote.bare), f"{other}:refs/heads/other")
    remote.hook("pre-receive", f"env -u GIT_QUARANTINE_PATH git update-ref refs/heads/main {other}\n")
    with pytest.raises(NotPushed, match=f"main has moved .* it is at {other[:12]} now"):
        remote.push()
    assert remote.tip == other


def test_a_host_that_guards_the_branch(tmp_path: Path) -> None:
    remote = Remote(tmp_path)
    remote.hook("pre-receive", "echo no; exit 1\n")
    why = remote.refused()
    assert "can't be pushed, so nothing is published: " in why
    assert "takes no pushes to that branch from the project's credentials: a rule of the host guards it" in why
    remote.address = str(tmp_path / "gone.git")
    with pytest.raises(NotPushed, match="can't be fetched"):
        remote.push()


def test_a_commit_that_changes_nothing_is_none(tmp_path: Path) -> None:
    remote = Remote(tmp_path)
    same = {"README.md": b"Hello\n", "gone": None}
    assert remote.push(Release(message="x", author="A <a@b>", time=0, files=same)) == remote.built
    assert remote.tip == remote.built


def test_only_a_branch_gets_a_commit(tmp_path: Path) -> None:
    remote = Remote(tmp_path)
    git(remote.bare, "tag", "v1", remote.built)
    for ref in ("v1", "tags/v1", "refs/tags/v1", remote.built):
        assert remote.refused(ref=ref).startswith(f"{ref} isn't a branch of ")
    git(remote.bare, "update-ref", "--no-deref", "HEAD", remote.built)
    assert remote.refused(ref="HEAD").startswith("HEAD isn't a branch of ")
    git(remote.bare, "symbolic-ref", "HEAD", "refs/heads/main")
    for ref in ("HEAD", "heads/main", "refs/heads/main"):
        assert remote.push(ref=ref) == remote.tip


def test_no_link_of_the_commit_is_replaced(tmp_path: Path) -> None:
    remote = Remote(tmp_path)
    (remote.source / "package.json").symlink_to("packages/a/package.json")
    remote.built = repository(remote.source, {})
    git(remote.source, "push", "--quiet", str(remote.bare), "HEAD:main")
    why = remote.refused(Release(message="x", author="A <a@b>", time=0, files={"package.json": b"{}"}))
    assert why.startswith("package.json isn't a plain file in the commit that was built")


def test_with_a_token_over_http(tmp_path: Path, http: HttpServer, capfd: pytest.CaptureFixture[str]) -> None:
    remote = Remote(tmp_path, http.folder / "host.git", f"{http.url}/host.git", of_token(http))
    commit = remote.push()
    assert remote.tip == commit
    assert http.token not in capfd.readouterr().out
    git(remote.bare, "config", "http.receivepack", "false")
    git(remote.bare, "update-ref", "refs/heads/main", remote.built)
    why = remote.refused()
    assert f"its git_token may not write to {http.url}/host.git: set one that may" in why
    assert "--push-versions false" in why


@needs_sshd
def test_with_a_deploy_key_over_ssh(tmp_path: Path, ssh: SshServer) -> None:
    private, public = deploy_key(tmp_path)
    ssh.authorized.write_text(public)
    pinned = [f"[127.0.0.1]:{ssh.port} {ssh.host_key}"]
    remote = Remote(tmp_path, None, ssh.address(tmp_path / "host.git"), of_key(ssh, private, pinned))
    assert remote.push() == remote.tip
    ssh.authorized.write_text("")
    assert "doesn't accept the project's deploy key" in remote.refused()


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("ERROR: The key you are authenticating with has been marked as read only.", "deploy key may read"),
        ("remote: ERROR: This deploy key does not have write access to this project.", "deploy key may read"),
        ("Gitea: User permission denied for writing.", "deploy key may read"),
        ("remote: error: GH006: Protected branch update failed for refs/heads/main.", "a rule of the host guards it"),
        ("! [remote rejected] main -> main (pre-receive hook declined)", "a rule of the host guards it"),
        ("Host key verification failed.", "doesn't know the host key"),
        ("fatal: the remote end hung up unexpectedly", "takes no push"),
    ],
)
def test_why_a_host_takes_no_push(said: str, sentence: str) -> None:
    access = Access(host="ssh://git.example", key="key")
    assert sentence in why_not_pushed("git@git.example:a/b.git", said, access, "demo")
