"""Several servers, one of which is in use; the project of the folder; and `latest` in the place of a build's number."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.cli_server import Asked, Say, Server, as_json, problem, serving
from tests.test_cli_commands import BUILD, DETAIL
from twistedipc.cli.contexts import Context, Contexts, name_for, read_contexts
from twistedipc.cli.failures import ExitCode
from twistedipc.cli.folder import same_repository
from twistedipc.cli.main import commands
from twistedipc.cli.naming import name_from


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees what the person who runs it has kept, nor is it in a repository, unless it makes one."""
    for name in ("TWISTEDIPC_URL", "TWISTEDIPC_TOKEN", "TWISTEDIPC_SERVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield answering(running, "ann")


@pytest.fixture
def other() -> Iterator[Server]:
    with serving() as running:
        yield answering(running, "bob")


def answering(server: Server, name: str) -> Server:
    server.on("GET /api/v1/identity", as_json({"name": name, "scopes": ["build"], "projects": None}))
    server.on("GET /api/v1/projects", as_json({"projects": []}))
    server.on("GET /api/v1/builds", as_json({"builds": [], "next": None}))
    return server


def run(*arguments: str, given: str | None = None, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(commands, arguments, input=given, env=env)


def sign_in(server: Server, name: str, token: str) -> None:
    assert run("login", name, "--url", server.url, given=f"{token}\n").exit_code == 0


def token_at(server: Server) -> str:
    return server.asked[-1].headers.get("authorization", "").removeprefix("Bearer ")


def test_a_token_comes_from_a_pipe_without_a_word_about_terminals(server: Server, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "twistedipc.cli", "login", "--url", server.url],
        input="tipc_piped\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "XDG_CONFIG_HOME": str(tmp_path)},
    )
    assert (done.returncode, done.stderr.splitlines()[0].split(" as ")[0]) == (0, f"signed in at {server.url}")
    assert token_at(server) == "tipc_piped"
    nothing = run("login", "x", "--url", server.url, given="")
    assert (nothing.exit_code, "no token on standard input" in nothing.output) == (2, True)


# -- several servers -------------------------------------------------------------------------------------------------


def test_a_second_login_keeps_the_first(server: Server, other: Server) -> None:
    sign_in(server, "work", "tipc_work")
    done = run("login", "home", "--url", other.url, given="tipc_home\n")
    assert "kept in" in done.stderr
    assert "`twistedipc use work` goes back" in done.stderr
    assert run("builds").exit_code == 0
    assert token_at(other) == "tipc_home"
    assert run("use", "work").exit_code == 0
    assert run("builds").exit_code == 0
    assert token_at(server) == "tipc_work"
    listed = run("use").stdout
    assert "work" in listed
    assert "home" in listed
    assert "tipc_" not in listed


def test_one_command_talks_to_another_server(server: Server, other: Server) -> None:
    sign_in(server, "work", "tipc_work")
    sign_in(other, "home", "tipc_home")
    assert run("builds", "--server", "work").exit_code == 0
    assert token_at(server) == "tipc_work"
    assert run("builds", env={"TWISTEDIPC_SERVER": "work"}).exit_code == 0
    assert len(server.asked) == 3
    # What is typed goes before what is in the environment; and a token goes to no other server than its own.
    in_ci = {"TWISTEDIPC_URL": other.url, "TWISTEDIPC_TOKEN": "tipc_ci"}
    assert run("builds", "--server", "work", env=in_ci).exit_code == 0
    assert token_at(server) == "tipc_work"
    assert run("builds", "--url", server.url).exit_code == 0
    assert token_at(server) == "tipc_work"
    assert run("builds", "--server", "work", "--url", other.url).exit_code == ExitCode.USAGE
    unknown = run("builds", "--server", "wrok")
    assert unknown.exit_code == ExitCode.NOT_FOUND
    assert "there are home, work" in unknown.stderr


def test_a_name_is_of_one_server(server: Server, other: Server) -> None:
    sign_in(server, "work", "tipc_work")
    refused = run("login", "work", "--url", other.url, given="tipc_x\n")
    assert refused.exit_code == ExitCode.USAGE
    assert server.url in refused.stderr
    # Signing in there again replaces the token, with or without the name.
    sign_in(server, "work", "tipc_new")
    assert run("login", "--url", server.url, given="tipc_newer\n").exit_code == 0
    assert read_contexts() == Contexts(current="work", contexts={"work": Context(url=server.url, token="tipc_newer")})


def test_who_one_is(server: Server, other: Server) -> None:
    sign_in(server, "work", "tipc_work")
    sign_in(other, "home", "tipc_home")
    said = run("whoami").stdout
    for word in ("home", other.url, "bob", "build; all projects"):
        assert word in said
    assert "ann" in run("whoami", "--server", "work").stdout


def test_logging_out_revokes_and_forgets(server: Server, other: Server, home: Path) -> None:
    revoked: list[str] = []

    def revoke(asked: Asked) -> Say:
        revoked.append(asked.headers["authorization"])
        return Say(status=204)

    other.on("DELETE /api/v1/identity/token", revoke)
    server.on("DELETE /api/v1/identity/token", problem(404, "there is no such thing"))  # of an older version
    sign_in(server, "work", "tipc_work")
    sign_in(other, "kept", "tipc_kept")
    sign_in(other, "home", "tipc_home")
    done = run("logout")
    assert "home: its token is revoked and forgotten" in done.stderr
    assert revoked == ["Bearer tipc_home"]
    assert "`twistedipc use kept`" in done.stderr
    assert "forgotten, and stays valid" in run("logout", "kept", "--keep").stderr
    assert len(revoked) == 1
    assert list(read_contexts().contexts) == ["work"]
    assert "tipc_home" not in (home / "config/twistedipc/credentials.toml").read_text()
    assert run("logout", "home").exit_code == ExitCode.NOT_FOUND
    said = run("logout", "--all")
    assert (said.exit_code, "couldn't be revoked, and stays valid until it ends" in said.stderr) == (0, True)
    assert read_contexts() == Contexts()
    assert "signed in nowhere" in run("logout").stderr
    assert "signed in nowhere" in run("use").stderr


def test_what_an_older_version_has_kept(server: Server, home: Path) -> None:
    path = home / "config/twistedipc/credentials.toml"
    path.parent.mkdir(parents=True)
    path.write_text(f'url = "{server.url}"\ntoken = "tipc_old"\n')
    assert run("builds").exit_code == 0
    assert token_at(server) == "tipc_old"
    # It stays as it is until something is written.
    assert path.read_text().startswith("url")
    assert run("login", "again", "--url", server.url, given="tipc_new\n").exit_code == 0
    kept = tomllib.loads(path.read_text())
    assert kept["current"] == "again"
    assert [each["token"] for each in kept["contexts"].values()] == ["tipc_old", "tipc_new"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://builds.example.org", "builds.example.org"),
        ("http://127.0.0.1:8080/", "127.0.0.1:8080"),
        ("http://[::1]:8080", "server"),
        ("https://example.org/builds", "example.org"),
    ],
)
def test_names_of_servers(url: str, name: str) -> None:
    assert name_for(url) == name


