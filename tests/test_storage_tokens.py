"""Bearer tokens and sessions."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, select

from tests.storage_fixtures import NOW, database
from twistedipc.storage import tables, tokens
from twistedipc.storage.errors import NameTaken
from twistedipc.storage.rows import TokenRow

DAY = 86_400_000


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Connection]:
    with database(tmp_path) as connection:
        yield connection


def _issue(
    connection: Connection, name: str = "ann", expires: int | None = None, parent: int | None = None
) -> tuple[TokenRow, str]:
    return tokens.issue(
        connection,
        random=os.urandom,
        name=name,
        scopes=["read", "build"],
        projects=None,
        expires=expires,
        parent=parent,
        session=parent is not None,
        now=NOW,
    )


def test_the_secret_is_random_and_stored_nowhere(ledger: Connection) -> None:
    secrets = {_issue(ledger, f"ann {number}")[1] for number in range(20)}
    assert len(secrets) == 20
    stored = repr(ledger.execute(select(tables.tokens)).all())
    for secret in secrets:
        assert secret.startswith("tipc_")
        assert len(secret) == len("tipc_") + 43
        assert secret not in stored
        assert secret.removeprefix("tipc_") not in stored


def test_the_secret_finds_its_token(ledger: Connection) -> None:
    _issue(ledger, "bob")
    token, secret = _issue(ledger)
    assert tokens.authenticate(ledger, secret, NOW) == token
    assert (token.name, token.projects, token.parent) == ("ann", None, None)
    assert token.scopes == frozenset({"read", "build"})
    for wrong in ("", "tipc_", secret[:-1], secret + "x", secret.upper(), "\0", "tipc_\ud800", "tipc_" + "x" * 10_000):
        assert tokens.authenticate(ledger, wrong, NOW) is None


def test_bound_to_projects_also_to_none(ledger: Connection) -> None:
    for bound in (frozenset[str](), frozenset({"b", "a"})):
        token, secret = tokens.issue(
            ledger, random=os.urandom, name=f"t{len(bound)}", scopes=["read"], projects=bound, expires=None, now=NOW
        )
        assert token.projects == bound
        assert tokens.authenticate(ledger, secret, NOW) == token
    assert [token.projects for token in tokens.list_all(ledger)] == [frozenset(), {"a", "b"}]


def test_expiry(ledger: Connection) -> None:
    _, secret = _issue(ledger, expires=NOW + 10)
    assert tokens.authenticate(ledger, secret, NOW + 9)
    assert tokens.authenticate(ledger, secret, NOW + 10) is None


def test_revoking_takes_the_sessions_along(ledger: Connection) -> None:
    parent, secret = _issue(ledger)
    _, other = _issue(ledger, "bob")
    _, session = _issue(ledger, expires=NOW + DAY, parent=parent.id)
    assert tokens.authenticate(ledger, session, NOW)
    assert tokens.revoke(ledger, parent.id, NOW)
    assert not tokens.revoke(ledger, parent.id, NOW)
    assert not tokens.revoke(ledger, 999, NOW)
    assert tokens.authenticate(ledger, secret, NOW) is None
    assert tokens.authenticate(ledger, session, NOW) is None
    assert tokens.authenticate(ledger, other, NOW)
    assert [token.revoked for token in tokens.list_all(ledger)] == [NOW, None, NOW]


def test_revoking_a_session_leaves_its_parent(ledger: Connection) -> None:
    parent, secret = _issue(ledger)
    child, session = _issue(ledger, expires=NOW + DAY, parent=parent.id)
    assert tokens.revoke(ledger, child.id, NOW)
    assert tokens.authenticate(ledger, session, NOW) is None
    assert tokens.authenticate(ledger, secret, NOW)


def test_a_session_ends_with_its_parent(ledger: Connection) -> None:
    parent, _ = _issue(ledger, expires=NOW + 10)
    _, session = _issue(ledger, expires=NOW + DAY, parent=parent.id)
    assert tokens.authenticate(ledger, session, NOW + 9)
    assert tokens.authenticate(ledger, session, NOW + 10) is None


def test_touching_writes_once_a_minute(ledger: Connection) -> None:
    token, secret = _issue(ledger)
    for now, last_used in ((NOW, NOW), (NOW + 59_999, NOW), (NOW + 60_000, NOW + 60_000)):
        tokens.touch(ledger, token.id, now)
        found = tokens.authenticate(ledger, secret, now)
        assert found is not None
        assert found.last_used == last_used


def test_old_sessions_are_forgotten_and_old_tokens_kept(ledger: Connection) -> None:
    parent, _ = _issue(ledger, expires=NOW + 2)
    _issue(ledger, expires=NOW + 1, parent=parent.id)
    recent, _ = _issue(ledger, expires=NOW + 8 * DAY, parent=parent.id)
    newest, _ = tokens.issue(
        ledger, random=os.urandom, name="x", scopes=[], projects=[], expires=None, now=NOW + 8 * DAY
    )
    assert [token.id for token in tokens.list_all(ledger)] == [parent.id, recent.id, newest.id]


def test_count_is_of_peoples_good_tokens(ledger: Connection) -> None:
    assert tokens.count(ledger) == 0
    first, _ = _issue(ledger)
    _issue(ledger, expires=NOW + 1, parent=first.id)
    assert tokens.count(ledger) == 1
    tokens.revoke(ledger, first.id, NOW)
    assert tokens.count(ledger) == 0


def test_a_name_is_one_tokens_until_it_is_revoked_or_has_expired(ledger: Connection) -> None:
    first, _secret = _issue(ledger, "ci")
    with pytest.raises(NameTaken, match="a token named ci already"), ledger.begin_nested():
        _issue(ledger, "ci")
    _issue(ledger, "ci", parent=first.id, expires=NOW + DAY)  # a session has its token's name
    assert tokens.revoke(ledger, first.id, NOW)
    second, _secret = _issue(ledger, "ci", expires=NOW)
    third, _secret = _issue(ledger, "ci")
    listed = {row.id: row.revoked for row in tokens.list_all(ledger) if row.parent is None}
    assert listed == {first.id: NOW, second.id: NOW, third.id: None}


def test_a_session_that_is_not_used_is_over(ledger: Connection) -> None:
    token, token_secret = _issue(ledger)
    session, secret = _issue(ledger, parent=token.id, expires=NOW + DAY)
    idle = tokens.SESSION_IDLE
    assert tokens.authenticate(ledger, secret, NOW + idle - 1) is not None
    tokens.touch(ledger, session.id, NOW + idle - 1)
    assert tokens.authenticate(ledger, secret, NOW + 2 * idle - 2) is not None
    assert [row.id for row in tokens.sessions(ledger, NOW + 2 * idle - 2)] == [session.id]
    assert tokens.authenticate(ledger, secret, NOW + 2 * idle) is None
    assert tokens.sessions(ledger, NOW + 2 * idle) == []
    assert tokens.authenticate(ledger, token_secret, NOW + 300 * DAY) is not None
