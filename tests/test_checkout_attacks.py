"""
What others may have put into a mirror, and what a repository may bring with it: none of it is checked out under another
commit's id, and none of it runs.

Each attack is shown to be one first: git by itself takes what the test has put there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.attempt_folder import GIT, Attempt, git, repository, toml
from tests.git_servers import HttpServer, needs_lfs
from tests.test_checkout_private import ATTRIBUTES, Project, git_core_without_lfs, of_token, run_private, submodule
from tests.test_isolation_bubblewrap import BWRAP, needs_bubblewrap
from twistedipc.attempts.mirrors import remove_unused
from twistedipc.builds.attempt import Checkout
from twistedipc.builds.isolation import NOT_ISOLATED, Isolation
from twistedipc.isolation.landlock import writing_below
from twistedipc.runner.checkout.git import CheckoutFailed, Git, environment_of_git
from twistedipc.runner.checkout.working_copy import check_out


class Mirrored:
    """A repository that was checked out once, so that the builder has its mirror."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.source = base / "source"
        self.first = repository(self.source, {"file": "one", "folder/inner": "inner"})
        git(self.source, "tag", "-a", "-m", "a tag", "v1")
        self.commit = repository(self.source, {"file": "two"}, message="second")
        self.mirror = base / "mirrors" / "demo"
        self._attempts = 0
        self.work = self.check_out()

    def check_out(self, ref: str = "main") -> Path:
        """Make an attempt's checkout: its working copy."""
        self._attempts += 1
        one = Attempt(self.base, self.source, name=f"{self._attempts}-1", ref=ref)
        self.found: Checkout = check_out(one.folder, now=lambda: 7)
        return one.folder / "work"

    def object(self, name: str) -> Path:
        """The file in the mirror with an object, which lies there by itself then."""
        path = self.mirror / "objects" / name[:2] / name[2:]
        for pack in (self.mirror / "objects/pack").glob("*.pack"):
            aside = pack.rename(self.base / pack.name)
            with aside.open("rb") as content:
                command = ["git", "-C", str(self.mirror), "unpack-objects", "-q"]
                subprocess.run(command, stdin=content, env=GIT, check=True)
            for rest in pack.parent.glob(f"{pack.stem}.*"):
                rest.unlink()
        assert path.exists()
        path.chmod(0o644)
        return path

    def replace_object(self, name: str, kind: str, content: bytes) -> None:
        """Write other content under an object's id."""
        self.object(name).write_bytes(zlib.compress(f"{kind} {len(content)}\0".encode() + content))

    @property
    def thrown(self) -> list[Path]:
        """The mirrors that were thrown away."""
        return [path for path in self.mirror.parent.iterdir() if ".thrown-" in path.name]


@pytest.fixture
def http(tmp_path: Path) -> Iterator[HttpServer]:
    (tmp_path / "served").mkdir()
    server = HttpServer(tmp_path / "served")
    yield server
    server.stop()


@pytest.fixture
def mirrored(tmp_path: Path) -> Mirrored:
    return Mirrored(tmp_path)


def in_git(folder: Path, *arguments: str) -> str:
    """What git itself prints in a bare repository; its errors too."""
    done = subprocess.run(["git", "-C", str(folder), *arguments], env=GIT, check=False, capture_output=True, text=True)
    return done.stdout + done.stderr


# -- objects that aren't what their ids say --------------------------------------------------------------------------


def test_a_file_under_another_s_id(mirrored: Mirrored, capfd: pytest.CaptureFixture[str]) -> None:
    blob = git(mirrored.source, "rev-parse", "main:file")
    mirrored.replace_object(blob, "blob", b"mine")
    assert in_git(mirrored.mirror, "show", "main:file") == "mine"  # git believes it
    work = mirrored.check_out()
    assert (work / "file").read_text() == "two"
    assert mirrored.found.commit == mirrored.commit
    said = capfd.readouterr().out
    assert f"is bad: its object {blob} isn't what its id says. It is thrown away." in said
    assert len(mirrored.thrown) == 1
    assert (mirrored.check_out() / "file").read_text() == "two"
    assert "is bad" not in capfd.readouterr().out


def test_the_same_for_a_commit_that_is_here_already(mirrored: Mirrored) -> None:
    mirrored.replace_object(git(mirrored.source, "rev-parse", "main:folder/inner"), "blob", b"mine")
    assert (mirrored.check_out(mirrored.commit) / "folder/inner").read_text() == "inner"


