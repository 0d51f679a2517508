"""Projects, their secrets, the audit, and how secrets are sealed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, select

from tests.storage_fixtures import NOW, add_build, add_project, database
from twistedipc.builds.attempt import Publish
from twistedipc.publish.targets.registry import from_flat, to_flat
from twistedipc.storage import audit, builds, projects, releases, tables, tokens
from twistedipc.storage.errors import NameTaken, NotFound, NotPossible
from twistedipc.storage.rows import Actor
from twistedipc.storage.secrets import SecretBox, SecretUnreadable


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Connection]:
    with database(tmp_path) as connection:
        yield connection


def test_a_project_comes_back_as_it_was_given(ledger: Connection) -> None:
    publish = Publish(npm=True, registry="https://registry.example/")
    made = add_project(ledger, publish=publish)
    assert projects.get(ledger, "shop") == made
    assert (to_flat(made.targets), made.environment, made.timeout, made.secrets) == (
        publish,
        {"MODE": "live"},
        600.0,
        [],
    )
    assert (made.created, made.updated) == (NOW, NOW)
    assert projects.get(ledger, "other") is None


def test_a_name_is_one_projects(ledger: Connection) -> None:
    add_project(ledger)
    with pytest.raises(NameTaken, match="shop"), ledger.begin_nested():
        add_project(ledger)
    assert len(projects.list_all(ledger, None)) == 1


def test_listing_all_and_some(ledger: Connection) -> None:
    for name in ("c", "a", "b"):
        add_project(ledger, name)
    projects.set_secret(ledger, "b", "npm_token", b"x", NOW)
    assert [project.name for project in projects.list_all(ledger, None)] == ["a", "b", "c"]
    assert [project.secrets for project in projects.list_all(ledger, None)] == [[], ["npm_token"], []]
    assert [project.name for project in projects.list_all(ledger, frozenset({"c", "b", "zzz"}))] == ["b", "c"]
    assert projects.list_all(ledger, frozenset()) == []


def test_changing(ledger: Connection) -> None:
    before = add_project(ledger)
    after = projects.update(
        ledger, "shop", {"targets": from_flat(Publish(npm=True)), "environment": {}, "timeout": 5.0}, NOW + 1
    )
    assert after is not None
    assert (to_flat(after.targets), after.environment, after.timeout, after.updated) == (
        Publish(npm=True),
        {},
        5.0,
        NOW + 1,
    )
    assert (after.id, after.repository, after.created) == (before.id, before.repository, before.created)
    assert projects.update(ledger, "none", {"timeout": 5.0}, NOW) is None
    for column in ("name", "deleted", "id", "secrets"):
        with pytest.raises(ValueError, match=column):
            projects.update(ledger, "shop", {column: 1}, NOW)


def test_a_deleted_project_is_gone_with_all_that_was_seen_of_it(ledger: Connection) -> None:
    add_project(ledger)
    projects.set_secret(ledger, "shop", "npm_token", b"sealed", NOW)
    token, _ = tokens.issue(
        ledger, random=os.urandom, name="t", scopes=["read"], projects=["shop", "other"], expires=None, now=NOW
    )
    build = add_build(ledger)
    builds.request_cancel(ledger, build.id, "no", NOW)
    release = releases.create(
        ledger,
        attempt=f"{build.id}-1",
        target="static",
        project="shop",
        sha256="a" * 64,
        files=1,
        size=1,
        commit="",
        now=NOW,
    )
    assert projects.delete(ledger, "shop", NOW + 1)
    assert not projects.delete(ledger, "shop", NOW + 1)
    assert projects.get(ledger, "shop") is None
    assert ledger.execute(select(tables.secrets)).all() == []

    again = add_project(ledger)
    assert again.secrets == []
    assert projects.sealed_secret(ledger, "shop", "npm_token") is None
    assert builds.get(ledger, build.id) is None
    for names in (None, frozenset({"shop"})):
        assert builds.list_page(ledger, projects=names, states=None, before=None, limit=10) == []
    assert releases.list_page(ledger, "shop") == []
    assert releases.get(ledger, "shop", release.id) is None
    (listed,) = tokens.list_all(ledger)
    assert listed.id == token.id
    assert listed.projects == frozenset({"other"})


def test_a_project_with_a_build_going_on_stays(ledger: Connection) -> None:
    add_project(ledger)
    build = add_build(ledger)
    with pytest.raises(NotPossible, match=f"build {build.id}"):
        projects.delete(ledger, "shop", NOW)
    builds.request_cancel(ledger, build.id, "no", NOW)
    assert projects.delete(ledger, "shop", NOW)


def test_secrets_are_set_replaced_and_erased(ledger: Connection) -> None:
    add_project(ledger)
    assert projects.sealed_secret(ledger, "shop", "npm_token") is None
    assert not projects.delete_secret(ledger, "shop", "npm_token")
    for sealed in (b"one", b"two"):
        projects.set_secret(ledger, "shop", "npm_token", sealed, NOW)
        assert projects.sealed_secret(ledger, "shop", "npm_token") == sealed
    assert projects.delete_secret(ledger, "shop", "npm_token")
    assert not projects.delete_secret(ledger, "none", "npm_token")
    assert projects.sealed_secret(ledger, "shop", "npm_token") is None
    with pytest.raises(ValueError, match="npm_token"):
        projects.set_secret(ledger, "shop", "root_password", b"x", NOW)
    with pytest.raises(NotFound):
        projects.set_secret(ledger, "none", "npm_token", b"x", NOW)


_OLD, _NEW = "https://npm.example.org/", "https://evil.example.org/"


@pytest.mark.parametrize(
    ("changes", "void"),
    [
        ({"targets": from_flat(Publish(npm=True, registry=_NEW))}, True),
        ({"targets": from_flat(Publish(npm=True, registry=""))}, True),
        ({"targets": from_flat(Publish(npm=True, registry="http://npm.example.org/"))}, True),
        ({"targets": from_flat(Publish(npm=True, registry="https://npm.example.org:8443/"))}, True),
        ({"targets": from_flat(Publish(npm=True, registry="https://npm.example.org/other/"))}, True),
        ({"targets": from_flat(Publish(npm=True, registry="https://npm.example.org/Team"))}, True),
        ({"repository": "https://git.example.org/other.git"}, True),
        ({"targets": from_flat(Publish(npm=True, registry="https://NPM.example.org:443")), "timeout": 5.0}, False),
        ({"targets": from_flat(Publish(npm=False, registry=_OLD))}, False),
        ({"targets": from_flat(Publish(static=True, npm=True, registry=_OLD)), "environment": {"A": "b"}}, False),
        ({"default_ref": "next"}, False),
    ],
)
def test_a_secret_is_bound_to_where_it_may_go(ledger: Connection, changes: dict[str, object], void: bool) -> None:
    """An admin of the project, who can't read its token, had it sent to their own server by changing the registry."""
    add_project(ledger)
    projects.update(ledger, "shop", {"targets": from_flat(Publish(npm=True, registry=_OLD))}, NOW)
    projects.set_secret(ledger, "shop", "npm_token", b"sealed", NOW)
    row = projects.update(ledger, "shop", changes, NOW + 1)
    assert row is not None
    assert row.secrets == ([] if void else ["npm_token"])
    assert projects.sealed_secret(ledger, "shop", "npm_token") == (None if void else b"sealed")
    # Back again doesn't bring it back.
    projects.update(ledger, "shop", {"targets": from_flat(Publish(npm=True, registry=_OLD))}, NOW + 2)
    assert projects.sealed_secret(ledger, "shop", "npm_token") == (None if void else b"sealed")


