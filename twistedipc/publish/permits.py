"""
Whether an attempt may publish its packages to a target: decided from what the apiserver itself has written down, never
from what a builder or a build says of itself. Pure; ``storage.permits`` reads the record and writes the decision.

A build that writes ``permit.wanted`` into its folder asks as the runner does. It is answered by the same rules: before
its steps are over there is no permit, and afterwards no process of it is alive.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from twistedipc.builds.attempt import Package, StepResult
from twistedipc.builds.names import MAX_PACKAGES, shown
from twistedipc.builds.states import BUILDER_DONE, AttemptState
from twistedipc.builds.versions import PUSH, Canary
from twistedipc.publish.targets.target import NotAllowed, Settings, Target

#: The last step before a publication, and the step that is one. The platform does them itself, so no step of a build
#: has such a name and no command.
PACK = "pack"
PUBLISH = "publish"

#: The most characters of what is said of a package.
MAX_SAID = 1024

#: The most characters of a package's notes.
MAX_NOTES = 4000


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What the apiserver has written down of an attempt that asks to publish to one target."""

    project: str
    settings: Settings | None  # what its project says of the target, now; None: nothing
    state: AttemptState
    lease: str
    builder: str
    cancel_reason: str
    steps: Sequence[StepResult]  # as its log tells them
    offered: Settings | None  # what it was offered to publish there; None: nothing
    given: Sequence[Package]  # what it has a permit for
    no_secret: str  # why a secret of the target isn't there; "": they all are
    canary: Canary | None = None  # it isn't for the project's users, and may publish these previews alone
    no_canary: str = ""  # why it may publish none; "": it may


class Granted(msgspec.Struct, frozen=True):
    """
    The packages may be published. ``new``: there was no permit yet. ``pin``: the project's settings become these.
    ``store``: not by the builder, which uploads them; the apiserver publishes them, and asks again then.
    """

    new: bool = False
    pin: Settings | None = None
    store: bool = False


class Refused(msgspec.Struct, frozen=True):
    """None of the packages may be published, and asking again is of no use. ``reason`` is a sentence for people."""

    reason: str


class NotYet(msgspec.Struct, frozen=True):
    """The packages may not be published yet: the attempt has not got so far."""

    reason: str


class Void(msgspec.Struct, frozen=True):
    """The lease isn't valid, or not any more."""


Decision = Granted | Refused | NotYet | Void


def decide(target: Target[Any], record: Record, *, lease: str, builder: str, packages: Sequence[Package]) -> Decision:
    """Return whether this builder, under this lease, may publish these packages to the target: all of them or none."""
    if record.lease != lease or record.builder != builder or record.state in BUILDER_DONE:
        return Void()
    if record.cancel_reason:
        return Refused(record.cancel_reason)
    settings, offered = record.settings, record.offered
    if settings is None or settings.paused:
        how = f"`twistedipc project set {record.project} --{target.name}`"
        return Refused(f"project {record.project} publishes no {target.what} ({how})")
    if offered is None:
        return Refused(f"this build was not asked to publish its {target.what}")
    moved = target.moved(offered, settings, record.project)
    if moved:
        return Refused(moved)
    # If the project has changed meanwhile, that counts which keeps the secrets here.
    store = target.is_stored(settings) or target.is_stored(offered)
    if record.given:
        return _again(record, packages, store=store)
    waits = _not_ended(record.steps)
    if waits is not None:
        return waits
    return _first(target, settings, record, packages, store=store)


def decide_stored(target: Target[Any], record: Record) -> Granted | Refused:
    """
    Return whether the apiserver may publish now what an attempt has a permit for, and has stored. Weeks may have passed
    since, and its project may have changed.
    """
    if record.cancel_reason:
        return Refused(record.cancel_reason)
    settings, offered = record.settings, record.offered
    if settings is None or settings.paused or offered is None:
        how = f"`twistedipc project set {record.project} --{target.name}`"
        return Refused(f"project {record.project} publishes no {target.what} any more ({how})")
    moved = target.moved(offered, settings, record.project)
    if moved:
        return Refused(moved)
    return _first(target, settings, record, record.given, store=False)


