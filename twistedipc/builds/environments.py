"""
A project's environments: which builds are of which one. Bottom layer, pure.

There are always two: ``production``, what is for the project's users, and ``preview``, all else. Between them a project
has others, such as ``staging``. Each has patterns of refs (as `protection` has them), variables and secrets of its own.

A build is of `PRODUCTION` by the rules of `protection` alone: no pattern of an environment makes it that. Else it is of
the first environment to whose refs its ref's name belongs, if its asker has the scope publish. Else it is a preview.
That is decided by names; so the checkout looks whether such a ref has the commit, as for production, and nothing is
built without one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

from twistedipc.builds import names, protection
from twistedipc.builds.names import HEAD, BadValue

PRODUCTION = "production"
PREVIEW = "preview"

#: What a name is, for the API's document. `check` holds it to that.
NAME = r"[a-z](?:[a-z0-9-]{0,30}[a-z0-9])?"
_NAME = re.compile(NAME)

#: Names that mean something else.
RESERVED = frozenset({PRODUCTION, PREVIEW, "previews", "all"})

#: What a name is that isn't reserved.
FREE_NAME = rf"(?!(?:{'|'.join(sorted(RESERVED))})$){NAME}"

#: The most environments of a project, beside those that all have.
MAX_ENVIRONMENTS = 20


class Environment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An environment of a project, beside production and previews."""

    name: str
    refs: list[str]  # patterns of `protection`, at least one
    approval: int = 0  # 1: another person than the one who asked approves what is built, before the build succeeds


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """Of which environment a build is."""

    environment: str
    preview: str  # why it publishes nothing for the project's users, in a sentence; "": it may
    refs: list[str] = []  # patterns: from one of these its commit must be reachable; none: production's own rules hold

    @property
    def is_production(self) -> bool:
        """Whether it is what the project's users get."""
        return self.environment == PRODUCTION


def check(environments: Sequence[Environment]) -> list[Environment]:
    """Return a project's environments, in the order in which they are looked through. Raises `BadValue`."""
    if len(environments) > MAX_ENVIRONMENTS:
        raise BadValue(f"a project has at most {MAX_ENVIRONMENTS} environments beside production and preview")
    for each in environments:
        if each.name in RESERVED or not _NAME.fullmatch(each.name):
            raise BadValue(
                f"{each.name!r} can't be an environment's name: it has 1 to 32 of a-z, 0-9 and -, a letter first, and "
                f"isn't {', '.join(sorted(RESERVED))}"
            )
        if not each.refs:
            raise BadValue(f"the environment {each.name} has no refs: say which ones lead to it")
    found = [each.name for each in environments]
    if len(set(found)) < len(found):
        raise BadValue("two environments of a project have the same name")
    return [msgspec.structs.replace(each, refs=protection.check(each.refs)) for each in environments]


def decide(
    *,
    project: str,
    ref: str,
    default_ref: str,
    patterns: Sequence[str],
    head: str,
    environments: Iterable[Environment],
    publish: bool,
    may_publish: bool,
    live: bool,
    delivers: bool,
) -> Decided:
    """
    Return of which environment a build of this ref is.

    :param patterns: the project's protected refs
    :param head: the branch that the repository's HEAD stands for, as far as it is known
    :param publish: it was asked to publish
    :param may_publish: the one who asked has the scope publish
    :param live: it was asked to go live whatever its ref
    :param delivers: it publishes somewhere (to an npm registry, say) where what is there is everybody's at once
    """
    preview = protection.why_preview(
        project=project,
        ref=ref,
        patterns=patterns,
        head=head,
        publish=publish,
        may_publish=may_publish,
        live=live,
    )
    if not preview and (live or delivers or ref in names.own_refs(default_ref, head)):
        return Decided(environment=PRODUCTION, preview="")
    if publish and may_publish:
        for each in environments:
            if leads_to(each.refs, ref, head):
                return Decided(environment=each.name, preview=preview, refs=list(each.refs))
    return Decided(environment=PREVIEW, preview=preview)


def leads_to(patterns: Sequence[str], ref: str, head: str) -> bool:
    """Return whether a ref, as a person writes it, belongs to these patterns. HEAD does only as what it stands for."""
    if ref == HEAD and not head:
        return HEAD in patterns
    return protection.may_be_protected(patterns, ref, head)