# -- the project of the folder ---------------------------------------------------------------------------------------


def git(*arguments: str) -> None:
    author = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org"]
    subprocess.run(["git", *author, *arguments], check=True, capture_output=True)


def project(name: str, repository: str, root: str = "") -> dict[str, object]:
    return {
        "name": name,
        "repository": repository,
        "default_ref": "main",
        "publish": {},
        "settings": {"root": root} if root else {},
        "environment": {},
        "timeout": 1.0,
        "idle_timeout": 1.0,
        "secrets": [],
        "release_url": "",
        "created": "2026-01-02T03:04:05Z",
        "updated": "2026-01-02T03:04:05Z",
    }


def asked_for(server: Server, *arguments: str) -> str:
    """The project for which a build was asked."""

    def build(asked: Asked) -> Say:
        return as_json({**BUILD, "project": asked.path.split("/")[4]}, 201)

    for name in ("shop", "web", "docs"):
        server.on(f"POST /api/v1/projects/{name}/builds", build)
    done = run("build", *arguments, "--url", server.url)
    assert done.exit_code == 0, done.stderr
    return server.asked[-1].path.split("/")[4]


def test_the_project_of_a_clone(server: Server) -> None:
    git("init", "-q")
    git("remote", "add", "origin", "git@git.example.org:team/shop.git")
    server.on("GET /api/v1/projects", as_json({"projects": [project("shop", "https://git.example.org/team/shop")]}))
    assert asked_for(server) == "shop"
    assert asked_for(server, ".") == "shop"
    # What is named is what is meant.
    assert asked_for(server, "docs") == "docs"


