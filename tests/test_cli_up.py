"""What `twistedipc up` looks at before it starts anything, and the services that it leaves running."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.integration.platform import wait_for
from tests.storage_fixtures import new_ledger
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.folder import repository_of
from twistedipc.cli.ledger import read_beside
from twistedipc.cli.local import (
    apiserver_toml,
    builder_toml,
    give_builder_key,
    leave_taken_ports,
    load_local,
    state_folder,
    write_local_setup,
)
from twistedipc.cli.main import commands
from twistedipc.cli.opening import sign_in_file
from twistedipc.cli.services import Detached, check_alive
from twistedipc.cli.setup import Setup, write_setup
from twistedipc.ipc import make_named_key, read_named_key, write_named_key
from twistedipc.storage import builders
from twistedipc.taps.config import load_builder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home, and a folder `work` in no repository."""
    for name in ("TWISTEDIPC_URL", "TWISTEDIPC_TOKEN", "TWISTEDIPC_SERVER", "TWISTEDIPC_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(commands, arguments)


def git(*arguments: str) -> None:
    author = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org"]
    subprocess.run(["git", *author, *arguments], check=True, capture_output=True)


def commit(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("{}")
    git("add", "-A")
    git("commit", "-q", "--allow-empty", "-m", "one")


# -- the folder ------------------------------------------------------------------------------------------------------


def refused(*arguments: str) -> str:
    """What is said of a folder that can't be built from. Nothing is started, nor even made."""
    done = run("up", *arguments)
    assert done.exit_code == ExitCode.USAGE, done.output
    assert not state_folder().exists()
    return done.stderr


def test_a_folder_in_no_repository() -> None:
    assert "git init && git add . && git commit" in refused()


def test_a_repository_without_a_commit() -> None:
    git("init", "-q")
    assert "has no commit yet" in refused()


def test_a_part_of_the_history(home: Path) -> None:
    git("init", "-q")
    commit("a")
    commit("b")
    git("clone", "-q", "--depth", "1", (home / "work").as_uri(), str(home / "shallow"))
    assert "git fetch --unshallow" in refused(str(home / "shallow"))


def test_no_origin() -> None:
    git("init", "-q")
    commit("a")
    assert "has no origin" in refused("--origin")


def test_a_folder_that_is_not_there() -> None:
    assert "does not exist" in refused("nowhere")


def test_what_a_repository_says_of_itself(home: Path) -> None:
    git("init", "-q", "-b", "trunk")
    commit("a")
    found = repository_of(home / "work")
    assert found is not None
    assert (found.branch, found.default_branch, found.changed()) == ("trunk", "trunk", 0)
    assert found.address == (home / "work").as_uri()
    Path("a").write_text("changed")
    Path("new file").write_text("")
    assert found.changed() == 2
    # A clone knows what its origin's own branch is, whichever it has checked out.
    clone = str(home / "clone")
    git("clone", "-q", str(home / "work"), clone)
    git("-C", clone, "switch", "-qc", "feature")
    cloned = repository_of(home / "clone")
    assert cloned is not None
    assert (cloned.branch, cloned.default_branch, cloned.is_pushed()) == ("feature", "trunk", True)
    git("-C", clone, "commit", "-q", "--allow-empty", "-m", "mine")
    assert not cloned.is_pushed()
    git("-C", clone, "checkout", "-q", "--detach")
    assert cloned.branch == ""
    # A second working copy is of the same repository.
    git("worktree", "add", "-q", str(home / "second"), "-b", "second")
    second = repository_of(home / "second")
    assert second is not None
    assert second.address == (home / "work/.git").as_uri()
    assert second.branch == "second"


# -- the services ----------------------------------------------------------------------------------------------------


def test_nothing_was_started() -> None:
    done = run("status")
    assert done.exit_code == ExitCode.UNAVAILABLE
    assert "nothing was ever started" in done.stderr
    assert "no services are running" in run("down").stderr
    assert not state_folder().exists()


def test_a_detached_service_that_ends_by_itself(tmp_path: Path) -> None:
    config = tmp_path / "apiserver.toml"
    config.write_text("nonsense = 1\n")
    service = Detached("apiserver", "apiserver", config)
    assert service.ended()
    assert service.start()
    wait_for("it has ended", service.ended)
    with pytest.raises(Failure, match="apiserver has ended; the end of") as caught:
        check_alive([service])
    assert "nonsense: there is no such key" in caught.value.message
    assert service.pid is None
    assert not service.stop()


def test_a_detached_service_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWISTEDIPC_TOKEN", "tipc_secret")
    write_local_setup(tmp_path, port=None, builder="local", steps_path="")
    write_named_key(tmp_path / "builder.key", make_named_key("local", "builder"))
    service = Detached("builder", "buildipc", builder_toml(tmp_path))
    again = Detached("builder", "buildipc", builder_toml(tmp_path))
    try:
        assert service.start()
        assert not again.start()
        assert not again.ended()
        pid = wait_for("its number", lambda: again.pid)
        assert os.getsid(pid) != os.getsid(0)
        assert b"tipc_secret" not in Path(f"/proc/{pid}/environ").read_bytes()
        assert again.stop()
        assert service.ended()
        assert service.start()
        pid = wait_for("its number", lambda: again.pid)
        os.kill(pid, signal.SIGSTOP)
        assert again.stop(grace=0.01)
        assert service.ended()
    finally:
        service.stop()


def test_the_builder_has_a_key_of_its_own(tmp_path: Path) -> None:
    """Also in a folder that an older version has set up with a shared key, and once the ledger is another."""
    write_setup(tmp_path, Setup(builder_name="local", local_repositories=True, key="shared"))
    (tmp_path / "apiserver").mkdir(mode=0o700)
    new_ledger(tmp_path / "apiserver")
    give_builder_key(tmp_path)
    apiserver, builder = load_local(tmp_path), load_builder(builder_toml(tmp_path))
    assert (apiserver.link.key, builder.link.key) == (None, tmp_path / "builder.key")
    first = read_named_key(tmp_path / "builder.key")
    give_builder_key(tmp_path)
    assert read_named_key(tmp_path / "builder.key") == first
    known = read_beside(apiserver, lambda connection: builders.get(connection, "local"))
    assert known is not None
    assert [(key.id, key.revoked) for key in known.keys] == [(first.id, None)]
    (tmp_path / "builder.key").unlink()
    give_builder_key(tmp_path)
    assert read_named_key(tmp_path / "builder.key").id != first.id
    # One that the operator has set up otherwise stays.
    text = builder_toml(tmp_path).read_text().replace('key = "builder.key"', 'key = "another.key"')
    builder_toml(tmp_path).write_text(text)
    give_builder_key(tmp_path)
    assert builder_toml(tmp_path).read_text() == text


@pytest.mark.parametrize(
    ("folder", "file"),
    [
        ("platform", "platform/open.html"),
        (".local/state/twistedipc", "twistedipc-sign-in.html"),
        ("../elsewhere", "twistedipc-sign-in.html"),
    ],
)
def test_a_browser_can_read_the_file_that_signs_in(
    home: Path, monkeypatch: pytest.MonkeyPatch, folder: str, file: str
) -> None:
    monkeypatch.setenv("HOME", str(home))
    assert sign_in_file(Path(os.path.abspath(home / folder))) == home / file


def test_ports_are_kept_unless_they_are_taken(tmp_path: Path) -> None:
    before = write_local_setup(tmp_path, port=None, builder="local", steps_path="")
    assert leave_taken_ports(tmp_path) == []
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", int(before.http.listen.split(":")[1])))
        taken.listen()
        [(port, other)] = leave_taken_ports(tmp_path)
    after = load_local(tmp_path)
    assert before.http.listen == f"tcp:{port}:interface=127.0.0.1"
    assert after.http.listen == f"tcp:{other}:interface=127.0.0.1"
    assert after.releases.endpoints == before.releases.endpoints
    assert leave_taken_ports(tmp_path) == []


def test_the_network_of_the_person_is_that_of_the_builds(tmp_path: Path) -> None:
    given = {"HTTPS_PROXY": 'http://proxy.example.org:3128/?"x"', "NODE_EXTRA_CA_CERTS": "/etc/ssl/ca.pem"}
    write_local_setup(tmp_path, port=None, builder="local", steps_path="", environment=given)
    assert load_builder(builder_toml(tmp_path)).environment == given
    assert tomllib.loads(apiserver_toml(tmp_path).read_text())["http"]["local_repositories"] is True
