"""People, their invitations, and the members of projects, in the ledger."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, select, text

from tests.storage_fixtures import NOW, add_project, as_of_0011, database
from twistedipc.builds.roles import INVITATION_PREFIX, PlatformRole
from twistedipc.storage import members, people, projects, tables, tokens
from twistedipc.storage.errors import NameTaken, NotFound, NotPossible
from twistedipc.storage.migrations import upgrade
from twistedipc.storage.rows import PersonRow, TokenRow


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Connection]:
    with database(tmp_path) as connection:
        add_project(connection)
        yield connection


def person(
    connection: Connection, name: str = "ann", email: str | None = None, role: PlatformRole = "member"
) -> PersonRow:
    return people.add(connection, name=name, email=email, role=role, now=NOW)


def token(connection: Connection, of: int | None, name: str = "laptop") -> tuple[TokenRow, str]:
    return tokens.issue(
        connection, name=name, scopes=["admin"], projects=None, expires=None, person=of, random=os.urandom, now=NOW
    )


def test_names_and_addresses_are_one_persons_each(ledger: Connection) -> None:
    ann = person(ledger, "ann", "Ann@Example.org")
    assert (ann.email, ann.is_admin, ann.joined, ann.disabled) == ("ann@example.org", False, None, None)
    for name, email in (("ANN", None), ("bob", "aNN@example.org")):
        with pytest.raises(NameTaken):
            person(ledger, name, email)
    bob = person(ledger, "bob", role="admin")
    assert people.list_all(ledger) == [ann, bob]
    assert people.names_of_emails(ledger, ["ANN@example.org", "x@example.org"]) == {"ann@example.org": (ann.id, "ann")}
    with pytest.raises(NameTaken, match="the address of ann"):
        people.change(ledger, bob.id, {"email": "ann@example.org"})
    assert people.change(ledger, ann.id, {"email": "ann@example.org", "role": "admin"}).is_admin
    assert people.change(ledger, ann.id, {"email": None}).email is None
    with pytest.raises(NotFound):
        people.change(ledger, 99, {})


def test_an_invitation_is_good_once_for_seven_days(ledger: Connection) -> None:
    ann = person(ledger)
    void, _expires = people.invite(ledger, ann.id, os.urandom, NOW)
    code, expires = people.invite(ledger, ann.id, os.urandom, NOW)
    assert code.startswith(INVITATION_PREFIX)
    assert code not in repr(ledger.execute(select(tables.invitations)).all())
    assert expires == NOW + 7 * 86_400_000
    for bad in (void, "", INVITATION_PREFIX, code + "x", code.swapcase(), "tipi_\ud800", INVITATION_PREFIX + "x" * 999):
        assert people.accept(ledger, bad, NOW) is None
    assert people.accept(ledger, code, expires) is None
    taken = people.accept(ledger, code, expires - 1)
    assert taken is not None
    assert (taken.id, taken.joined) == (ann.id, expires - 1)
    assert people.accept(ledger, code, NOW) is None
    again, _expires = people.invite(ledger, ann.id, os.urandom, expires)
    rejoined = people.accept(ledger, again, expires)
    assert rejoined is not None
    assert rejoined.joined == taken.joined


def test_who_is_disabled_may_nothing_and_starts_from_nothing(ledger: Connection) -> None:
    ann, bob = person(ledger), person(ledger, "bob")
    (mine, secret), (_other, others), (_service, services) = (
        token(ledger, ann.id), token(ledger, bob.id, "bob's"), token(ledger, None, "ci"),
    )  # fmt: skip
    code, _expires = people.invite(ledger, ann.id, os.urandom, NOW)
    assert people.disable(ledger, ann.id, NOW)
    assert tokens.authenticate(ledger, secret, NOW) is None, "even before its row says so"
    tokens.revoke_of_person(ledger, ann.id, NOW)
    assert not people.disable(ledger, ann.id, NOW + 1)
    assert people.accept(ledger, code, NOW) is None
    with pytest.raises(NotPossible, match="disabled"):
        people.invite(ledger, ann.id, os.urandom, NOW)
    assert tokens.authenticate(ledger, others, NOW)
    assert tokens.authenticate(ledger, services, NOW)
    assert people.enable(ledger, ann.id)
    assert not people.enable(ledger, ann.id)
    assert tokens.authenticate(ledger, secret, NOW) is None
    assert [row.revoked for row in tokens.list_all(ledger) if row.id == mine.id] == [NOW]


def test_a_token_has_its_persons_roles(ledger: Connection) -> None:
    add_project(ledger, "blog")
    ann, root = person(ledger), person(ledger, "root", role="admin")
    _row, secret = token(ledger, ann.id)
    _row, roots = token(ledger, root.id, "root's")

    def roles(of: str) -> object:
        found = tokens.authenticate(ledger, of, NOW)
        assert found is not None
        assert found.person is not None
        return found.person.roles

    assert roles(roots) is None
    assert roles(secret) == {}
    assert members.set_role(ledger, "shop", ann.id, "developer", NOW) is None
    assert members.set_role(ledger, "shop", ann.id, "reader", NOW) == "developer"
    changed = members.set_by_groups(ledger, ann.id, {"shop": "publisher", "blog": "reader", "nowhere": "reader"}, NOW)
    assert changed == {"shop": "— → publisher", "blog": "— → reader"}
    assert roles(secret) == {"shop": "publisher", "blog": "reader"}, "the higher one counts"
    assert members.set_by_groups(ledger, ann.id, {"blog": "developer"}, NOW) == {
        "blog": "reader → developer",
        "shop": "publisher → —",
    }
    assert roles(secret) == {"shop": "reader", "blog": "developer"}
    assert [(row.person.name, row.added, row.by_groups) for row in members.list_all(ledger, "blog")] == [
        ("ann", None, "developer")
    ]
    assert members.remove(ledger, "blog", ann.id) is None, "what comes from groups isn't taken by name"
    assert members.remove(ledger, "shop", ann.id) == "reader"
    assert roles(secret) == {"blog": "developer"}
    projects.delete(ledger, "blog", NOW)
    add_project(ledger, "blog")
    assert roles(secret) == {}, "another project of that name has no members"
    with pytest.raises(NotFound):
        members.set_role(ledger, "nowhere", ann.id, "reader", NOW)


def test_a_session_needs_no_token_to_stand_on(ledger: Connection) -> None:
    ann = person(ledger)
    made = [
        tokens.issue(
            ledger, name="ann", scopes=["admin"], projects=None, expires=NOW + 9, person=ann.id, session=True,
            random=os.urandom, now=NOW,
        )
        for _ in range(2)
    ]  # fmt: skip
    assert [row.id for row in tokens.sessions(ledger, NOW)] == [row.id for row, _secret in made]
    assert tokens.count(ledger) == 0
    assert tokens.revoke(ledger, made[0][0].id, NOW)
    assert tokens.authenticate(ledger, made[0][1], NOW) is None
    found = tokens.authenticate(ledger, made[1][1], NOW)
    assert found is not None
    assert (found.session, found.parent, found.who) == (True, None, "ann")


def test_a_first_token_finds_a_name(ledger: Connection) -> None:
    for expected in ("ann", "ann 2", "ann 3"):
        name = tokens.free_name(ledger, "ann", NOW)
        assert name == expected
        token(ledger, None, name)


@pytest.mark.sqlite
def test_tokens_of_before_are_no_persons_and_go_on(tmp_path: Path) -> None:
    with database(tmp_path) as connection:
        row, secret = token(connection, None, "old")
        _session, sessions_secret = tokens.issue(
            connection, name="old", scopes=["admin"], projects=None, expires=NOW + 9, parent=row.id, session=True,
            random=os.urandom, now=NOW,
        )  # fmt: skip
        as_of_0011(connection)
        connection.execute(text("UPDATE alembic_version SET version_num = '0011'"))
        upgrade(connection)
        found = tokens.authenticate(connection, secret, NOW)
        assert found is not None
        assert (found.person, found.session, found.allowance.allows_everywhere("admin")) == (None, False, True)
        session = tokens.authenticate(connection, sessions_secret, NOW)
        assert session is not None
        assert session.session
