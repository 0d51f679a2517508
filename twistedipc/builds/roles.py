"""
What people may do: their roles on the platform and in its projects, and what is left of that to one of their tokens.
Bottom layer, pure.

A role is a scope that somebody has in one project. A token has scopes of its own, perhaps in some projects alone. What
a person may do with a token is what both allow. A token that no person has is bound by its own scopes and projects
alone, and so is one of the platform's admins.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final, Literal, get_args

from twistedipc.builds.scopes import Scope, allow

#: ``member``: may do what their roles in projects say. ``admin``: everything.
PlatformRole = Literal["member", "admin"]

#: What a member of a project may be there. Each role includes those before it.
Role = Literal["reader", "developer", "publisher", "maintainer"]

#: All roles, the least first.
ROLES: Final[tuple[Role, ...]] = get_args(Role)

#: What each role allows in its project.
SCOPE_OF: Final[Mapping[Role, Scope]] = {
    "reader": "read",
    "developer": "build",
    "publisher": "publish",
    "maintainer": "admin",
}

#: How the code of an invitation begins, which a person may show where a token is asked for.
INVITATION_PREFIX: Final = "tipi_"


def highest(*roles: Role) -> Role:
    """Return the role that includes the others: somebody may have one by name and another by a group."""
    return max(roles, key=ROLES.index)


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a token may do, and where."""

    scopes: AbstractSet[str]  # the token's own
    projects: frozenset[str] | None  # to which the token is bound; None: to none
    roles: Mapping[str, Role] | None  # its person's, by project; None: no person has it, or the person is an admin

    def allows(self, scope: Scope, project: str) -> bool:
        """Return whether the token has this scope in this project."""
        if not allow(self.scopes, scope) or (self.projects is not None and project not in self.projects):
            return False
        return self.roles is None or (project in self.roles and allow({SCOPE_OF[self.roles[project]]}, scope))

    def projects_with(self, scope: Scope) -> frozenset[str] | None:
        """Return the projects in which the token has this scope; None: all, also those to come."""
        if not allow(self.scopes, scope):
            return frozenset()
        if self.roles is None:
            return self.projects
        found = frozenset(project for project, role in self.roles.items() if allow({SCOPE_OF[role]}, scope))
        return found if self.projects is None else found & self.projects

    def allows_somewhere(self, scope: Scope) -> bool:
        """
        Return whether the token may ask for what is about no one project, and be shown there what it may see: any
        person may look, and who looks after one project may ask for what admins ask for.
        """
        if not allow(self.scopes, scope):
            return False
        return self.roles is None or scope == "read" or bool(self.projects_with(scope))

    def allows_everywhere(self, scope: Scope) -> bool:
        """Return whether the token has this scope in all projects, so that it has it for the platform itself."""
        return allow(self.scopes, scope) and self.projects is None and self.roles is None
