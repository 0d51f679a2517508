"""
What an npm registry is asked about packages that are published: tags, versions, stages; and a change of a tag or a
deprecation, which is looked at before and after. See `publish.asking`; used by ``target``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Protocol

from twistedipc.publish.asking import Answered, CantAnswer, Change, Changed, Look, Question, Seen, StageLook, StageSeen
from twistedipc.publish.targets.npm.opening import Registries
from twistedipc.publish.targets.npm.package import older
from twistedipc.publish.targets.npm.places import Places
from twistedipc.publish.targets.npm.registry import Answer, Found, Kind, Registry
from twistedipc.publish.targets.target import CantDeliver

#: Seconds between tries, and after a change between looks, since a registry may answer from copies.
PAUSES = (1.0, 2.0, 4.0)

#: The most seconds for looks: what isn't looked at by then is looked at the next time.
LOOKING = 40.0

#: The most tags of a package that are told.
MAX_TAGS = 500

_PASSING = (Kind.BUSY, Kind.UNREACHABLE)


class TaggedRegistry(Registry, Protocol):
    """A registry that can be asked for the tags of a package alone."""

    def tags(self, name: str) -> dict[str, str] | Answer:
        """Return the dist-tags of a package; `Kind.ABSENT` also where the registry knows no such request."""


Find = Callable[[str], TaggedRegistry]


class Asking:
    """
    One question.

    :param find: returns the registry of a package
    """

    def __init__(
        self, find: Find, *, sleep: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._find = find
        self._sleep = sleep
        self._clock = clock
        self._busy: dict[str, str] = {}  # the address of a registry that can't answer now -> what it said
        self._after = 0.0

    def answer(self, question: Question) -> Answered:
        """Ask all of it."""
        until = self._clock() + LOOKING
        seen = [self._seen(each, until) for each in question.looks]
        stages = [self._stage(each, until) for each in question.stages]
        changed = None if question.change is None else self._changed(question.change, question.otp)
        return Answered(seen=seen, stages=stages, changed=changed, after=self._after)

    # -- looks

    def _seen(self, look: Look, until: float) -> Seen:
        registry = self._find(look.name)
        address = registry.address
        if why := self._why_not(address, until):
            return Seen(name=look.name, registry=address, unknown=why)
        if not look.versions:
            tags = registry.tags(look.name)
            if not isinstance(tags, Answer):
                return Seen(name=look.name, registry=address, tags=dict(list(tags.items())[:MAX_TAGS]))
            if tags.kind not in (Kind.UNSUPPORTED, Kind.ABSENT):
                return self._no_answer(look, address, tags)
        found = registry.look(look.name)
        if isinstance(found, Answer):
            return self._no_answer(look, address, found)
        there = {each: found.versions[each].deprecated for each in look.versions if each in found.versions}
        tags = dict(list(found.tags.items())[:MAX_TAGS])
        return Seen(name=look.name, registry=address, tags=tags, versions=there)

    def _no_answer(self, look: Look, address: str, answer: Answer) -> Seen:
        if answer.kind is Kind.ABSENT:
            return Seen(name=look.name, registry=address)
        self._note(address, answer)
        return Seen(name=look.name, registry=address, unknown=_said(answer))

    def _stage(self, look: StageLook, until: float) -> StageSeen:
        registry = self._find(look.name)
        if why := self._why_not(registry.address, until):
            return StageSeen(stage=look.stage, unknown=why)
        answer = registry.staged(look.stage)
        if not isinstance(answer, Answer):
            return StageSeen(stage=look.stage)
        if answer.kind is Kind.ABSENT:
            return StageSeen(stage=look.stage, waits=False)
        self._note(registry.address, answer)
        return StageSeen(stage=look.stage, unknown=_said(answer))

    def _note(self, address: str, answer: Answer) -> None:
        """Remember that a registry can't answer now: the next look at it would wait as long."""
        if answer.kind in _PASSING:
            self._busy[address] = _said(answer)
            self._after = max(self._after, answer.after)

    def _why_not(self, address: str, until: float) -> str:
        if self._clock() > until:
            return "there was no time to look at it"
        return self._busy.get(address, "")

    # -- changes

    def _changed(self, change: Change, otp: str) -> Changed:
        """Make a change, unless it is so already. It is made again only after a look."""
        registry = self._find(change.name)
        last = Answer(kind=Kind.UNREACHABLE)
        for pause in (*PAUSES, None):
            found = registry.look(change.name)
            if isinstance(found, Answer):
                last = found
                if found.kind not in _PASSING:
                    break
            else:
                if is_so(change, found):
                    return Changed(outcome="already" if last.kind is Kind.UNREACHABLE and not last.said else "done")
                if why := why_not(change, found):
                    return why
                last = _make(registry, change, otp)
                if last.kind is Kind.OTP:
                    return Changed(outcome="password", reason=_said(last), page=last.page)
                if last.kind is Kind.DONE:
                    return self._verified(registry, change)
                if last.kind not in _PASSING:
                    break
            if pause is not None:
                self._sleep(max(pause, min(last.after, 30.0)))
        return Changed(outcome="failed" if last.kind in _PASSING else "refused", reason=_said(last))

    def _verified(self, registry: Registry, change: Change) -> Changed:
        """Return what the registry shows of a change that it has taken."""
        for pause in (*PAUSES, None):
            found = registry.look(change.name)
            if isinstance(found, Found) and is_so(change, found):
                return Changed(outcome="done")
            if pause is not None:
                self._sleep(pause)
        return Changed(outcome="done", reason="the registry says that it is done, and doesn't show it yet")


