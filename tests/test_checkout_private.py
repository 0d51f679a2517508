"""The checkout of private repositories, their submodules and their large files, with real servers."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.attempt_folder import Attempt, git, repository, toml, until
from tests.git_servers import HttpServer, SshServer, needs_lfs, needs_sshd
from twistedipc.attempts.handover import hand_over
from twistedipc.attempts.mirrors import lock_mirror, remove_unused
from twistedipc.builds import names
from twistedipc.builds.access import ANY_USER, Access
from twistedipc.builds.attempt import Checkout, Contact, Secrets
from twistedipc.builds.isolation import NOT_ISOLATED, Isolation
from twistedipc.builds.settings import BuildSettings
from twistedipc.disk.files import read_file, write_file
from twistedipc.runner.checkout.git import CheckoutFailed
from twistedipc.runner.checkout.submodules import resolve
from twistedipc.runner.checkout.working_copy import check_out


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


def deploy_key(folder: Path) -> tuple[str, str]:
    """A deploy key: the private half, the public one."""
    path = folder / "deploy_key"
    path.unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True)
    return path.read_text(), path.with_suffix(".pub").read_text()


class Project:
    """A project of tests: its attempts one after another."""

    def __init__(
        self,
        base: Path,
        address: str,
        access: Access | None,
        settings: BuildSettings | None = None,
        *,
        name: str = "demo",
    ) -> None:
        self.base = base
        self.name = name
        self.address = address
        self.access = access
        self.settings = settings or BuildSettings()
        self.folder = base
        self._attempts = 0

    def check_out(self, ref: str = "main", *, head: bool = False) -> Checkout:
        """Make an attempt's checkout."""
        while self.folder.exists():
            self._attempts += 1
            self.folder = self.base / "attempts" / f"{self._attempts}-1-0123456789abcdef"
        one = Attempt(self.base, Path("/"), name=f"{self._attempts}-1", ref=ref)
        changed = {"repository": self.address, "settings": self.settings, "head": head, "project": self.name}
        fields = {name: getattr(one.spec, name) for name in one.spec.__struct_fields__}
        write_file(one.folder / "spec.json", type(one.spec)(**(fields | changed)))
        if self.access is not None:
            (one.folder / "credentials").mkdir(mode=0o700)
            write_file(one.folder / "credentials" / "access.json", self.access, mode=0o600)
        try:
            return check_out(one.folder, now=lambda: 7)
        finally:
            left = {path.name for path in (one.folder / "credentials").glob("*")}
            assert left <= {"access.json"}  # which the runner removes

    def refused(self, ref: str = "main") -> str:
        """Return why there is no working copy."""
        with pytest.raises(CheckoutFailed) as refused:
            self.check_out(ref)
        return str(refused.value)

    def contact(self) -> list[str]:
        """Return the host keys that the last attempt has seen first."""
        contact = read_file(self.folder / "contact.json", Contact)
        return contact.host_keys if contact else []


def of_key(server: SshServer, key: str, known_hosts: list[str] | None = None) -> Access:
    return Access(host=f"ssh://127.0.0.1:{server.port}", key=key, known_hosts=known_hosts or [])


def of_token(server: HttpServer, token: str | None = None) -> Access:
    return Access(host=server.url, username=ANY_USER, token=server.token if token is None else token)


# -- over ssh --------------------------------------------------------------------------------------------------------


