"""
Whether an attempt may publish a package: decided from what the apiserver itself has written down, never from what a
builder or a build says of itself. Bottom layer, pure; ``storage.permits`` reads the record and writes the decision.

A build that writes ``permit.wanted`` into its folder asks as the runner does. It is answered by the same rules: before
its steps are over there is no permit, and afterwards no process of it is alive.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from twistedipc.builds import names
from twistedipc.builds.attempt import Package, Publish, StepResult
from twistedipc.builds.states import TERMINAL, AttemptState

#: The last step before a publication. The platform does it itself, so no step of a build has this name and no command.
PACK = "pack"


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What the apiserver has written down of an attempt that asks."""

    project: str
    publish: Publish  # what its project publishes, now
    state: AttemptState
    lease: str
    builder: str
    cancel_reason: str
    steps: Sequence[StepResult]  # as its log tells them
    registry: str | None  # to which it was offered to publish a package; None: it wasn't
    given: Package | None  # what it has a permit for
    no_token: str  # why there is no token for the registry; "": there is one


class Granted(msgspec.Struct, frozen=True):
    """It may. ``new``: it had no permit yet. ``pin``: the package is from now on the one of its project."""

    new: bool = False
    pin: bool = False


class Refused(msgspec.Struct, frozen=True):
    """It may not, and asking again is of no use. ``reason`` is a sentence for people."""

    reason: str


class NotYet(msgspec.Struct, frozen=True):
    """It may not now: it has not got so far."""

    reason: str


class Void(msgspec.Struct, frozen=True):
    """The lease isn't good (any more)."""


Decision = Granted | Refused | NotYet | Void


def decide(record: Record, *, lease: str, builder: str, package: Package) -> Decision:
    """Whether this builder, under this lease, may publish this package."""
    if record.lease != lease or record.builder != builder or record.state in TERMINAL:
        return Void()
    if record.cancel_reason:
        return Refused(record.cancel_reason)
    refusal = _not_to_publish(record)
    if refusal:
        return Refused(refusal)
    if record.given is not None:
        if identity(record.given) != identity(package):
            given = f"{record.given.name}@{record.given.version}"
            return Refused(f"this attempt has its permit for {given}, and can have no other")
        return Refused(record.no_token) if record.no_token else Granted()
    waits = _not_ended(record.steps)
    if waits is not None:
        return waits
    if not names.is_package(package.name):
        return Refused("the package has no name that npm takes")
    allowed = record.publish.packages
    if allowed and not any(_allows(pattern, package.name) for pattern in allowed):
        return Refused(
            f"project {record.project} may publish {', '.join(allowed)}, and this package is {package.name}. To allow "
            f"it, an admin runs: twistedipc project set {record.project} "
            + " ".join(f"--package '{name}'" for name in (*allowed, package.name))
        )
    if record.no_token:
        return Refused(record.no_token)
    return Granted(new=True, pin=not allowed)


def identity(package: Package) -> tuple[str, str, str, str]:
    """What a package is, wherever its tarball lies."""
    return package.name, package.version, package.integrity, package.tag


def _not_to_publish(record: Record) -> str:
    """Why this attempt is to publish no package, whatever it built; "" if it is to."""
    if not record.publish.npm:
        return f"project {record.project} publishes no npm package (`twistedipc project set {record.project} --npm`)"
    if record.registry is None:
        return "this build was not asked to publish a package"
    if record.registry != record.publish.registry:
        return (
            f"the registry of project {record.project} has changed since this build began, from "
            f"{record.registry or 'the default'} to {record.publish.registry or 'the default'}: build again"
        )
    return ""


def _not_ended(steps: Sequence[StepResult]) -> NotYet | Refused | None:
    """Why the record doesn't show that all steps are over and the package is packed; None if it does."""
    if not steps or steps[-1].name != PACK or steps[-1].command or steps[-1].outcome == "running":
        return NotYet("the steps of the build aren't over")
    # A step of the platform's own may have failed for want of room on the disk, and been run again.
    failed = [step for step in steps if step.outcome not in ("succeeded", "running") and step.command]
    if steps[-1].outcome != "succeeded":
        failed.append(steps[-1])
    return Refused(f"step {failed[0].name} has not succeeded") if failed else None


def _allows(pattern: str, name: str) -> bool:
    """Whether an entry of a project's packages, NAME or @SCOPE/*, means this name."""
    return name.startswith(pattern[:-1]) if pattern.endswith("/*") else name == pattern