def is_so(change: Change, found: Found) -> bool:
    """Return whether the registry has it so."""
    if change.kind == "tag":
        return found.tags.get(change.tag, "") == change.version
    if change.kind == "untag":
        return change.tag not in found.tags
    version = found.versions.get(change.version)
    return version is not None and version.deprecated == change.message


def why_not(change: Change, found: Found) -> Changed | None:
    """Return why a change isn't made; None if it can be."""
    if change.kind != "untag" and change.version not in found.versions:
        return Changed(outcome="refused", reason=f"{change.name}@{change.version} isn't in the registry")
    if change.kind == "deprecate":
        return None
    now = found.tags.get(change.tag, "")
    if now != change.expected:
        return Changed(outcome="moved", reason=f"{change.tag} leads to {now or 'no version'} now")
    if change.kind == "tag" and change.tag == "latest" and not change.back and now and older(change.version, now):
        return Changed(
            outcome="refused",
            reason=f"{change.version} is older than {now}, to which latest leads: going back is a rollback "
            f"(`twistedipc packages rollback PROJECT {change.name} --to {change.version}`)",
        )
    return None


def _make(registry: Registry, change: Change, otp: str) -> Answer:
    if change.kind == "tag":
        return registry.set_tag(change.name, change.tag, change.version, otp)
    if change.kind == "untag":
        return registry.remove_tag(change.name, change.tag, otp)
    return registry.deprecate(change.name, [change.version], change.message, otp)


def _said(answer: Answer) -> str:
    return answer.said or f"the registry answers {answer.kind}"


def ask(places: Places, question: Question) -> Answered:
    """Ask the project's registries; without an address, the one that npm is set up for. Raises `CantAnswer`."""
    asked = [look.name for look in question.looks] + [stage.name for stage in question.stages]
    asked += [question.change.name] if question.change is not None else []
    if not all(question.secrets.get(place.secret.name) for place in places.needed(asked)):
        raise CantAnswer("the project has no token for the registry")
    environment = {"NPM_CONFIG_GLOBALCONFIG": os.devnull, "NPM_CONFIG_USERCONFIG": os.devnull, **os.environ}
    try:
        registries = Registries(places, question.secrets, environment, openly=True)
    except CantDeliver as error:
        raise CantAnswer(str(error)) from error
    return Asking(registries.of).answer(question)