def test_a_folder_under_another_s_id(mirrored: Mirrored) -> None:
    evil = _write_blob(mirrored.mirror, b"mine")
    tree = git(mirrored.source, "rev-parse", "main:folder")
    mirrored.replace_object(tree, "tree", b"100644 inner\0" + bytes.fromhex(evil))
    assert in_git(mirrored.mirror, "cat-file", "-p", "main:folder/inner") == "mine"
    assert (mirrored.check_out() / "folder/inner").read_text() == "inner"


def _write_blob(mirror: Path, content: bytes) -> str:
    name = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    path = mirror / "objects" / name[:2] / name[2:]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(zlib.compress(b"blob %d\0" % len(content) + content))
    return name


def test_a_commit_under_another_s_id(mirrored: Mirrored) -> None:
    tree = git(mirrored.source, "rev-parse", f"{mirrored.first}^{{tree}}")
    content = f"tree {tree}\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nmine\n".encode()
    mirrored.replace_object(mirrored.commit, "commit", content)
    assert (mirrored.check_out() / "file").read_text() == "two"
    mirrored.replace_object(mirrored.commit, "commit", content)
    assert (mirrored.check_out(mirrored.commit) / "file").read_text() == "two"


def test_a_tag_under_another_s_id(mirrored: Mirrored) -> None:
    mirrored.check_out("v1")
    tag = git(mirrored.source, "rev-parse", "v1")
    content = f"object {mirrored.commit}\ntype commit\ntag v1\ntagger A <a@b> 1 +0000\n\nmine\n".encode()
    mirrored.replace_object(tag, "tag", content)
    mirrored.check_out("v1")
    assert mirrored.found.commit == mirrored.first


def test_an_object_that_is_missing_or_damaged(mirrored: Mirrored) -> None:
    blob = mirrored.object(git(mirrored.source, "rev-parse", "main:file"))
    blob.unlink()
    assert (mirrored.check_out() / "file").read_text() == "two"
    for name in ("main:file", "main:folder", "main^{tree}", "main"):
        mirrored.object(git(mirrored.source, "rev-parse", name)).write_bytes(b"")
        assert (mirrored.check_out() / "file").read_text() == "two", name
    # A pack, in the middle.
    git(mirrored.mirror, "repack", "-adq")
    (pack,) = (mirrored.mirror / "objects/pack").glob("*.pack")
    pack.chmod(0o644)
    data = bytearray(pack.read_bytes())
    data[12:-20] = bytes(len(data) - 32)
    pack.write_bytes(data)
    assert (mirrored.check_out() / "file").read_text() == "two"