def _again(record: Record, packages: Sequence[Package], *, store: bool) -> Decision:
    """Answer an attempt that has its permit."""
    if [identity(package) for package in record.given] != [identity(package) for package in packages]:
        given = ", ".join(f"{package.name}@{package.version}" for package in record.given)
        return Refused(f"this attempt has its permit for {given}, and can have no other")
    return Refused(record.no_secret) if record.no_secret else Granted(store=store)


def _first(
    target: Target[Any], settings: Settings, record: Record, packages: Sequence[Package], *, store: bool
) -> Granted | Refused:
    """Answer an attempt that asks for the first time, and whose steps are over."""
    if not 1 <= len({package.name for package in packages}) == len(packages) <= MAX_PACKAGES:
        return Refused(f"an attempt publishes 1 to {MAX_PACKAGES} packages, each of another name")
    try:
        pinned = target.allow(settings, packages, record.project)
    except NotAllowed as error:
        return Refused(str(error))
    if record.canary is not None:
        why = _no_canary(target, settings, record, packages, named=pinned == settings)
        if why:
            return Refused(why)
    if not all(map(_well_formed, packages)):
        return Refused("a package's name, version, integrity and tag are each one short line")
    if record.no_secret:
        return Refused(record.no_secret)
    # What is only stored may be refused: the project is narrowed when it is published.
    return Granted(new=True, pin=None if store or pinned == settings else pinned, store=store)


def _no_canary(
    target: Target[Any], settings: Settings, record: Record, packages: Sequence[Package], *, named: bool
) -> str:
    """
    Return why a build that isn't for the project's users may not publish these packages; "" if it may: as previews,
    under the tag of its ref, of packages that are the project's already. ``named``: they are.
    """
    canary = record.canary
    assert canary is not None
    if record.no_canary:
        return record.no_canary
    if not target.makes_canaries(settings):
        return (
            f"project {record.project} publishes no canaries (`twistedipc project set {record.project} --canary true`)"
        )
    if not named:
        return (
            f"project {record.project} has published no package yet, and a canary can't be the first: publish from a "
            f"protected ref, or name them by `twistedipc project set {record.project} --package NAME`"
        )
    for package in packages:
        if package.tag != canary.tag or not canary.is_its_own(package.version):
            return (
                f"this build may publish canaries alone, with versions like {canary.version('1.2.3')} and the tag "
                f"{canary.tag}, and not {package.name}@{package.version} with the tag {package.tag or 'latest'}"
            )
    return ""


def _well_formed(package: Package) -> bool:
    """Return whether what is said of a package can be written down and shown. Whether it is so, the target knows."""
    said = (package.file, package.name, package.version, package.integrity)
    return all(0 < len(each) <= MAX_SAID and each == shown(each, MAX_SAID) for each in said) and (
        package.tag == shown(package.tag, MAX_SAID)
        and package.git_tag == shown(package.git_tag, MAX_SAID)
        and package.notes == shown(package.notes, MAX_NOTES, lines=True)
    )


def identity(package: Package) -> tuple[str, str, str, str]:
    """Return what identifies a package, wherever its file lies."""
    return package.name, package.version, package.integrity, package.tag


def _not_ended(steps: Sequence[StepResult]) -> NotYet | Refused | None:
    """Why the record doesn't show that all steps are over and the package is packed; None if it does."""
    steps = list(steps)
    while steps and ((_is_own(steps[-1], PUBLISH) and steps[-1].outcome == "succeeded") or _is_own(steps[-1], PUSH)):
        steps.pop()  # another target's
    if not steps or not _is_own(steps[-1], PACK) or steps[-1].outcome == "running":
        return NotYet("the steps of the build aren't over")
    # A step of the platform's own may have failed for want of room on the disk, and been run again.
    failed = [step for step in steps if step.outcome not in ("succeeded", "running") and step.command]
    if steps[-1].outcome != "succeeded":
        failed.append(steps[-1])
    return Refused(f"step {failed[0].name} has not succeeded") if failed else None


def _is_own(step: StepResult, name: str) -> bool:
    """Return whether this is the platform's own step of this name."""
    return step.name == name and not step.command
