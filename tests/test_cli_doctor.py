"""What `twistedipc doctor` finds in the services' configurations."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import Connection

from tests.cli_server import as_json, serving
from tests.storage_fixtures import add_project, new_ledger
from tests.test_isolation_landlock import needs_landlock
from twistedipc.cli.doctor import DAY, doctor, look_at
from twistedipc.cli.ledger import milliseconds, write_in_ledger
from twistedipc.ipc import make_named_key, write_key, write_named_key
from twistedipc.publish.targets.npm.target import NpmSettings
from twistedipc.publish.targets.target import Settings
from twistedipc.storage import builders, projects, tokens
from twistedipc.storage.secrets import SecretBox
from twistedipc.taps.config import load_apiserver

BUILDER = 'data = "b"\nname = "one"\nisolation = "none"\n'
APISERVER = 'data = "a"\n'


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


def test_an_apiserver_that_publishes_needs_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "apiserver.toml"
    file.write_text(APISERVER + '[link]\ndial = ["unix:s"]\n')
    config = load_apiserver(file)
    config.data.mkdir()
    new_ledger(config.data)
    commands = tmp_path / "commands"
    commands.mkdir()
    monkeypatch.setenv("PATH", str(commands))
    targets: list[tuple[Settings, ...]] = [(NpmSettings(),), (NpmSettings(publish_at="apiserver", paused=True),)]
    for number, each in enumerate([*targets, (NpmSettings(publish_at="apiserver"),)]):
        write_in_ledger(config, _add, f"p{number}", each)
    (said,) = look_at(file)
    assert "the packages of p2 (--publish-at apiserver)" in said
    (commands / "npm").touch(0o755)
    assert look_at(file) == []


def _add(connection: Connection, name: str, targets: tuple[Settings, ...]) -> None:
    add_project(connection, name)
    projects.update(connection, name, {"targets": targets}, 1)


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