@needs_sshd
def test_a_deploy_key_and_the_host_s_key(tmp_path: Path, ssh: SshServer, capfd: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "source"
    commit = repository(source, {"file": "x"})
    private, public = deploy_key(tmp_path)
    project = Project(tmp_path, ssh.address(source), of_key(ssh, private))
    # The key isn't at the host yet; the host's own is pinned already.
    assert "doesn't accept the project's deploy key. Add its public half" in project.refused()
    pinned = project.contact()
    assert pinned == [f"[127.0.0.1]:{ssh.port} {ssh.host_key}"]
    ssh.authorized.write_text(public)
    project.access = of_key(ssh, private, pinned)
    assert project.check_out().commit == commit
    assert project.contact() == []
    assert git(project.folder / "work", "remote", "get-url", "origin") == ssh.address(source)
    # Another host key.
    ssh.stop()
    ssh.new_host_key()
    ssh.start()
    why = project.refused()
    assert "has shown another host key than the one that is pinned (SHA256:" in why
    assert "twistedipc project hosts demo --forget" in why
    project.access = of_key(ssh, private)
    assert project.check_out().commit == commit
    assert project.contact() == [f"[127.0.0.1]:{ssh.port} {ssh.host_key}"]
    assert "PRIVATE KEY" not in capfd.readouterr().out


@needs_sshd
def test_a_host_s_name_with_capitals(tmp_path: Path, ssh: SshServer) -> None:
    source = tmp_path / "source"
    commit = repository(source, {"file": "x"})
    private, public = deploy_key(tmp_path)
    ssh.authorized.write_text(public)
    address = ssh.address(source).replace("127.0.0.1", "LocalHost")
    project = Project(tmp_path, address, Access(host=names.host(address), key=private))
    assert project.check_out().commit == commit
    assert project.contact() == [f"[localhost]:{ssh.port} {ssh.host_key}"]


@needs_sshd
def test_a_key_for_another_host_isn_t_used(tmp_path: Path, ssh: SshServer) -> None:
    source = tmp_path / "source"
    repository(source, {"file": "x"})
    private, public = deploy_key(tmp_path)
    ssh.authorized.write_text(public)
    access = Access(host="ssh://git.example", key=private)
    project = Project(tmp_path, ssh.address(source), access)
    assert project.refused().startswith("the project's credentials are for ssh://git.example, not for")


@needs_sshd
def test_nothing_of_the_key_is_left(tmp_path: Path, ssh: SshServer) -> None:
    source = tmp_path / "source"
    repository(source, {"file": "x"})
    private, public = deploy_key(tmp_path)
    ssh.authorized.write_text(public)
    project = Project(tmp_path, ssh.address(source), of_key(ssh, private))
    project.check_out()
    secret = private.splitlines()[1].encode()
    for path in [*(tmp_path / "attempts").rglob("*"), *(tmp_path / "mirrors-private").rglob("*")]:
        assert not path.is_file() or path.name == "access.json" or secret not in path.read_bytes(), path


# -- over http -------------------------------------------------------------------------------------------------------


def test_a_token(tmp_path: Path, http: HttpServer, capfd: pytest.CaptureFixture[str]) -> None:
    commit = repository(http.folder / "app", {"file": "x"})
    project = Project(tmp_path, f"{http.url}/app", None)
    assert "twistedipc project secret demo git_token" in project.refused()
    project.access = of_token(http, "another-token")
    assert "doesn't accept the project's git_token" in project.refused()
    project.access = of_token(http)
    assert project.check_out().commit == commit
    assert http.token not in capfd.readouterr().out
    for path in [*(tmp_path / "attempts").rglob("*"), *(tmp_path / "mirrors-private").rglob("*")]:
        assert not path.is_file() or path.name == "access.json" or http.token.encode() not in path.read_bytes(), path


def test_what_is_private_stays_with_who_has_the_token(tmp_path: Path, http: HttpServer) -> None:
    """A commit that this builder has already is no answer for a project without credentials, or with wrong ones."""
    commit = repository(http.folder / "app", {"file": "x"})
    address = f"{http.url}/app"
    project = Project(tmp_path, address, of_token(http))
    assert project.check_out().commit == commit
    for access in (None, of_token(http, "another-token")):
        project.access = access
        assert "can't be fetched" in project.refused(commit)
    project.access = of_token(http)
    assert project.check_out(commit).commit == commit


def test_the_token_goes_to_its_host_alone(tmp_path: Path, http: HttpServer) -> None:
    (tmp_path / "other").mkdir()
    other = HttpServer(tmp_path / "other")
    try:
        inner = repository(other.folder / "lib", {"file": "x"})
        submodule(http.folder / "app", "lib", f"{other.url}/lib", inner)
        project = Project(tmp_path, f"{http.url}/app", of_token(http))
        assert f"{other.url}/lib can't be fetched" in project.refused()
        assert {authorization for _path, authorization in other.asked} == {""}
    finally:
        other.stop()


# -- HEAD ------------------------------------------------------------------------------------------------------------


def test_the_repository_s_own_head(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "source"
    first = repository(source, {"file": "x"})
    git(source, "branch", "-m", "main", "trunk/é")
    project = Project(tmp_path, str(source), None)
    found = project.check_out("HEAD")
    assert (found.commit, found.head) == (first, "trunk/é")
    assert "HEAD stands for the branch trunk/é." in capfd.readouterr().out
    git(source, "checkout", "--quiet", "-b", "next")
    second = repository(source, {"file": "y"})
    found = project.check_out("HEAD")
    assert (found.commit, found.head) == (second, "next")
    found = project.check_out("trunk/é", head=True)
    assert (found.commit, found.head) == (first, "next")
    assert project.check_out("next").head == ""
    git(source, "checkout", "--quiet", "--detach", first)
    found = project.check_out("HEAD")
    assert (found.commit, found.head) == (first, "")


def test_a_head_that_leads_nowhere(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    git(source, "init", "--quiet", "--bare", "--template=")
    project = Project(tmp_path, str(source), None)
    assert project.refused("HEAD") == f"there is no branch, tag or commit HEAD in {source}"


# -- submodules ------------------------------------------------------------------------------------------------------


def submodule(path: Path, at: str, address: str, commit: str, more: str = "") -> str:
    """Add a submodule to a repository, without looking for it: the commit."""
    if not path.exists():
        repository(path, {"file": "x"}, message="without")
    if (path / ".gitmodules").exists():
        more = (path / ".gitmodules").read_text() + more
    (path / ".gitmodules").write_text(f'{more}[submodule "{at}"]\n\tpath = {at}\n\turl = {address}\n')
    git(path, "add", ".gitmodules")
    git(path, "update-index", "--add", "--cacheinfo", f"160000,{commit},{at}")
    git(path, "commit", "--quiet", "-m", "with a submodule")
    return git(path, "rev-parse", "HEAD")


def test_submodules_with_the_token(tmp_path: Path, http: HttpServer) -> None:
    """Relative ones, one in another, and one that is named by the same host's address for ssh."""
    base = http.folder / "acme"
    icons = repository(base / "icons", {"icon.svg": "an icon"})
    theme = submodule(base / "theme", "deep/icons", "./../icons", icons)
    fonts = repository(base / "fonts", {"a.woff": "a font"})
    submodule(base / "app", "theme", "../theme", theme)
    submodule(base / "app", "vendor/fonts", "git@127.0.0.1:acme/fonts", fonts)
    never = '[submodule "nowhere"]\n\tupdate = none\n'
    submodule(base / "app", "nowhere", "ext::sh -c 'touch /tmp/never'", fonts, never)
    project = Project(tmp_path, f"{http.url}/acme/app", of_token(http))
    project.check_out()
    work = project.folder / "work"
    assert (work / "theme/deep/icons/icon.svg").read_text() == "an icon"
    assert (work / "vendor/fonts/a.woff").read_text() == "a font"
    assert git(work, "status", "--porcelain") == ""
    assert git(work / "theme", "remote", "get-url", "origin") == f"{http.url}/acme/theme"
    project.settings = BuildSettings(submodules=False)
    project.check_out()
    assert list((project.folder / "work/theme").iterdir()) == []


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("ext::sh -c 'touch PROOF'", "begins with https://|without spaces"),
        ("ext::PROOF", "begins with https://"),
        ("file:///etc", "it is in a local folder"),
        ("/etc", "it is in a local folder"),
        ("../../../../../x", "leads out of|begins with"),
        ("--upload-pack=PROOF", "gitmodulesUrl: disallowed submodule url"),
        ("https://ada:secret@git.example/x", "git_token"),
    ],
)
def test_submodules_that_aren_t_allowed(tmp_path: Path, http: HttpServer, address: str, why: str) -> None:
    proof = tmp_path / "proof"
    submodule(http.folder / "open" / "app", "lib", address.replace("PROOF", str(proof)), "0" * 39 + "1")
    project = Project(tmp_path, f"{http.url}/open/app", None)
    with pytest.raises(CheckoutFailed, match=why) as refused:
        project.check_out()
    assert str(refused.value).startswith(("the submodule lib can't be checked out", f"{project.address} can't be"))
    assert not proof.exists()


def test_submodules_without_an_end(tmp_path: Path, http: HttpServer) -> None:
    """A repository that has itself, of another commit each time, as its submodule."""
    path = http.folder / "open" / "app"
    commit = repository(path, {"file": "x"})
    for _ in range(9):
        commit = submodule(path, "again", "../app", commit)
    project = Project(tmp_path, f"{http.url}/open/app", None)
    assert "--no-submodules" in project.refused()


@pytest.mark.parametrize(
    ("base", "address", "expected"),
    [
        ("https://git.example/acme/app.git", "../lib.git", "https://git.example/acme/lib.git"),
        ("https://git.example/acme/app/", "../../b/lib", "https://git.example/b/lib"),
        ("https://git.example/acme/app", "./lib", "https://git.example/acme/app/lib"),
        ("git@git.example:acme/app.git", "../lib.git", "git@git.example:acme/lib.git"),
        ("git@git.example:acme/app.git", "../../lib.git", "git@git.example:lib.git"),
        ("git@git.example:app", "../lib/", "git@git.example:lib"),
        ("https://git.example/a", "https://other.example/lib", "https://other.example/lib"),
    ],
)
def test_relative_addresses_of_submodules(base: str, address: str, expected: str) -> None:
    assert resolve(base, address) == expected
    assert names.repository(expected)


# -- Git LFS ---------------------------------------------------------------------------------------------------------

ATTRIBUTES = {"img/.gitattributes": "*.png filter=lfs diff=lfs merge=lfs -text\n", "img/real.png": "a picture"}


@needs_lfs
def test_large_files_with_the_token(tmp_path: Path, http: HttpServer) -> None:
    pointer = http.put_large(b"\x89PNG" + bytes(100_000))
    repository(http.folder / "app", {**ATTRIBUTES, "img/ä b.png": pointer})
    project = Project(tmp_path, f"{http.url}/app", of_token(http))
    project.check_out()
    work = project.folder / "work"
    assert (work / "img/ä b.png").read_bytes() == b"\x89PNG" + bytes(100_000)
    assert git(work, "status", "--porcelain", "--", "img/ä b.png") == ""
    downloads = [path for path, _ in http.asked if "/lfs-object/" in path]
    project.check_out()
    assert [path for path, _ in http.asked if "/lfs-object/" in path] == downloads  # once for all attempts
    project.settings = BuildSettings(lfs=False)
    project.check_out()
    assert (project.folder / "work/img/ä b.png").read_text() == pointer
    # The repository's own settings win.
    project.settings = BuildSettings()
    repository(http.folder / "app", {".twistedipc.toml": "[build]\nlfs = false\n"})
    project.check_out()
    assert (project.folder / "work/img/ä b.png").read_text() == pointer


@needs_lfs
def test_large_files_that_aren_t_there(tmp_path: Path, http: HttpServer) -> None:
    pointer = http.put_large(b"gone")
    http.large.clear()
    repository(http.folder / "app", {**ATTRIBUTES, "img/x.png": pointer})
    project = Project(tmp_path, f"{http.url}/app", of_token(http))
    assert "files of the repository are in Git LFS (img/x.png), and can't be fetched" in project.refused()


def test_large_files_without_git_lfs(tmp_path: Path, http: HttpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    pointer = http.put_large(b"x")
    repository(http.folder / "app", {**ATTRIBUTES, "img/x.png": pointer, "img/y.png": pointer})
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("git", "sh", "cat"):
        os.symlink(shutil.which(tool) or "", folder / tool)
    monkeypatch.setenv("PATH", str(folder))
    # git looks for its commands in its own folder too.
    monkeypatch.setenv("GIT_EXEC_PATH", git_core_without_lfs(tmp_path))
    project = Project(tmp_path, f"{http.url}/app", of_token(http))
    why = project.refused()
    assert why.startswith(
        "files of the repository are in Git LFS (img/x.png, img/y.png), and the builder has no git-lfs"
    )
    assert "--no-lfs" in why
    project.settings = BuildSettings(lfs=False)
    project.check_out()


def git_core_without_lfs(base: Path) -> str:
    """git's folder of commands, without git-lfs, if it is there."""
    core = Path(subprocess.run(["git", "--exec-path"], check=True, capture_output=True, text=True).stdout.strip())
    copy = base / "core"
    copy.mkdir()
    for each in core.iterdir():
        if each.name != "git-lfs":
            os.symlink(each, copy / each.name)
    return str(copy)


# -- the whole runner ------------------------------------------------------------------------------------------------

FOUND = "cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -c \"the-token-o[f]\"; true"
ENVIRONMENT = f"env; ls -la ..; cat ../credentials/* ../spec.json; git config --list; git fetch origin; {FOUND}"


def run_private(base: Path, address: str, access: Access, *, isolation: Isolation = NOT_ISOLATED) -> Attempt:
    """Run an attempt whose runner asks for what the checkout needs, and is given it."""
    one = Attempt(base, Path(address), isolation=isolation)
    one.spec = msgspec.structs.replace(one.spec, repository=address, asks=["checkout"])
    write_file(one.folder / "spec.json", one.spec)
    one.start()
    until(lambda: (one.folder / "secrets.wanted").exists(), "it asks")
    hand_over(one.folder, Secrets(granted=True, checkout=access))
    return one


def test_only_the_checkout_step_has_the_token(tmp_path: Path, http: HttpServer) -> None:
    files = {".twistedipc.toml": toml(ENVIRONMENT), "file": "x"}
    commit = repository(http.folder / "app", files, message=f"the token is {http.token}")
    one = run_private(tmp_path, f"{http.url}/app", of_token(http))
    result = one.wait()
    assert (result.outcome, result.commit) == ("succeeded", commit), one.output()
    assert result.subject == "the token is ***"
    log = "\n".join(one.output())
    assert http.token not in log
    assert "could not read Username" in log  # the build's own fetch has no credentials
    assert one.output(1)[-1] == "0"  # no process has it in its environment or its command line
    assert not (one.folder / "credentials").exists()
    for path in tmp_path.rglob("*"):
        # The commit itself has it in its message.
        if path.is_file() and not {"served", "objects", "checkout.json"} & set(path.parts):
            assert http.token.encode() not in path.read_bytes(), path


def test_nothing_is_fetched_from_this_machine_if_the_apiserver_says_so(tmp_path: Path, http: HttpServer) -> None:
    """It has looked before, but from its own machine, and a name may lead elsewhere by now."""
    repository(http.folder / "app", {"file": "x"})
    for address in (f"{http.url}/app", f"{http.url.replace('127.0.0.1', 'localhost')}/app"):
        one = Attempt(tmp_path / address.rpartition(":")[0].rpartition("/")[2], Path(address))
        one.spec = msgspec.structs.replace(one.spec, repository=address, elsewhere=True)
        write_file(one.folder / "spec.json", one.spec)
        one.start()
        result = one.wait()
        assert result.outcome == "failed"
        assert "this machine itself, from which nothing is fetched" in result.reason
        assert "http.internal_repositories" in result.reason


def test_a_wrong_token_fails_the_build_with_a_sentence(tmp_path: Path, http: HttpServer) -> None:
    repository(http.folder / "app", {"file": "x"})
    one = run_private(tmp_path, f"{http.url}/app", of_token(http, "another-token"))
    result = one.wait()
    assert result.outcome == "failed"
    assert "doesn't accept the project's git_token" in result.reason
    assert [step.name for step in result.steps] == ["checkout"]


@needs_sshd
def test_the_host_key_is_told_even_if_the_checkout_fails(tmp_path: Path, ssh: SshServer) -> None:
    source = tmp_path / "source"
    repository(source, {"file": "x"})
    private, _public = deploy_key(tmp_path)
    result = run_private(tmp_path, ssh.address(source), of_key(ssh, private)).wait()
    assert result.outcome == "failed"
    assert result.host_keys == [f"[127.0.0.1]:{ssh.port} {ssh.host_key}"]


# -- mirrors ---------------------------------------------------------------------------------------------------------


def test_mirrors_that_nothing_uses_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / "mirrors"
    for name in ("old.git", "new.git", "used.git"):
        os.close(lock_mirror(folder / name, lambda: None))
        (folder / name / "objects").mkdir(parents=True)
    (folder / "old.git.sha256").mkdir()
    os.utime(folder / "old.git.lock", (1000, 1000))
    used = lock_mirror(folder / "used.git", lambda: None)
    os.utime(folder / "used.git.lock", (1000, 1000))
    assert remove_unused(folder, before=2000) == ["old.git"]
    assert sorted(path.name for path in folder.iterdir()) == ["new.git", "new.git.lock", "used.git", "used.git.lock"]
    os.close(used)
    assert remove_unused(folder, before=2000) == ["used.git"]
    assert remove_unused(folder / "nothing", before=2000) == []


def test_who_waits_for_a_mirror_that_is_removed_makes_another(tmp_path: Path) -> None:
    mirror = tmp_path / "x.git"
    held = lock_mirror(mirror, lambda: None)

    def removed() -> None:
        (tmp_path / "x.git.lock").unlink()
        os.close(held)

    lock = lock_mirror(mirror, removed)
    assert os.fstat(lock).st_ino == os.stat(tmp_path / "x.git.lock").st_ino
    os.close(lock)
