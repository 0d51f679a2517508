"""
One package and one registry: what the registry has of it, and what that means. It only reads; used by ``course``.

A version can be published once, ever. So the registry is asked first, and again after every answer that leaves a doubt:
the hash of what it has says whether the version is absent, this one, or another (a conflict). What was taken may show
only later, where the registry answers from copies.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from twistedipc.builds.attempt import Package
from twistedipc.builds.names import MAX_PACKAGE, shown
from twistedipc.publish.targets.npm.answers import compare
from twistedipc.publish.targets.npm.naming import alike, why_not_new
from twistedipc.publish.targets.npm.package import integrity, older
from twistedipc.publish.targets.npm.registry import Answer, Found, Kind, Registry, Stage
from twistedipc.publish.targets.target import CantDeliver

#: Seconds between looks at the registry after a doubt: an upload may show only a little later.
BACKOFF = (1.0, 2.0, 4.0, 8.0)
#: Seconds between looks until what was taken can be read, by everybody.
PATIENCE = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 30.0, 30.0)
#: The most seconds that are waited because the registry asks for it.
MOST_ASKED = 120.0

#: A tag under which a set goes up.
SET_TAG = re.compile(r"build-[0-9]+\Z")


class PublishFailed(CantDeliver):
    """The package isn't published. ``str()`` of it is a sentence for the project's authors."""


class CantAsk(PublishFailed):
    """Raised if it can't be found out now what the registry has; later it may."""


class Conflict(PublishFailed):
    """The registry has the version with another content."""


class Item:
    """One package of a set, and the registry to which it goes."""

    def __init__(self, position: int, package: Package, tarball: Path, registry: Registry, access: str = "") -> None:
        self.position = position
        self.package = package
        self.tarball = tarball
        self.registry = registry
        self.access = access
        # A registry knows versions without their build metadata: by semver they are the same.
        self.version = package.version.partition("+")[0]
        self.tag = package.tag or "latest"

    @property
    def name(self) -> str:
        """The package's name."""
        return self.package.name

    @property
    def label(self) -> str:
        """The package's name and version."""
        return f"{self.package.name}@{self.version}"