def test_a_repository_with_sha256_ids(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "crafted"
    path.mkdir()
    git(path, "init", "--quiet", "--initial-branch=main", "--template=", "--object-format=sha256")
    repository(path, {"file": "two"})
    project = Project(tmp_path, str(path), None)
    project.check_out()
    (mirror,) = (tmp_path / "mirrors").glob("*.sha256")
    replace_file(mirror, git(path, "rev-parse", "main:file"))
    project.check_out()
    assert (project.folder / "work/file").read_text() == "two"
    assert "isn't what its id says" in capfd.readouterr().out


def test_a_submodule(tmp_path: Path, http: HttpServer, capfd: pytest.CaptureFixture[str]) -> None:
    inner = repository(http.folder / "open/lib", {"file": "two"})
    submodule(http.folder / "open/app", "lib", "../lib", inner)
    project = Project(tmp_path, f"{http.url}/open/app", None)
    project.check_out()
    (mirror,) = (tmp_path / "mirrors").glob("*-lib-*.git")
    replace_file(mirror, git(http.folder / "open/lib", "rev-parse", "main:file"))
    project.check_out()
    assert (project.folder / "work/lib/file").read_text() == "two"
    assert f"mirror of {http.url}/open/lib is bad" in capfd.readouterr().out


def replace_file(mirror: Path, name: str) -> None:
    """Have another file under an id: git reads the one that lies by itself, and not the one in the pack."""
    path = mirror / "objects" / name[:2] / name[2:]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(zlib.compress(b"blob 4\0mine"))
    for pack in (mirror / "objects/pack").glob("*.pack"):
        aside = pack.rename(mirror.parent / pack.name)
        with aside.open("rb") as content:
            subprocess.run(["git", "-C", str(mirror), "unpack-objects", "-q"], stdin=content, env=GIT, check=True)
        for rest in pack.parent.glob(f"{pack.stem}.*"):
            rest.unlink()
    assert in_git(mirror, "cat-file", "-p", name) == "mine"


def test_a_repository_that_is_bad_itself_fails(mirrored: Mirrored) -> None:
    """It is fetched twice, and not for ever."""
    blob = git(mirrored.source, "rev-parse", "main:file")
    path = mirrored.source / ".git/objects" / blob[:2] / blob[2:]
    path.chmod(0o644)
    path.write_bytes(zlib.compress(b"blob 4\0mine"))
    shutil.rmtree(mirrored.mirror)
    with pytest.raises(CheckoutFailed):
        mirrored.check_out()


# -- files that don't belong in a mirror -----------------------------------------------------------------------------


def _commondir(mirrored: Mirrored, proof: Path) -> str:
    """A configuration of somebody else's, which makes git run a command where it would fetch."""
    other = mirrored.base / "other.git"
    git(mirrored.base, "init", "--quiet", "--bare", "--template=", str(other))
    with (other / "config").open("a") as config:
        config.write(f'[url "ext::sh -c touch% {proof}% #"]\n\tinsteadOf = {mirrored.source}\n')
        config.write('[protocol "ext"]\n\tallow = always\n[taken]\n\tfrom = commondir\n')
    for name in ("objects", "refs"):
        shutil.rmtree(other / name)
        (other / name).symlink_to(mirrored.mirror / name)
    (mirrored.mirror / "commondir").write_text(f"{other}\n")
    in_git(mirrored.mirror, "-c", "protocol.allow=never", "fetch", str(mirrored.source))
    assert proof.exists()
    proof.unlink()
    return "commondir"


def _alternates(mirrored: Mirrored, _proof: Path) -> str:
    other = mirrored.base / "other.git"
    git(mirrored.base, "init", "--quiet", "--bare", "--template=", str(other))
    (mirrored.mirror / "objects/info").mkdir(exist_ok=True)
    (mirrored.mirror / "objects/info/alternates").write_text(f"{other}/objects\n")
    blob = _write_blob(other, b"mine")
    assert in_git(mirrored.mirror, "cat-file", "-p", blob) == "mine"
    return "objects/info/alternates"


def _grafts(mirrored: Mirrored, _proof: Path) -> str:
    (mirrored.mirror / "info").mkdir(exist_ok=True)
    (mirrored.mirror / "info/grafts").write_text(f"{mirrored.commit}\n")
    assert "first commit" not in in_git(mirrored.mirror, "log", "main")
    return "info/grafts"


def _shallow(mirrored: Mirrored, _proof: Path) -> str:
    (mirrored.mirror / "shallow").write_text(f"{mirrored.commit}\n")
    assert "first commit" not in in_git(mirrored.mirror, "log", "main")
    return "shallow"


def _replaced(mirrored: Mirrored, _proof: Path) -> str:
    blob = git(mirrored.source, "rev-parse", "main:file")
    path = mirrored.mirror / "refs/replace" / blob
    path.parent.mkdir()
    path.write_text(_write_blob(mirrored.mirror, b"mine") + "\n")
    assert in_git(mirrored.mirror, "show", "main:file") == "mine"
    return "refs/replace"


def _hooks(mirrored: Mirrored, proof: Path) -> str:
    (mirrored.mirror / "hooks").mkdir()
    hook = mirrored.mirror / "hooks/reference-transaction"
    hook.write_text(f"#!/bin/sh\ntouch '{proof}'\n")
    hook.chmod(0o755)
    in_git(mirrored.mirror, "update-ref", "refs/heads/x", mirrored.commit)
    assert proof.exists()
    proof.unlink()
    return "hooks"


def _worktree_config(mirrored: Mirrored, _proof: Path) -> str:
    (mirrored.mirror / "config.worktree").write_text("[taken]\n\tfrom = worktree\n")
    in_git(mirrored.mirror, "config", "extensions.worktreeConfig", "true")
    assert in_git(mirrored.mirror, "config", "taken.from") == "worktree\n"
    return "config.worktree"


def _worktrees(mirrored: Mirrored, _proof: Path) -> str:
    (mirrored.mirror / "worktrees/x").mkdir(parents=True)
    return "worktrees"


def _modules(mirrored: Mirrored, _proof: Path) -> str:
    (mirrored.mirror / "modules").mkdir()
    return "modules"


def _promised(mirrored: Mirrored, _proof: Path) -> str:
    """Objects that git would fetch when it needs them, from where this configuration says."""
    (mirrored.mirror / f"objects/pack/pack-{'0' * 40}.promisor").touch()
    return "objects/pack/pack-"


def _linked_ref(mirrored: Mirrored, _proof: Path) -> str:
    (mirrored.mirror / "refs/heads/x").write_text("ref: refs/heads/main\n")
    assert in_git(mirrored.mirror, "rev-parse", "x").strip() == mirrored.commit
    return "refs/heads/x"


def _linked_objects(mirrored: Mirrored, _proof: Path) -> str:
    (mirrored.mirror / "objects").rename(mirrored.base / "elsewhere")
    (mirrored.mirror / "objects").symlink_to(mirrored.base / "elsewhere")
    return "objects"


def _pipe(mirrored: Mirrored, _proof: Path) -> str:
    os.mkfifo(mirrored.mirror / "refs/heads/pipe")
    return "refs/heads/pipe"


def _linked_config(mirrored: Mirrored, proof: Path) -> str:
    """What is written into the mirror mustn't be written through a link."""
    proof.write_text("precious")
    (mirrored.mirror / "config").unlink()
    (mirrored.mirror / "config").symlink_to(proof)
    return "config"


PUT = [
    _commondir, _alternates, _grafts, _shallow, _replaced, _hooks, _worktree_config, _worktrees, _modules, _promised,
    _linked_ref, _linked_objects, _pipe, _linked_config,
]  # fmt: skip


@pytest.mark.parametrize("put", PUT)
def test_what_doesn_t_belong_in_a_mirror(
    mirrored: Mirrored, put: Callable[[Mirrored, Path], str], capfd: pytest.CaptureFixture[str]
) -> None:
    proof = mirrored.base / "proof"
    named = put(mirrored, proof)
    capfd.readouterr()
    work = mirrored.check_out()
    assert (work / "file").read_text() == "two"
    assert not proof.exists() or proof.read_text() == "precious"
    assert f"is bad: '{named}" in capfd.readouterr().out
    assert len(mirrored.thrown) == 1
    assert git(work, "log", "--format=%s") == "second\nfirst commit"


def test_a_gitdir_in_the_mirror_s_place(mirrored: Mirrored, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(mirrored.mirror)
    mirrored.mirror.write_text(f"gitdir: {mirrored.source}/.git\n")
    assert (mirrored.check_out() / "file").read_text() == "two"
    assert "is bad: it isn't a folder" in capfd.readouterr().out
    shutil.rmtree(mirrored.mirror)
    mirrored.mirror.symlink_to(mirrored.source / ".git")
    before = sorted(path.name for path in (mirrored.source / ".git").iterdir())
    assert (mirrored.check_out() / "file").read_text() == "two"
    assert sorted(path.name for path in (mirrored.source / ".git").iterdir()) == before


def test_a_list_of_commits_that_lies(mirrored: Mirrored) -> None:
    """git takes a commit's tree and parents from its commit-graph, and checks nothing: so there is none."""
    other = mirrored.base / "other.git"
    shutil.copytree(mirrored.mirror, other)
    names = (mirrored.commit, mirrored.first)
    mirrored_tree, first_tree = (git(mirrored.source, "rev-parse", f"{name}^{{tree}}") for name in names)
    in_git(other, "commit-graph", "write", "--reachable")
    graph = other / "objects/info/commit-graph"
    graph.chmod(0o644)
    data = graph.read_bytes().replace(bytes.fromhex(mirrored_tree), bytes.fromhex(first_tree))
    target = mirrored.mirror / "objects/info/commit-graph"
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(data[:-20] + hashlib.sha1(data[:-20]).digest())
    assert in_git(mirrored.mirror, "log", "-1", "--format=%T", mirrored.commit).strip() == first_tree
    work = mirrored.check_out()
    assert (work / "file").read_text() == "two"
    assert git(work, "log", "-1", "--format=%T") == mirrored_tree
    assert not target.exists()


def test_what_git_itself_leaves_is_no_reason_to_fetch_again(mirrored: Mirrored) -> None:
    """Also after it has packed the mirror, and after it was killed."""
    for number in range(3):
        repository(mirrored.source, {"file": str(number)})
        mirrored.check_out()
    in_git(mirrored.mirror, "gc", "--quiet")
    in_git(mirrored.mirror, "multi-pack-index", "write", "--bitmap")
    for name in ("packed-refs.lock", "objects/pack/tmp_pack_AbCdEf", "objects/tmp_objdir-bulk-fsync-x", "gc.pid"):
        (mirrored.mirror / name).touch()
    (mirrored.mirror / "refs/heads/main.lock").touch()
    assert (mirrored.check_out() / "file").read_text() == "2"
    assert not mirrored.thrown
    assert not (mirrored.mirror / "objects/pack/tmp_pack_AbCdEf").exists()


def test_a_mirror_that_was_thrown_away_is_removed_later(mirrored: Mirrored) -> None:
    (mirrored.mirror / "hooks").mkdir()
    mirrored.check_out()
    (thrown,) = mirrored.thrown
    # A build that works with its objects can go on.
    remove_unused(mirrored.mirror.parent, before=0)
    assert thrown.exists()
    os.utime(thrown, (1000, 1000))
    remove_unused(mirrored.mirror.parent, before=0)
    assert not thrown.exists()
    assert mirrored.mirror.exists()


def test_the_mirror_of_a_private_repository_is_a_project_s_own(tmp_path: Path, http: HttpServer) -> None:
    commit = repository(http.folder / "app", {"file": "x"})
    projects = []
    for name in ("shop", "blog"):
        project = Project(tmp_path, f"{http.url}/app", of_token(http), name=name)
        assert project.check_out().commit == commit
        projects.append(project)
    mirrors = [Path((each.folder / "work/.git/objects/info/alternates").read_text().strip()) for each in projects]
    assert [path.parents[2].name for path in mirrors] == ["mirrors-private", "mirrors-private"]
    assert [path.parents[1].name for path in mirrors] == ["shop", "blog"]
    assert not (tmp_path / "mirrors").exists()
    assert len(remove_unused(tmp_path / "mirrors", before=time.time() + 60)) == 2
    assert not any(path.exists() for path in mirrors)


# -- what a repository brings with it --------------------------------------------------------------------------------


def raw_tree(path: Path, *entries: tuple[str, bytes, str]) -> str:
    """Write a tree that git itself would refuse to write."""
    content = b"".join(f"{mode} ".encode() + name + b"\0" + bytes.fromhex(oid) for mode, name, oid in entries)
    done = subprocess.run(
        ["git", "-C", str(path), "hash-object", "-t", "tree", "-w", "--stdin", "--literally"],
        input=content, env=GIT, check=True, capture_output=True,
    )  # fmt: skip
    return done.stdout.decode().strip()


def commit_tree(path: Path, tree: str) -> str:
    """Make a commit of a tree, on main."""
    commit = git(path, "commit-tree", "-m", "crafted", tree)
    git(path, "update-ref", "refs/heads/main", commit)
    return commit


def project_of(base: Path) -> tuple[Path, Project]:
    path = base / "crafted"
    repository(path, {"file": "x"})
    return path, Project(base, str(path), None)


@pytest.mark.parametrize("name", [b".git", b".GIT", b"..", b".", b"a/b"])
@pytest.mark.parametrize("kind", ["link", "folder"])
def test_names_that_no_file_may_have(tmp_path: Path, name: bytes, kind: str) -> None:
    """A ``.git`` in the commit would be the working copy's configuration."""
    path, project = project_of(tmp_path)
    blob = git(path, "rev-parse", "main:file")
    inner = raw_tree(path, ("100644", b"config", blob))
    commit_tree(path, raw_tree(path, ("120000", name, blob) if kind == "link" else ("40000", name, inner)))
    assert "can't be fetched" in project.refused() or "has a file of the name" in project.refused()
    assert not (project.folder / "work" / "config").exists()


def test_an_odd_history_is_fetched(tmp_path: Path) -> None:
    """What old programs wrote, in the history of well-known repositories."""
    path, project = project_of(tmp_path)
    blob = git(path, "rev-parse", "main:file")
    padded = raw_tree(path, ("040000", b"folder", raw_tree(path, ("100644", b"inner", blob))), ("100644", b"x", blob))
    for line in ("A <a@b> 1 +051800", "A <a@b>1 +0000", "A a@b> 1 +0000", "A <a@b> 01 +0000", "A 1 +0000"):
        content = f"tree {padded}\nauthor {line}\ncommitter {line}\n\nodd\n"
        done = subprocess.run(
            ["git", "-C", str(path), "hash-object", "-t", "commit", "-w", "--stdin", "--literally"],
            input=content.encode(), env=GIT, check=True, capture_output=True,
        )  # fmt: skip
        commit = done.stdout.decode().strip()
        git(path, "update-ref", "refs/heads/main", commit)
        assert project.check_out().commit == commit, line
    assert (project.folder / "work/folder/inner").read_text() == "x"


def test_a_small_repository_with_more_files_than_a_disk_takes(tmp_path: Path) -> None:
    path, project = project_of(tmp_path)
    tree = raw_tree(path, ("100644", b"file", git(path, "rev-parse", "main:file")))
    for _ in range(10):
        tree = raw_tree(path, *(("40000", b"%d" % number, tree) for number in range(10)))
    commit_tree(path, tree)
    assert "has more than 2000000 files and folders" in project.refused()


def test_filters_and_hooks_of_a_repository_don_t_run(tmp_path: Path) -> None:
    """A commit can name filters, and has files like those of a configuration; only a configuration can define them."""
    proof = tmp_path / "proof"
    config = (
        f'[filter "evil"]\n\tsmudge = touch {proof}\n\tprocess = touch {proof}\n\trequired = true\n'
        f"[core]\n\tfsmonitor = touch {proof}\n\tsshCommand = touch {proof}\n\thooksPath = .githooks\n"
    )
    path = tmp_path / "source"
    repository(path, {
        ".gitattributes": "* filter=evil\n", "file": "x", ".gitconfig": config, "git/config": config,
        ".githooks/post-checkout": f"#!/bin/sh\ntouch {proof}\n", "config": config, "HEAD": "ref: refs/heads/main\n",
        "objects/x": "", "refs/x": "",
    })  # fmt: skip
    (path / ".githooks/post-checkout").chmod(0o755)
    repository(path, {"more": "y"})
    project = Project(tmp_path, str(path), None)
    project.check_out()
    assert (project.folder / "work/file").read_text() == "x"
    assert not proof.exists()
    # They would have run.
    subprocess.run(
        ["git", "clone", "--quiet", str(path), str(tmp_path / "clone")],
        env=GIT | {"GIT_CONFIG_GLOBAL": str(path / ".gitconfig")}, check=False, capture_output=True,
    )  # fmt: skip
    assert proof.exists()


def test_variables_of_git_are_the_operator_s_alone(tmp_path: Path) -> None:
    kept = {
        "GIT_SSH_COMMAND": "ssh -v",
        "GIT_CONFIG_GLOBAL": "/x",
        "GIT_SSL_CAINFO": "/ca",
        "PATH": "/bin",
        "HOME": "/",
    }
    dropped = {
        "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "core.fsmonitor", "GIT_CONFIG_VALUE_0": "x", "GIT_DIR": "/x",
        "GIT_CONFIG_PARAMETERS": "'a.b=c'", "GIT_ALTERNATE_OBJECT_DIRECTORIES": "/x", "GIT_OBJECT_DIRECTORY": "/x",
        "GIT_COMMON_DIR": "/x", "GIT_WORK_TREE": "/x", "GIT_INDEX_FILE": "/x", "GIT_TEMPLATE_DIR": "/x",
        "GIT_ALLOW_PROTOCOL": "ext", "GIT_GRAFT_FILE": "/x", "GIT_SHALLOW_FILE": "/x", "GIT_REPLACE_REF_BASE": "/x",
        "GIT_EXTERNAL_DIFF": "x", "GIT_CONFIG": "/x", "GIT_NAMESPACE": "x",
    }  # fmt: skip
    found = environment_of_git(kept | dropped)
    assert kept.items() <= found.items()
    assert found["GIT_ALLOW_PROTOCOL"] == "https:http:ssh:git:file"
    assert not (dropped.keys() - {"GIT_ALLOW_PROTOCOL"}) & found.keys()


def test_a_submodule_behind_a_link(tmp_path: Path) -> None:
    """Two entries of one name: a link, and the folder in which the submodule is to be."""
    path, project = project_of(tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    link = subprocess.run(
        ["git", "-C", str(path), "hash-object", "-w", "--stdin"],
        input=str(outside).encode(), env=GIT, check=True, capture_output=True,
    ).stdout.decode().strip()  # fmt: skip
    inner = raw_tree(path, ("160000", b"lib", git(path, "rev-parse", "main")))
    modules = '[submodule "lib"]\n\tpath = a/lib\n\turl = https://127.0.0.1:1/x\n'
    config = subprocess.run(
        ["git", "-C", str(path), "hash-object", "-w", "--stdin"],
        input=modules.encode(), env=GIT, check=True, capture_output=True,
    ).stdout.decode().strip()  # fmt: skip
    tree = raw_tree(path, ("100644", b".gitmodules", config), ("120000", b"a", link), ("40000", b"a", inner))
    commit_tree(path, tree)
    assert "can't be fetched" in project.refused() or "can't be checked out" in project.refused()
    assert list(outside.iterdir()) == []


def test_names_that_differ_in_case_alone(tmp_path: Path) -> None:
    """A link and a folder, which are one on some file systems: nothing may go through the link."""
    path, project = project_of(tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    (path / "a").mkdir()
    (path / "a/file").write_text("inner")
    os.symlink(outside, path / "A")
    repository(path, {})
    project.check_out()
    assert list(outside.iterdir()) == []
    assert (project.folder / "work/a/file").read_text() == "inner"


# -- Git LFS ---------------------------------------------------------------------------------------------------------


@needs_lfs
def test_a_large_file_under_another_s_id(tmp_path: Path, http: HttpServer, capfd: pytest.CaptureFixture[str]) -> None:
    data = b"\x89PNG" + bytes(5000)
    repository(http.folder / "app", {**ATTRIBUTES, "img/x.png": http.put_large(data)})
    project = Project(tmp_path, f"{http.url}/app", of_token(http))
    project.check_out()
    digest = hashlib.sha256(data).hexdigest()
    (stored,) = (tmp_path / "mirrors-private/demo").glob(f"*/lfs/objects/*/*/{digest}")
    stored.chmod(0o644)
    stored.write_bytes(b"mine" + bytes(5000))  # of the same size
    project.check_out()
    assert (project.folder / "work/img/x.png").read_bytes() == data
    assert "The builder's files of Git LFS are bad: img/x.png. They are fetched again." in capfd.readouterr().out


@needs_lfs
def test_large_files_at_another_host_are_asked_for_without_credentials(tmp_path: Path, http: HttpServer) -> None:
    (tmp_path / "other").mkdir()
    other = HttpServer(tmp_path / "other")
    try:
        pointer = other.put_large(b"a picture")
        config = f"[lfs]\n\turl = {other.url}/app/info/lfs\n"
        repository(http.folder / "app", {**ATTRIBUTES, "img/x.png": pointer, ".lfsconfig": config})
        project = Project(tmp_path, f"{http.url}/app", of_token(http))
        assert "can't be fetched" in project.refused()
        assert other.asked
        assert {authorization for _path, authorization in other.asked} == {""}
    finally:
        other.stop()


@needs_lfs
@pytest.mark.parametrize("address", ["file://ELSEWHERE", "/ELSEWHERE", "ext::touch ELSEWHERE", "-oProxyCommand=x"])
def test_large_files_that_aren_t_at_a_host(tmp_path: Path, http: HttpServer, address: str) -> None:
    """Such as those of another repository's mirror on this builder."""
    elsewhere = tmp_path / "elsewhere"
    pointer = http.put_large(b"a picture")
    config = f"[lfs]\n\turl = {address.replace('ELSEWHERE', str(elsewhere))}\n"
    repository(http.folder / "app", {**ATTRIBUTES, "img/x.png": pointer, ".lfsconfig": config})
    project = Project(tmp_path, f"{http.url}/app", of_token(http))
    assert ".lfsconfig says that large files are at" in project.refused()
    (http.folder / "app/.lfsconfig").unlink()
    os.symlink("/etc/hostname", http.folder / "app/.lfsconfig")
    repository(http.folder / "app", {})
    assert ".lfsconfig is a link" in project.refused()


# -- programs that work on the content -------------------------------------------------------------------------------

needs_landlock = pytest.mark.skipif(writing_below([]) is None, reason="needs a kernel with Landlock 3")


@needs_landlock
def test_what_works_on_the_content_can_t_write_into_a_mirror(mirrored: Mirrored) -> None:
    """Should a repository's content break into git, or into git-lfs."""
    free = Git(os.open(os.devnull, os.O_RDONLY), environment_of_git(os.environ))
    held = free.writing_below(mirrored.work)
    for git_of, path, there in (
        (held, mirrored.mirror / "objects/a", False),
        (held, mirrored.mirror / "HEAD.new", False),
        (held, mirrored.work / "b", True),
        (free, mirrored.mirror / "objects/c", True),
    ):
        git_of.run("-C", str(mirrored.work), "-c", f"alias.break=!touch {path}", "break", quiet=True)
        assert path.exists() == there, path


@needs_landlock
def test_git_lfs_can_t_write_into_a_mirror_but_its_own_files(
    tmp_path: Path, http: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository(http.folder / "app", {**ATTRIBUTES, "img/x.png": http.put_large(b"x")})
    script = tmp_path / "bin/git-lfs"
    script.parent.mkdir()
    script.write_text(
        "#!/bin/sh\ncd $MIRRORS/*.git\nfor each in commondir objects/x lfs/written; do touch $each; done; true\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("GIT_EXEC_PATH", git_core_without_lfs(tmp_path))
    monkeypatch.setenv("MIRRORS", str(tmp_path / "mirrors-private/demo"))
    project = Project(tmp_path, f"{http.url}/app", of_token(http))
    project.check_out()  # nothing was fetched: what is there still are pointers
    (mirror,) = (tmp_path / "mirrors-private/demo").glob("*.git")
    assert (mirror / "lfs/written").exists()
    assert not (mirror / "commondir").exists()
    assert not (mirror / "objects/x").exists()


# -- by a build ------------------------------------------------------------------------------------------------------

POISON = """
read objects < .git/objects/info/alternates
name=$(git rev-parse HEAD:file)
mkdir -p $objects/${name%??????????????????????????????????????}
python3 -c "import sys, zlib; open(sys.argv[1], 'wb').write(zlib.compress(b'blob 4\\0mine'))" \\
  $objects/${name%??????????????????????????????????????}/${name#??} && rm -f $objects/pack/*.idx && echo poisoned
cat $objects/../config && echo seen
true
"""


@pytest.mark.parametrize("isolated", [pytest.param(True, marks=needs_bubblewrap), False])
def test_a_build_poisons_the_mirror(tmp_path: Path, isolated: bool) -> None:
    """Where builds are isolated it can't; elsewhere the next checkout sees it."""
    source, data = tmp_path / "source", tmp_path / "data"
    (data / "mirrors").mkdir(parents=True)
    repository(source, {"file": "two", "poison.sh": POISON, ".twistedipc.toml": toml("sh poison.sh", "cat file")})
    isolation = Isolation(kind="bubblewrap", program=BWRAP, hidden=[str(data)]) if isolated else NOT_ISOLATED
    outputs = []
    for name in ("1-1", "2-1"):
        one = Attempt(data, source, name=name, isolation=isolation)
        assert one.run().outcome == "succeeded", one.output()
        assert one.output(2) == ["two"]
        outputs.append(one)
    assert ("poisoned" in outputs[0].output(1)) == (not isolated)
    assert ("seen" in outputs[0].output(1)) == (not isolated)
    assert any("is thrown away" in line for line in outputs[1].output(0)) == (not isolated)


@needs_bubblewrap
def test_a_private_repository_in_isolated_steps(tmp_path: Path, http: HttpServer) -> None:
    """Its mirror is the project's own; the build borrows from it, and has neither another's mirror nor the token."""
    data = tmp_path / "data"
    (data / "mirrors-private/other").mkdir(parents=True)
    (data / "mirrors").mkdir()
    script = "git log --format=%s; ls $(dirname $(cat .git/objects/info/alternates))/../..; ls ..; cat file"
    repository(http.folder / "app", {"file": "two", ".twistedipc.toml": toml(script)})
    one = run_private(data, f"{http.url}/app", of_token(http), isolation=Isolation(
        kind="bubblewrap", program=BWRAP, hidden=[str(data)],
    ))  # fmt: skip
    result = one.wait()
    assert result.outcome == "succeeded", one.output()
    assert one.output(1) == ["first commit", "demo", "bin", "caches", "home", "tmp", "work", "two"]
