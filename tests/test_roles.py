"""What is left of a person's roles to one of their tokens: every role, scope and binding, by a table."""

from __future__ import annotations

from itertools import chain, combinations, product

import pytest

from twistedipc.builds.roles import ROLES, Allowance, Role, highest
from twistedipc.builds.scopes import SCOPES, Scope

#: Which of the scopes read, build, publish and admin each role has in its project.
TABLE: dict[Role | None, str] = {
    None: "----",
    "reader": "r---",
    "developer": "rb--",
    "publisher": "rbp-",
    "maintainer": "rbpa",
}


@pytest.mark.parametrize("role", TABLE)
def test_what_each_role_allows(role: Role | None) -> None:
    mine = Allowance({"admin"}, None, {} if role is None else {"shop": role})
    assert "".join(s[0] if mine.allows(s, "shop") else "-" for s in SCOPES) == TABLE[role]
    assert not any(mine.allows(scope, "blog") for scope in SCOPES), "a role is of one project"


def test_each_role_includes_those_before_it() -> None:
    for first, second in combinations(ROLES, 2):
        assert highest(first, second) == highest(second, first) == second
        assert set(TABLE[first]) - {"-"} < set(TABLE[second])


def test_what_a_token_may_is_what_it_and_its_person_may() -> None:
    """All tokens with one scope or two, bound to each set of projects, of people with each pair of roles."""
    owned = [{"a": one, "b": two} for one, two in product(TABLE, repeat=2)]
    sets = [frozenset(each) for each in chain([()], combinations(SCOPES, 1), combinations(SCOPES, 2))]
    bindings = [None, frozenset[str](), frozenset({"a"}), frozenset({"a", "b", "c"})]
    cases = 0
    for roles, scopes, bound in product([None, *owned], sets, bindings):
        given = None if roles is None else {name: role for name, role in roles.items() if role is not None}
        mine = Allowance(scopes, bound, given)
        for scope in SCOPES:
            cases += 1
            token = any(SCOPES.index(each) >= SCOPES.index(scope) for each in scopes if each in SCOPES)
            person = {
                name: roles is None or TABLE[roles.get(name)][SCOPES.index(scope)] != "-" for name in ("a", "b", "c")
            }
            expected = {name for name in ("a", "b", "c") if token and person[name] and (bound is None or name in bound)}
            assert {name for name in ("a", "b", "c") if mine.allows(scope, name)} == expected
            found = mine.projects_with(scope)
            if found is None:
                assert token
                assert roles is None
                assert bound is None
            else:
                assert found & {"a", "b", "c"} == expected
            assert mine.allows_everywhere(scope) == (token and roles is None and bound is None)
            somewhere = token and (roles is None or scope == "read" or bool(expected))
            assert mine.allows_somewhere(scope) == somewhere
    assert cases == 26 * 11 * 4 * 4


def test_what_no_token_has_is_nothing() -> None:
    scopes: list[Scope] = list(SCOPES)
    nothing = Allowance(frozenset(), None, None)
    assert not any(nothing.allows(scope, "shop") or nothing.allows_somewhere(scope) for scope in scopes)
    assert {nothing.projects_with(scope) for scope in scopes} == {frozenset()}