def test_a_secret_is_only_for_attempts_that_were_offered_with_its_place(ledger: Connection) -> None:
    """An attempt begun with another registry must not get the token that was set after the registry was mended."""
    project = add_project(ledger)
    evil = projects.binding_of(from_flat(Publish(npm=True, registry=_NEW))[0], project.repository)
    good = projects.binding_of(from_flat(Publish(npm=True, registry=_OLD))[0], project.repository)
    projects.update(ledger, "shop", {"targets": from_flat(Publish(npm=True, registry=_OLD))}, NOW)
    projects.set_secret(ledger, "shop", "npm_token", b"sealed", NOW)
    assert projects.sealed_secret(ledger, "shop", "npm_token", good) == b"sealed"
    with pytest.raises(NotPossible, match="another registry or repository"):
        projects.sealed_secret(ledger, "shop", "npm_token", evil)


def test_a_secret_that_is_meant_for_another_registry_is_not_set(ledger: Connection) -> None:
    """The registry is changed while an admin types the token."""
    add_project(ledger)
    projects.update(ledger, "shop", {"targets": from_flat(Publish(npm=True, registry=_NEW))}, NOW)
    with pytest.raises(NotPossible, match="publishes to https://evil"):
        projects.set_secret(ledger, "shop", "npm_token", b"sealed", NOW, _OLD)
    assert projects.sealed_secret(ledger, "shop", "npm_token") is None
    projects.set_secret(ledger, "shop", "npm_token", b"sealed", NOW, _NEW.rstrip("/"))
    assert projects.sealed_secret(ledger, "shop", "npm_token") == b"sealed"


def test_the_audit(ledger: Connection) -> None:
    by = Actor(who="ann", token=7, address="192.0.2.7", request="00ff")
    detail = {"ref": "\udc80"}
    audit.record(ledger, by=by, action="project.create", subject="shop\0", project="shop", detail=detail, now=NOW)
    (row,) = ledger.execute(select(tables.audit)).all()
    assert (row.time, row.who, row.action, row.subject) == (NOW, "ann", "project.create", "shop\ufffd")
    assert json.loads(row.detail) == {"ref": "?"}


# -- sealing ---------------------------------------------------------------------------------------------------------


def test_what_is_sealed_opens_with_the_same_key_only(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    sealed = SecretBox(path).seal("npm_ä")
    assert b"npm_" not in sealed
    assert SecretBox(path).open(sealed) == "npm_ä"
    with pytest.raises(SecretUnreadable, match="other"):
        SecretBox(tmp_path / "other.key").open(sealed)
    with pytest.raises(SecretUnreadable):
        SecretBox(path).open(b"not sealed")


def test_the_key_file_is_private_and_made_once(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    SecretBox(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["secret.key"]
    key = path.read_bytes()
    SecretBox(path)
    assert path.read_bytes() == key


def test_a_key_file_that_is_no_good(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    SecretBox(path)
    path.chmod(0o640)
    with pytest.raises(SecretUnreadable, match="chmod 600"):
        SecretBox(path)
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(SecretUnreadable, match="doesn't hold a key"):
        SecretBox(path)