class Looking:
    """What the registry has of one package. ``sleep``: waits so many seconds; ``heard``: takes a registry's notice."""

    def __init__(self, item: Item, sleep: Callable[[float], object], heard: Callable[[str], None]) -> None:
        self._item = item
        self._sleep = sleep
        self._heard = heard

    def now(self) -> Found:
        """
        Return what there is, with patience for a registry that can't say it now. Raises `CantAsk`, and `PublishFailed`
        if it can't be known at all.
        """
        return self.until(lambda found: True)

    def until(self, shows: Callable[[Found], bool], pauses: Sequence[float] = BACKOFF) -> Found:
        """
        Look until something shows, at most so often. Return what there was last; it may be that nothing comes. Raises
        as `now`.
        """
        found: Found | None = None
        patience = _Patience(self._sleep, pauses)
        while True:
            answer = self._item.registry.look(self._item.name)
            if isinstance(answer, Found):
                found = answer
                self._heard(found.notice)
            elif answer.kind is Kind.ABSENT:
                found = Found(name=self._item.name)
            elif answer.kind not in (Kind.BUSY, Kind.UNREACHABLE):
                raise PublishFailed(f"the registry can't be asked whether {self._item.label} is there: {said(answer)}")
            elif patience.failed(answer):
                continue
            else:
                break
            if shows(found) or not patience.seen():
                break
        if found is None:
            raise CantAsk(f"the registry can't be asked whether {self._item.label} is there: try again later")
        return found

    def until_there(self, pauses: Sequence[float] = BACKOFF) -> Found:
        """Look until the version shows. Return and raise as `until`."""
        return self.until(self.shows, pauses)

    def shows(self, found: Found) -> bool:
        """Return whether the registry has this version, whatever is in it."""
        return self._item.version in found.versions

    def is_there(self, found: Found, *, ours: bool = False) -> bool:
        """
        Return whether the registry has this version with this content. ``ours``: it was taken from us, so a registry
        that gives no hash is believed. Raises `Conflict`, and `PublishFailed` if nobody can tell.
        """
        item = self._item
        version = found.versions.get(item.version)
        if version is None:
            return False
        same = compare(item.tarball, version.dist)
        if same == "same" or (same == "unknown" and ours):
            return True
        if same == "different" and item.package.settled:
            return True  # no build has raised it since
        given = (version.dist.integrity or version.dist.shasum or "no hash")[:200]
        if same == "different":
            raise Conflict(
                f"conflict: the registry has {item.label} with another content ({given}); a version can't be used again"
            )
        raise PublishFailed(
            f"the registry has {item.label}, but it can't be compared with what was packed: it gives {given}, and none "
            "of SHA-512, SHA-384, SHA-256 and SHA-1"
        )

    def is_another(self, found: Found) -> bool:
        """Return whether the registry has this version with another content, as it may of a version that is settled."""
        version = found.versions.get(self._item.version)
        return version is not None and compare(self._item.tarball, version.dist) == "different"

    def check_latest(self, found: Found) -> None:
        """Refuse a version that would replace a newer one as `latest`. Raises `PublishFailed`."""
        item = self._item
        now = found.tags.get(item.tag, "")
        if item.tag == "latest" and now and older(item.version, now):
            raise PublishFailed(
                f"{item.version} is older than {now}, which is `latest` now: it needs a tag of its own"
                ' ("publishConfig": {"tag": "…"} in package.json)'
            )

    def check_name(self, found: Found) -> None:
        """
        Refuse a name that is another package's but for its case, or that no new package can have. Raises
        `PublishFailed`.
        """
        name = self._item.name
        if found.name != name:
            raise PublishFailed(
                f"the registry answers with {shown(found.name, MAX_PACKAGE)} where it is asked for {name}: that is "
                "another name, and nothing is published under it"
            )
        if found.versions:
            return
        others = alike(name, self._search())
        if others:
            raise PublishFailed(
                f"the registry has no {name} yet, but {shown(others[0], MAX_PACKAGE)}, and nobody can tell these names "
                "apart: give the package another name"
            )
        if why := why_not_new(name):
            raise PublishFailed(
                f"the registry has no {name} yet, or this token can't see it, and no new package can have this name: "
                f"{why}"
            )

    def _search(self) -> Sequence[str]:
        """Return names that the registry finds for this one; none where it can't be searched, or can't be for now."""
        answer = self._item.registry.search(self._item.name)
        for pause in BACKOFF[:2]:
            if not isinstance(answer, Answer) or answer.kind not in (Kind.BUSY, Kind.UNREACHABLE):
                break
            self._sleep(max(pause, min(answer.after, MOST_ASKED)))
            answer = self._item.registry.search(self._item.name)
        if not isinstance(answer, Answer):
            return answer
        if answer.kind is not Kind.UNSUPPORTED:
            print(f"The registry can't be asked for names like {self._item.name}: {said(answer)}", flush=True)
        return ()

    def stays(self, found: Found) -> bool:
        """
        Return whether the tag leads to a version that is newer than ours. Versions of other tags may be named by
        commits: so time counts.
        """
        item = self._item
        now = found.tags.get(item.tag, "")
        if not now:
            return False
        if item.tag != "latest" and now in found.times and item.version in found.times:
            return found.times[now] > found.times[item.version]
        return older(item.version, now)

    # -- stages

    def stage(self, pauses: Sequence[float] = ()) -> Stage | None:
        """
        Return the stage of this version, with this content; None if there is none after so many looks. Raises
        `Conflict` if the one that waits has another content, and as `now`.
        """
        item = self._item
        patience = _Patience(self._sleep, pauses)
        while True:
            answer = item.registry.stages(item.name)
            if not isinstance(answer, Answer):
                for each in answer:
                    is_ours = each.name in ("", item.name) and each.version == item.version
                    if is_ours and self.waits(each.id):  # a list may still have what was approved or rejected
                        return self._same(each)
                if not patience.seen():
                    return None
            elif answer.kind not in (Kind.BUSY, Kind.UNREACHABLE):
                raise PublishFailed(f"the registry can't be asked whether {item.label} is staged: {said(answer)}")
            elif not patience.failed(answer):
                raise CantAsk(f"the registry can't be asked whether {item.label} is staged: try again later")

    def _same(self, stage: Stage) -> Stage:
        item = self._item
        same = compare(item.tarball, stage.dist)
        if same == "unknown":
            fetched = item.tarball.with_name(f"{item.tarball.name}.staged")
            try:
                answer = item.registry.staged_tarball(stage.id, fetched)
                if answer.kind is not Kind.DONE:
                    raise CantAsk(f"what is staged of {item.label} can't be read ({said(answer)}): try again later")
                same = "same" if integrity(fetched) == integrity(item.tarball) else "different"
            finally:
                fetched.unlink(missing_ok=True)
        if same == "different":
            raise Conflict(
                f"conflict: {item.label} waits for approval in the registry already, with another content (stage "
                f"{stage.id[:100]}): reject it there, or approve it and publish another version"
            )
        return stage

    def waits(self, stage: str) -> bool:
        """Return whether a stage still waits for approval. Raises as `now`."""
        item = self._item
        patience = _Patience(self._sleep, ())
        while True:
            answer = item.registry.staged(stage)
            if isinstance(answer, Stage):
                return True
            if answer.kind is Kind.ABSENT:
                return False
            if answer.kind not in (Kind.BUSY, Kind.UNREACHABLE):
                raise PublishFailed(f"the registry can't be asked whether {item.label} is staged: {said(answer)}")
            if not patience.failed(answer):
                raise CantAsk(f"the registry can't be asked whether {item.label} is staged: try again later")


class _Patience:
    """How often is looked, and how long is waited: of answers that show nothing yet, and of those that are none."""

    def __init__(self, sleep: Callable[[float], object], pauses: Sequence[float]) -> None:
        self._sleep = sleep
        self._pauses = list(pauses)
        self._after_failures = list(PATIENCE)  # to give up now may leave a request of which nobody knows how it ended

    def seen(self) -> bool:
        """There was an answer, which doesn't show it: wait. Return whether to look again."""
        if not self._pauses:
            return False
        self._sleep(self._pauses.pop(0))
        self._after_failures = list(PATIENCE)
        return True

    def failed(self, answer: Answer) -> bool:
        """There was no answer: wait. Return whether to look again."""
        if not self._after_failures:
            return False
        self._sleep(max(self._after_failures.pop(0), min(answer.after, MOST_ASKED)))
        return True


def said(answer: Answer) -> str:
    """Return what an answer says, in a clause."""
    return answer.said or f"it answers {answer.kind.value}" + (f" ({answer.status})" if answer.status else "")