def test_the_folder_itself(server: Server, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git("init", "-q")
    (home / "work/src").mkdir()
    monkeypatch.chdir(home / "work/src")
    server.on("GET /api/v1/projects", as_json({"projects": [project("shop", (home / "work").as_uri())]}))
    assert asked_for(server) == "shop"


def test_several_projects_of_one_repository(server: Server, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git("init", "-q")
    of = (home / "work").as_uri()
    server.on(
        "GET /api/v1/projects", as_json({"projects": [project("web", of, "apps/web"), project("docs", of, "docs")]})
    )
    for folder, name in (("apps/web/src", "web"), ("docs", "docs")):
        (home / "work" / folder).mkdir(parents=True)
        monkeypatch.chdir(home / "work" / folder)
        assert asked_for(server) == name
    monkeypatch.chdir(home / "work")
    assert run("build", "--url", server.url).exit_code == ExitCode.USAGE
    server.on("GET /api/v1/projects", as_json({"projects": [project("web", of), project("docs", of)]}))
    assert "of the projects web, docs: name one" in run("build", "--url", server.url).stderr


def test_the_file_in_the_repository_says_it(server: Server, home: Path) -> None:
    git("init", "-q")
    (home / "work/.twistedipc.toml").write_text('project = "shop"\n[build]\noutput = "dist"\n')
    assert asked_for(server) == "shop"


def test_a_folder_of_no_project(server: Server) -> None:
    for _ in range(2):
        done = run("build", "--url", server.url)
        assert done.exit_code == ExitCode.USAGE
        assert "name a PROJECT" in done.stderr
        git("init", "-q")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("git@git.example.org:team/shop.git", "ssh://git@git.example.org/team/shop", True),
        ("https://ann@GIT.example.org/team/shop/", "git@git.example.org:team/shop", True),
        ("https://git.example.org:443/team/shop", "https://git.example.org/team/shop.git", True),
        ("https://git.example.org:8443/team/shop", "https://git.example.org/team/shop", False),
        ("https://git.example.org/team/shop", "https://git.example.org/Team/shop", False),
        ("https://git.example.org/team/shop", "https://git.example.com/team/shop", False),
        ("file:///srv/a%20b.git", "/srv/a b", True),
        ("git@git.example.org:/srv/a@b.git", "git@git.example.org:/srv/a@b", True),
        ("", "", False),
        ("https://[", "https://[", False),
    ],
)
def test_addresses_of_one_repository(one: str, other: str, same: bool) -> None:
    assert same_repository(one, other) is same


@pytest.mark.parametrize(
    ("folder", "name"),
    [("Shop", "shop"), ("my_shop.js", "my-shop-js"), ("--", "project"), ("größe", "gr-e"), ("a" * 80, "a" * 50)],
)
def test_names_of_projects_from_folders(folder: str, name: str) -> None:
    assert name_from(folder) == name


# -- latest ----------------------------------------------------------------------------------------------------------


def test_the_latest_build(server: Server) -> None:
    server.on("GET /api/v1/builds", as_json({"builds": [BUILD], "next": None}))
    server.on("GET /api/v1/builds/7", as_json(DETAIL))
    assert "shop" in run("show", "latest", "--url", server.url).stdout
    assert server.asked[0].query == {"limit": "1"}
    assert run("show", "latest:failed", "--url", server.url).exit_code == 0
    assert server.asked[2].query == {"limit": "1", "state": "failed"}


def test_the_latest_build_of_the_folders_project(server: Server) -> None:
    git("init", "-q")
    git("remote", "add", "origin", "https://git.example.org/team/shop")
    server.on("GET /api/v1/projects", as_json({"projects": [project("shop", "https://git.example.org/team/shop")]}))
    server.on("GET /api/v1/builds", as_json({"builds": [], "next": None}))
    done = run("cancel", "latest:running", "--url", server.url)
    assert done.exit_code == ExitCode.NOT_FOUND
    assert "no build of shop that is running" in done.stderr
    assert server.asked[-1].query == {"limit": "1", "state": "running", "project": "shop"}


@pytest.mark.parametrize("word", ["0", "-1", "abc", "latest:", "latest:good", "1.5", "9" * 20])
def test_what_is_no_build(word: str) -> None:
    done = run("show", "--", word)
    assert done.exit_code == ExitCode.USAGE
    assert "no build" in done.stderr


def test_a_server_that_refuses(server: Server) -> None:
    git("init", "-q")
    server.on("GET /api/v1/projects", problem(401, "a token is needed"))
    assert run("build", "--url", server.url).exit_code == ExitCode.NOT_ALLOWED
